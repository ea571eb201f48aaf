"""Addresses of earlier editions: each leads to the page where its first message went, an anchor to where it is now.

An anchor on a page that still stands is not followed. No package does the second: what stood on one page stands on
several today. The pages work from disk.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from html import escape
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from book import feature

MOVED = {
    "02_modelling": "02_1_mechanism",
    "03b_bilevel": "03_1_bilevel",
    "05_illustrative_examples": "05_1a_quadratic",
    "05b_himmelblau": "05_1b_himmelblau",
    "05c_beyond": "luck_and_tuning",
    "05d_your_own_problem": "your_problem",
    "06_cartpole": "05_2_cartpole",
    "06b_cartpole_open": "cartpole_open",
    "07_conclusion": "06_conclusion",
}
"""From a page of an earlier edition to the page that has its message."""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="robots" content="noindex">
<title>This page has moved</title>
<noscript><meta http-equiv="refresh" content="0; url={new}.html"></noscript>
<script src="../_static/anchors.js"></script>
<script>
let anchor = "";
try { anchor = decodeURIComponent(location.hash.slice(1)); } catch { /* not an address of ours */ }
location.replace(((window.bookAnchors || {})[anchor] || "{new}") + ".html" + location.hash);
</script>
</head>
<body><p>This page has moved to <a href="{new}.html">{title}</a>.</p></body>
</html>
"""


def anchors(pages: dict[str, str]) -> dict[str, str]:
    """From every id that stands on one page alone to that page, given the pages' HTML by name."""
    ids = {name: set(re.findall(r'\bid="([^"]+)"', html.partition("<article")[2])) for name, html in pages.items()}
    count = Counter(anchor for found in ids.values() for anchor in found)
    return {anchor: name for name, found in ids.items() for anchor in sorted(found) if count[anchor] == 1}


def write(app: Sphinx, exception: Exception | None) -> None:
    """Put a page at every old address whose new page was built, and a list of where every anchor stands."""
    if exception is not None or app.builder.name != "html":
        return
    folder = Path(app.outdir) / "chapters"
    built = {name.removeprefix("chapters/") for name in app.env.found_docs}
    pages = {path.stem: path.read_text() for path in sorted(folder.glob("*.html")) if path.stem in built}
    data = json.dumps(anchors(pages), ensure_ascii=False, separators=(",", ":"))
    (Path(app.outdir) / "_static" / "anchors.js").write_text(f"window.bookAnchors = {data};\n")
    for old, new in MOVED.items():
        if new in built and old not in built:
            title = escape(app.env.titles[f"chapters/{new}"].astext())
            (folder / f"{old}.html").write_text(PAGE.replace("{new}", new).replace("{title}", title))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("build-finished", write)
    return feature(app, __file__)
