"""What JupyterLab needs: opening a chapter changes no file, and its displays are numbered as in the book.

JupyterLab numbers every display by itself unless it stands in ``equation*``: `book.execute.from_twin` writes that, and
the pages undo it here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from book import feature


def keep_language(model: dict[str, Any], path: str, contents_manager: Any, **_: Any) -> None:
    """Before a notebook is saved, put back what its file says of kernel and language.

    JupyterLab notes the exact version of the Python that a notebook was opened with. Jupyter Server calls this as its
    ``pre_save_hook``, and saves the changed model.
    """
    if model["type"] != "notebook" or not model.get("content"):
        return
    try:
        before = json.loads((Path(contents_manager.root_dir) / path.strip("/")).read_text())["metadata"]
    except (OSError, ValueError, KeyError):  # a new notebook
        return
    for name in ("kernelspec", "language_info"):
        if name in before:
            model["content"]["metadata"][name] = before[name]


class Displays(SphinxTransform):
    """Take the mark off displays that tells JupyterLab to number none of them; here only tags are numbers."""

    default_priority = 210

    def apply(self, **_: Any) -> None:
        """Undo what `book.execute.from_twin` does."""
        for display in self.document.findall(nodes.math_block):
            marked = re.fullmatch(r"\s*\\begin\{equation\*\}(.*)\\end\{equation\*\}\s*", display.astext(), re.DOTALL)
            if marked and not display.get("nowrap"):
                display.children = [nodes.Text(marked[1].strip("\n"))]
                display.rawsource = marked[1]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_transform(Displays)
    return feature(app, __file__)
