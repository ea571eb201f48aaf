"""What stands behind a link, shown beside it."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

from book import feature


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    return feature(app, __file__)
