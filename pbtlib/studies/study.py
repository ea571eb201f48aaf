"""One engine for studies: many independent runs that take long, may be killed at any moment, and end in one file.

A `Study` is a value: its plan, what one run computes, and how the runs are packed. Every run writes one file, all or
nothing, and is never made twice; a run with a checkpoint goes on from it. The map over runs is joblib's, so whatever
joblib can use can make it: processes of this machine by default, a Dask cluster inside
``with joblib.parallel_config("dask"):``. What a run computes depends on its setting and its seed alone, so any number
of processes, also on one directory, and any interruption give the same files.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import joblib
import xarray as xr
from tqdm import tqdm

from pbtlib import results

__all__ = ["SCALES", "Run", "Study"]

SCALES = ("quick", "paper")
"""Sizes of a study, one that is made in a minute to see how it goes, and the one whose results the book stores."""


@dataclass(frozen=True)
class Run:
    """One run of a study.

    Attributes
    ----------
    name : str
        What it is called in lists; it also names its file.
    setting : frozen dataclass
        Its parameters, JSON values. Together with ``seed`` and ``after`` they say what its file must hold.
    seed : int
    after : Run, optional
        The run whose result this one needs. It may or may not be in the plan itself.

    Examples
    --------
    >>> from pbtlib.cartpole.experiment import Experiment
    >>> Run("no evolution, seed 0", Experiment(mode="no evolution"), seed=0).path("runs").name
    'no_evolution_seed_0.nc'
    """

    name: str
    setting: Any
    seed: int
    after: Run | None = None

    def path(self, directory: str | Path) -> Path:
        """File of the result in a study's directory."""
        plain = re.sub(r"[^\w.+-]+", "_", self.name).strip("_")
        return Path(directory).expanduser() / f"{plain}.nc"

    def identity(self) -> dict[str, Any]:
        """What tells this run from others, as JSON values."""
        needed = None if self.after is None else self.after.identity()
        parameters: dict[str, Any] = results.as_json(asdict(self.setting))
        return {"parameters": parameters, "seed": self.seed, "after": needed}


