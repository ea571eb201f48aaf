"""The CartPole experiment of Section 5.2 as an instance of the one loop."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from tqdm import tqdm

from pbtlib import evolution
from pbtlib.cartpole import population
from pbtlib.cartpole.population import Population, Trace
from pbtlib.cartpole.setting import COORDINATES, Setting, multiply
from pbtlib.checks import check_number
from pbtlib.evolution import Jump, stream
from pbtlib.loop import evolve

__all__ = [
    "FACTORS", "WINDOWS", "Experiment", "Record", "Windows", "initial_population", "operators", "prepare", "run",
]  # fmt: skip

Array = NDArray[np.float64]
Train = Callable[[Population, np.random.Generator], tuple[Population, Trace]]

WINDOWS = (1, 2, 5, 10)
"""Lengths m of the fitness window (23). [code]"""

LARGEST = 32767
"""Most agents, and most steps of a generation, so the largest sum of returns too: two bytes for each in packed data."""

MODES = ("pbt", "no evolution", "weights only", "random", "multiplied")

FACTORS = (0.8, 1.2)
"""Factors of a mutation that multiplies, each taken with probability one half; those of the original method."""


@dataclass(frozen=True)
class Experiment:
    """Parameters of a run of population-based training on CartPole.

    Attributes
    ----------
    n_agents : int
        N, at least 1/q unless there is no evolution, at most 32767.
    n_steps : int
        Environment steps of a generation, at most 32767. The paper has 200 [C], 500 [code], 1000 [code].
    generations : int
        Number of slow updates.
    m : int
        Episodes in the fitness window (23); m·episode_cap ≤ n_steps, so that the window always fills.
    q : float
        Share of truncation selection. [code]
    sigma : float
        Mutation strength in scaled coordinates. [code]
    mode : {"pbt", "no evolution", "weights only", "random", "multiplied"}
        The experiment, or one of its controls: nobody is replaced; a replaced agent takes weights but keeps its own
        hyperparameters; a replaced agent takes weights and draws its hyperparameters anew, uniformly in the box; a
        mutation multiplies each hyperparameter by one of `FACTORS` instead of adding noise of strength sigma.
    carry_adam, carry_replay, keep_clock : bool
        What else a copy has: see `pbtlib.cartpole.population.copying`.
    start : tuple of tuples of float
        Scaled hyperparameters that the agents start with, in turns. None: every agent draws its own.
    setting : pbtlib.cartpole.setting.Setting

    Examples
    --------
    >>> Experiment(m=6)      # six episodes of 100 steps need not end within 500
    Traceback (most recent call last):
    ValueError: m is 6; it must be a finite number in [1, 5]
    """

    n_agents: int = 500
    n_steps: int = 500
    generations: int = 10
    m: int = 5
    q: float = 0.2
    sigma: float = 0.1
    mode: str = "pbt"
    carry_adam: bool = False
    carry_replay: bool = False
    keep_clock: bool = True
    start: tuple[tuple[float, float, float], ...] = ()
    setting: Setting = field(default_factory=Setting)

    def __post_init__(self) -> None:
        for name in ("n_agents", "n_steps"):
            check_number(name, getattr(self, name), integer=True, minimum=1, maximum=LARGEST)
        check_number("generations", self.generations, integer=True, minimum=1)
        check_number("m", self.m, integer=True, minimum=1, maximum=self.n_steps // self.setting.episode_cap)
        check_number("sigma", self.sigma, minimum=0)
        check_number("q", self.q, minimum=0, maximum=0.5, open_minimum=True)
        if self.mode not in MODES:
            raise ValueError(f"mode is {self.mode!r}; allowed are {', '.join(map(repr, MODES))}")


def initial_population(
    n_agents: int, seed: int, setting: Setting | None = None, start: tuple[tuple[float, float, float], ...] = ()
) -> Population:
    """Draw a population: hyperparameters uniform in scaled coordinates, so the learning rate uniform in its logarithm.

    [C] for the batch size, which the authors' code draws from 32, 64, 128 at the start. With ``start``, agent i has the
    hyperparameters number i modulo their number instead. Agent i is the same whatever the number of agents.

    Examples
    --------
    >>> two, three = initial_population(2, seed=0), initial_population(3, seed=0)
    >>> three.h.shape, bool((two.theta == three.theta[:2]).all())
    ((3, 3), True)
    """
    h = np.array([child.uniform(-1.0, 1.0, 3) for child in stream(seed, 0, "hyperparameters").spawn(n_agents)])
    if start:
        h = np.array(start)[np.arange(n_agents) % len(start)]
    return population.new_population(h, stream(seed, 0, "weights"), setting)


def operators(experiment: Experiment) -> dict[str, Any]:
    """Return ``evaluate``, ``select``, ``copy`` and ``mutate`` of an experiment, as `pbtlib.loop.evolve` takes them.

    Examples
    --------
    >>> parts = operators(Experiment(q=0.1))
    >>> sorted(parts), parts["select"].rule
    (['copy', 'evaluate', 'mutate', 'select'], Truncation(q=0.1))
    """
    e = experiment
    take = population.copying(adam=e.carry_adam, replay=e.carry_replay, clock=e.keep_clock)

    def nobody(fitness: Array, rng: np.random.Generator) -> Jump:
        return Jump(np.zeros(len(fitness), np.bool_), np.arange(len(fitness)))

    def take_weights(state: Population, jump: Jump) -> Population:
        return replace(take(state, jump), h=state.h)

    def stay(state: Population, jump: Jump, rng: np.random.Generator) -> Population:
        return state

    def redraw(state: Population, jump: Jump, rng: np.random.Generator) -> Population:
        return replace(state, h=np.where(jump.who[:, None], rng.uniform(-1.0, 1.0, state.h.shape), state.h))

    def multiplied(state: Population, jump: Jump, rng: np.random.Generator) -> Population:
        moved = multiply(state.h, rng.choice(FACTORS, state.h.shape))
        return replace(state, h=np.where(jump.who[:, None], moved, state.h))

    mutations = {
        "pbt": evolution.GaussianMutation(e.sigma, evolution.Box(-1.0, 1.0)),
        "random": redraw,
        "multiplied": multiplied,
    }
    return {
        "evaluate": population.window_mean(e.m),
        "select": nobody if e.mode == "no evolution" else evolution.Selection(evolution.Truncation(e.q)),
        "copy": take_weights if e.mode == "weights only" else take,
        "mutate": mutations.get(e.mode, stay),
    }


class _Rows:
    """What an observer keeps: a list of arrays of each name, which a checkpoint stores stacked."""

    _rows: dict[str, list[NDArray[Any]]]

    def save(self) -> dict[str, NDArray[Any]]:
        """Return the arrays a checkpoint needs."""
        return {name: np.stack(rows) for name, rows in self._rows.items()}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `save` returned."""
        self._rows = {name: list(rows) for name, rows in arrays.items()}


