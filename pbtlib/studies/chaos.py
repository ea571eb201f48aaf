"""Propagation of chaos on trained networks: populations of CartPole agents of several sizes, many of each.

Theorem 4 of the paper, and Theorems F1 and F6 of the book, say how the mean over a population scatters, and how far it
lies from its limit, if the population is large. Here the agents are Q-networks, and what scatters are their returns and
their hyperparameters.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pbtlib import results
from pbtlib.cartpole import population
from pbtlib.cartpole.experiment import Experiment, initial_population, operators
from pbtlib.cartpole.population import Population, Trace
from pbtlib.cartpole.setting import COORDINATES, Setting
from pbtlib.checks import check_number
from pbtlib.evolution import Gibbs, Jump, Selection, stream
from pbtlib.loop import evolve
from pbtlib.studies.study import Run, Study

__all__ = ["REPLICATES", "RULES", "STUDY", "Design", "Group"]

ONE_SEED = "one seed"
"""The rule, truncation, under which all agents of a population draw the same random numbers."""

RULES = ("truncation", "Gibbs", "no evolution", ONE_SEED)
"""How agents are selected."""

REPLICATES = {50: 64, 100: 32, 200: 16, 400: 8, 800: 8, 1600: 8}
"""Populations of each size and rule; with one seed for all there are fewer, of some sizes."""

SIZES_ONE_SEED, MOST_ONE_SEED = (50, 200, 800), 8

AT_ONCE = 400
"""Agents that one run of the study trains; more only if one population has more."""

SEED = 2027


@dataclass(frozen=True)
class Design:
    """What all populations have in common.

    Attributes
    ----------
    n_steps : int
        Environment steps between two updates.
    generations : int
        Updates.
    m : int
        Episodes in the fitness window (23).
    q : float
        Share of truncation selection, and probability τ of a jump under Gibbs selection.
    beta : float
        Pressure of Gibbs selection, per unit of return.
    sigma : float
        Mutation strength in scaled coordinates.
    episode_cap : int
        Steps after which an episode is cut off, at most 255/m.

    Examples
    --------
    >>> Design().generations * Design().n_steps      # environment steps of an agent
    600
    """

    n_steps: int = 100
    generations: int = 6
    m: int = 2
    q: float = 0.2
    beta: float = 0.1
    sigma: float = 0.1
    episode_cap: int = 50

    def __post_init__(self) -> None:
        for name in ("n_steps", "generations", "m", "episode_cap"):
            check_number(name, getattr(self, name), integer=True, minimum=1)
        check_number("q", self.q, minimum=0, maximum=0.5, open_minimum=True)
        for name in ("beta", "sigma"):
            check_number(name, getattr(self, name), minimum=0)


@dataclass(frozen=True)
class Group:
    """Populations of one rule and one size that one run of the study makes.

    Attributes
    ----------
    design : Design
    rule : str
        One of `RULES`.
    n_agents : int
    first, replicates : int
        Number of the first population, and how many.

    Examples
    --------
    >>> Group(Design(), "truncation", 50, first=8, replicates=8).n_agents
    50
    """

    design: Design
    rule: str
    n_agents: int
    first: int
    replicates: int


class _Same:
    """A stream all of whose children are one: what happens if every agent is given the same random seed."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def spawn(self, n: int) -> list[np.random.Generator]:
        """Return n copies of one child."""
        child = self._rng.spawn(1)[0]
        return [copy.deepcopy(child) for _ in range(n)]


def _same(rng: np.random.Generator) -> np.random.Generator:
    return cast("np.random.Generator", _Same(rng))


def evolved(design: Design, rule: str, n_agents: int, replicate: int, seed: int) -> dict[str, NDArray[Any]]:
    """Train one population and return what its observables were.

    An agent that is replaced takes everything from its parent, its replay and Adam's means too, so that the population
    is a particle system whose particles are whole agents.

    Returns
    -------
    dict
        ``score``, shape (update, agent): sum of the last m returns, which selection saw. ``h_mean`` and ``h_square``,
        shape (generation, 3): means over the population of the scaled hyperparameters and their squares.
    """
    d = design
    own = int(stream(seed, replicate, rule, n_agents).integers(2**62))
    setting = Setting(episode_cap=d.episode_cap, capacity=max(128, d.n_steps * d.generations))
    experiment = Experiment(
        n_agents, d.n_steps, d.generations, d.m, d.q, d.sigma,
        mode="no evolution" if rule == "no evolution" else "pbt", carry_adam=True, carry_replay=True, setting=setting,
    )  # fmt: skip
    parts, train = operators(experiment), population.training(d.n_steps, setting, threads=1)
    state = initial_population(n_agents, own, setting)
    if rule == "Gibbs":
        parts["select"] = Selection(Gibbs(d.beta), tau=d.q)
    if rule == ONE_SEED:
        weights = population.new_population(state.h, _same(stream(own, 0, "weights")), setting)
        state, trained = replace(state, theta=weights.theta, target=weights.target), train

        def train(state: Population, rng: np.random.Generator) -> tuple[Population, Trace]:
            return trained(state, _same(rng))

    score: list[NDArray[Any]] = []
    h = [state.h]

    def observe(k: int, state: Population, fitness: NDArray[np.float64], jump: Jump) -> None:
        score.append(np.rint(d.m * fitness).astype(np.uint8))
        h.append(state.h)

    evolve(state, train=train, **parts, n_updates=d.generations, seed=own, observe=observe)
    clouds = np.array(h)
    return {"score": np.array(score), "h_mean": clouds.mean(1), "h_square": np.square(clouds).mean(1)}


