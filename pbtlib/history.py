"""What a run leaves behind: its history as labelled arrays, bounded in memory, and a picture of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pbtlib import evolution
from pbtlib.checks import check_number
from pbtlib.evolution import Jump

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["History"]

Array = NDArray[np.float64]


class History:
    """An observer of `pbtlib.loop.evolve` that keeps what happened.

    Updates 1, 1 + every, … are kept, and when they become more than ``limit``, every other one is dropped and from then
    on only half as many are kept: memory is bounded whatever the length of the run.

    Parameters
    ----------
    keep : sequence of str
        Of ``"fitness"``, as selection saw it; ``"parent"``, who was copied; and fields of the state after the update,
        such as ``"h"`` and ``"theta"``.
    every : int
        Keep every so many updates.
    limit : int
        Most updates that are kept, at least 2.
    sign : {1, -1}
        −1 stores minus the fitness, for a quantity that is minimised.

    Examples
    --------
    >>> import numpy as np
    >>> from pbtlib.evolution import GaussianMutation, Gibbs, Selection
    >>> from pbtlib.loop import evolve
    >>> from pbtlib.problems import Quadratic
    >>> from pbtlib.training import GibbsDraw, Last, Particles
    >>> history = History(limit=8)
    >>> _ = evolve(Particles(np.zeros((50, 2)), np.ones((50, 2))), train=GibbsDraw(Quadratic()), evaluate=Last(),
    ...            select=Selection(Gibbs()), mutate=GaussianMutation(0.1), n_updates=20, seed=0, observe=history)
    >>> history.dataset()["update"].values.tolist()
    [1, 5, 9, 13, 17]
    """

    def __init__(
        self, keep: Sequence[str] = ("fitness", "h"), *, every: int = 1, limit: int = 1000, sign: int = 1
    ) -> None:
        check_number("every", every, integer=True, minimum=1)
        check_number("limit", limit, integer=True, minimum=2)
        if isinstance(keep, str) or sign not in (1, -1):
            raise ValueError(f"keep is {keep!r} and sign {sign!r}; they must be a sequence of names, and 1 or -1")
        self.keep, self.every, self.limit, self.sign = tuple(keep), int(every), int(limit), sign
        self._rows: dict[str, list[NDArray[Any]]] = {name: [] for name in (*self.keep, "jumped", "diverged")}
        self._updates: list[int] = []
        self._diverged: NDArray[np.int64] | int = 0

    def __call__(self, k: int, state: Any, fitness: Array, jump: Jump) -> None:
        """Record update k."""
        self._diverged = self._diverged + evolution.diverged(fitness).sum(-1)
        if k % self.every:
            return
        given = {
            "fitness": self.sign * fitness,
            "parent": jump.parent,
            "jumped": jump.who.sum(-1),
            "diverged": self._diverged,
        }
        self._updates.append(k + 1)
        for name, rows in self._rows.items():
            rows.append(np.array(given[name] if name in given else getattr(state, name)))
        if len(self._updates) > self.limit:
            self.every *= 2
            kept = [i for i, update in enumerate(self._updates) if (update - 1) % self.every == 0]
            self._updates = [self._updates[i] for i in kept]
            self._rows = {name: [rows[i] for i in kept] for name, rows in self._rows.items()}

    def dataset(self) -> xr.Dataset:
        """Return what was kept: per ``update`` and ``agent`` the names of ``keep``; and per update two counts.

        ``jumped`` is how many agents were replaced in this update, ``diverged`` how many were replaced up to it because
        they had diverged. Leading axes are called replicate. The last axis of h is called hyperparameter, that of θ
        parameter, that of other fields after the field.
        """
        import xarray as xr

        if not self._updates:
            raise ValueError("the history is empty: no update has been observed")
        axes = {"h": ("hyperparameter",), "theta": ("parameter",), "fitness": (), "parent": ()}
        replicates = self._rows["jumped"][0].ndim
        lead = tuple(f"replicate_{i}" if i else "replicate" for i in range(replicates))
        arrays = {}
        for name, rows in self._rows.items():
            agent = () if name in ("jumped", "diverged") else ("agent", *axes.get(name, (f"{name}_component",)))
            arrays[name] = (("update", *lead, *agent), np.stack(rows))
        return xr.Dataset(arrays, coords={"update": self._updates})

    def plot(self) -> Any:
        """Draw fitness and hyperparameters against the updates; return the figure."""
        from pbtlib import figures

        return figures.history(self.dataset())

    def save(self) -> dict[str, NDArray[Any]]:
        """The arrays a checkpoint needs."""
        rows = {f"row.{name}": np.stack(rows) for name, rows in self._rows.items() if rows}
        return rows | {
            "updates": np.array(self._updates, dtype=np.int64),
            "every": np.array(self.every),
            "total": np.array(self._diverged),
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `save` returned."""
        self._rows = {name: list(arrays.get(f"row.{name}", ())) for name in self._rows}
        self._updates, self.every = arrays["updates"].tolist(), int(arrays["every"])
        self._diverged = arrays["total"]
