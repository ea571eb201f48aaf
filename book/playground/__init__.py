"""The playground: the paper's algorithms running in the page, and links that set it.

`algorithm.js` is Algorithms 1 and 2 without a page, `limit.js` what the theory predicts of them, `playground.js` draws
both. They load on the page that has ``<div class="playground">`` and nowhere else. On every page a link to
``playground.md#problem=himmelblau&N=100`` leads to the playground so set.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

HERE = Path(__file__).parent
SCRIPTS = ("algorithm.js", "limit.js", "playground.js")
STYLE = "playground.css"


class Links(SphinxTransform):
    """Lead ``playground.md#NAME=VALUE&...`` to the page; a link's target is else an element of the page."""

    default_priority = 5

    def apply(self, **_: Any) -> None:
        """Put a plain reference in the place of every such link."""
        for link in list(self.document.findall(addnodes.pending_xref)):
            target = link.get("reftargetid") or ""
            if "=" in target and str(link.get("reftarget", "")).rpartition("/")[2] == "playground":
                there = nodes.reference("", "", *link.children, refuri=f"playground.html#{target}", internal=True)
                there["classes"] = ["reference", "internal"]
                link.replace_self(there)


def load(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Load the scripts and the style on a page that has a playground."""
    if '<div class="playground">' in context.get("body", "") and app.builder.name == "html":
        app.add_css_file(STYLE, priority=800)
        for name in SCRIPTS:
            app.add_js_file(name, priority=800, loading_method="defer")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    published = [str(HERE / name) for name in (*SCRIPTS, STYLE)]
    app.connect("builder-inited", lambda app: app.config.html_static_path.extend(published))
    app.connect("html-page-context", load)
    app.add_transform(Links)
    return {
        "env_version": zlib.crc32(Path(__file__).read_bytes()),
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }
