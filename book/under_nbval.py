"""What nbval runs is kept as executed: a plugin of pytest, ``-p book.under_nbval --nbval-kernel-name recorded``.

nbval runs stored notebooks in kernels of its own and compares what they say with what is stored. Here these kernels
record figures as all kernels of the book do, and their outputs go where the build keeps executed chapters: tests that
look at them, or the pages, need no second run.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from IPython.core.displayhook import DisplayHook
from nbval.plugin import IPyNbCell, IPyNbFile

from book.build import EXECUTED, fingerprint, keep
from book.execute import ARGUMENTS, TWINS, from_twin, in_normal_form, kernel_environment, same_cells
from book.warm import kernels

RECORDS = pytest.StashKey[str]()
OPEN = pytest.StashKey[ExitStack]()
RUN = pytest.StashKey[tuple[float, list[IPyNbCell]]]()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what was written, and end the process behind the kernels."""
    config.stash.get(OPEN, ExitStack()).close()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Give the kernel that nbval is about to start for a notebook a folder for its records."""
    if not isinstance(item, IPyNbCell):
        return
    page, stash = item.parent, item.config.stash
    if OPEN not in stash:
        stash[OPEN] = ExitStack()
        stash[RECORDS] = stash[OPEN].enter_context(tempfile.TemporaryDirectory())
        os.environ |= kernel_environment(stash[RECORDS], strict=True)
        stash[OPEN].enter_context(kernels(ARGUMENTS))
    if RUN not in page.stash:
        page.stash[RUN] = time.monotonic(), []
        (EXECUTED / page.path.name).unlink(missing_ok=True)  # of an earlier run
        os.environ["BOOK_RECORDS"] = tempfile.mkdtemp(dir=stash[RECORDS])
    page.stash[RUN][1].append(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Keep a notebook after its last cell."""
    if isinstance(item, IPyNbCell) and (nextitem is None or nextitem.parent is not item.parent):
        _keep(item.parent)
    return (yield)


def _keep(page: IPyNbFile) -> None:
    """Keep a notebook that is its twin's and of which every cell was run to its end."""
    begun, items = page.stash[RUN]
    twin = TWINS / f"{page.path.stem}.md"
    if not twin.is_file() or not same_cells(notebook := from_twin(twin), page.nb):
        return
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if len(items) < len(cells) or not all(map(_sound, items)):
        return
    for number, (cell, item) in enumerate(zip(cells, items, strict=True), 1):
        quiet = DisplayHook.semicolon_at_end_of_expression(cell.source)  # nbval's kernels do not look for it
        cell.outputs = [
            output for output in item.test_outputs if not (quiet and output.output_type == "execute_result")
        ]
        cell.execution_count = number
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = number
    in_normal_form(notebook, Path(os.environ["BOOK_RECORDS"]))
    keep(page.path.stem, notebook, fingerprint(notebook), strict=True, seconds=time.monotonic() - begun)


def _sound(item: Any) -> bool:
    return item.test_outputs is not None and not any(out.output_type == "error" for out in item.test_outputs)
