"""Formulas: MathJax as it came, less its menu. What is wide scrolls, copying keeps the TeX; see `formulas.js`.

Its first line lets a browser that knows it compile all of the script while it comes, and not piece by piece later.
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

from book import feature


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    return feature(app, __file__, only=r'class="math')
