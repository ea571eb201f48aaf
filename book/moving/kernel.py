"""Keeps the data of every moving figure that a cell ends with: loaded into the kernel of a chapter."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def load_ipython_extension(shell: Any) -> None:
    """Write each figure of `pbtlib.moving` that is shown from now on as ``NAME.json``."""
    folder = Path(os.environ["BOOK_RECORDS"])

    def keep(figure: Any, printer: Any, _: bool) -> None:
        (folder / f"{figure.name}.json").write_text(figure.to_json())
        printer.text(repr(figure))

    shell.display_formatter.formatters["text/plain"].for_type_by_name("pbtlib.moving", "Moving", keep)
