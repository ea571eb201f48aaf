"""How the book is made: text to notebook to pages, and a folder for every feature of the pages."""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
"""Left out of what nbformat loads: a grammar of web addresses, seconds of every process and of no use to notebooks."""

ONLY: dict[str, str] = {}
"""From a style sheet or script to the expression that is found on the pages that need it; see `book.light`."""


def feature(app: Sphinx, module: str, only: str = "") -> dict[str, Any]:
    """Load the style sheets and scripts beside a module on every page, and return what its `setup` has to return.

    Parameters
    ----------
    app : Sphinx
    module : str
        The ``__file__`` of the feature. Pictures (SVG) and a folder ``vendor`` beside it are published as they are.
    only : str
        A regular expression: pages where it is not found do without the style sheets and scripts.
    """
    folder = Path(module).parent
    styles, scripts = sorted(folder.glob("*.css")), sorted(folder.glob("*.js"))
    ONLY.update({path.name: only for path in (*styles, *scripts)})
    published = [str(path) for path in (*styles, *scripts, *folder.glob("*.svg"), folder / "vendor") if path.exists()]

    def load(app: Sphinx) -> None:
        app.config.html_static_path.extend(published)
        for path in styles:
            app.add_css_file(path.name, priority=800)  # after the theme's own
        for path in scripts:
            app.add_js_file(path.name, priority=800, loading_method="defer")

    app.connect("builder-inited", load)
    code = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))
    return {"env_version": zlib.crc32(code), "parallel_read_safe": True, "parallel_write_safe": True}
