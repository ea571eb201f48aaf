"""A figure of another page as a picture that leads to it.

A page asks for it by ``{picture} NAME``, the name of a figure. It comes from the notebook that draws it.
"""

from __future__ import annotations

import base64
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from book import feature


class Picture(SphinxDirective):
    """The block ``{picture} NAME``: the picture of a figure with its words for those who do not see it, as a link."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the picture."""
        name, env = self.arguments[0], self.env
        page = Path(env.srcdir, env.docname)
        notebooks = sorted(page.parent.glob("*.ipynb"))
        found = drawn(tuple((path, path.stat().st_mtime_ns) for path in notebooks))
        if name not in found:
            raise self.error(f"no notebook draws a figure {name!r}")
        source, data, words = found[name]
        env.note_dependency(str(source))
        kept = Path(env.doctreedir) / "pictures" / f"picture-{name}.png"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(base64.b64decode(data))
        image = nodes.image(uri=Path(os.path.relpath(kept, page.parent)).as_posix(), alt=words)
        link = nodes.reference("", "", image, refuri=f"{source.stem}.html#{name}", internal=True)
        return [nodes.container("", nodes.paragraph("", "", link), classes=["picture"])]


@cache
def drawn(notebooks: tuple[tuple[Path, int], ...]) -> dict[str, tuple[Path, str, str]]:
    """The figures of notebooks in these states: from name to notebook, picture and words for it."""
    found = {}
    for path, _ in notebooks:
        for cell in json.loads(path.read_text())["cells"]:
            shown = cell["metadata"].get("mystnb", {})
            for output in cell.get("outputs", []):
                if "image/png" in output.get("data", {}) and "figure" in shown:
                    data = "".join(output["data"]["image/png"])
                    found[shown["figure"]["name"]] = (path, data, shown["image"]["alt"])
    return found


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("picture", Picture)
    return feature(app, __file__, only=r'class="picture\b')
