"""Is the compiled population the torch agent? Learning curves of both, and of the population with planted faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from pbtlib import results
from pbtlib.cartpole import population
from pbtlib.cartpole.experiment import initial_population
from pbtlib.cartpole.population import Population, Trace
from pbtlib.cartpole.setting import Setting
from pbtlib.checks import check_number
from pbtlib.evolution import stream
from pbtlib.studies.study import Run, Study

__all__ = ["FAULTS", "MARGINS", "SIDES", "SIZES", "STUDY", "Design", "compare"]

Array = NDArray[np.float64]
Train = Callable[[Population, np.random.Generator], tuple[Population, Trace]]

FAULTS = ("learning rate times 1.3", "target never synchronised", "batch size ignored", "exploration clock restarts")
"""Planted faults of the compiled population that the comparison has to notice."""

MARGINS = {"return": 10.0, "distance": 0.03, "value": 0.03}
"""Largest difference that counts as equal, a tenth of the longest episode, 7 per cent of the way of θ and of Q."""


def learning_curves(train: Train, state: Population, generations: int, seed: int, role: str, fault: str = "") -> Array:
    """Train without evolution and measure every agent after each generation.

    Parameters
    ----------
    train : callable
        Fast operator of the torch agents or of the compiled population.
    state : pbtlib.cartpole.population.Population
    generations : int
    seed : int
    role : str
        Name of the streams: other names, independent noise.
    fault : str
        The fault that sets the exploration clock back before every generation is planted here.

    Returns
    -------
    ndarray, shape (3, N, generations)
        The mean return of a generation's episodes, log10 ‖θ − θ_0‖, and log10 of max_a Q at the upright state at rest
        (at least 0.1).
    """
    theta, curves = state.theta, []
    upright = np.zeros((1, 4), np.float32)
    for k in range(generations):
        if fault == FAULTS[3]:
            state = replace(state, clock=np.zeros_like(state.clock))
        state, trace = train(state, stream(seed, k, role))
        value = np.array([population.forward(population.by_columns(row), upright)[2].max() for row in state.theta])
        distance = np.linalg.norm(state.theta.astype(float) - theta, axis=1)
        curves.append([trace.returns.sum(1) / trace.count, np.log10(distance), np.log10(np.maximum(value, 0.1))])
    return np.moveaxis(np.array(curves), 0, -1)


@dataclass(frozen=True)
class Design:
    """What every seed is run with.

    Attributes
    ----------
    n_agents, n_steps, generations : int
        Agents, environment steps of a generation, generations (without evolution).

    Examples
    --------
    >>> Design(n_agents=3).n_steps
    250
    """

    n_agents: int = 30
    n_steps: int = 250
    generations: int = 6

    def __post_init__(self) -> None:
        for name in ("n_agents", "n_steps", "generations"):
            check_number(name, getattr(self, name), integer=True, minimum=1)


SIZES = {"paper": (10, Design()), "quick": (2, Design(n_agents=3, n_steps=130, generations=2))}
"""Number of seeds and design, of what the book shows, and of what takes some seconds."""

SIDES = ("torch", "compiled", "compiled again", *FAULTS)


def runs_of(seeds: int, design: Design) -> list[Run]:
    """Return a run for every seed."""
    return [Run(f"seed {seed}", design, seed) for seed in range(seeds)]


def plan(scale: str) -> list[Run]:
    """Return the planned runs."""
    return runs_of(*SIZES[scale])


def start_of(design: Design, seed: int) -> Population:
    """Draw the population that all sides of a seed start from, with room for a learning rate 1.3 times as large."""
    start = initial_population(design.n_agents, seed)
    return replace(start, h=0.9 * start.h)


def curves_of(side: str, design: Design, seed: int) -> Array:
    """Return the `learning_curves` of one side, ``torch``, ``compiled``, ``compiled again`` or a fault.

    For every seed all start from the same weights and hyperparameters, agent by agent; all later noise is independent.
    """
    start = start_of(design, seed)
    h, setting = start.h.copy(), Setting(target_period=10**9 if side == FAULTS[1] else 100)
    if side == FAULTS[0]:
        h[:, 0] += np.log10(1.3) / 1.5
    if side == FAULTS[2]:
        h[:, 2] = 0.0
    train: Train = population.training(design.n_steps, setting)
    if side == "torch":
        from pbtlib.cartpole import dqn  # torch is needed here only

        train = dqn.training(design.n_steps)
    return learning_curves(train, replace(start, h=h), design.generations, seed, side, side)


def compute(run: Run, needed: xr.Dataset | None, checkpoint: Path) -> xr.Dataset:
    """Make the curves of all sides for one seed."""
    of_this_seed = np.array([curves_of(side, run.setting, run.seed) for side in SIDES])
    data = {name: (("side", "agent", "generation"), of_this_seed[:, quantity]) for quantity, name in enumerate(MARGINS)}
    return xr.Dataset({**data, "h": (("agent", "coordinate"), start_of(run.setting, run.seed).h)})


def describe(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the number of seeds and the design."""
    return {"seeds": len(runs), **asdict(runs[0].setting)}


