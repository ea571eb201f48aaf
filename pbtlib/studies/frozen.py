r"""What a window of episodes measures: agents that train for long with frozen hyperparameters, without evolution.

The fitness (23) of the CartPole experiment is the mean return of an agent's last m episodes. It stands for the
effective fitness of the hyperparameters h, the mean return of agents that have equilibrated at h. Here many agents of
the same h train side by side, so that both can be compared.

``python -m pbtlib.cartpole.frozen PATH`` makes the data, or goes on with them where it was stopped.
"""

from __future__ import annotations

import itertools
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from pbtlib import results
from pbtlib.cartpole import population
from pbtlib.cartpole.experiment import Experiment, initial_population, prepare, run
from pbtlib.checks import check_array, check_number
from pbtlib.evolution import stream

__all__ = [
    "Study", "autocorrelation", "effective_size", "episodes", "latest", "local_mean", "make", "places",
    "relaxation_time", "window_errors",
]  # fmt: skip

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Study:
    """Parameters of the study.

    Attributes
    ----------
    n_agents : int
        Independent agents at each point.
    n_steps : int
        Environment steps of each.
    initial, late : int
        Points from the initial population, uniform in the box, and from the population after ten generations of a
        run of population-based training with 100 agents, generations of 500 steps and a window of 5 episodes. The
        eight corners of the box come on top.
    seed : int
    """

    n_agents: int = 14
    n_steps: int = 20_000
    initial: int = 20
    late: int = 8
    seed: int = 8

    def __post_init__(self) -> None:
        check_number("n_agents", self.n_agents, integer=True, minimum=2)
        check_number("n_steps", self.n_steps, integer=True, minimum=1)
        check_number("initial", self.initial, integer=True, minimum=0)
        check_number("late", self.late, integer=True, minimum=0, maximum=100)


def places(study: Study) -> xr.DataArray:
    """Return the scaled hyperparameters of the study's points, with what each is: initial, late or corner.

    Returns
    -------
    xarray.DataArray
        Dimensions ``point`` and ``coordinate``; coordinate ``kind`` of ``point``.
    """
    corners = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
    evolved = Experiment(n_agents=100, n_steps=500, generations=10, m=5)
    late = run(evolved, study.seed)[0].h[: study.late] if study.late else np.empty((0, 3))
    initial = initial_population(study.initial, study.seed).h if study.initial else np.empty((0, 3))
    kind = ["initial"] * study.initial + ["late"] * study.late + ["corner"] * len(corners)
    return xr.DataArray(
        np.concatenate([initial, late, corners]),
        dims=("point", "coordinate"),
        coords={"kind": ("point", kind), "coordinate": ["log10 learning rate", "exploration decay", "batch size"]},
    )


def episodes(h: Array, point: int, study: Study, *, threads: int | None = None) -> NDArray[np.uint8]:
    """Train the agents of one point from scratch and return the returns of all their episodes.

    Parameters
    ----------
    h : ndarray, shape (3,)
        Scaled hyperparameters of the point.
    point : int
        Its number, the key of its streams.
    study : Study
    threads : int, optional
        Agents trained at a time; it changes no bit.

    Returns
    -------
    ndarray of uint8, shape (n_agents, most)
        In the order of the episodes; zeros follow. A return is the episode's length too, so their running sum is the
        environment step at which each ended. The first steps do not depend on ``study.n_steps``.
    """
    start = population.new_population(np.tile(h, (study.n_agents, 1)), stream(study.seed, point, "weights"))
    train = population.training(study.n_steps, threads=threads)
    return train(start, stream(study.seed, point, "train"))[1].returns.astype(np.uint8)


def make(path: str | Path, study: Study, *, progress: bool = False) -> xr.Dataset:
    """Run the study point by point, storing after each; a file that is there is gone on with.

    Parameters
    ----------
    path : path-like
        The data file.
    study : Study
    progress : bool
        Whether to announce compilation and show a progress bar.

    Returns
    -------
    xarray.Dataset
        ``returns`` (``point``, ``agent``, ``episode``), as `episodes` gives them, all zero for points not yet made,
        and ``h`` as `places` gives it.

    Raises
    ------
    ValueError
        If the file was made with other parameters.
    """
    prepare(announce=progress)
    parameters = {name: value for name, value in asdict(study).items() if name != "seed"}
    if Path(path).is_file():
        data = results.load(path)
        if (data.attrs["parameters"], data.attrs["seed"]) != (parameters, study.seed):
            raise ValueError(f"path is {str(path)!r}; the file was made with other parameters: {data.attrs}")
        h, rows, before = data["h"], [*data["returns"].to_numpy()], data.attrs["wall_seconds"]
        rows = rows[: data.attrs["runs"]["made"]]
    else:
        h, rows, before = places(study), [], 0.0
    start = time.perf_counter()
    for point in tqdm(range(len(rows), len(h)), initial=len(rows), total=len(h), disable=not progress):
        rows.append(episodes(h.to_numpy()[point], point, study))
        most = max(row.shape[1] for row in rows)
        returns = np.zeros((len(h), study.n_agents, most), np.uint8)
        for k, row in enumerate(rows):
            returns[k, :, : row.shape[1]] = row
        data = xr.Dataset({"returns": (("point", "agent", "episode"), returns), "h": h})
        seconds = before + time.perf_counter() - start
        meta = results.provenance(parameters, seed=study.seed, wall_seconds=seconds, planned=len(h), made=len(rows))
        results.save(path, data, meta)
    return results.load(path)