def runs_of(design: Design, replicates: Mapping[int, int]) -> list[Run]:
    """Return the runs, small populations of all rules first."""
    return [
        Run(
            f"{rule}, N = {n}, from {first}",
            Group(design, rule, n, first, min(count - first, max(1, AT_ONCE // n))),
            SEED,
        )
        for n in replicates
        for rule in RULES
        if rule != ONE_SEED or n in SIZES_ONE_SEED
        for count in [min(replicates[n], MOST_ONE_SEED) if rule == ONE_SEED else replicates[n]]
        for first in range(0, count, max(1, AT_ONCE // n))
    ]


def plan(scale: str) -> list[Run]:
    """Return the planned runs."""
    return runs_of(Design(), REPLICATES) if scale == "paper" else runs_of(Design(generations=2), {10: 4, 20: 2})


def compute(run: Run, needed: xr.Dataset | None, checkpoint: Path) -> xr.Dataset:
    """Make the populations of one run."""
    group: Group = run.setting
    numbers = range(group.first, group.first + group.replicates)
    made = [evolved(group.design, group.rule, group.n_agents, k, run.seed) for k in numbers]
    dims = {
        "score": ("update", "agent"),
        "h_mean": ("generation", "coordinate"),
        "h_square": ("generation", "coordinate"),
    }
    return xr.Dataset({name: (("population", *dims[name]), np.array([one[name] for one in made])) for name in dims})


def describe(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the design, and how many populations of each rule and size there are."""
    count: dict[str, int] = {}
    for run in runs:
        name = f"{run.setting.rule}, N = {run.setting.n_agents}"
        count[name] = count.get(name, 0) + run.setting.replicates
    return {"design": asdict(runs[0].setting.design), "populations": count}


def pack(runs: Sequence[Run], made: Mapping[Run, xr.Dataset]) -> xr.Dataset:
    """Pack the populations that are made, in the order of the plan.

    Returns
    -------
    xarray.Dataset
        As `evolved` returns them, with the dimension ``population`` in front and its coordinates ``rule``, ``agents``
        and ``replicate``; a population of N agents has zeros behind its N scores.
    """
    there = [run for run in runs if run in made]
    most = max(run.setting.n_agents for run in there)
    padded = [made[run].pad(agent=(0, most - run.setting.n_agents), constant_values=0) for run in there]
    data = xr.concat([record.drop_attrs() for record in padded], "population")
    groups = [group for run in there for group in [run.setting] * run.setting.replicates]
    coords = {
        "rule": ("population", [group.rule for group in groups]),
        "agents": ("population", [group.n_agents for group in groups]),
        "replicate": ("population", [run.setting.first + k for run in there for k in range(run.setting.replicates)]),
        "coordinate": list(COORDINATES),
    }
    types = {"score": np.uint8, "h_mean": np.float32, "h_square": np.float32}
    return data.assign({name: data[name].astype(kind) for name, kind in types.items()}).assign_coords(coords)


def again(path: str | Path) -> float:
    """Make the first population of a data file again; return the share of its scores that agrees."""
    data = results.load(path)
    first = data.isel(population=0)
    n, rule, number = int(first["agents"]), str(first["rule"].item()), int(first["replicate"])
    new = evolved(Design(**data.attrs["parameters"]["design"]), rule, n, number, data.attrs["seed"])
    return float(np.mean(new["score"] == first["score"].to_numpy()[:, :n]))


STUDY = Study(
    name="chaos", title="CartPole: how populations of networks scatter", file="cartpole_chaos.nc",
    page="chaos_on_networks", seconds={"quick": 10, "paper": 4_700},
    plan=plan, compute=compute, pack=pack, describe=describe, again=again, agreement=0.6,
)  # fmt: skip
