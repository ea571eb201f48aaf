"""Benchmarks: ratios within one run, since the machine drifts; and what pages weigh and take, in their own units."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Row", "seconds"]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    what : str
        What was compared with what.
    value : float
        The ratio (or number) measured.
    bar : float
        What it should reach.
    at_most : bool
        Whether the bar is an upper one.
    detail : str
        The times behind it.
    """

    what: str
    value: float
    bar: float
    at_most: bool = False
    detail: str = ""

    @property
    def met(self) -> bool:
        """Whether the bar is reached."""
        return self.value <= self.bar if self.at_most else self.value >= self.bar


def seconds(*work: Callable[[], object], repeats: int = 5) -> list[tuple[float, float]]:
    """Median wall and processor time of each piece of work [s]; they take turns, so that drift hits all alike."""
    for piece in work:
        piece()
    times = np.empty((repeats, len(work), 2))
    for row in times:
        for i, piece in enumerate(work):
            wall, processor = time.perf_counter(), time.process_time()
            piece()
            row[i] = time.perf_counter() - wall, time.process_time() - processor
    return [(float(wall), float(processor)) for wall, processor in np.median(times, axis=0)]
