"""Figures with sliders: the data that chapters record, as scripts, and what draws them (`moving.js`).

A page that is read from disk may load scripts but not data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from book import feature


def publish(app: Sphinx, exception: Exception | None) -> None:
    """Put ``chapters/figures/CHAPTER-NAME.json`` among the pages as ``moving/NAME.json`` and ``moving/NAME.js``."""
    if exception or app.builder.name != "html":
        return
    folder = Path(app.outdir) / "_static" / "moving"
    folder.mkdir(exist_ok=True)
    for path in sorted(Path(app.srcdir).glob("chapters/figures/*.json")):
        name, text = path.stem.partition("-")[2], path.read_text()
        (folder / f"{name}.json").write_text(text)
        (folder / f"{name}.js").write_text(f'(window.bookMoving ??= {{}})["{name}"] = {text.rstrip()};\n')


def film_first(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Let the data of the landing page's film be asked for at once, not by the script that plays it."""
    if 'data-name="landing"' in context.get("body", ""):
        app.add_js_file("moving/landing.js", priority=799, loading_method="defer")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("build-finished", publish)
    app.connect("html-page-context", film_first)
    return feature(app, __file__, only=r'class="moving\b')
