"""The runs behind Figures 6 and 7 and their controls, packed into one file.

All runs of a seed share their initial population, weights included, so that differences between runs can be paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pbtlib import results
from pbtlib.cartpole.experiment import WINDOWS, Experiment, run
from pbtlib.cartpole.setting import Setting
from pbtlib.studies.study import Run, Study

__all__ = ["DATA", "SIZES", "STUDY", "experiments", "load"]

SIZES = {
    "paper": {"seeds": 5, "n_agents": 500, "generations": 10},
    "quick": {"seeds": 2, "n_agents": 20, "generations": 2},
}
"""Seeds, agents and generations of the sweep that the book shows, and of one that takes half a minute."""

FRESH = 1000
"""Added to the seed where configurations that one seed selected are tried again, so that all luck is drawn anew."""

DATA = results.DATA / "cartpole.nc"
"""The sweep at the paper's size, stored with the book."""

KEYS = ("n_steps", "m", "sigma", "mode")
"""Parameters that label the runs of the data."""

MISSING, STEPS = -32768, 32767
"""How the data say that there is no number, and how many steps there are from 0 to 1 in a stored hyperparameter."""

DEPENDENT = "best fixed"
"""The run that needs another, ``no evolution``, of its seed."""

BEST = 5
"""Configurations that it takes from there."""


def experiments(n_agents: int = 500, generations: int = 10) -> dict[str, Experiment]:
    """Return the experiments by name: the grid of Figure 6, the mutation strengths of Figure 7, the controls.

    Examples
    --------
    >>> experiments()["sigma=0.2"].sigma, experiments()["bootstrap"].setting.bootstrap
    (0.2, True)
    """
    base = Experiment(n_agents=n_agents, generations=generations)
    grid = {
        f"{steps} steps m={m}": replace(base, n_steps=steps, m=m)
        for steps in (500, 200, 1000)
        for m in reversed(WINDOWS)
        if m * base.setting.episode_cap <= steps
    }
    return {
        "no evolution": replace(base, mode="no evolution"),
        **grid,
        **{f"sigma={sigma}": replace(base, sigma=sigma) for sigma in (0.05, 0.2)},
        "weights only": replace(base, mode="weights only"),
        "random": replace(base, mode="random"),
        "carry": replace(base, carry_adam=True, carry_replay=True),
        "bootstrap": replace(base, setting=Setting(bootstrap=True)),
        DEPENDENT: replace(base, mode="no evolution"),
    }


def run_of(name: str, experiment: Experiment, seed: int) -> Run:
    """Return one run of the sweep; ``best fixed`` needs the run without evolution of its seed."""
    before = run_of("no evolution", experiment, seed) if name == DEPENDENT else None
    return Run(f"{name}, seed {seed}", experiment, seed, before)


def plan(scale: str) -> list[Run]:
    """Return the planned runs, seed by seed, so that an unfinished sweep has complete seeds."""
    size = dict(SIZES[scale])
    seeds = range(size.pop("seeds"))
    return [run_of(name, experiment, seed) for seed in seeds for name, experiment in experiments(**size).items()]


