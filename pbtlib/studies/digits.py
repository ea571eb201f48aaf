"""Real data: small networks learn handwritten digits, and populations choose learning rate and weight decay.

Every seed has its own split of the images, its own first weights and its own first hyperparameters, which all modes of
that seed share, so that differences between modes can be paired. Scores are counts of right answers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pbtlib import evolution, results
from pbtlib.checks import check_number
from pbtlib.evolution import Jump, stream
from pbtlib.loop import Schedule, evolve
from pbtlib.studies.study import Run, Study

__all__ = ["BOX", "DATA", "MODES", "STUDY", "Networks", "Setting", "images", "load", "run"]

Array = NDArray[np.float64]
Single = NDArray[np.float32]

DATA = results.DATA / "digits.nc"
"""The study that the book shows."""

PIXELS, CLASSES = 64, 10

BOX = evolution.Box((-3.0, -5.0), (0.0, -1.0))
"""Decimal logarithms of learning rate and weight decay."""

NAMES = ("learning rate", "weight decay")

MODES = {
    "population": "truncation; copies take weights and hyperparameters, which are perturbed",
    "weights only": "truncation; copies take the weights and keep their own hyperparameters",
    "random h": "truncation; copies take the weights and draw their hyperparameters anew from the box",
    "by lot": "as population, but scores are drawn by lot: nothing is selected",
    "random search": "nobody is copied; hyperparameters drawn once",
    "grid": "nobody is copied; hyperparameters on a grid that is shifted at random",
    "retrained": "nobody is copied; new weights, each with the last hyperparameters of an agent of the population",
    "schedule": "nobody is copied; new weights, each with the hyperparameters along an agent's line of descent",
}
"""What is compared, at equal cost."""

AFTER = ("retrained", "schedule")
"""Modes that need the run ``population`` of their seed."""

SEED = 2026

SEEDS = {"quick": 2, "paper": 16}


@dataclass(frozen=True)
class Setting:
    """What one run is made with.

    Attributes
    ----------
    mode : str
        One of `MODES`.
    updates, readings, steps : int
        Intervals; validation scores in each of them; gradient steps before each of these.
    cells : tuple of int
        Points of the grid along each hyperparameter; their product is the number of agents.
    batch, hidden : int
        Images in a batch, drawn with replacement; units in the hidden layer.
    q, sigma : float
        Share that is replaced; standard deviation of a perturbation, in decades.
    train, valid : int
        Images to train on, and to score on; all others are the test set.

    Examples
    --------
    >>> Setting(mode="grid").agents
    20
    """

    mode: str = "population"
    updates: int = 20
    readings: int = 4
    steps: int = 10
    cells: tuple[int, int] = (5, 4)
    batch: int = 8
    hidden: int = 32
    q: float = 0.2
    sigma: float = 0.2
    train: int = 300
    valid: int = 300

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode is {self.mode!r}; allowed are {', '.join(map(repr, MODES))}")
        for name in ("updates", "readings", "steps", "batch", "hidden", "train", "valid"):
            check_number(name, getattr(self, name), integer=True, minimum=1)
        if not isinstance(self.cells, tuple) or len(self.cells) != len(NAMES):
            raise ValueError(f"cells is {self.cells!r}; it must be a tuple of {len(NAMES)} integers")
        for i, cells in enumerate(self.cells):
            check_number(f"cells[{i}]", cells, integer=True, minimum=1)
        check_number("q", self.q, minimum=0, maximum=0.5, open_minimum=True)
        check_number("sigma", self.sigma, minimum=0)

    @property
    def agents(self) -> int:
        """Number of networks."""
        return self.cells[0] * self.cells[1]


@dataclass(frozen=True)
class Networks:
    """Networks of one hidden layer.

    Attributes
    ----------
    theta : ndarray of float32, shape (N, 64 H + H + 10 H + 10)
        Weights and biases of the hidden units, then those of the classes.
    h : ndarray, shape (N, 2)
        Decimal logarithms of learning rate and weight decay.

    Examples
    --------
    >>> first_networks(Setting(), seed=0).theta.shape
    (20, 2410)
    """

    theta: Single
    h: Array


@dataclass(frozen=True)
class Split:
    """Images and labels to train, to score and to test on; images of shape (n, 64) between 0 and 1."""

    train: tuple[Single, NDArray[np.int64]]
    valid: tuple[Single, NDArray[np.int64]]
    test: tuple[Single, NDArray[np.int64]]


def images() -> tuple[Single, NDArray[np.int64]]:
    """Return the images, shape (1797, 64), brightness from 0 to 1, and their labels; source: ``data/digits.txt``.

    Examples
    --------
    >>> x, label = images()
    >>> x.shape, label[:10].tolist()
    ((1797, 64), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """
    raw = np.loadtxt(results.DATA / "digits.csv.gz", delimiter=",", dtype=np.int64)
    return (raw[:, :PIXELS] / 16).astype(np.float32), raw[:, PIXELS]


def split(setting: Setting, seed: int) -> Split:
    """Return the split of a seed.

    Examples
    --------
    >>> [len(label) for _, label in vars(split(Setting(), seed=0)).values()]
    [300, 300, 1197]
    """
    x, label = images()
    order = stream(seed, 0, "split").permutation(len(x))
    ends = setting.train, setting.train + setting.valid
    if ends[1] >= len(x):
        raise ValueError(f"train and valid are {setting.train} and {setting.valid}, of {len(x)} images none is left")
    return Split(*((x[part], label[part]) for part in np.split(order, ends)))


def first_networks(setting: Setting, seed: int, fresh: int = 0) -> Networks:
    """Draw the networks before training: weights by fan-in, hyperparameters uniform in `BOX` or on a shifted grid.

    Parameters
    ----------
    setting : Setting
    seed : int
    fresh : int
        Number of another set of weights.
    """
    n, hidden = setting.agents, setting.hidden
    rng = stream(seed, 0, "weights", fresh)
    first = rng.normal(0, np.sqrt(2 / PIXELS), (n, PIXELS * hidden))
    second = rng.normal(0, np.sqrt(1 / hidden), (n, hidden * CLASSES))
    theta = np.concatenate([first, np.zeros((n, hidden)), second, np.zeros((n, CLASSES))], 1).astype(np.float32)
    rng = stream(seed, 0, "hyperparameters")
    unit = rng.random((n, 2))
    if setting.mode == "grid":
        corner = np.stack(np.meshgrid(*map(np.arange, setting.cells), indexing="ij"), -1).reshape(-1, 2)
        unit = (corner + rng.random(2)) / setting.cells
    lower, upper = np.array(BOX.lower), np.array(BOX.upper)
    return Networks(theta, lower + (upper - lower) * unit)


def _layers(theta: Single) -> tuple[Single, Single, Single, Single]:
    """Views of the weights and biases of both layers."""
    n, size = theta.shape
    hidden = (size - CLASSES) // (PIXELS + 1 + CLASSES)
    a, b, c = np.cumsum([PIXELS * hidden, hidden, hidden * CLASSES])
    return (
        theta[:, :a].reshape(n, PIXELS, hidden), theta[:, None, a:b],
        theta[:, b:c].reshape(n, hidden, CLASSES), theta[:, None, c:],
    )  # fmt: skip


def right(theta: Single, x: Single, label: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the images that each network names right, shape (N,)."""
    w, b, v, c = _layers(theta)
    count: NDArray[np.int64] = ((np.maximum(x @ w + b, 0) @ v + c).argmax(-1) == label).sum(-1)
    return count


@dataclass(frozen=True)
class Trace:
    """Right answers on the validation set at each reading of an interval, shape (N, readings), and on the test set."""

    valid: NDArray[np.int64]
    test: NDArray[np.int64]


def train(setting: Setting, data: Split, state: Networks, rng: np.random.Generator) -> tuple[Networks, Trace]:
    """Train for one interval by stochastic gradient descent on the cross-entropy, with decoupled weight decay."""
    theta, gradient = state.theta.copy(), np.empty_like(state.theta)
    w, _, v, _ = layers = _layers(theta)
    dw, db, dv, dc = _layers(gradient)
    rate, decay = (10.0**state.h).astype(np.float32).T[..., None]
    shrink, agent = 1 - rate * decay, np.arange(len(theta))[:, None]
    images_, labels = data.train
    batches = rng.integers(len(labels), size=(setting.readings, setting.steps, len(theta), setting.batch))
    valid = []
    for reading in batches:
        for batch in reading:
            x = images_[batch]
            active = np.maximum(x @ w + layers[1], 0)
            logit = active @ v + layers[3]
            error = np.exp(logit - logit.max(-1, keepdims=True))
            error /= error.sum(-1, keepdims=True)
            error[agent, np.arange(setting.batch), labels[batch]] -= 1
            error /= setting.batch
            back = (error @ v.transpose(0, 2, 1)) * (active > 0)
            dw[:], db[:] = x.transpose(0, 2, 1) @ back, back.sum(1, keepdims=True)
            dv[:], dc[:] = active.transpose(0, 2, 1) @ error, error.sum(1, keepdims=True)
            theta *= shrink
            theta -= rate * gradient
        valid.append(right(theta, *data.valid))
    return replace(state, theta=theta), Trace(np.stack(valid, -1), right(theta, *data.test))


def descent(h: Array, parent: NDArray[np.int64]) -> Array:
    """Return the hyperparameters that the ancestors of each last agent trained with, shape (updates, N, 2).

    Parameters
    ----------
    h : ndarray, shape (N, updates, 2)
    parent : ndarray of int, shape (N, updates)
        As `run` returns them.

    Examples
    --------
    >>> h = np.array([[[1.0], [2.0]], [[3.0], [4.0]]])
    >>> descent(h, np.array([[1, 0], [1, 1]]))[..., 0].tolist()      # agent 0 became a copy of agent 1
    [[3.0, 3.0], [2.0, 4.0]]
    """
    line, course = np.arange(len(h)), [h[:, -1]]
    for k in reversed(range(h.shape[1] - 1)):
        line = parent[line, k]
        course.append(h[line, k])
    return np.stack(course[::-1])


def _course(setting: Setting, needed: xr.Dataset | None) -> Array | None:
    """What a run that follows another trains with, interval by interval."""
    if setting.mode not in AFTER:
        return None
    if needed is None:
        raise ValueError(f"needed is None; the mode {setting.mode!r} needs the population of its seed")
    h, parent = needed["h"].to_numpy().astype(float), needed["parent"].to_numpy().astype(int)
    if h.shape[:2] != (setting.agents, setting.updates):
        raise ValueError(
            f"needed has {h.shape[0]} agents and {h.shape[1]} updates; the setting has {setting.agents} and "
            f"{setting.updates}, which must be the same"
        )
    return descent(h, parent) if setting.mode == "schedule" else h[None, :, -1]


def run(setting: Setting, seed: int, needed: xr.Dataset | None = None) -> xr.Dataset:
    """Make one run.

    Parameters
    ----------
    setting : Setting
    seed : int
    needed : xarray.Dataset, optional
        For the modes ``retrained`` and ``schedule``: the population of this seed, as this function returns it.

    Returns
    -------
    xarray.Dataset
        ``valid`` (agent, update, reading) and ``test`` (agent, update): right answers, before selection; ``parent``
        (agent, update): whom the agent was copied from after the interval, itself if it stayed, as all do at the end;
        ``h`` (agent, update, coordinate): decimal logarithms of what it trained with.

    Examples
    --------
    >>> run(Setting(updates=2, steps=1), seed=0)["valid"].shape
    (20, 2, 4)
    """
    n, mode = setting.agents, setting.mode
    data, state = split(setting, seed), first_networks(setting, seed, AFTER.index(mode) + 1 if mode in AFTER else 0)
    course = _course(setting, needed)
    if course is not None:
        state = replace(state, h=course[0])
    rule, staying = evolution.Selection(evolution.Truncation(setting.q)), Jump(np.zeros(n, bool), np.arange(n))
    trained_with: list[Array] = []
    traces: list[Trace] = []
    parents: list[NDArray[np.intp]] = []

    def learn(state: Networks, rng: np.random.Generator) -> tuple[Networks, Trace]:
        trained_with.append(state.h)
        state, trace = train(setting, data, state, rng)
        traces.append(trace)
        return state, trace

    def nobody(fitness: Array, rng: np.random.Generator) -> Jump:
        return staying

    def by_lot(fitness: Array, rng: np.random.Generator) -> Jump:
        return rule(rng.permutation(fitness), rng)

    def keep_h(state: Networks, jump: Jump) -> Networks:
        return replace(evolution.copy(state, jump), h=state.h)

    def stay(state: Networks, jump: Jump, rng: np.random.Generator) -> Networks:
        return state

    def redraw(state: Networks, jump: Jump, rng: np.random.Generator) -> Networks:
        fresh = rng.uniform(BOX.lower, BOX.upper, state.h.shape)
        return replace(state, h=np.where(jump.who[:, None], fresh, state.h))

    def follow(state: Networks, jump: Jump, rng: np.random.Generator) -> Networks:
        assert course is not None
        return replace(state, h=course[min(len(traces), len(course) - 1)])

    perturb = evolution.GaussianMutation(setting.sigma, BOX)
    selects = {"population": rule, "weights only": rule, "random h": rule, "by lot": by_lot}
    mutates = {"population": perturb, "by lot": perturb, "random h": redraw, "schedule": follow}
    with threadpool_limits(1, user_api="blas"):  # products of small matrices, where threads only wait for each other
        evolve(
            state,
            train=learn,
            evaluate=lambda state, trace: trace.valid[:, -1],
            select=Schedule({0: selects.get(mode, nobody), setting.updates - 1: nobody}),
            copy=keep_h if mode == "weights only" else evolution.copy,
            mutate=mutates.get(mode, stay),
            n_updates=setting.updates,
            seed=seed,
            observe=lambda k, state, fitness, jump: parents.append(jump.parent),
        )
    there = ("agent", "update")
    return xr.Dataset(
        {
            "valid": ((*there, "reading"), np.stack([trace.valid for trace in traces], 1).astype(np.int16)),
            "test": (there, np.stack([trace.test for trace in traces], 1).astype(np.int16)),
            "parent": (there, np.stack(parents, 1).astype(np.int16)),
            "h": ((*there, "coordinate"), np.stack(trained_with, 1).astype(np.float32)),
        },
        coords={"coordinate": list(NAMES)},
    )


def run_of(mode: str, setting: Setting, seed: int) -> Run:
    """Return one run of the study."""
    before = run_of("population", setting, seed) if mode in AFTER else None
    return Run(f"{mode}, seed {seed}", replace(setting, mode=mode), seed, before)


def plan(scale: str) -> list[Run]:
    """Return the planned runs, seed by seed, so that an unfinished study has complete seeds."""
    setting = Setting() if scale == "paper" else Setting(updates=5)
    return [run_of(mode, setting, SEED + k) for k in range(SEEDS[scale]) for mode in MODES]


def compute(planned: Run, needed: xr.Dataset | None, checkpoint: Path) -> xr.Dataset:
    """Make one run; what is stored as ``wall_seconds`` is time of the processor, which other work does not lengthen."""
    begun = time.process_time()
    record = run(planned.setting, planned.seed, needed)
    return record.assign_attrs(wall_seconds=time.process_time() - begun)


def describe(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the seeds, and the parameters that all modes share."""
    shared = {name: value for name, value in asdict(runs[0].setting).items() if name != "mode"}
    return {"seeds": sorted({planned.seed for planned in runs}), "setting": shared}


def pack(runs: Sequence[Run], made: Mapping[Run, xr.Dataset]) -> xr.Dataset:
    """Pack results into one data set, which `load` reads; −1 (NaN in h) where a run is missing."""
    modes, seeds = list(MODES), sorted({planned.seed for planned in runs})
    example = next(iter(made.values()))
    packed = {}
    for name, v in example.items():
        empty = np.nan if v.dtype.kind == "f" else -1
        packed[name] = (("mode", "seed", *v.dims), np.full((len(modes), len(seeds), *v.shape), empty, v.dtype))
    for planned, record in made.items():
        for name, v in record.items():
            packed[name][1][modes.index(planned.setting.mode), seeds.index(planned.seed)] = v
    return xr.Dataset(packed, coords={"mode": modes, "seed": seeds, "coordinate": list(NAMES)})


def load(path: str | Path = DATA) -> xr.Dataset:
    """Read the data of the study.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    xarray.Dataset
        Dimensions ``mode``, ``seed``, ``agent``, ``update`` (from 0), ``reading``, ``coordinate``.

        - ``score`` (mode, seed, agent, update, reading): share of the validation set that is right; selection saw the
          last reading of an interval.
        - ``test`` (mode, seed, agent, update): share of the test set, at the end of an interval; nobody selected on it.
        - ``parent`` (mode, seed, agent, update): who was copied into the agent after the interval; itself if it stayed.
        - ``h`` (mode, seed, agent, update, coordinate): decimal logarithms of what the interval trained with.

        ``attrs["wall_seconds"]`` is time of the processor.

    Raises
    ------
    FileNotFoundError, ValueError
        As `pbtlib.results.load`, and if the file holds something else or lacks runs.

    Examples
    --------
    >>> data = load()
    >>> data.sizes["mode"], data.sizes["agent"], data.sizes["update"], data.sizes["reading"]
    (8, 20, 20, 4)
    """
    data = results.load(path)
    if not {"valid", "test", "parent", "h"} <= set(data):
        raise ValueError(f"path is {str(path)!r}; the file holds no runs on digits, only {', '.join(map(str, data))}")
    if missing := data.attrs["missing"]:
        raise ValueError(f"path is {str(path)!r}; the file lacks {len(missing)} runs, the first is {missing[0]!r}")
    setting = data.attrs["parameters"]["setting"]
    rest = len(images()[1]) - setting["train"] - setting["valid"]
    return xr.Dataset(
        {
            "score": data["valid"] / setting["valid"],
            "test": data["test"] / rest,
            "parent": data["parent"],
            "h": data["h"],
        },
        attrs=data.attrs,
    )


def again(path: str | Path) -> float:
    """Make the first interval of the first and the last population again; return the share of agents that agrees.

    Compared are the right answers at the first reading, after a few steps.
    """
    stored = results.load(path)
    parameters = dict(stored.attrs["parameters"]["setting"])
    setting = Setting(**parameters | {"cells": tuple(parameters["cells"]), "updates": 1})
    first = stored["valid"].sel(mode="population").isel(update=0, reading=0)
    if (first < 0).any():
        raise ValueError(f"path is {str(path)!r}; the file lacks populations, of which a slice is made again")
    new = [run(setting, int(seed))["valid"][:, 0, 0] for seed in stored["seed"][[0, -1]]]
    return float(np.mean(np.stack(new) == first[[0, -1]].to_numpy()))


STUDY = Study(
    name="digits", title="Digits: populations of small networks and their controls", file=DATA.name,
    page="digits", seconds={"quick": 5, "paper": 104},
    plan=plan, compute=compute, pack=pack, describe=describe, again=again, agreement=0.8,
)  # fmt: skip