class Record(_Rows):
    """Everything Figures 6 and 7 need, as an observer: fitness, parents and hyperparameters of all agents.

    Parameters
    ----------
    h : ndarray, shape (N, 3)
        Scaled hyperparameters at the start.

    Examples
    --------
    >>> import numpy as np
    >>> state = initial_population(2, seed=0)
    >>> record = Record(state.h)
    >>> record(0, state, np.array([20.0, 30.0]), Jump(np.array([True, False]), np.array([1, 1])))
    >>> record.dataset()["h"].shape, record.dataset()["fitness"].values.tolist()
    ((2, 2, 3), [[20.0, 30.0]])
    """

    def __init__(self, h: Array) -> None:
        self._rows = {"fitness": [], "parent": [], "h": [h]}

    def __call__(self, k: int, state: Population, fitness: Array, jump: Jump) -> None:
        """Record update k."""
        for name, value in (("fitness", fitness), ("parent", jump.parent), ("h", state.h)):
            self._rows[name].append(value)

    def dataset(self) -> xr.Dataset:
        """Return labelled arrays; entry k of ``h`` is what generation k trained with, the last what comes out.

        Dimensions: ``update`` (of ``fitness`` and ``parent``), ``generation`` (one more), ``agent``, ``coordinate``.
        """
        arrays = self.save()
        return xr.Dataset(
            {
                "fitness": (("update", "agent"), arrays["fitness"]),
                "parent": (("update", "agent"), arrays["parent"]),
                "h": (("generation", "agent", "coordinate"), arrays["h"]),
            },
            coords={"coordinate": list(COORDINATES)},
        )


