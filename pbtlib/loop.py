r"""The one loop: a fast operator, training, alternates with a slow one, selection, copy and mutation.

Algorithm 1 and Algorithm 2 of the paper, synchronous and asynchronous jumps, toy particles and Q-networks are
instances of `evolve`. A state is any frozen dataclass of arrays with a field ``h``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from pbtlib import evolution, results
from pbtlib.checks import check_array, check_number
from pbtlib.evolution import Jump, stream
from pbtlib.values import describe

__all__ = ["Lineage", "Observer", "Schedule", "evolve"]

Array = NDArray[np.float64]
S = TypeVar("S")

Observer = Callable[[int, Any, Array, Jump], None]
"""``observe(k, state, fitness, jump)``, called at the end of update k with the state after mutation."""


@runtime_checkable
class _Keeps(Protocol):
    """An observer whose memory belongs into a checkpoint."""

    def save(self) -> Mapping[str, NDArray[Any]]: ...

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None: ...


@dataclass(frozen=True)
class Schedule:
    """An operator that changes with the update: a selection that hardens, a training that gets longer.

    `evolve` asks any operator that has a method ``at(k)`` for the one of update k, so a frozen dataclass of your own
    with this method serves where pieces do not.

    Attributes
    ----------
    pieces : mapping or sequence of pairs
        ``{first update: operator}``, the first of them 0; kept as a tuple of pairs.

    Examples
    --------
    >>> from pbtlib.evolution import Gibbs, Selection
    >>> harder = Schedule({0: Selection(Gibbs(0.1)), 50: Selection(Gibbs(1.0))})
    >>> harder.at(49).rule, harder.at(50).rule
    (Gibbs(beta=0.1), Gibbs(beta=1.0))
    """

    pieces: Any

    def __post_init__(self) -> None:
        pieces = tuple((k, op) for k, op in (self.pieces.items() if isinstance(self.pieces, Mapping) else self.pieces))
        starts = [k for k, _ in pieces]
        for k in starts:
            check_number("an update of the schedule", k, integer=True, minimum=0)
        if not starts or starts[0] != 0 or any(b <= a for a, b in pairwise(starts)):
            raise ValueError(f"the pieces of the schedule begin at updates {starts}; they must begin at 0 and increase")
        object.__setattr__(self, "pieces", pieces)

    def at(self, k: int) -> Any:
        """Return the operator of update k."""
        return [op for start, op in self.pieces if start <= k][-1]


def evolve(
    state: S,
    *,
    train: Any,
    evaluate: Any,
    select: Any,
    mutate: Any,
    n_updates: int,
    seed: int,
    copy: Any = evolution.copy,
    observe: Observer | Sequence[Observer] = (),
    start: int = 0,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 1,
    identity: Mapping[str, Any] | None = None,
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
        ``(state, rng) -> (state, trace)``, such as `pbtlib.training.EulerMaruyama`. Each of the five operators may
        also have a method ``at(k)``, such as a `Schedule`, which returns the operator of update k.
    evaluate : callable
        ``(state, trace) -> fitness``, shape (..., N), such as `pbtlib.training.Last`, the fitness now, and
        `pbtlib.training.WindowMean`, (23).
    select : callable
        ``(fitness, rng) -> Jump``, such as `pbtlib.evolution.Selection`, which also says what becomes of agents that
        diverged.
    mutate : callable
        ``(state, jump, rng) -> state``, such as `pbtlib.evolution.GaussianMutation`.
    n_updates : int
        Number of updates since the beginning of the run, at least 0.
    seed : int
        Seed of the run.
    copy : callable
        ``(state, jump) -> state``; by default every array follows the parent.
    observe : callable or sequence of callables
        Each called as ``observe(k, state, fitness, jump)`` after update k, such as `pbtlib.history.History`. The
        fitness is what selection saw: NaN or −∞ where an agent diverged and was replaced.
    start : int
        Index of the first update to be made.
    checkpoint : path-like, optional
        File that holds state, index and the memory of the observers (of those with methods ``save`` and
        ``restore``). If it exists the run goes on from there, and ``state``, ``seed``, ``start``, the operators,
        ``identity`` and the types of those observers only say what run it is: they must be what they were.
    checkpoint_every : int
        Write it after every so many updates, and after the last.
    identity : mapping, optional
        What else tells this run from others, as JSON values. Needed with ``checkpoint`` if an operator is a function
        made inside another one, or a lambda, which cannot describe itself as values do.
    progress : bool
        Show a bar.

    Returns
    -------
    frozen dataclass of arrays
        The population after the last update.

    Raises
    ------
    ValueError
        If agents diverged and ``select`` does not replace them, a fitness is +∞, an operator refuses the state, or a
        checkpoint is wanted without an identity or belongs to another run.
    TypeError
        If the identity has no form in JSON.

    Examples
    --------
    >>> from pbtlib.evolution import GaussianMutation, Gibbs, Selection
    >>> from pbtlib.problems import Quadratic
    >>> from pbtlib.training import GibbsDraw, Last, Particles
    >>> start = Particles(np.zeros((500, 2)), np.full((500, 2), 4.0))
    >>> end = evolve(start, train=GibbsDraw(Quadratic()), evaluate=Last(), select=Selection(Gibbs(1.0)),
    ...              mutate=GaussianMutation(0.3), n_updates=60, seed=0)
    >>> bool(abs(end.h.mean(0)).max() < 1)      # the optimum is at zero
    True
    """
    check_number("n_updates", n_updates, integer=True, minimum=0)
    check_number("start", start, integer=True, minimum=0)
    check_number("checkpoint_every", checkpoint_every, integer=True, minimum=1)
    observers = (observe,) if callable(observe) else tuple(observe)
    stream(seed, start, "check")  # refuses a bad seed before any work
    keepers: list[Any] = [observer for observer in observers if isinstance(observer, _Keeps)]
    operators = {"train": train, "evaluate": evaluate, "select": select, "copy": copy, "mutate": mutate}
    for observer in observers:
        if hasattr(observer, "begin"):
            observer.begin(state, start)
    first, this_run = start, {}
    if checkpoint is not None:
        checkpoint = Path(checkpoint).expanduser()
        this_run = _describe(state, seed, start, operators, identity, keepers)
        with suppress(FileNotFoundError):  # another process that made the same run may remove it at any moment
            if checkpoint.exists():
                state, first = _restore(checkpoint, state, this_run, keepers)
                if first > n_updates:
                    raise ValueError(
                        f"checkpoint {str(checkpoint)!r} is at update {first}, beyond n_updates = {n_updates}"
                    )
    for k in tqdm(range(first, n_updates), total=n_updates, initial=first, disable=not progress, unit="update"):
        now = {name: op.at(k) if hasattr(op, "at") else op for name, op in operators.items()}
        if k == first and hasattr(now["mutate"], "check"):
            now["mutate"].check(state)
        state, trace = now["train"](state, stream(seed, k, "train"))
        fitness = np.asarray(now["evaluate"](state, trace))
        fitness = fitness.astype(np.float64, copy=False) if fitness.dtype.kind in "fiu" else fitness
        jump = _select(now["select"], fitness, k, stream(seed, k, "select"))
        state = now["mutate"](now["copy"](state, jump), jump, stream(seed, k, "mutate"))
        for observer in observers:
            observer(k, state, fitness, jump)
        if checkpoint is not None and ((k + 1) % checkpoint_every == 0 or k + 1 == n_updates):
            _save(checkpoint, state, this_run, k + 1, keepers)
    return state


