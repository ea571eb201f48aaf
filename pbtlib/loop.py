r"""The one loop: a fast operator, training, alternates with a slow one, selection, copy and mutation.

Algorithm 1 and Algorithm 2 of the paper, synchronous and asynchronous jumps, toy particles and Q-networks are
instances of `evolve`. A state is any frozen dataclass of arrays with a field ``h``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from pbtlib import evolution, results
from pbtlib.checks import check_array, check_number
from pbtlib.evolution import Jump, stream

__all__ = ["History", "Lineage", "Observer", "evolve"]

Array = NDArray[np.float64]
S = TypeVar("S")

Observer = Callable[[int, Any, Array, Jump], None]
"""``observe(k, state, fitness, jump)``, called at the end of update k with the state after mutation."""


@runtime_checkable
class _Keeps(Protocol):
    """An observer whose memory belongs into a checkpoint."""

    def save(self) -> Mapping[str, NDArray[Any]]: ...

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None: ...


def evolve(
    state: S,
    *,
    train: Callable[[S, np.random.Generator], tuple[S, Any]],
    evaluate: Callable[[S, Any], Array],
    select: Callable[..., Jump],
    mutate: Callable[[S, Jump, np.random.Generator], S],
    n_updates: int,
    seed: int,
    copy: Callable[[S, Jump], S] = evolution.copy,
    observe: Observer | Sequence[Observer] = (),
    start: int = 0,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 1,
    progress: bool = False,
) -> S:
    r"""Run updates ``start`` … ``n_updates − 1`` of population-based training.

    Every random number comes from the stream of (seed, k, role), so the run needs no memory but its state: killed and
    resumed it gives the same bits as uninterrupted.

    Parameters
    ----------
    state : frozen dataclass of arrays
        The population before update ``start``.
    train : callable
        ``(state, rng) -> (state, trace)``, such as a builder of `pbtlib.training` returns.
    evaluate : callable
        ``(state, trace) -> fitness``, shape (..., N). ``lambda state, trace: trace.fitness[..., -1]`` is the fitness
        now, ``trace.fitness.mean(-1)`` the window mean (23).
    select : callable
        ``select(fitness, rng=...) -> Jump``, such as ``partial(evolution.select, rule=gibbs(1.0), tau=1.0)``.
    mutate : callable
        ``(state, jump, rng) -> state``, such as `pbtlib.evolution.gaussian_mutation` returns.
    n_updates : int
        Number of updates since the beginning of the run, at least 0.
    seed : int
        Seed of the run.
    copy : callable
        ``(state, jump) -> state``; by default every array follows the parent.
    observe : callable or sequence of callables
        Each called as ``observe(k, state, fitness, jump)`` after update k.
    start : int
        Index of the first update to be made.
    checkpoint : path-like, optional
        File that holds state, index and the memory of the observers (of those with methods ``save`` and
        ``restore``). If it exists the run goes on from there, and ``state`` and ``start`` only say what run it is.
    checkpoint_every : int
        Write it after every so many updates, and after the last.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    frozen dataclass of arrays
        The population after the last update.

    Raises
    ------
    ValueError
        If a fitness is not finite, or the checkpoint belongs to another run.
    """
    check_number("n_updates", n_updates, integer=True, minimum=0)
    check_number("start", start, integer=True, minimum=0)
    check_number("checkpoint_every", checkpoint_every, integer=True, minimum=1)
    observers = (observe,) if callable(observe) else tuple(observe)
    stream(seed, start, "check")  # refuses a bad seed before any work
    first = start
    if checkpoint is not None and Path(checkpoint).exists():
        state, first = _restore(checkpoint, state, seed, start, observers)
        if first > n_updates:
            raise ValueError(f"checkpoint {str(checkpoint)!r} is at update {first}, beyond n_updates = {n_updates}")
    for k in tqdm(range(first, n_updates), desc="updates", disable=not progress):
        state, trace = train(state, stream(seed, k, "train"))
        fitness = check_array("fitness", evaluate(state, trace), min_ndim=1)
        jump = select(fitness, rng=stream(seed, k, "select"))
        state = mutate(copy(state, jump), jump, stream(seed, k, "mutate"))
        for observer in observers:
            observer(k, state, fitness, jump)
        if checkpoint is not None and ((k + 1) % checkpoint_every == 0 or k + 1 == n_updates):
            _save(checkpoint, state, seed, start, k + 1, observers)
    return state


def _save(path: str | Path, state: Any, seed: int, start: int, k: int, observers: Sequence[Observer]) -> None:
    arrays = {f"state.{f.name}": np.asarray(getattr(state, f.name)) for f in fields(state)}
    for i, observer in enumerate(observers):
        if isinstance(observer, _Keeps):
            arrays |= {f"observer{i}.{name}": array for name, array in observer.save().items()}
    results.save_arrays(path, arrays, {"seed": int(seed), "start": start, "next_update": k})


def _restore(path: str | Path, state: S, seed: int, start: int, observers: Sequence[Observer]) -> tuple[S, int]:
    arrays, meta = results.load_arrays(path)
    if (meta["seed"], meta["start"]) != (seed, start):
        raise ValueError(
            f"checkpoint {str(path)!r} belongs to seed {meta['seed']}, start {meta['start']}; "
            f"this run has seed {seed}, start {start}"
        )
    new = {}
    for f in fields(state):  # type: ignore[arg-type]
        have, was = arrays.get(f"state.{f.name}"), np.asarray(getattr(state, f.name))
        if have is None or (have.shape, have.dtype) != (was.shape, was.dtype):
            found = "nothing" if have is None else f"{have.dtype} {have.shape}"
            raise ValueError(
                f"checkpoint {str(path)!r} holds {found} for {f.name}; this run has {was.dtype} {was.shape}"
            )
        new[f.name] = have
    for i, observer in enumerate(observers):
        if isinstance(observer, _Keeps):
            prefix = f"observer{i}."
            observer.restore({name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)})
    return replace(state, **new), int(meta["next_update"])  # type: ignore[type-var]


# ---------------------------------------------------------------------------------------------- observers


class History:
    """Means, standard deviations and quantiles over the agents, per update: memory independent of N.

    Use it as an observer of `evolve`, then read `dataset`.

    Parameters
    ----------
    quantities : mapping
        Name -> ``(state, fitness) -> (..., N)``, recorded after mutation. The fitness that selection saw, before the
        jumps, is always recorded, as ``fitness``.
    quantiles : sequence of float
        Levels in [0, 1]; the median and the outer tenths by default.
    """

    def __init__(
        self,
        quantities: Mapping[str, Callable[[Any, Array], Array]] | None = None,
        quantiles: Iterable[float] = (0.1, 0.5, 0.9),
    ) -> None:
        self.quantities = {"fitness": lambda state, fitness: fitness, **(quantities or {})}
        self.levels = np.array([*quantiles], dtype=float)
        if not ((self.levels >= 0) & (self.levels <= 1)).all():
            raise ValueError(f"quantiles are {self.levels}; they must lie in [0, 1]")
        self._rows: dict[str, list[NDArray[Any]]] = {}

    def __call__(self, k: int, state: Any, fitness: Array, jump: Jump) -> None:
        """Record update k."""
        self._add("update", np.asarray(k))
        self._add("jumps", np.asarray(jump.who.mean(-1)))
        for name, quantity in self.quantities.items():
            values = np.asarray(quantity(state, fitness), dtype=float)
            self._add(f"{name}_mean", np.asarray(values.mean(-1)))
            self._add(f"{name}_std", np.asarray(values.std(-1)))
            self._add(f"{name}_quantile", np.moveaxis(np.quantile(values, self.levels, axis=-1), 0, -1))

    def _add(self, name: str, value: NDArray[Any]) -> None:
        self._rows.setdefault(name, []).append(value)

    def dataset(self) -> xr.Dataset:
        """Everything recorded, labelled.

        Dimensions: ``update``, then the replicates (``replicate``, ``replicate2``, …), then ``quantile`` where levels
        are kept. Variables: ``jumps``, the share of agents replaced, and ``NAME_mean``, ``NAME_std``,
        ``NAME_quantile`` of each quantity.
        """
        arrays = self.save()
        if not arrays:
            raise ValueError("history is empty: no update has been observed")
        data = {}
        for name, values in arrays.items():
            last = ["quantile"] if name.endswith("_quantile") else []
            leading = values.ndim - 1 - len(last)
            replicates = [f"replicate{i}" if i > 1 else "replicate" for i in range(1, leading + 1)]
            data[name] = (["update", *replicates, *last], values)
        updates = data.pop("update")
        return xr.Dataset(data, coords={"update": updates, "quantile": self.levels})

    def save(self) -> dict[str, NDArray[Any]]:
        """The arrays a checkpoint needs."""
        return {name: np.stack(rows) for name, rows in self._rows.items()}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `save` returned."""
        self._rows = {name: list(rows) for name, rows in arrays.items()}


