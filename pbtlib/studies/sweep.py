r"""The runs behind Figures 6 and 7 and their controls: planned, made one per process, packed into one file.

A sweep is a map over independent runs through joblib, so whatever joblib can use can make it: processes of this
machine by default, a Dask cluster inside ``with joblib.parallel_config("dask"):``. Every run writes one file and is
never made twice; a run that was killed goes on from its last checkpoint, at most three generations back. All runs of a
seed share their initial population, weights included, so that differences between runs can be paired.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pbtlib import results
from pbtlib.cartpole.experiment import WINDOWS, Experiment, run
from pbtlib.cartpole.setting import Setting

__all__ = ["DATA", "SCALES", "Run", "collect", "load", "make", "plan", "sweep"]

SCALES = {
    "paper": {"seeds": 5, "n_agents": 500, "generations": 10},
    "quick": {"seeds": 2, "n_agents": 20, "generations": 2},
}
"""Seeds, agents and generations of the sweep that the book shows, and of one that takes half a minute."""

FRESH = 1000
"""Added to the seed where configurations that one seed selected are tried again, so that all luck is drawn anew."""

DATA = Path(__file__).parents[2] / "data" / "cartpole.nc"
"""The sweep at the paper's size, stored with the book."""

KEYS = ("n_steps", "m", "sigma", "mode")
"""Parameters that label the runs of the data."""

MISSING, STEPS = -32768, 32767
"""How the data say that there is no number, and how many steps there are from 0 to 1 in a stored hyperparameter."""

DEPENDENT = "best fixed"
"""The run that needs another, ``no evolution``, of its seed."""

BEST = 5
"""Configurations that it takes from there."""


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
        DEPENDENT: replace(base, mode="no evolution"),
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


def finished(task: Run, directory: str | Path) -> xr.Dataset | None:
    """Return the result of a run from a sweep's directory, None if it has not been made.

    Raises
    ------
    ValueError
        If the file that exists belongs to another experiment, or is damaged.
    """
    path, planned, seed = task.path(directory), results.as_json(asdict(task.experiment)), task.seed
    if not path.is_file():
        return None
    record = results.load(path)
    made = record.attrs.get("parameters", {})
    if task.name == DEPENDENT:  # where it starts is decided by the run before it
        planned, seed = planned | {"start": made.get("start")}, seed + FRESH
    if (made, record.attrs.get("seed")) != (planned, seed):
        raise ValueError(f"directory holds {path.name!r}, made with other parameters; choose an empty one")
    return record


def make(task: Run, directory: str | Path) -> Path:
    """Make one run, unless its file exists, and return the file; a killed run goes on from its last checkpoint.

    The run ``best fixed`` needs the run ``no evolution`` of its seed and makes it if it is missing. It tries the
    configurations which that run found best with fresh weights and fresh noise.

    Raises
    ------
    ValueError
        If the file that exists, or the checkpoint, belongs to another experiment, or is damaged.
    """
    path = task.path(directory)
    if finished(task, directory) is not None:
        return path
    experiment, seed = task.experiment, task.seed
    if task.name == DEPENDENT:
        before = make(replace(task, name="no evolution"), directory)
        experiment, seed = replace(experiment, start=best_configurations(results.load(before))), seed + FRESH
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = path.with_suffix(".checkpoint")
    _, record = run(experiment, seed, threads=1, checkpoint=checkpoint, checkpoint_every=3)
    seconds = record.attrs["wall_seconds"]
    results.save(path, record, results.provenance(asdict(experiment), seed=seed, wall_seconds=seconds))
    for left in (checkpoint, *path.parent.glob(f".{path.stem}.*")):  # with what kills left half written
        left.unlink(missing_ok=True)
    return path


def sweep(tasks: Sequence[Run], directory: str | Path, *, n_jobs: int | None = None, progress: bool = False) -> None:
    """Make the runs that a directory lacks, one per process; ``best fixed`` when all others, which it needs, are there.

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
    made = 0
    for now in (False, True):
        for path in parallel(joblib.delayed(make)(t, directory) for t in tasks if (t.name == DEPENDENT) == now):
            made += 1
            if progress:
                print(f"{made} of {len(tasks)}: {path.name} ({(time.perf_counter() - begin) / 60:.1f} min)", flush=True)


def collect(tasks: Sequence[Run], directory: str | Path) -> tuple[xr.Dataset, dict[str, Any]]:
    """Pack the finished runs of a sweep into one data set.

    Parameters
    ----------
    tasks : sequence of Run
        What was planned: every experiment with every seed.
    directory : path-like
        Where `sweep` put the results.

    Returns
    -------
    data : xarray.Dataset
        Small integers, to be stored with `pbtlib.results.save` and read with `load`.
    meta : dict
        Its provenance. ``runs`` counts planned, made and missing runs, ``missing`` names those without a result.

    Raises
    ------
    ValueError
        If there is no result at all, a damaged one, or one that was made with other parameters than planned.
    """
    experiment = {task.name: task.experiment for task in tasks}
    names, seeds = list(experiment), sorted({task.seed for task in tasks})
    found = {task: record for task in tasks if (record := finished(task, directory)) is not None}
    if not found:
        raise ValueError(f"directory is {str(directory)!r}; it holds no result of the planned runs")
    example = next(iter(found.values()))
    n, updates = example.sizes["agent"], example.sizes["update"]

    def missing(*sizes: int) -> NDArray[np.int16]:
        return np.full((len(names), len(seeds), *sizes), MISSING, np.int16)

    returns, episodes = missing(len(WINDOWS), updates, n), missing(updates, n)
    parent, h = missing(n, updates), missing(n, 3, updates + 1)  # the order that compresses best
    for task, record in found.items():
        at = names.index(task.name), seeds.index(task.seed)
        for m in record["window"].to_numpy():
            returns[*at, WINDOWS.index(m)] = record["window_sum"].sel(window=m)
        episodes[at] = record["episodes"]
        parent[at] = record["parent"].transpose("agent", "update")
        h[at] = np.rint(STEPS * record["h"].transpose("agent", "coordinate", "generation"))
    lead = ("run", "seed")
    data = xr.Dataset(
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
    attributes = [record.attrs for record in found.values()]
    meta = results.provenance(
        {"seeds": seeds, "experiments": {name: asdict(experiment[name]) for name in names}},
        seed=seeds[0],
        wall_seconds=sum(a["wall_seconds"] for a in attributes),
        planned=len(tasks),
        made=len(found),
    )
    meta["missing"] = [f"{task.name}, seed {task.seed}" for task in tasks if task not in found]
    for key in ("commit", "machine"):
        meta[key] = _joined(a[key] for a in attributes)
    meta["versions"] = {name: _joined(a["versions"][name] for a in attributes) for name in meta["versions"]}
    return data, meta


def load(path: str | Path = DATA) -> xr.Dataset:
    """Read the data that `collect` packed.

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


def _joined(values: Iterable[object]) -> str:
    """Name every value once."""
    return ", ".join(sorted(set(map(str, values))))
