"""Which of Himmelblau's wells wins: replicated populations, and an account of what moved the wells' shares.

Each update has three parts, so a well's share of the population changes in three steps: by training (agents descend
into a well, or noise carries them over a barrier), by selection (the expected change, from the weights), and by drift
(the drawn parents minus their expectation, of mean zero). The three sum up to the change of the share, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numba import njit
from numpy.typing import ArrayLike, NDArray

from pbtlib import results
from pbtlib.checks import check_array, check_number
from pbtlib.evolution import GaussianMutation, Gibbs, Jump, Selection, stream
from pbtlib.loop import evolve
from pbtlib.normals import COMPILE
from pbtlib.problems import Himmelblau
from pbtlib.studies.study import Run, Study
from pbtlib.training import EulerMaruyama, GibbsDraw, Trace

__all__ = ["BLOCK", "SETTINGS", "STUDY", "Population", "Setting", "basin", "run", "shares"]

Array = NDArray[np.float64]

BLOCK = 100
"""Replicates that run together; each block has a seed of its own, so any one of them can be made again alone."""

PER_RUN = ["winner", "fixed_at", "coalesced_at", "first_parents"]
"""What is kept of every replicate; all else are means over them."""

PROBLEM = Himmelblau()


@dataclass(frozen=True)
class Population:
    """Agents that remember whose descendants they are.

    Attributes
    ----------
    theta, h : ndarray, shape (..., N, 2)
        Parameters and hyperparameters.
    founder : ndarray of int, shape (..., N, 1)
        Index of the agent's ancestor in the first population.

    Examples
    --------
    >>> import numpy as np
    >>> Population(np.zeros((3, 2)), np.ones((3, 2)), np.arange(3)[:, None]).founder.shape
    (3, 1)
    """

    theta: Array
    h: Array
    founder: NDArray[np.int64]


@dataclass(frozen=True)
class Setting:
    """What one population is run with; the defaults are the reference setting of the study.

    Attributes
    ----------
    agents : int
        N.
    updates : int
        Duration in units of the slow time: each agent expects this many jumps.
    beta, sigma, tau : float
        Selection pressure, mutation strength, clock τ of Algorithm 1 (1/τ updates per unit of time).
    steps : int
        Training steps per unit of time, steps·tau of them in an update, rounded and at least 1; 0 stands for the
        exact draw of Algorithm 2.
    dt : float
        Time step of training.
    box : float
        The initial h₂ is uniform on [−box, box]; θ and h₁ are on [−5, 5].
    replicates : int
        Number of independent populations in the study, a multiple of `BLOCK`.

    Examples
    --------
    >>> Setting(steps=0).beta      # Algorithm 2
    1.0
    """

    agents: int = 100
    updates: int = 300
    beta: float = 1.0
    sigma: float = 0.1
    tau: float = 1.0
    steps: int = 100
    dt: float = 1e-3
    box: float = 5.0
    replicates: int = 1000

    def __post_init__(self) -> None:
        for name in ("agents", "updates"):
            check_number(name, getattr(self, name), integer=True, minimum=1)
        check_number("steps", self.steps, integer=True, minimum=0)
        for name in ("beta", "sigma", "box"):
            check_number(name, getattr(self, name), minimum=0)
        check_number("dt", self.dt, minimum=0, open_minimum=True)
        check_number("replicates", self.replicates, integer=True)
        check_number("tau", self.tau, minimum=0, maximum=1, open_minimum=True)
        if self.steps and not round(self.steps * self.tau):
            raise ValueError(
                f"steps is {self.steps} with tau = {self.tau:g}, which leaves an update without training; steps * tau "
                "must be above 0.5, or steps 0 for the exact draw of Algorithm 2"
            )
        if self.replicates % BLOCK or self.replicates < BLOCK:
            raise ValueError(f"replicates is {self.replicates}; it must be a positive multiple of {BLOCK}")


SETTINGS: dict[str, Setting] = {
    "reference": Setting(),
    "N = 30": Setting(agents=30, updates=150),
    "N = 300": Setting(agents=300, updates=900),
    "N = 1000": Setting(agents=1000, updates=400),
    "β = 0": Setting(beta=0.0),
    "β = 0.01": Setting(beta=0.01, updates=400),
    "β = 0.1": Setting(beta=0.1, updates=400),
    "β = 10": Setting(beta=10.0),
    "20 steps": Setting(steps=20),
    "50 steps": Setting(steps=50),
    "400 steps": Setting(steps=400),
    "Algorithm 2": Setting(steps=0, updates=100),
    "τ = 0.5": Setting(tau=0.5),
    "τ = 0.2": Setting(tau=0.2, updates=200),
    "σ = 0.03": Setting(sigma=0.03),
    "σ = 0.3": Setting(sigma=0.3),
    "|h₂| ≤ 1": Setting(box=1.0),
    "Δt = 0.0005": Setting(dt=5e-4, steps=200, updates=150),
}
"""The settings of the study, the reference, then one thing changed at a time."""

QUICK = {
    "reference": Setting(updates=40, replicates=2 * BLOCK),
    "N = 30": Setting(agents=30, updates=20, replicates=BLOCK),
}
"""Settings that take some seconds: the first ones of the study, shorter."""

SEED = 2026


@njit(**COMPILE)
def _descend(points, minima, label):  # type: ignore[no-untyped-def]
    """Follow −∇H from each point, shape (n, 2), in short steps until H < 10; the nearest minimiser is the answer.

    A point from which many steps do not lead there gets the label −1.
    """
    for i in range(len(points)):
        x, y, arrived = points[i, 0], points[i, 1], False
        for _ in range(20_000):
            u, v = x * x + y - 11.0, x + y * y - 7.0
            if u * u + v * v < 10.0:
                arrived = True
                break
            a, b = 4.0 * x * u + 2.0 * v, 2.0 * u + 4.0 * y * v
            step = min(2e-3, 0.02 / np.sqrt(a * a + b * b + 1e-12))
            x, y = x - step * a, y - step * b
        best, label[i] = np.inf, -1
        for k in range(4 if arrived else 0):
            distance = (x - minima[k, 0]) ** 2 + (y - minima[k, 1]) ** 2
            if distance < best:
                best, label[i] = distance, k


def basin(theta: ArrayLike) -> NDArray[np.int64]:
    """Index of the minimiser (a row of ``Himmelblau().minima``) that steepest descent of H leads to.

    Below the lowest saddle, H = 13.3, the wells are separate and the nearest minimiser is the well's own.

    Parameters
    ----------
    theta : array_like, shape (..., 2)

    Returns
    -------
    ndarray of int, shape (...)

    Raises
    ------
    ValueError
        If descent does not arrive: from some hundreds of units away, or a point where the gradient vanishes.

    Examples
    --------
    >>> basin(PROBLEM.minima + 0.1).tolist()
    [0, 1, 2, 3]
    """
    points = check_array("theta", theta, shape=(2,))
    label = np.empty(points.size // 2, dtype=np.int64)
    _descend(np.ascontiguousarray(points).reshape(-1, 2), PROBLEM.minima, label)
    if (label < 0).any():
        lost = points.reshape(-1, 2)[label < 0][0]
        raise ValueError(
            f"theta contains {lost}, from where descent leads to no well; every point must be within 300 of the origin "
            "and none a saddle or a maximum of H"
        )
    return label.reshape(points.shape[:-1])


def shares(label: NDArray[np.int64], weight: Array | None = None) -> Array:
    """Share of each well, shape (..., 4), of agents with these labels, shape (..., N), and weights (1/N by default).

    Examples
    --------
    >>> import numpy as np
    >>> shares(np.array([0, 0, 2, 3])).tolist()
    [0.5, 0.0, 0.25, 0.25]
    """
    mass = np.full(label.shape, 1 / label.shape[-1]) if weight is None else weight
    return np.stack([np.where(label == k, mass, 0.0).sum(-1) for k in range(4)], -1)


class _Account:
    """Hooks of `evolve` that keep the account of one block of replicates."""

    def __init__(self, setting: Setting, start: Population, watched: list[int]) -> None:
        replicates = len(start.theta)
        self.setting, self.watched = setting, watched
        self.rule = Gibbs(setting.beta)
        self.fixed_at = np.full(replicates, -1)
        self.coalesced_at = np.full(replicates, -1)
        self.account = np.zeros((replicates, 2, 3, 4))  # period (first update, later), source, well
        self.now = shares(basin(start.theta))
        self.initial = self.now
        self.first_parents = np.zeros(replicates)
        self.rows: list[list[Array]] = []
        n = round(setting.steps * setting.tau)
        self.inner = EulerMaruyama(PROBLEM, dt=setting.dt, steps=n) if n else GibbsDraw(PROBLEM)

    def train(self, state: Population, rng: np.random.Generator) -> tuple[Population, Trace]:
        state, trace = self.inner(state, rng)
        self.label = basin(state.theta)
        self.trained = shares(self.label)
        return state, trace

    def evaluate(self, state: Population, trace: Trace) -> Array:
        fitness = trace.fitness[..., -1]
        gain = self.rule(fitness, np.full(fitness.shape, 1 / fitness.shape[-1]))[0]
        tau = self.setting.tau
        self.expected = (1 - tau) * self.trained + tau * shares(self.label, gain)
        self.parents = 1 / np.square(gain).sum(-1)
        return fitness

    def __call__(self, k: int, state: Population, fitness: Array, jump: Jump) -> None:
        before, self.now = self.now, shares(np.take_along_axis(self.label, jump.parent, -1))
        change = [self.trained - before, self.expected - self.trained, self.now - self.expected]
        self.account[:, min(k, 1)] += np.stack(change, 1)
        if k == 0:
            self.first_parents = self.parents
        time = k + 1
        alone = self.now.max(-1) >= 0.99
        self.fixed_at = np.where(alone, np.where(self.fixed_at < 0, time, self.fixed_at), -1)
        founder = state.founder[..., 0]
        one = (founder == founder[:, :1]).all(-1)
        self.coalesced_at = np.where(one & (self.coalesced_at < 0), time, self.coalesced_at)
        if time in self.watched:
            runs, n = founder.shape
            count = np.bincount((founder + n * np.arange(runs)[:, None]).reshape(-1), minlength=runs * n)
            kin = np.square(count.reshape(runs, n) / n).sum(-1)
            noise = np.square(state.h[..., 1]).mean(-1)
            together = np.square(self.now).sum(-1)
            self.rows.append([*self.now.mean(0), together.mean(), kin.mean(), alone.mean(), noise.mean()])


def run(setting: Setting, seed: int, replicates: int = BLOCK) -> xr.Dataset:
    """Run one block of replicated populations of this setting.

    Parameters
    ----------
    setting : Setting
    seed : int
    replicates : int
        Number of populations.

    Returns
    -------
    xarray.Dataset
        Per ``replicate``: ``winner``, the well that holds at least 99% of the population at the end, −1 if none does;
        ``fixed_at``, the time since when it does so without interruption, and ``coalesced_at``, the time since when
        all agents descend from one founder (−1: not within the run); ``first_parents``, 1/Σw² of the first selection.
        Means over the replicates, by ``well``: the shares before training, ``initial``, and at the end, ``share``;
        ``account``, by ``period`` (first update, later) and ``source`` (training, selection, drift), the sum of the
        changes of the shares; ``share_square`` and ``account_square``, the means of their squares. Likewise at some
        forty times: ``mean_share``, ``same_well`` and ``same_founder``, the probability that two agents drawn with
        replacement agree in that, ``fixed``, the share of replicates in one well, and ``noise``, the mean of h₂².

    Examples
    --------
    >>> record = run(Setting(agents=10, updates=5), seed=0, replicates=4)
    >>> record["winner"].sizes["replicate"], bool(abs(record["share"].sum() - 1) < 1e-6)
    (4, True)
    """
    n, rng = setting.agents, stream(seed, 0, "start")
    shape = (replicates, n)
    theta, h = rng.uniform(-5, 5, (*shape, 2)), rng.uniform(-5, 5, (*shape, 2))
    h[..., 1] *= setting.box / 5
    start = Population(theta, h, np.broadcast_to(np.arange(n)[:, None], (*shape, 1)))
    iterations = round(setting.updates / setting.tau)
    watched = [*map(int, np.unique(np.round(np.geomspace(1, iterations, 40))))]
    account = _Account(setting, start, watched)
    evolve(
        start,
        train=account.train,
        evaluate=account.evaluate,
        select=Selection(account.rule, tau=setting.tau),
        mutate=GaussianMutation(setting.sigma),
        n_updates=iterations,
        seed=seed,
        observe=account,
    )
    rows = np.array(account.rows)

    def clock(updates: NDArray[np.int64]) -> Array:
        return np.where(updates < 0, -1.0, updates * setting.tau)

    winner = np.where(account.now.max(-1) >= 0.99, account.now.argmax(-1), -1)
    per_run: dict[str, Any] = {
        "winner": ("replicate", winner.astype(np.int8)),
        "fixed_at": ("replicate", clock(account.fixed_at).astype(np.float32)),
        "coalesced_at": ("replicate", clock(account.coalesced_at).astype(np.float32)),
        "first_parents": ("replicate", account.first_parents.astype(np.float32)),
    }
    means: dict[str, Any] = {"initial": ("well", account.initial.mean(0).astype(np.float32))}
    for name, dims, values in (
        ("share", ("well",), account.now),
        ("account", ("period", "source", "well"), account.account),
    ):
        means[name] = (dims, values.mean(0).astype(np.float32))
        means[f"{name}_square"] = (dims, np.square(values).mean(0).astype(np.float32))
    in_time: dict[str, Any] = {"mean_share": (("time", "well"), rows[:, :4].astype(np.float32))}
    for name, column in zip(("same_well", "same_founder", "fixed", "noise"), rows[:, 4:].T, strict=True):
        in_time[name] = ("time", column.astype(np.float32))
    coords = {
        "time": np.array(watched) * setting.tau,
        "period": ["first update", "later"],
        "source": ["training", "selection", "drift"],
    }
    return xr.Dataset({**per_run, **means, **in_time}, coords=coords)


@dataclass(frozen=True)
class Block:
    """One block of replicates of a study.

    Attributes
    ----------
    setting : Setting
    key : int
        Which setting of the study it is.
    number : int
        Which block of it. The two are the key of its streams.
    """

    setting: Setting
    key: int
    number: int


def block_of(name: str, block: int, seed: int) -> xr.Dataset:
    """Make one block of the study again: the setting's name, the block's index, the study's seed."""
    return run(SETTINGS[name], _seed([*SETTINGS].index(name), block, seed))