class Lineage:
    """Who descends from whom: the jumps of a run, stacked.

    Use it as an observer of `evolve`. Its memory grows by N parents and N hyperparameter vectors per update, so it is
    meant for populations of moderate size.

    Parameters
    ----------
    h : array_like, shape (..., N, p)
        Hyperparameters at the start of the run.
    """

    def __init__(self, h: ArrayLike) -> None:
        self._h = [check_array("h", h, min_ndim=2)]
        self._parent: list[NDArray[Any]] = []

    def __call__(self, k: int, state: Any, fitness: Array, jump: Jump) -> None:
        """Record update k."""
        self._parent.append(np.asarray(jump.parent, dtype=np.int64))
        self._h.append(np.array(state.h, dtype=np.float64))

    def ancestors(self) -> NDArray[np.int64]:
        """Index, before each update, of the ancestor of each agent of the last population; shape (K + 1, ..., N).

        The last entry is the population itself. An agent that never jumped is its own ancestor.
        """
        lines = [np.broadcast_to(np.arange(self._h[0].shape[-2]), self._h[0].shape[:-1])]
        for parent in reversed(self._parent):
            lines.append(np.take_along_axis(parent, lines[-1], -1))
        return np.stack(lines[::-1])

    def parents(self) -> NDArray[np.int64]:
        """Parent of each agent at each update, shape (K, ..., N); an agent that did not jump is its own."""
        return np.stack(self._parent)

    def schedules(self) -> Array:
        """Hyperparameters that the ancestors of each survivor trained with; shape (K + 1, ..., N, p).

        Entry k is what the line of descent used in the training before update k; the last is the survivors' own.
        """
        pairs = zip(self._h, self.ancestors(), strict=True)
        return np.stack([np.take_along_axis(h, line[..., None], -2) for h, line in pairs])

    def survivors(self) -> NDArray[np.int64]:
        """Number of agents of each earlier population that have descendants in the last one; shape (K + 1, ...)."""
        ordered = np.sort(self.ancestors(), axis=-1)
        return 1 + (np.diff(ordered, axis=-1) != 0).sum(-1)

    def save(self) -> dict[str, NDArray[Any]]:
        """The arrays a checkpoint needs."""
        return {"h": np.stack(self._h), **({"parent": np.stack(self._parent)} if self._parent else {})}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `save` returned."""
        self._h, self._parent = list(arrays["h"]), list(arrays.get("parent", ()))