class Windows(_Rows):
    """What the fitness was made of: of every agent the sum of its last returns, for several lengths of the window.

    An observer of `pbtlib.loop.evolve` that has to see the trace as well: ``evaluate`` goes through `watching`.

    Parameters
    ----------
    sizes : sequence of int
        Numbers of episodes m; in every generation that many must end.

    Examples
    --------
    >>> import numpy as np
    >>> windows = Windows([1, 2])
    >>> evaluate = windows.watching(population.window_mean(2))
    >>> evaluate(None, Trace(np.array([[20, 30, 40]]), np.array([3]))).tolist()
    [35.0]
    >>> windows(0, None, None, None)
    >>> windows.dataset()["window_sum"].values.tolist()
    [[[40], [70]]]
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = tuple(sizes)
        self._rows = {"window_sum": [], "episodes": []}
        self._latest: dict[str, NDArray[Any]] = {}

    def watching(self, evaluate: Callable[[Population, Trace], Array]) -> Callable[[Population, Trace], Array]:
        """Return the same fitness, of which this observer also sees the returns."""

        def watched(state: Population, trace: Trace) -> Array:
            means = [m * population.window_mean(m)(state, trace) for m in self.sizes]
            self._latest = {"window_sum": np.rint(means).astype(np.int32), "episodes": trace.count.astype(np.int32)}
            return evaluate(state, trace)

        return watched

    def __call__(self, k: int, state: Population, fitness: Array, jump: Jump) -> None:
        """Record update k."""
        for name, value in self._latest.items():
            self._rows[name].append(value)

    def dataset(self) -> xr.Dataset:
        """Return ``window_sum`` (update, window, agent) and ``episodes`` (update, agent), those that ended."""
        arrays = self.save()
        return xr.Dataset(
            {
                "window_sum": (("update", "window", "agent"), arrays["window_sum"]),
                "episodes": (("update", "agent"), arrays["episodes"]),
            },
            coords={"window": list(self.sizes)},
        )


class _Clock:
    """Seconds of work that a run took, those before an interruption included: an observer that only looks on."""

    def __init__(self) -> None:
        self._begin, self._before = time.perf_counter(), 0.0

    def __call__(self, *_: object) -> None:
        """Do nothing."""

    def seconds(self) -> float:
        """Return the seconds until now."""
        return self._before + time.perf_counter() - self._begin

    def save(self) -> dict[str, NDArray[Any]]:
        """Return what a checkpoint needs."""
        return {"seconds": np.asarray(self.seconds())}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `save` returned."""
        self._before = float(arrays["seconds"])


def prepare(*, announce: bool = False) -> float:
    """Compile the population's code, or load it from the cache, and return the seconds that took.

    Parameters
    ----------
    announce : bool
        Whether to say so first, on the error stream.

    Examples
    --------
    >>> prepare() > 0
    True
    """
    if announce:
        print(
            "CartPole population: compiling (10 to 40 s the first time, then about 1 s) ...",
            file=sys.stderr,
            flush=True,
        )
    start = time.perf_counter()
    tiny = population.new_population(np.full((1, 3), -1.0), np.random.default_rng(0))
    population.training(40, threads=1)(tiny, np.random.default_rng(0))
    return time.perf_counter() - start


def run(
    experiment: Experiment,
    seed: int,
    *,
    threads: int | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 1,
    progress: bool = False,
) -> tuple[Population, xr.Dataset]:
    """Run an experiment, or go on with it from its checkpoint; the bits are the same.

    Parameters
    ----------
    experiment : Experiment
    seed : int
        Seed of all streams of the run.
    threads : int, optional
        Agents trained at a time; all processors by default. It changes no bit of the result.
    checkpoint : path-like, optional
        File to write as the run goes, and to resume from if it exists. The number of generations may then be another.
    checkpoint_every : int
        Generations from one writing to the next.
    progress : bool
        Whether to announce compilation and show agent-steps per second and the time left.

    Returns
    -------
    state : pbtlib.cartpole.population.Population
        The population after the last update.
    record : xarray.Dataset
        As `Record.dataset` and, for the lengths `WINDOWS` that fit into a generation, `Windows.dataset` describe. In
        ``attrs`` the ``wall_seconds`` that the run took, without what an interruption lost.

    Raises
    ------
    ValueError
        If the checkpoint belongs to another experiment or seed.

    Examples
    --------
    >>> state, record = run(Experiment(n_agents=5, n_steps=200, m=1, generations=2), seed=0)
    >>> state.clock.ravel().tolist(), record["fitness"].shape
    ([400, 400, 400, 400, 400], (2, 5))
    """
    clock = _Clock()
    state = initial_population(experiment.n_agents, seed, experiment.setting, experiment.start)
    record = Record(state.h)
    windows = Windows([m for m in WINDOWS if m * experiment.setting.episode_cap <= experiment.n_steps])
    parts = operators(experiment)
    prepare(announce=progress)
    total = experiment.n_agents * experiment.n_steps * experiment.generations
    with tqdm(total=total, unit=" agent-steps", unit_scale=True, disable=not progress) as bar:

        def catch_up(k: int, *_: object) -> None:
            """Show the generations that a checkpoint had made, without counting them into the speed."""
            made_before = (k + 1) * experiment.n_agents * experiment.n_steps - bar.n
            if progress and made_before > 0:
                bar.initial += made_before
                bar.update(made_before)

        state = evolve(
            state,
            train=population.training(experiment.n_steps, experiment.setting, threads=threads, advance=bar.update),
            **{**parts, "evaluate": windows.watching(parts["evaluate"])},
            n_updates=experiment.generations,
            seed=seed,
            observe=(record, windows, clock, catch_up),
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            identity={name: value for name, value in asdict(experiment).items() if name != "generations"},
        )
    return state, record.dataset().merge(windows.dataset()).assign_attrs(wall_seconds=clock.seconds())
