r"""The runs behind Figures 6 and 7 and their controls: planned, made one per process, packed into one file.

A sweep is a map over independent runs through joblib, so whatever joblib can use can make it: processes of this
machine by default, a Dask cluster inside ``with joblib.parallel_config("dask"):``. Every run writes one file and is
never made twice; a run that was killed goes on from its last generation. All runs of a seed share their initial
population, weights included, so that differences between runs can be paired.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import xarray as xr

from pbtlib import results
from pbtlib.cartpole.experiment import WINDOWS, Experiment, run
from pbtlib.cartpole.setting import Setting

__all__ = ["SCALES", "Run", "collect", "make", "plan", "sweep"]

SCALES = {
    "paper": {"seeds": 8, "n_agents": 500, "generations": 10},
    "quick": {"seeds": 2, "n_agents": 20, "generations": 2},
}
"""Seeds, agents and generations of the sweep that the book shows, and of one that takes half a minute."""

FRESH = 1000
"""Added to the seed where configurations that one seed selected are tried again, so that all luck is drawn anew."""

BEST = 5
"""Configurations that the run ``best fixed`` takes from the run ``no evolution`` of its seed."""


@dataclass(frozen=True)
class Run:
    """One run of the sweep.

    Attributes
    ----------
    name : str
        The same for all seeds.
    experiment : Experiment
    seed : int
    """

    name: str
    experiment: Experiment
    seed: int

    def path(self, directory: str | Path) -> Path:
        """File of the result in a sweep's directory."""
        return Path(directory) / f"{self.name.replace(' ', '_')}-seed{self.seed}.nc"


def experiments(n_agents: int = 500, generations: int = 10) -> dict[str, Experiment]:
    """Return the experiments by name: the grid of Figure 6, the mutation strengths of Figure 7, the controls."""
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
        "best fixed": replace(base, mode="no evolution"),
    }


def plan(scale: str = "paper") -> list[Run]:
    """Return the planned runs, seed by seed, so that an unfinished sweep has complete seeds.

    Parameters
    ----------
    scale : {"paper", "quick"}
    """
    if scale not in SCALES:
        raise ValueError(f"scale is {scale!r}; allowed are {', '.join(map(repr, SCALES))}")
    size = dict(SCALES[scale])
    seeds = range(size.pop("seeds"))
    return [Run(name, experiment, seed) for seed in seeds for name, experiment in experiments(**size).items()]