def _select(select: Any, fitness: Array, k: int, rng: np.random.Generator) -> Jump:
    """Select, where NaN, −∞ and +∞ are refused unless the selection says that it replaces those who diverged."""
    try:
        if getattr(select, "diverged", "error") != "replace":
            evolution.check_fitness(fitness)
        jump: Jump = select(fitness, rng)
        return jump
    except ValueError as error:
        raise ValueError(f"update {k}: {error}") from error


def _describe(
    state: Any,
    seed: int,
    start: int,
    operators: Mapping[str, Any],
    identity: Mapping[str, Any] | None,
    keepers: Sequence[_Keeps],
) -> dict[str, Any]:
    """What tells a run from others, as JSON values."""
    run: dict[str, Any] = {
        "seed": int(seed),
        "start": int(start),
        "observers": [type(keeper).__name__ for keeper in keepers],
    }
    for name, operator in operators.items():
        try:
            run |= _flat(name, describe(operator))
        except TypeError as error:
            if identity is None:
                raise ValueError(
                    f'identity is None, and {name}: {error}; say what the run is, such as identity={{"beta": 1.0}}'
                ) from error
    try:
        run |= _flat("identity", results.as_json(dict(identity or {})))
    except (TypeError, ValueError) as error:
        raise TypeError(f"identity is {identity!r}; it must consist of JSON values ({error})") from error
    return run | {f"initial {f.name}": describe(getattr(state, f.name)) for f in fields(state)}


def _flat(name: str, value: Any) -> dict[str, Any]:
    """The leaves of nested JSON values, each under the path that leads to it."""
    match value:
        case {"type": kind, **parts}:
            pairs: list[tuple[str, Any]] = [(f"{name}.{part}", x) for part, x in parts.items()]
            return {name: kind} | {k: v for path, x in pairs for k, v in _flat(path, x).items()}
        case dict():
            pairs = [(f"{name}[{part!r}]", x) for part, x in value.items()]
        case list():
            pairs = [(f"{name}[{i}]", x) for i, x in enumerate(value)]
        case _:
            return {name: value}
    return {k: v for path, x in pairs for k, v in _flat(path, x).items()}


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
        if json.dumps(have) != json.dumps(want):  # as text, where NaN equals NaN
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

    Examples
    --------
    >>> import numpy as np
    >>> from pbtlib.training import Particles
    >>> lineage = Lineage([[1.0], [2.0]])
    >>> after = Particles(theta=np.zeros((2, 1)), h=np.array([[2.5], [2.0]]))
    >>> lineage(0, after, np.zeros(2), Jump(who=np.array([True, False]), parent=np.array([1, 1])))
    >>> lineage.survivors().tolist(), lineage.schedules()[:, 0, 0].tolist()
    ([1, 2], [2.0, 2.5])
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
        number: NDArray[np.int64] = 1 + (np.diff(ordered, axis=-1) != 0).sum(-1)
        return number

    def save(self) -> dict[str, NDArray[Any]]:
        """The arrays a checkpoint needs."""
        return {"h": np.stack(self._h), **({"parent": np.stack(self._parent)} if self._parent else {})}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `save` returned."""
        self._h, self._parent = list(arrays["h"]), list(arrays.get("parent", ()))
