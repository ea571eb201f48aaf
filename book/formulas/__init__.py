"""Formulas: MathJax as it came, without its menu; what is wide scrolls, a display is a stop of the tab key, copying
keeps the TeX.
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

from book import feature


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    return feature(app, __file__, only=r'class="math')