@dataclass(frozen=True)
class Study:
    """A study of many runs and the data file that holds it.

    Attributes
    ----------
    name, title : str
        What commands call it, and what it is, in a line.
    file, page : str
        Its data file in ``data/``, and the chapter that shows it.
    seconds : mapping
        By scale, what it takes on one processor.
    plan : callable
        ``plan(scale) -> runs``, the most wanted first, with names of their own.
    compute : callable
        ``compute(run, needed, checkpoint) -> xarray.Dataset``: the result of one run. ``needed`` is the result of
        ``run.after``, or None; ``checkpoint`` a path where an unfinished run may keep its state. If the result has the
        attribute ``wall_seconds``, that counts as its time (of the processor, if ``compute`` says so).
    pack : callable
        ``pack(runs, made) -> xarray.Dataset``: one data set from the planned runs and the results of those made.
    describe : callable
        ``describe(runs) -> dict``, the parameters that the data file records.
    again : callable
        ``again(path) -> float``: make a small slice of a data file again, from its own parameters, and return the
        share of it that agrees.
    agreement : float
        The share that must agree; below 1 where rounding, which differs between processors, may turn an action.

    Examples
    --------
    >>> from pbtlib.studies.wells import STUDY
    >>> [run.name for run in STUDY.runs("quick")]
    ['reference, block 0', 'N = 30, block 0', 'reference, block 1']
    """

    name: str
    title: str
    file: str
    page: str
    seconds: Mapping[str, float]
    plan: Callable[[str], Sequence[Run]]
    compute: Callable[[Run, xr.Dataset | None, Path], xr.Dataset]
    pack: Callable[[Sequence[Run], Mapping[Run, xr.Dataset]], xr.Dataset]
    describe: Callable[[Sequence[Run]], dict[str, Any]]
    again: Callable[[Path], float]
    agreement: float = 1.0

    def runs(self, scale: str = "paper") -> list[Run]:
        """Return the planned runs.

        Parameters
        ----------
        scale : {"paper", "quick"}
        """
        if scale not in SCALES:
            raise ValueError(f"scale is {scale!r}; allowed are {', '.join(map(repr, SCALES))}")
        return list(self.plan(scale))

    def result(self, run: Run, directory: str | Path) -> xr.Dataset | None:
        """Return the result of a run from a directory, None if it has not been made.

        Raises
        ------
        ValueError
            If the file that exists is damaged or belongs to another run.
        """
        path = run.path(directory)
        if not path.is_file():
            return None
        try:
            record = results.load(path)
        except ValueError as error:
            raise ValueError(f"{error}; delete it to have {run.name!r} made again") from error
        if record.attrs.get("run") != run.identity():
            raise ValueError(f"directory holds {path.name!r}, made with other parameters; choose an empty one")
        return record

    def made(self, runs: Sequence[Run], directory: str | Path) -> dict[Run, xr.Dataset]:
        """Return the results that a directory holds, by run. Raises as `result` does."""
        found = ((run, self.result(run, directory)) for run in runs)
        return {run: record for run, record in found if record is not None}

    def make(self, run: Run, directory: str | Path) -> Path:
        """Make one run, unless its file exists, and the run that it needs; return the file.

        Whatever killed processes of this machine left half written of this run is removed.

        Raises
        ------
        ValueError
            If a file that exists, or a checkpoint, is damaged or belongs to another run.
        """
        path = run.path(directory)
        checkpoint = path.with_suffix(".checkpoint")
        if self.result(run, directory) is None:
            needed = None
            if run.after is not None:
                self.make(run.after, directory)
                needed = self.result(run.after, directory)
            path.parent.mkdir(parents=True, exist_ok=True)
            begun = time.perf_counter()
            record = self.compute(run, needed, checkpoint)
            seconds = record.attrs.get("wall_seconds", time.perf_counter() - begun)
            identity = run.identity()
            meta = results.provenance(identity["parameters"], seed=run.seed, wall_seconds=seconds)
            results.save(path, record, {**meta, "run": identity})
        checkpoint.unlink(missing_ok=True)
        for left in (path, checkpoint):
            results.tidy(left)
        return path

    def make_all(
        self, runs: Sequence[Run], directory: str | Path, *, n_jobs: int | None = None, progress: bool = False
    ) -> None:
        """Make the runs that a directory lacks, one per process; those that need others when these are there.

        Parameters
        ----------
        runs : sequence of Run
            As `runs` returns.
        directory : path-like
            Folder for one file per run and the checkpoints of unfinished ones.
        n_jobs : int, optional
            Processes; by default what ``joblib.parallel_config`` says, else 1.
        progress : bool
            Whether to show a bar of finished runs and the time left.

        Raises
        ------
        ValueError
            If two runs have one file, or a file is damaged or belongs to another run: before any work.
        """
        files = Counter(run.path(directory) for run in runs)
        if twice := [path.name for path, times in files.items() if times > 1]:
            raise ValueError(f"runs of one file {twice[0]!r}; their names must differ in letters and digits")
        missing = files.keys() - {run.path(directory) for run in self.made(runs, directory)}
        needed = [run.after for run in runs if run.after is not None and run.after not in runs]
        first = dict.fromkeys([*needed, *(run for run in runs if run.after is None)])
        parallel = joblib.Parallel(n_jobs=n_jobs, batch_size=1, return_as="generator_unordered")
        made = len(files) - len(missing)
        with tqdm(total=len(files), initial=made, desc=self.name, unit="run", disable=not progress) as bar:
            for stage in (first, [run for run in runs if run.after is not None]):
                for path in parallel(joblib.delayed(self.make)(run, directory) for run in stage):
                    bar.set_postfix_str(path.stem, refresh=False)
                    bar.update(path in missing)

    def collect(self, runs: Sequence[Run], directory: str | Path) -> tuple[xr.Dataset, dict[str, Any]]:
        """Pack the finished runs of a directory into one data set.

        Parameters
        ----------
        runs : sequence of Run
            What was planned.
        directory : path-like

        Returns
        -------
        data : xarray.Dataset
            To be stored with `pbtlib.results.save`.
        meta : dict
            Its provenance. ``runs`` counts planned, made and missing runs, ``missing`` names those without a result;
            commit, machine and versions are those of all runs.

        Raises
        ------
        ValueError
            If there is no result at all, a damaged one, or one of another run.
        """
        found = self.made(runs, directory)
        if not found:
            raise ValueError(f"directory is {str(directory)!r}; it holds no result of the planned runs")
        origins = [record.attrs for record in found.values()]
        seconds = sum(origin["wall_seconds"] for origin in origins)
        own = {"planned": len(runs), "made": len(found), "wall_seconds": seconds, "seed": runs[0].seed}
        meta = results.provenance(self.describe(runs), **own)
        for key in meta.keys() - {"parameters", "seed", "wall_seconds", "runs"}:
            there = [origin.get(key) for origin in origins]
            if isinstance(meta[key], dict):
                meta[key] = {name: _joined((each or {}).get(name) for each in there) for name in meta[key]}
            else:
                meta[key] = _joined(there)
        meta["missing"] = [run.name for run in runs if run not in found]
        return self.pack(runs, found), meta

    def stored(self, runs: Sequence[Run], path: str | Path) -> int | None:
        """Return how many of these runs a data file holds; None if there is none, or it holds another plan."""
        if not Path(path).expanduser().is_file():
            return None
        meta = results.load(Path(path).expanduser().resolve()).attrs
        mine = (results.as_json(self.describe(runs)), runs[0].seed, len(runs))
        if (meta.get("parameters"), meta.get("seed"), meta.get("runs", {}).get("planned")) != mine:
            return None
        return int(meta["runs"]["made"])


def _joined(values: Iterable[object]) -> str:
    """Name every value once."""
    return ", ".join(sorted(set(map(str, values))))
