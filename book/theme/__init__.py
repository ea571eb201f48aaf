"""The look of the pages, and what the theme leaves inaccessible or undone."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from book import feature

COLUMNS = 98
"""Characters of a line that a cell's box holds on a screen of 1280 pixels."""


def sentences(app: Sphinx, doctree: nodes.document, name: str) -> None:
    """Let what cells print in long lines, which are no tables, break as text does."""
    for printed in doctree.findall(nodes.literal_block):
        if "output" in printed["classes"] and any(len(line) > COLUMNS for line in printed.astext().splitlines()):
            printed["classes"].append("sentences")


def mend(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Take a deprecated role off the bibliography, and off every element an id that an earlier one bears."""
    seen: set[str] = set()

    def once(found: re.Match[str]) -> str:
        words = found[0] if found[1] not in seen else ""
        seen.add(found[1])
        return words

    if "body" in context:
        body = context["body"].replace(' role="doc-biblioentry"', "")
        body = body.replace('<div role="list" class="citation-list">', '<div class="citation-list">')
        context["body"] = re.sub(r'(?<=[\w"]) id="([^"<>]*)"(?=[^<>]*>)', once, body)


def launch_only_with_an_address(app: Sphinx, config: Any) -> None:
    """Without `repository: url` in _config.yml there is nothing that Binder or Colab could open."""
    if not config.html_theme_options.get("repository_url"):
        config.html_theme_options.pop("launch_buttons", None)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("config-inited", launch_only_with_an_address)
    app.connect("doctree-resolved", sentences)
    app.connect("html-page-context", mend)
    return feature(app, __file__)
