"""Under the caption of every figure a link to the numbers that it draws, which `kernel.py` recorded.

It works on stored outputs alone, so `jupyter-book build .` shows the same links as `make book`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from book import feature


class FigureData(SphinxTransform):
    """Put under the caption of each figure a link to its data and the line that says how they were made."""

    default_priority = 210

    def apply(self, **_: Any) -> None:
        """Look for the file of each named figure beside the page, in figures/."""
        page = Path(self.env.docname)
        for figure in list(self.document.findall(nodes.figure)):
            for name in figure["names"]:
                target = (page.parent / "figures" / f"{page.name}-{name}.csv").as_posix()
                path = Path(self.env.srcdir) / target
                self.env.note_dependency(target)
                if not path.is_file():
                    continue
                lines = path.read_text().splitlines()
                notes = [line[2:] for line in lines if line.startswith("# ")]
                rows = len(lines) - len(notes) - 1
                link = addnodes.download_reference("", "", reftarget=f"/{target}", refdomain="", refexplicit=True)
                link["refdoc"] = self.env.docname
                link += nodes.inline("", f"Data of the figure (CSV, {rows:,} rows)")
                text = nodes.paragraph("", "", link, nodes.Text(f" · {_note(notes, 'made by ')}"))
                if thinned := _note(notes, "thinned: "):
                    text += nodes.Text(f" · thinned: {thinned}")
                figure += nodes.legend("", text, classes=["figure-data"])


def _note(notes: list[str], start: str) -> str:
    return next((note.removeprefix(start) for note in notes if note.startswith(start)), "")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_transform(FigureData)
    return feature(app, __file__, only="figure-data")