def pack(runs: Sequence[Run], made: Mapping[Run, xr.Dataset]) -> xr.Dataset:
    """Pack the seeds that are made.

    Returns
    -------
    xarray.Dataset
        ``return``, ``distance``, ``value`` as in `learning_curves`, with dimensions ``side``, ``seed``, ``agent``,
        ``generation``, and ``h``, the scaled hyperparameters. Coordinate ``steps`` of ``generation``: environment steps
        until its end.
    """
    design: Design = runs[0].setting
    data = xr.concat([made[run] for run in runs if run in made], dim="seed")
    steps = design.n_steps * np.arange(1, design.generations + 1)
    return data.transpose("side", "seed", ...).assign_coords(side=list(SIDES), steps=("generation", steps))


def compare(study: xr.Dataset, side: str, reference: str = "torch", level: float = 1e-2) -> xr.Dataset:
    """Test whether two sides of a study are equivalent: all differences certainly within the margins.

    Agents of both sides are paired by seed and index. Compared are, for every quantity and generation, the mean over
    all agents and the trends with the three hyperparameters (the mean of the difference times the coordinate, in
    standard deviations): a fault may leave the mean alone and yet change what a hyperparameter does. Two one-sided t
    tests each, at ``level`` divided by their number, so that two sides of which some difference exceeds its margin are
    called equivalent with probability at most ``level``.

    Parameters
    ----------
    study : xarray.Dataset
        The study's data file, as `pbtlib.results.load` returns it.
    side, reference : str
        Names of the sides.
    level : float
        Level of the whole test, in (0, 1).

    Returns
    -------
    xarray.Dataset
        With dimensions ``quantity``, ``contrast`` and ``generation``: ``difference`` and ``half_width``, of its
        simultaneous confidence interval. ``margin`` of each quantity. Without dimensions: ``equivalent`` (all
        intervals lie within the margins), ``different`` (some interval excludes zero), ``power``, a lower bound of
        the probability that two sides without any difference, with the noise of these, are called equivalent.

    Examples
    --------
    >>> from pbtlib import results
    >>> stored = results.load(results.DATA / STUDY.file)
    >>> bool(compare(stored, "compiled")["equivalent"]), bool(compare(stored, FAULTS[0])["equivalent"])
    (True, False)
    """
    check_number("level", level, minimum=0, maximum=1, open_minimum=True, open_maximum=True)
    both = study[list(MARGINS)].to_array("quantity")
    margin = xr.DataArray(list(MARGINS.values()), dims="quantity", coords={"quantity": list(MARGINS)})
    h = study["h"] - study["h"].mean(("seed", "agent"))
    trends = (h / h.std(("seed", "agent"))).rename(coordinate="contrast")
    weight = xr.concat([xr.ones_like(trends.isel(contrast=[0])), trends], "contrast")
    d = (both.sel(side=side, drop=True) - both.sel(side=reference, drop=True)) * weight
    n, tests = d.sizes["seed"] * d.sizes["agent"], d.sizes["quantity"] * d.sizes["contrast"] * d.sizes["generation"]
    law = stats.t(n - 1)
    difference, error = d.mean(("seed", "agent")), d.std(("seed", "agent"), ddof=1) / np.sqrt(n)
    half_width = law.isf(level / tests / 2) * error
    room = (margin - half_width) / error
    return xr.Dataset(
        {
            "difference": difference,
            "half_width": half_width,
            "margin": margin,
            "equivalent": (abs(difference) + half_width < margin).all(),
            "different": (abs(difference) > half_width).any(),
            "power": max(0.0, 1 - float(np.sum(2 * law.sf(room.to_numpy())))),
        },
        coords={"contrast": ["mean", "learning rate", "exploration decay", "batch size"]},
    )


def again(path: str | Path) -> float:
    """Make the first generation of the first seed's slow learners again, compiled; return the share that agrees."""
    study = results.load(path)
    parameters = dict(study.attrs["parameters"])
    seeds = parameters.pop("seeds")
    if "seed 0" in study.attrs.get("missing", []):
        raise ValueError(f"path is {str(path)!r}; the file lacks seed 0 of {seeds}, of which a slice is made again")
    design = replace(Design(**parameters), generations=1)
    slow = np.flatnonzero(study["h"].isel(seed=0, coordinate=0) < -0.5)[:6]
    new = curves_of("compiled", design, 0)[:, slow, 0]
    stored = study[list(MARGINS)].to_array().sel(side="compiled").isel(seed=0, agent=slow, generation=0)
    same_h = start_of(design, 0).h[slow] == study["h"].isel(seed=0, agent=slow).to_numpy()
    close = np.abs(new - stored.to_numpy()) < np.array([[1e-9], [1e-3], [1e-3]])
    return float(np.mean(close.all(0) & same_h.all(1)))


STUDY = Study(
    name="equivalence", title="CartPole: the compiled population against PyTorch", file="cartpole_equivalence.nc",
    page="d_reinforcement_learning", seconds={"quick": 10, "paper": 775},
    plan=plan, compute=compute, pack=pack, describe=describe, again=again, agreement=0.6,
)  # fmt: skip