def best_configurations(record: xr.Dataset) -> tuple[tuple[float, float, float], ...]:
    """Return the hyperparameters of the agents that were best on average over the second half of a run's updates."""
    fitness = record["fitness"].to_numpy()
    best = np.argsort(-fitness[len(fitness) // 2 :].mean(0), kind="stable")[:BEST]
    return tuple(tuple(row) for row in record["h"].to_numpy()[0, best].tolist())


def make(task: Run, directory: str | Path) -> Path:
    """Make one run, unless its file exists, and return the file; a killed run goes on from its last generation.

    The run ``best fixed`` needs the run ``no evolution`` of its seed and makes it if it is missing. It tries the
    configurations which that run found best with fresh weights and fresh noise.

    Raises
    ------
    ValueError
        If the file that exists belongs to another experiment, or is damaged.
    """
    path = task.path(directory)
    parameters = asdict(task.experiment)
    if path.is_file():
        if results.load(path).attrs["parameters"] != _json(parameters):
            raise ValueError(f"directory holds {path.name!r}, made with other parameters; choose an empty one")
        return path
    experiment, seed = task.experiment, task.seed
    if task.name == "best fixed":
        before = make(replace(task, name="no evolution"), directory)
        experiment, seed = replace(experiment, start=best_configurations(results.load(before))), seed + FRESH
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = path.with_suffix(".checkpoint")
    begin = time.perf_counter()
    _, record = run(experiment, seed, threads=1, checkpoint=checkpoint)
    results.save(path, record, results.provenance(parameters, seed=seed, wall_seconds=time.perf_counter() - begin))
    checkpoint.unlink(missing_ok=True)
    return path


def sweep(tasks: Sequence[Run], directory: str | Path, *, n_jobs: int | None = None, progress: bool = False) -> None:
    """Make the runs that a directory lacks, one per process.

    Parameters
    ----------
    tasks : sequence of Run
        As `plan` returns.
    directory : path-like
        Folder for one file per run and the checkpoints of unfinished ones (120 MB each at the paper's size).
    n_jobs : int, optional
        Processes; by default what `joblib.parallel_config` says, else 1.
    progress : bool
        Whether to print a line for every finished run.
    """
    parallel = joblib.Parallel(n_jobs=n_jobs, batch_size=1, return_as="generator_unordered")
    begin = time.perf_counter()
    for made, path in enumerate(parallel(joblib.delayed(make)(task, directory) for task in tasks), 1):
        if progress:
            print(f"{made} of {len(tasks)}: {path.name} ({(time.perf_counter() - begin) / 60:.1f} min)", flush=True)


def collect(tasks: Sequence[Run], directory: str | Path) -> tuple[xr.Dataset, dict[str, Any]]:
    """Pack the finished runs of a sweep into one data set, with its provenance.

    Parameters
    ----------
    tasks : sequence of Run
        What was planned: every experiment with every seed.
    directory : path-like
        Where `sweep` put the results.

    Returns
    -------
    data : xarray.Dataset
        Integers, as `load` reads them: ``h`` in units of 1/32767.
    meta : dict
        See `pbtlib.results.provenance`; ``missing`` lists the runs without result.
    """
    names, seeds = list(dict.fromkeys(t.name for t in tasks)), sorted({t.seed for t in tasks})
    first = tasks[0].experiment
    updates, n = first.generations, first.n_agents
    lead = ("run", "seed")
    shape = (len(names), len(seeds))
    arrays: dict[str, tuple[tuple[str, ...], Any]] = {
        "window_sum": ((*lead, "window", "update", "agent"), np.full((*shape, len(WINDOWS), updates, n), -1, np.int16)),
        "episodes": ((*lead, "update", "agent"), np.full((*shape, updates, n), -1, np.int16)),
        "parent": ((*lead, "agent", "update"), np.full((*shape, n, updates), -1, np.int16)),
        "h": ((*lead, "agent", "coordinate", "generation"), np.full((*shape, n, 3, updates + 1), 32767, np.int16)),
        "made": (lead, np.zeros(shape, np.bool_)),
    }
    seconds, missing, commits, versions = 0.0, [], set(), {}
    coordinate = None
    for task in tasks:
        at = names.index(task.name), seeds.index(task.seed)
        path = task.path(directory)
        if not path.is_file():
            missing.append(f"{task.name}, seed {task.seed}")
            continue
        record = results.load(path)
        arrays["made"][1][at] = True
        for m in record["window"].to_numpy():
            arrays["window_sum"][1][at][WINDOWS.index(m)] = record["window_sum"].sel(window=m)
        arrays["episodes"][1][at] = record["episodes"]
        arrays["parent"][1][at] = record["parent"].transpose("agent", "update")
        arrays["h"][1][at] = np.rint(32767 * record["h"].transpose("agent", "coordinate", "generation"))
        seconds += record.attrs["wall_seconds"]
        commits.add(record.attrs["commit"])
        versions, coordinate = record.attrs["versions"], record["coordinate"].to_numpy()
    of = {task.name: task.experiment for task in tasks}
    coords: dict[str, Any] = {"run": names, "seed": seeds, "window": list(WINDOWS), "coordinate": coordinate}
    for name in ("n_steps", "m", "sigma", "mode"):
        coords[name] = ("run", [getattr(of[run], name) for run in names])
    meta = results.provenance(
        {"experiments": {name: asdict(experiment) for name, experiment in of.items()}, "seeds": seeds},
        seed=seeds[0],
        wall_seconds=seconds,
        planned=len(tasks),
        made=len(tasks) - len(missing),
    )
    meta["runs"]["list of missing"] = missing
    meta |= {"commit": ", ".join(sorted(map(str, commits))), "versions": versions or meta["versions"]}
    return xr.Dataset(arrays, coords=coords), meta


def _json(value: Any) -> Any:
    return json.loads(json.dumps(value))
