"""What a window of episodes measures: agents that train for long with frozen hyperparameters, without evolution.

The fitness (23) of the CartPole experiment is the mean return of an agent's last m episodes. It stands for the
effective fitness of the hyperparameters h, the mean return of agents that have equilibrated at h. Here many agents of
the same h train side by side, so that both can be compared.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from pbtlib import results
from pbtlib.cartpole import population
from pbtlib.cartpole.experiment import Experiment, initial_population, run
from pbtlib.cartpole.setting import COORDINATES
from pbtlib.checks import check_array, check_number, check_together
from pbtlib.evolution import stream
from pbtlib.studies.study import Run, Study

__all__ = ["SIZES", "STUDY", "Design", "latest", "local_mean", "relaxation_time", "window_errors"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Design:
    """Parameters of the study.

    Attributes
    ----------
    n_agents : int
        Independent agents at each point.
    n_steps : int
        Environment steps of each.
    initial, late : int
        Points from the initial population, uniform in the box, and from the population after ten generations of a
        run of population-based training with 100 agents, generations of 500 steps and a window of 5 episodes. The
        eight corners of the box come on top.
    seed : int

    Examples
    --------
    >>> Design().initial, Design().late
    (20, 8)
    """

    n_agents: int = 14
    n_steps: int = 20_000
    initial: int = 20
    late: int = 8
    seed: int = 8

    def __post_init__(self) -> None:
        check_number("n_agents", self.n_agents, integer=True, minimum=2)
        check_number("n_steps", self.n_steps, integer=True, minimum=1)
        check_number("initial", self.initial, integer=True, minimum=0)
        check_number("seed", self.seed, integer=True, minimum=0)
        check_number("late", self.late, integer=True, minimum=0, maximum=100)


CORNERS = list(itertools.product((-1.0, 1.0), repeat=3))

SIZES = {"paper": Design(), "quick": Design(n_agents=2, n_steps=500, initial=2, late=0)}
"""What the book shows, and what takes some seconds."""


@dataclass(frozen=True)
class Point:
    """One point of the study: its number, first the initial ones, then the late ones, then the corners of the box."""

    design: Design
    number: int

    @property
    def kind(self) -> str:
        """``initial``, ``late`` or ``corner``."""
        d = self.design
        return "initial" if self.number < d.initial else "late" if self.number < d.initial + d.late else "corner"


def runs_of(design: Design) -> list[Run]:
    """Return one run for every point; the late ones need the population that evolves."""
    evolved = Run("evolved population", Experiment(n_agents=100, n_steps=500, generations=10, m=5), design.seed)
    points = [Point(design, number) for number in range(design.initial + design.late + len(CORNERS))]
    return [
        Run(f"point {point.number}", point, design.seed, evolved if point.kind == "late" else None) for point in points
    ]


def plan(scale: str) -> list[Run]:
    """Return the planned runs."""
    return runs_of(SIZES[scale])


def place(point: Point, evolved: xr.Dataset | None = None) -> Array:
    """Return the scaled hyperparameters of a point, shape (3,); a late one is taken from the run that evolves."""
    design, number = point.design, point.number
    if evolved is not None:
        return np.asarray(evolved["h"].to_numpy()[-1, number - design.initial])
    if number < design.initial:
        return np.asarray(initial_population(design.initial, design.seed).h[number])
    return np.array(CORNERS[number - design.initial - design.late])


def episodes(h: Array, point: int, design: Design, *, threads: int | None = None) -> NDArray[np.uint8]:
    """Train the agents of one point from scratch and return the returns of all their episodes.

    Parameters
    ----------
    h : ndarray, shape (3,)
        Scaled hyperparameters of the point.
    point : int
        Its number, the key of its streams.
    design : Design
    threads : int, optional
        Agents trained at a time; it changes no bit.

    Returns
    -------
    ndarray of uint8, shape (n_agents, most)
        In the order of the episodes; zeros follow. A return is the episode's length too, so their running sum is the
        environment step at which each ended. The first steps do not depend on ``design.n_steps``.
    """
    start = population.new_population(np.tile(h, (design.n_agents, 1)), stream(design.seed, point, "weights"))
    train = population.training(design.n_steps, threads=threads)
    return train(start, stream(design.seed, point, "train"))[1].returns.astype(np.uint8)


def compute(run_: Run, needed: xr.Dataset | None, checkpoint: Path) -> xr.Dataset:
    """Make one point: its hyperparameters ``h`` and the ``returns`` of its agents; or the population that evolves."""
    if isinstance(run_.setting, Experiment):
        return run(run_.setting, run_.seed, threads=1, checkpoint=checkpoint)[1]
    point: Point = run_.setting
    h = place(point, needed)
    returns = episodes(h, point.number, point.design, threads=1)
    return xr.Dataset({"returns": (("agent", "episode"), returns), "h": ("coordinate", h)})


def describe(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the parameters of the study."""
    return {name: value for name, value in asdict(runs[0].setting.design).items() if name != "seed"}


