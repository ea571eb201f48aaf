"""Long proofs are folded until they are opened, linked to or printed."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx_proof.nodes import proof_node

from book import feature

LONG = 400
"""Characters, with those of formulas, of a proof that is folded."""


class Folds(SphinxTransform):
    """Fold long proofs; `folding.js` opens them when they are printed or linked to."""

    default_priority = 841

    def apply(self, **_: Any) -> None:
        """Put every long proof into an element that opens and closes."""
        for proof in list(self.document.findall(proof_node)):
            if len(proof.astext()) > LONG:
                place = proof.parent.index(proof)
                opening = '<details class="folded-proof"><summary>Proof</summary>'
                first = next(iter(proof.findall(nodes.Text)))  # its word "Proof." is now in the summary
                first.parent.replace(first, nodes.Text(first.removeprefix("Proof. ")))
                proof.parent.insert(place + 1, nodes.raw("", "</details>", format="html"))
                proof.parent.insert(place, nodes.raw("", opening, format="html"))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_transform(Folds)
    return feature(app, __file__, only="<details|<figure")
