"""What a cluster costs: tasks that only wait, sent to the workers of a local Dask cluster as a study sends its runs.

The model has two parameters: n tasks of t seconds each on W workers take ``start + n (t + each) / W`` seconds. It is
fitted to the small sizes and held against the large ones. Seconds differ from machine to machine and hour to hour.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pbtlib import results
from pbtlib.checks import check_number
from pbtlib.studies.study import Run, Study

__all__ = ["DATA", "STUDY", "Setting", "fit", "predicted", "run"]

Array = NDArray[np.float64]

DATA = results.DATA / "cluster.nc"
"""The measurements that the book shows."""

SEED = 2026


@dataclass(frozen=True)
class Setting:
    """One size.

    Attributes
    ----------
    workers, tasks : int
        W, processes of one thread each; n.
    seconds : float
        t, how long a task waits [s].
    repeats : int
        How often it is measured, after one round that does not count.
    small : bool
        Whether the model is fitted to it; else it is held against it.

    Examples
    --------
    >>> Setting(workers=2, tasks=25).seconds
    0.02
    """

    workers: int
    tasks: int
    seconds: float = 0.02
    repeats: int = 7
    small: bool = True

    def __post_init__(self) -> None:
        for name in ("workers", "tasks", "repeats"):
            check_number(name, getattr(self, name), integer=True, minimum=1)
        check_number("seconds", self.seconds, minimum=0)


SIZES = {
    "paper": (
        Setting(1, 25), Setting(1, 50), Setting(2, 25), Setting(2, 50),
        Setting(2, 400, small=False), Setting(4, 400, small=False),
    ),
    "quick": (Setting(1, 10, repeats=3), Setting(1, 20, repeats=3), Setting(2, 40, repeats=3, small=False)),
}  # fmt: skip
"""Sizes of the study that the book shows, and of one that takes some seconds."""


def run(setting: Setting) -> Array:
    """Measure one size.

    Parameters
    ----------
    setting : Setting

    Returns
    -------
    ndarray, shape (repeats,)
        Seconds from the first task sent to the last result received.
    """
    from distributed import Client, LocalCluster

    shape = {"n_workers": setting.workers, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    taken = []
    with LocalCluster(**shape) as cluster, Client(cluster), joblib.parallel_config("dask"):
        for _ in range(1 + setting.repeats):
            begun = time.perf_counter()
            joblib.Parallel(batch_size=1)(joblib.delayed(time.sleep)(setting.seconds) for _ in range(setting.tasks))
            taken.append(time.perf_counter() - begun)
    return np.array(taken[1:])


def fit(data: xr.Dataset) -> tuple[float, float]:
    """Fit the two parameters to the medians at the small sizes, by least squares of relative errors.

    Parameters
    ----------
    data : xarray.Dataset
        As the data file holds it.

    Returns
    -------
    start, each : float
        Seconds that a study waits once, and that a worker loses with each task.

    Examples
    --------
    >>> sizes = {"workers": [1, 1], "tasks": [10, 20], "seconds": [0.1, 0.1], "small": [True, True]}
    >>> data = xr.Dataset({name: ("size", v) for name, v in sizes.items()})
    >>> data["taken"] = (("size", "repeat"), [[1.6], [2.7]])
    >>> [round(x, 6) for x in fit(data)]
    [0.5, 0.01]
    """
    small = data.isel(size=np.flatnonzero(data["small"]))
    taken = small["taken"].median("repeat").to_numpy()
    share = (small["tasks"] / small["workers"]).to_numpy()
    waited = share * small["seconds"].to_numpy()
    columns = np.stack([np.ones_like(taken), share], -1)
    start, each = np.linalg.lstsq(columns / taken[:, None], 1 - waited / taken)[0]
    return float(start), float(each)


def predicted(data: xr.Dataset, start: float, each: float) -> xr.DataArray:
    """Return the model's seconds at every size, by these two parameters."""
    seconds: xr.DataArray = start + data["tasks"] * (data["seconds"] + each) / data["workers"]
    return seconds


def plan(scale: str) -> list[Run]:
    """Return the planned runs, one for each size."""
    return [Run(f"{size.tasks} tasks on {size.workers}", size, SEED) for size in SIZES[scale]]


def compute(planned: Run, needed: xr.Dataset | None, checkpoint: Path) -> xr.Dataset:
    """Measure one size."""
    return xr.Dataset({"taken": ("repeat", run(planned.setting))})


def describe(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the sizes."""
    return {planned.name: asdict(planned.setting) for planned in runs}


def pack(runs: Sequence[Run], made: Mapping[Run, xr.Dataset]) -> xr.Dataset:
    """Pack the sizes that were measured: ``taken`` (size, repeat), and by size what it was."""
    there = [planned for planned in runs if planned in made]
    sizes = {
        name: ("size", np.array([getattr(planned.setting, name) for planned in there]))
        for name in ("workers", "tasks", "seconds", "small")
    }
    taken = np.stack([made[planned]["taken"].to_numpy() for planned in there])
    return xr.Dataset({**sizes, "taken": (("size", "repeat"), taken)})


def again(path: str | Path) -> float:
    """Hold the model against the large sizes in a data file; return the share of them that it predicts to a quarter.

    No machine gives the same seconds again.
    """
    data = results.load(path)
    ratio = (predicted(data, *fit(data)) / data["taken"].median("repeat")).to_numpy()[~data["small"].to_numpy()]
    return float(np.mean(np.abs(np.log(ratio)) < np.log(1.25)))


STUDY = Study(
    name="cluster", title="What a cluster costs: tasks that only wait", file=DATA.name, page="cluster",
    seconds={"quick": 20, "paper": 100},
    plan=plan, compute=compute, pack=pack, describe=describe, again=again,
)  # fmt: skip
