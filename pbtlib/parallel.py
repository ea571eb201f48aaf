"""Threads over blocks of agents, for work that frees the interpreter's lock and writes into places of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from numba import config

from pbtlib.checks import check_number

__all__ = ["in_blocks", "processors"]


def processors() -> int:
    """Number of processors that this process may use: Numba's, which heeds ``NUMBA_NUM_THREADS`` and the system."""
    return int(vars(config)["NUMBA_NUM_THREADS"])


def in_blocks(work: Callable[[int, int], object], count: int, block: int, threads: int | None = None) -> None:
    """Call ``work(a, b)`` for consecutive ranges that cover 0 … count − 1, on several threads.

    Parameters
    ----------
    work : callable
        Its result must not depend on how the range is cut.
    count : int
        Number of items, at least 1.
    block : int
        Largest number of items per call. The ranges are of nearly equal size, their number a multiple of the threads'.
    threads : int, optional
        Number of threads, at least 1; as many as there are processors by default. One block needs no thread.
    """
    workers = processors() if threads is None else threads
    check_number("threads", workers, integer=True, minimum=1)
    pieces = -(-count // block)
    if pieces > 1:
        pieces = -(-pieces // workers) * workers
    size = -(-count // pieces)
    cuts = iter(range(0, count, size))

    def drain() -> None:
        for a in cuts:
            work(a, min(a + size, count))

    # The caller works too and takes what is left, so a helper that wakes up late costs little.
    helpers = [_pool(workers).submit(drain) for _ in range(min(workers, pieces) - 1)]
    try:
        drain()
    finally:
        for helper in helpers:
            helper.result()


@lru_cache(maxsize=4)
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers)


if hasattr(os, "register_at_fork"):  # a forked child inherits the pools without their threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
