"""The playground: the paper's algorithms running in the page, and links that set it.

`algorithm.js` is Algorithms 1 and 2 without a page, `limit.js` what the theory predicts of them, `playground.js` draws
both. They load on the page that has ``<div class="playground">`` and nowhere else. On every page a link to
``playground.md#problem=himmelblau&N=100`` leads to the playground so set.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from book import feature


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


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_transform(Links)
    return feature(app, __file__, only=r'class="playground"')