def pack(runs: Sequence[Run], made: Mapping[Run, xr.Dataset]) -> xr.Dataset:
    """Pack the points.

    Returns
    -------
    xarray.Dataset
        ``returns`` (``point``, ``agent``, ``episode``), as `episodes` gives them, and ``h`` (``point``,
        ``coordinate``), with the coordinate ``kind``; zeros for points not yet made, h not a number.
    """
    most = max(record.sizes["episode"] for record in made.values())
    returns = np.zeros((len(runs), runs[0].setting.design.n_agents, most), np.uint8)
    h = np.full((len(runs), 3), np.nan)
    for k, run_ in enumerate(runs):
        if (record := made.get(run_)) is not None:
            returns[k, :, : record.sizes["episode"]], h[k] = record["returns"], record["h"]
    return xr.Dataset(
        {"returns": (("point", "agent", "episode"), returns), "h": (("point", "coordinate"), h)},
        coords={"kind": ("point", [run_.setting.kind for run_ in runs]), "coordinate": list(COORDINATES)},
    )


def again(path: str | Path) -> float:
    """Make the first steps of two points of a data file again and return the share of agents that agrees."""
    data = results.load(path)
    design = Design(**data.attrs["parameters"] | {"n_steps": 300}, seed=data.attrs["seed"])
    same = []
    for point in (0, data.sizes["point"] - len(CORNERS)):
        first = episodes(data["h"].to_numpy()[point], point, design)
        there = data["returns"].to_numpy()[point]
        same += [np.array_equal(old[: (new > 0).sum()], new[new > 0]) for old, new in zip(there, first, strict=True)]
    return float(np.mean(same))


STUDY = Study(
    name="frozen", title="CartPole: what a window of episodes measures", file="cartpole_frozen.nc",
    page="cartpole_open", seconds={"quick": 10, "paper": 155}, plan=plan, compute=compute, pack=pack,
    describe=describe, again=again, agreement=0.7,
)  # fmt: skip


# ---------------------------------------------------------------------------------------------- estimators


def latest(returns: ArrayLike, age: float, m: int) -> Array:
    """Return the window of (23): the returns of the last m episodes that ended by this age, the oldest first.

    Parameters
    ----------
    returns : array_like, shape (..., episode)
        Returns in order, each the length of its episode too; zeros follow the last.
    age : float
        Environment steps.
    m : int
        Length of the window.

    Returns
    -------
    ndarray, shape (..., m)
        NaN in front where fewer episodes had ended.

    Examples
    --------
    >>> latest([10, 20, 30, 0], age=35, m=2).tolist()      # the third is still on its way
    [10.0, 20.0]
    """
    check_number("m", m, integer=True, minimum=1)
    check_number("age", age, minimum=0)
    x = check_array("returns", returns, minimum=0, min_ndim=1)
    ended = ((np.cumsum(x, -1) <= age) & (x > 0)).sum(-1, keepdims=True)
    index = ended - m + np.arange(m)
    return np.where(index >= 0, np.take_along_axis(x, np.clip(index, 0, x.shape[-1] - 1), -1), np.nan)


def local_mean(returns: ArrayLike, low: float, high: float) -> Array:
    """Return the mean return of the episodes that begin at an age in [low, high), NaN if there is none.

    Parameters
    ----------
    returns : array_like, shape (..., episode)
        As `latest` takes them.
    low, high : float
        Environment steps. An episode that the end of the data cuts off is missing, so ``high`` should keep clear of it.

    Returns
    -------
    ndarray, shape (...)

    Examples
    --------
    >>> float(local_mean([10, 20, 30, 0], 0, 25))      # of those that begin at 0 and at 10
    15.0
    """
    check_number("low", low)
    check_number("high", high, minimum=low)
    x = check_array("returns", returns, minimum=0, min_ndim=1)
    begin = np.cumsum(x, -1) - x
    chosen = (begin >= low) & (begin < high) & (x > 0)
    count = chosen.sum(-1)
    return np.where(count > 0, (x * chosen).sum(-1) / np.maximum(count, 1), np.nan)


def window_errors(estimate: ArrayLike, reference: ArrayLike) -> tuple[Array, Array, Array]:
    """Split the error of an estimate, made from one agent, of what its kind of agents is worth on average.

    Parameters
    ----------
    estimate, reference : array_like, shape (..., agent)
        Of every agent: the estimate, and a value whose mean over agents is the truth. Agents are independent.

    Returns
    -------
    bias : ndarray, shape (...)
        Mean of the estimate less the truth.
    variance : ndarray, shape (...)
        Of one agent's estimate.
    squared_bias : ndarray, shape (...)
        Unbiased (so that it may be negative): the estimation error of the bias is taken out. Together with the
        variance it is the mean squared error.

    Examples
    --------
    >>> bias, variance, squared_bias = window_errors([1.0, 3.0], [1.0, 1.0])
    >>> float(bias), float(variance), float(squared_bias)
    (1.0, 2.0, 0.0)
    """
    w, f = check_array("estimate", estimate, min_ndim=1), check_array("reference", reference, min_ndim=1)
    if w.shape[-1] != f.shape[-1] or w.shape[-1] < 2:
        raise ValueError(
            f"estimate has shape {w.shape}, reference {f.shape}; both must end in the same agents, 2 or more"
        )
    check_together(estimate=w, reference=f)
    difference, n = w - f, w.shape[-1]
    bias = difference.mean(-1)
    return bias, w.var(-1, ddof=1), bias**2 - difference.var(-1, ddof=1) / n


def relaxation_time(times: ArrayLike, curve: ArrayLike, level: ArrayLike, tolerance: float) -> Array:
    """When a curve comes within a tolerance of a level for good.

    Parameters
    ----------
    times : array_like, shape (time,)
        Increasing.
    curve : array_like, shape (..., time)
    level : array_like, shape (...)
    tolerance : float

    Returns
    -------
    ndarray, shape (...)
        The first time after the last one at which the curve is outside; infinite if that is the last of all.

    Examples
    --------
    >>> float(relaxation_time([0, 1, 2, 3], [5.0, 3.0, 1.1, 1.0], level=1.0, tolerance=0.2))
    2.0
    """
    t, c = check_array("times", times, min_ndim=1), check_array("curve", curve, min_ndim=1)
    check_number("tolerance", tolerance, minimum=0)
    if t.shape != c.shape[-1:]:
        raise ValueError(f"times has shape {t.shape}, curve {c.shape}; the curve must end in the times")
    outside = np.abs(c - check_array("level", level)[..., None]) > tolerance
    after_last = np.where(outside.any(-1), len(t) - np.argmax(outside[..., ::-1], -1), 0)
    return np.append(t, np.inf)[after_last]
