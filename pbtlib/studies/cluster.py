"""What a cluster costs: tasks that only wait, sent to the workers of a local Dask cluster as a study sends its runs.

The model has two parameters: n tasks of t seconds each on W workers take ``start + n max(each, t / W)`` seconds, for
tasks are handed out one after another while the workers are at work. It is fitted to the small sizes and held against
the large ones. All sizes take turns, so that other work on the machine slows them down alike; seconds differ from
machine to machine all the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
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

__all__ = ["DATA", "STUDY", "Setting", "Size", "fit", "predicted", "run"]

Array = NDArray[np.float64]

DATA = results.DATA / "cluster.nc"
"""The measurements that the book shows."""

SEED = 2026


@dataclass(frozen=True)
class Size:
    """One size.

    Attributes
    ----------
    workers, tasks : int
        W, at least two processes of one thread each; n.
    seconds : float
        t, how long a task waits [s].
    small : bool
        Whether the model is fitted to it; else it is held against it.

    Examples
    --------
    >>> Size(workers=2, tasks=20).seconds
    0.02
    """

    workers: int
    tasks: int
    seconds: float = 0.02
    small: bool = True

    def __post_init__(self) -> None:
        check_number("workers", self.workers, integer=True, minimum=2)  # for a single one joblib does not ask Dask
        check_number("tasks", self.tasks, integer=True, minimum=1)
        check_number("seconds", self.seconds, minimum=0)


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes
    ----------
    sizes : tuple of Size
    repeats : int
        Rounds, after one that does not count.

    Examples
    --------
    >>> SETTINGS["quick"].repeats
    2
    """

    sizes: tuple[Size, ...]
    repeats: int

    def __post_init__(self) -> None:
        if not self.sizes:
            raise ValueError("sizes is empty; there must be at least one")
        check_number("repeats", self.repeats, integer=True, minimum=1)


SMALL = (Size(2, 20), Size(2, 40), Size(2, 20, 0.2), Size(4, 40, 0.2))

SETTINGS = {
    "paper": Setting((*SMALL, Size(2, 160, small=False), Size(4, 160, 0.2, small=False)), repeats=12),
    "quick": Setting((Size(2, 5), Size(2, 10), Size(2, 40, small=False)), repeats=2),
}
"""What the book shows, and what takes some seconds."""


def run(setting: Setting) -> Array:
    """Measure all sizes in turns.

    Parameters
    ----------
    setting : Setting

    Returns
    -------
    ndarray, shape (sizes, repeats)
        Seconds from the first task sent to the last result received.

    Examples
    --------
    >>> taken = run(Setting((Size(2, 3),), repeats=1))
    >>> taken.shape
    (1, 1)
    """
    from distributed import Client, LocalCluster

    taken = np.zeros((1 + setting.repeats, len(setting.sizes)))
    with ExitStack() as stack:
        clients = {}
        for workers in sorted({size.workers for size in setting.sizes}):
            shape = {"n_workers": workers, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
            clients[workers] = stack.enter_context(Client(stack.enter_context(LocalCluster(**shape))))
        for row in taken:
            for i, size in enumerate(setting.sizes):
                with clients[size.workers].as_current(), joblib.parallel_config("dask"):
                    begun = time.perf_counter()
                    joblib.Parallel(batch_size=1)(joblib.delayed(time.sleep)(size.seconds) for _ in range(size.tasks))
                    row[i] = time.perf_counter() - begun
    return taken[1:].T


def fit(data: xr.Dataset) -> tuple[float, float]:
    """Fit the two parameters, not negative, to the medians at the small sizes, by least squares of relative errors.

    Parameters
    ----------
    data : xarray.Dataset
        As the data file holds it.

    Returns
    -------
    start, each : float
        Seconds that are lost once, and that it takes to hand out a task, to half a per cent.

    Raises
    ------
    ValueError
        If fewer than two sizes are small: two parameters need two.

    Examples
    --------
    >>> sizes = {"workers": [2, 2, 2], "tasks": [10, 20, 20], "seconds": [0.1, 0.1, 2.0], "small": [True] * 3}
    >>> data = xr.Dataset({name: ("size", v) for name, v in sizes.items()})
    >>> data["taken"] = (("size", "repeat"), [[2.5], [4.5], [20.5]])
    >>> [round(x, 2) for x in fit(data)]
    [0.5, 0.2]
    """
    small = data.isel(size=np.flatnonzero(data["small"]))
    if small.sizes["size"] < 2:
        raise ValueError(f"data has {small.sizes['size']} small sizes; the two parameters need at least two")
    taken, tasks = small["taken"].median("repeat").to_numpy(), small["tasks"].to_numpy()
    waited = (small["seconds"] / small["workers"]).to_numpy()
    each = np.geomspace(1e-4, 10, 2303)
    busy = tasks * np.maximum(each[:, None], waited)
    start = np.maximum(0, ((taken - busy) / taken**2).sum(1) / (1 / taken**2).sum())
    best = np.square((start[:, None] + busy) / taken - 1).sum(1).argmin()
    return float(start[best]), float(each[best])


def predicted(data: xr.Dataset, start: float, each: float) -> xr.DataArray:
    """Return the model's seconds at every size, by these two parameters.

    Examples
    --------
    >>> data = xr.Dataset({name: ("size", [n]) for name, n in (("workers", 2), ("tasks", 10), ("seconds", 0.4))})
    >>> predicted(data, start=0.5, each=0.1).values.tolist()
    [2.5]
    """
    seconds: xr.DataArray = start + data["tasks"] * np.maximum(each, data["seconds"] / data["workers"])
    return seconds


def plan(scale: str) -> list[Run]:
    """Return the one planned run."""
    return [Run("sizes in turns", SETTINGS[scale], SEED)]


def compute(planned: Run, needed: xr.Dataset | None, checkpoint: Path) -> xr.Dataset:
    """Measure; by size what it was, and ``taken`` (size, repeat)."""
    sizes = planned.setting.sizes
    columns = {name: ("size", np.array([getattr(size, name) for size in sizes])) for name in asdict(sizes[0])}
    return xr.Dataset({**columns, "taken": (("size", "repeat"), run(planned.setting))})


def describe(runs: Sequence[Run]) -> dict[str, Any]:
    """Return what is measured."""
    return asdict(runs[0].setting)


def pack(runs: Sequence[Run], made: Mapping[Run, xr.Dataset]) -> xr.Dataset:
    """Return the one result."""
    return made[runs[0]].drop_attrs()


def again(path: str | Path) -> float:
    """Hold the model against the large sizes in a data file; return the share of them that it predicts to a quarter.

    No machine gives the same seconds again.
    """
    data = results.load(path)
    ratio = (predicted(data, *fit(data)) / data["taken"].median("repeat")).to_numpy()[~data["small"].to_numpy()]
    return float(np.mean(np.abs(np.log(ratio)) < np.log(1.25)))


STUDY = Study(
    name="cluster", title="What a cluster costs: tasks that only wait", file=DATA.name, page="cluster",
    seconds={"quick": 20, "paper": 211},
    plan=plan, compute=compute, pack=pack, describe=describe, again=again,
)  # fmt: skip
