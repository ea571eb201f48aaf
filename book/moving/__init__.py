"""Figures with sliders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from book import feature


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    frames = Path(app.srcdir) / "frames"
    if frames.is_dir():
        app.connect("builder-inited", lambda app: app.config.html_static_path.append(str(frames)))
    return feature(app, __file__)