def best_configurations(record: xr.Dataset) -> tuple[tuple[float, float, float], ...]:
    """Return the hyperparameters of the agents that were best on average over the second half of a run's updates."""
    fitness = record["fitness"].to_numpy()
    best = np.argsort(-fitness[len(fitness) // 2 :].mean(0), kind="stable")[:BEST]
    return tuple(tuple(row) for row in record["h"].to_numpy()[0, best].tolist())


def compute(run_: Run, needed: xr.Dataset | None, checkpoint: Path) -> xr.Dataset:
    """Make one run; ``best fixed`` tries what the run before it found best with fresh weights and fresh noise."""
    experiment, seed = run_.setting, run_.seed
    if needed is not None:
        experiment, seed = replace(experiment, start=best_configurations(needed)), seed + FRESH
    return run(experiment, seed, threads=1, checkpoint=checkpoint, checkpoint_every=3)[1]


def label(run_: Run) -> str:
    """Return the name that the runs of all seeds share."""
    return run_.name.rpartition(", seed ")[0]


def describe(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the seeds, and the parameters of every experiment."""
    return {
        "seeds": sorted({run_.seed for run_ in runs}),
        "experiments": {label(run_): asdict(run_.setting) for run_ in runs},
    }


def pack(runs: Sequence[Run], found: Mapping[Run, xr.Dataset]) -> xr.Dataset:
    """Pack results into one data set of small integers, which `load` reads."""
    experiment = {label(run_): run_.setting for run_ in runs}
    names, seeds = list(experiment), sorted({run_.seed for run_ in runs})
    example = next(iter(found.values()))
    n, updates = example.sizes["agent"], example.sizes["update"]

    def missing(*sizes: int) -> NDArray[np.int16]:
        return np.full((len(names), len(seeds), *sizes), MISSING, np.int16)

    returns, episodes = missing(len(WINDOWS), updates, n), missing(updates, n)
    parent, h = missing(n, updates), missing(n, 3, updates + 1)  # the order that compresses best
    for run_, record in found.items():
        at = names.index(label(run_)), seeds.index(run_.seed)
        for m in record["window"].to_numpy():
            returns[*at, WINDOWS.index(m)] = record["window_sum"].sel(window=m)
        episodes[at] = record["episodes"]
        parent[at] = record["parent"].transpose("agent", "update")
        h[at] = np.rint(STEPS * record["h"].transpose("agent", "coordinate", "generation"))
    lead = ("run", "seed")
    return xr.Dataset(
        {
            "window_sum": ((*lead, "window", "update", "agent"), returns),
            "episodes": ((*lead, "update", "agent"), episodes),
            "parent": ((*lead, "agent", "update"), parent),
            "h": ((*lead, "agent", "coordinate", "generation"), h),
        },
        coords={
            **{"run": names, "seed": seeds, "window": list(WINDOWS), "coordinate": example["coordinate"].to_numpy()},
            **{key: ("run", [getattr(experiment[name], key) for name in names]) for key in KEYS},
        },
    )


def load(path: str | Path = DATA) -> xr.Dataset:
    """Read the data of the sweep.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    xarray.Dataset
        Dimensions ``run`` (with the coordinates ``n_steps``, ``m``, ``sigma``, ``mode``), ``seed``, ``agent``,
        ``update`` (from 0), ``window`` (1, 2, 5, 10), ``generation`` (one more than updates), ``coordinate``. Values
        of runs that are missing are NaN, their parents −1.

        - ``score`` (run, seed, window, update, agent): mean of the last ``window`` returns of a generation, before
          selection; NaN where the window is longer than a generation allows.
        - ``fitness`` (run, seed, update, agent): the score in the run's own window m, which selection saw.
        - ``episodes`` (run, seed, update, agent): episodes that ended in the generation.
        - ``parent`` (run, seed, update, agent): whom the agent was copied from after the generation; itself if it
          stayed.
        - ``h`` (run, seed, generation, agent, coordinate): scaled hyperparameters, to 2·10⁻⁵; entry k is what
          generation k trained with, the last what comes out.
        - ``made`` (run, seed): whether the run is there.

        The provenance is in ``attrs``.

    Raises
    ------
    FileNotFoundError, ValueError
        As `pbtlib.results.load`, and if the file holds something else.

    Examples
    --------
    >>> sweep = load()
    >>> sweep.sizes["agent"], bool(sweep["made"].all())
    (500, True)
    """
    data = results.load(path)
    if not {"window_sum", "episodes", "parent", "h"} <= set(data):
        raise ValueError(f"path is {str(path)!r}; the file holds no CartPole sweep, only {', '.join(map(str, data))}")
    there = data.where(data != MISSING)
    score = there["window_sum"] / data["window"]
    own = score.sel(window=data["m"]).drop_vars("window")
    return xr.Dataset(
        {
            "score": score,
            "fitness": own.transpose("run", "seed", "update", "agent"),
            "episodes": there["episodes"],
            "parent": data["parent"].transpose("run", "seed", "update", "agent").clip(min=-1),
            "h": there["h"].transpose("run", "seed", "generation", "agent", "coordinate") / STEPS,
            "made": (data["episodes"] != MISSING).all(("update", "agent")),
        },
        attrs=data.attrs,
    )


def remade(stored: xr.Dataset, name: str, seed: int, agents: int = 10) -> xr.DataArray:
    """Make the first generation of the first agents of a run again; say of each whether it is the stored one.

    Agents are independent within a generation. Compared are the number of episodes and the last return.

    Parameters
    ----------
    stored : xarray.Dataset
        As `load` returns; the parameters are those in the file.
    name, seed
        The run.
    agents : int
    """
    parameters = dict(stored.attrs["parameters"]["experiments"][name])
    parameters |= {"setting": Setting(**parameters["setting"]), "start": ()}
    parameters |= {"n_agents": agents, "generations": 1, "mode": "no evolution"}
    record = run(Experiment(**parameters), seed)[1].isel(update=0, generation=0).sel(window=1)
    there = stored.sel(run=name, seed=seed, window=1).isel(update=0, generation=0, agent=slice(agents))
    same_h = (np.rint(STEPS * there["h"]) == np.rint(STEPS * record["h"])).all("coordinate")
    same: xr.DataArray = same_h & (there["episodes"] == record["episodes"]) & (there["score"] == record["window_sum"])
    return same


def again(path: str | Path) -> float:
    """Make the first generation of ten agents of two runs of a data file again; return the share that agrees."""
    stored, name = load(path), "200 steps m=2"
    there = stored["made"].sel(run=name)
    if not there.any():
        raise ValueError(f"path is {str(path)!r}; the file lacks the runs {name!r}, of which a slice is made again")
    seeds = stored["seed"][there].to_numpy()[[0, -1]].tolist()
    return float(np.mean([remade(stored, name, seed).mean() for seed in seeds]))


STUDY = Study(
    name="cartpole", title="CartPole: Figures 6 and 7 and their controls", file=DATA.name, page="05_2_cartpole",
    seconds={"quick": 30, "paper": 11_900}, plan=plan, compute=compute, pack=pack, describe=describe, again=again,
    agreement=0.7,
)  # fmt: skip