def _seed(key: int, number: int, seed: int) -> int:
    return int(stream(seed, number, "block", key).integers(2**62))


def runs_of(settings: Mapping[str, Setting], seed: int) -> list[Run]:
    """Return a run for every block: one of each setting, then the next of each, the dear settings last."""
    runs = [
        Run(f"{name}, block {number}", Block(setting, key, number), seed)
        for number in range(max(setting.replicates for setting in settings.values()) // BLOCK)
        for key, (name, setting) in enumerate(settings.items())
        if number < setting.replicates // BLOCK
    ]
    return sorted(runs, key=lambda planned: planned.setting.setting.agents > 100)


def plan(scale: str) -> list[Run]:
    """Return the planned runs."""
    return runs_of(SETTINGS if scale == "paper" else QUICK, SEED)


def compute(planned: Run, needed: xr.Dataset | None, checkpoint: Path) -> xr.Dataset:
    """Make one block."""
    block = planned.setting
    return run(block.setting, _seed(block.key, block.number, planned.seed))


def _label(planned: Run) -> str:
    return planned.name.rpartition(", block ")[0]


def describe(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the parameters of every setting and the size of a block."""
    return {_label(planned): asdict(planned.setting.setting) for planned in runs} | {"block": BLOCK}


def pack(runs: Sequence[Run], made: Mapping[Run, xr.Dataset]) -> xr.Dataset:
    """Pack the blocks: a row for each setting, in which replicates are strung together and means are averaged.

    Replicates that were not made and times that a setting does not have are NaN in its row.
    """
    rows: dict[str, list[xr.Dataset]] = {}
    for planned in runs:
        if planned in made:
            rows.setdefault(_label(planned), []).append(made[planned].assign_coords(replicate=_replicates(planned)))
    if not rows:
        return xr.Dataset()
    names = xr.DataArray([*rows], dims="setting", name="setting")
    return xr.concat([_row(blocks) for blocks in rows.values()], dim=names, join="outer")


def _replicates(planned: Run) -> NDArray[np.int64]:
    first: int = planned.setting.number * BLOCK
    return np.arange(first, first + BLOCK)


def _row(blocks: Sequence[xr.Dataset]) -> xr.Dataset:
    """The blocks of one setting as one: replicates are strung together, means are those of all."""
    strung = xr.concat([block[PER_RUN] for block in blocks], dim="replicate")
    means = blocks[0].drop_vars(["replicate", *PER_RUN])
    for k, block in enumerate(blocks[1:], 1):
        means = ((means * k + block.drop_vars(["replicate", *PER_RUN])) / (k + 1)).astype(np.float32)
    return strung.merge(means)


def again(path: str | Path) -> float:
    """Make the first block of a cheap setting of a data file again and return the share of replicates that agrees."""
    stored, name = results.load(path), "N = 30"
    parameters = stored.attrs["parameters"]
    if name not in parameters or f"{name}, block 0" in stored.attrs.get("missing", []):
        raise ValueError(f"path is {str(path)!r}; the file lacks {name!r}, block 0, which is made again")
    new = run(Setting(**parameters[name]), _seed([*SETTINGS].index(name), 0, stored.attrs["seed"]))
    same = [np.isclose(new[variable], stored[variable].sel(setting=name)[:BLOCK], rtol=1e-5) for variable in PER_RUN]
    return float(np.mean(np.all(same, 0)))


STUDY = Study(
    name="wells", title="Himmelblau's function: which well wins", file="one_well.nc", page="which_well_wins",
    seconds={"quick": 10, "paper": 4_800}, plan=plan, compute=compute, pack=pack, describe=describe, again=again,
)  # fmt: skip