# ---------------------------------------------------------------------------------------------- estimators


def latest(returns: ArrayLike, age: float, m: int) -> Array:
    """Return the window of (23): the returns of the last m episodes that ended by this age, the oldest first.

    Parameters
    ----------
    returns : array_like, shape (..., episode)
        Returns in order, each the length of its episode too; zeros follow the last.
    age : float
        Environment steps.
    m : int
        Length of the window.

    Returns
    -------
    ndarray, shape (..., m)
        NaN in front where fewer episodes had ended.
    """
    check_number("m", m, integer=True, minimum=1)
    x = check_array("returns", returns, minimum=0, min_ndim=1)
    ended = ((np.cumsum(x, -1) <= age) & (x > 0)).sum(-1, keepdims=True)
    index = ended - m + np.arange(m)
    return np.where(index >= 0, np.take_along_axis(x, np.clip(index, 0, x.shape[-1] - 1), -1), np.nan)


def local_mean(returns: ArrayLike, low: float, high: float) -> Array:
    """Return the mean return of the episodes that begin at an age in [low, high), NaN if there is none.

    Parameters
    ----------
    returns : array_like, shape (..., episode)
        As `latest` takes them.
    low, high : float
        Environment steps. An episode that the end of the data cuts off is missing, so ``high`` should keep clear of it.

    Returns
    -------
    ndarray, shape (...)
    """
    x = check_array("returns", returns, minimum=0, min_ndim=1)
    begin = np.cumsum(x, -1) - x
    chosen = (begin >= low) & (begin < high) & (x > 0)
    count = chosen.sum(-1)
    return np.where(count > 0, (x * chosen).sum(-1) / np.maximum(count, 1), np.nan)


def autocorrelation(x: ArrayLike) -> Array:
    """Autocorrelation of independent replicates of a process that fluctuates about a mean that may drift.

    Deviations are taken from the mean over the replicates, not from that of each replicate: what sets one replicate
    apart for the whole time is correlation, too.

    Parameters
    ----------
    x : array_like, shape (..., replicate, time)
        Leading axes are pooled: groups of replicates, each with a mean of its own.

    Returns
    -------
    ndarray, shape (time,)
        ρ_0 = 1, ρ_1, ...
    """
    values = check_array("x", x, min_ndim=2)
    deviation = values - values.mean(-2, keepdims=True)
    n = values.shape[-1]
    covariance = [(deviation[..., : n - k] * deviation[..., k:]).mean() for k in range(n)]
    return np.array(covariance) / covariance[0]


def effective_size(rho: ArrayLike, m: int) -> float:
    """How many independent draws the mean of m consecutive ones is worth: m / (1 + 2 Σ_{k<m} (1 − k/m) ρ_k).

    Parameters
    ----------
    rho : array_like, shape (at least m,)
        Autocorrelation, ρ_0 = 1 first.
    m : int
        Length of the window.
    """
    check_number("m", m, integer=True, minimum=1, maximum=len(np.asarray(rho)))
    k = np.arange(1, m)
    return float(m / (1 + 2 * np.sum((1 - k / m) * np.asarray(rho, float)[1:m])))


def window_errors(estimate: ArrayLike, reference: ArrayLike) -> tuple[Array, Array, Array]:
    """Split the error of an estimate, made from one agent, of what its kind of agents is worth on average.

    Parameters
    ----------
    estimate, reference : array_like, shape (..., agent)
        Of every agent: the estimate, and a value whose mean over agents is the truth. Agents are independent.

    Returns
    -------
    bias : ndarray, shape (...)
        Mean of the estimate less the truth.
    variance : ndarray, shape (...)
        Of one agent's estimate.
    squared_bias : ndarray, shape (...)
        Unbiased (so that it may be negative): the estimation error of the bias is taken out. Together with the
        variance it is the mean squared error.
    """
    w, f = check_array("estimate", estimate, min_ndim=1), check_array("reference", reference, min_ndim=1)
    difference, n = w - f, w.shape[-1]
    bias = difference.mean(-1)
    return bias, w.var(-1, ddof=1), bias**2 - difference.var(-1, ddof=1) / n


def relaxation_time(times: ArrayLike, curve: ArrayLike, level: ArrayLike, tolerance: float) -> Array:
    """When a curve comes within a tolerance of a level for good.

    Parameters
    ----------
    times : array_like, shape (time,)
        Increasing.
    curve : array_like, shape (..., time)
    level : array_like, shape (...)
    tolerance : float

    Returns
    -------
    ndarray, shape (...)
        The first time after the last one at which the curve is outside; infinite if that is the last of all.
    """
    t, c = check_array("times", times, min_ndim=1), check_array("curve", curve, min_ndim=1)
    outside = np.abs(c - np.asarray(level, float)[..., None]) > tolerance
    after_last = np.where(outside.any(-1), len(t) - np.argmax(outside[..., ::-1], -1), 0)
    return np.append(t, np.inf)[after_last]


def main(path: str) -> None:
    """Make the data of the study and store them with their provenance."""
    make(path, Study(), progress=True)


if __name__ == "__main__":
    main(sys.argv[1])
