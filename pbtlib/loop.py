r"""The one loop: a fast operator, training, alternates with a slow one, selection, copy and mutation.

Algorithm 1 and Algorithm 2 of the paper, synchronous and asynchronous jumps, toy particles and Q-networks are
instances of `evolve`. A state is any frozen dataclass of arrays with a field ``h``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pbtlib import evolution, results
from pbtlib.checks import check_array, check_number
from pbtlib.evolution import Jump, stream

__all__ = ["Lineage", "Observer", "evolve"]

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
    identity: Mapping[str, Any] | None = None,
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
        ``restore``). If it exists the run goes on from there, and ``state``, ``seed``, ``start``, ``identity`` and the
        types of those observers only say what run it is: they must be what they were.
    checkpoint_every : int
        Write it after every so many updates, and after the last.
    identity : mapping
        Needed with ``checkpoint``: what else tells this run from others, as JSON values, such as the parameters of
        ``select`` and ``mutate``, which cannot be read off the functions.

    Returns
    -------
    frozen dataclass of arrays
        The population after the last update.

    Raises
    ------
    ValueError
        If a fitness is not finite, a checkpoint is wanted without an identity, or it belongs to another run.
    TypeError
        If the identity has no form in JSON.
    """
    check_number("n_updates", n_updates, integer=True, minimum=0)
    check_number("start", start, integer=True, minimum=0)
    check_number("checkpoint_every", checkpoint_every, integer=True, minimum=1)
    observers = (observe,) if callable(observe) else tuple(observe)
    stream(seed, start, "check")  # refuses a bad seed before any work
    keepers: list[Any] = [observer for observer in observers if isinstance(observer, _Keeps)]
    first, this_run = start, {}
    if checkpoint is not None:
        checkpoint = Path(checkpoint).expanduser()
        this_run = _describe(state, seed, start, identity, keepers)
        if checkpoint.exists():
            state, first = _restore(checkpoint, state, this_run, keepers)
            if first > n_updates:
                raise ValueError(f"checkpoint {str(checkpoint)!r} is at update {first}, beyond n_updates = {n_updates}")
    for k in range(first, n_updates):
        state, trace = train(state, stream(seed, k, "train"))
        fitness = check_array("fitness", evaluate(state, trace), min_ndim=1)
        jump = select(fitness, rng=stream(seed, k, "select"))
        state = mutate(copy(state, jump), jump, stream(seed, k, "mutate"))
        for observer in observers:
            observer(k, state, fitness, jump)
        if checkpoint is not None and ((k + 1) % checkpoint_every == 0 or k + 1 == n_updates):
            _save(checkpoint, state, this_run, k + 1, keepers)
    return state


def _describe(
    state: Any, seed: int, start: int, identity: Mapping[str, Any] | None, keepers: Sequence[_Keeps]
) -> dict[str, Any]:
    """What tells a run from others, as JSON values."""
    if identity is None:
        raise ValueError('identity is None; a run with a checkpoint must say what it is, such as {"beta": 1.0}')
    try:
        plain = results.as_json(identity)
    except (TypeError, ValueError) as error:
        raise TypeError(f"identity is {identity!r}; it must consist of JSON values ({error})") from error
    begin = {f.name: np.ascontiguousarray(getattr(state, f.name)) for f in fields(state)}
    return {
        "seed": int(seed),
        "start": int(start),
        "observers": [type(keeper).__name__ for keeper in keepers],
        **{f"identity[{name!r}]": value for name, value in plain.items()},
        **{
            f"initial {name}": f"{a.dtype} {a.shape} with SHA-256 {hashlib.sha256(a.tobytes()).hexdigest()}"
            for name, a in begin.items()
        },
    }


def _save(path: str | Path, state: Any, run: Mapping[str, Any], k: int, keepers: Sequence[_Keeps]) -> None:
    arrays = {f"state.{f.name}": np.asarray(getattr(state, f.name)) for f in fields(state)}
    for i, keeper in enumerate(keepers):
        arrays |= {f"observer{i}.{name}": array for name, array in keeper.save().items()}
    results.save_arrays(path, arrays, {"run": run, "next_update": k})


def _restore(path: str | Path, state: S, run: Mapping[str, Any], keepers: Sequence[_Keeps]) -> tuple[S, int]:
    arrays, meta = results.load_arrays(path)
    was = meta.get("run", {})
    for key in {**run, **was}:
        have, want = was.get(key, "nothing"), run.get(key, "nothing")
        if have != want:
            raise ValueError(f"checkpoint {str(path)!r} belongs to another run; {key}: {have} there, {want} here")
    for i, keeper in enumerate(keepers):
        prefix = f"observer{i}."
        keeper.restore({name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)})
    new = {f.name: arrays[f"state.{f.name}"] for f in fields(state)}  # type: ignore[arg-type]
    return replace(state, **new), int(meta["next_update"])  # type: ignore[type-var]


# ---------------------------------------------------------------------------------------------- observers


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
