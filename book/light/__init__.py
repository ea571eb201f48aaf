"""Light pages: each loads the style sheets and scripts that it needs, its figures when they come near, and no more.

What extensions put on every page is taken off where nothing needs it: `ONLY` holds what a page must have for each.
What remains is joined to a few files; see `bundles.py`.
The theme's icons, half a megabyte of script for a dozen of them, are drawn by `light.css`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image
from sphinx.application import Sphinx

import book
from book import feature
from book.light.bundles import join

ONLY = {
    "mathjax/": r'class="math\b',
    "togglebutton": r'class="[^"]*\b(toggle|dropdown)\b',
    "toggleHint": r'class="[^"]*\b(toggle|dropdown)\b',
    "toggleOpenOnPrint": r'class="[^"]*\b(toggle|dropdown)\b',
    "copybutton": r'class="highlight\b',
    "clipboard": r'class="highlight\b',
    "design-tabs": r'class="sd-tab',
    "sphinx-design": r'class="sd-',
    "mystnb": r'class="[^"]*\b(cell|cell_output|output)\b',
    "proof.css": r'class="[^"]*\bproof\b',
    "exercise.css": r'class="[^"]*\b(exercise|solution)\b',
    "pygments": r'class="[^"]*\bhighlight\b',
}
"""From a part of an asset's name or words to the expression that is found on the pages that need it."""

NOT_ON_PAGES = re.compile(
    r"\s*(<!-- (So that users can add custom icons|Pre-loaded scripts that we'll load fully later) -->"
    r"|<script[^>]*(fontawesome|searchtools|language_data|searchindex)\.js"
    r'[^>]*></script>|<link rel="preload" as="script"[^>]*>|<meta name="viewport"[^>]*>)'
)
"""What the theme writes into the head of every page: icons as a script, what only the page of the search needs, and
that its last scripts come before all others."""
THEME_AT_ONCE = (
    'localStorage.getItem("theme") || "auto"',
    'localStorage.getItem("theme") || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")',
)
"""The theme knows only after all scripts whether a page is dark, and draws it anew: here it is known at once."""
TEMPLATES = Path(__file__).with_name("templates")
DENSITY = 110
COLOURLESS = re.compile(r'<span class="(?:n|nn|o|p|w)">([^<]*)</span>')
"""Names, operators and brackets of code, half of all nodes of a page, in the colour of its text or nearly so."""
PICTURE = re.compile(r'<img (?=[^>]*src="(?:\.\./)*_images/([^"]+\.png)")(?![^>]*(loading|width)=)')


def needed(asset: str, page: str) -> bool:
    """Whether a page, given as the HTML of its body, needs a style sheet or script of this name or with these words."""
    for part, pattern in {**ONLY, **book.ONLY}.items():
        if (asset.rpartition("/")[2] == part if part in book.ONLY else part in asset) and pattern:
            return re.search(pattern, page) is not None
    return True


def name(asset: Any) -> str:
    """The file of a style sheet or script, or the words of one that stands in the page."""
    return str(getattr(asset, "filename", asset) or asset.attributes.get("body", ""))


def without_the_unneeded(head: str) -> Markup:
    """Return a part of a page's head without what no page needs.

    The theme's import of a style sheet is a link, and whether the page is dark is known at once.
    """
    light = NOT_ON_PAGES.sub("", str(head)).replace(*THEME_AT_ONCE)
    return Markup(re.sub(r"styles/theme\.css(\?[^\"]*)?", "basic.css", light))


def size(path: Path) -> tuple[int, int]:
    """Width and height of a picture on a page, where as many of its dots as `DENSITY` make an inch of paper."""
    with Image.open(path) as picture:
        scale = DENSITY / round(picture.info.get("dpi", (DENSITY, DENSITY))[0])
        return round(picture.width * scale), round(picture.height * scale)


def lighten(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Take off a page what it does not need, and let its figures come when they are near."""
    context["light"] = without_the_unneeded
    context["metatags"] = re.sub(r'<meta name="viewport"[^>]*>', "", context.get("metatags", ""))  # Sphinx has it
    body = context.get("body", "")
    for kind in ("css_files", "script_files"):
        context[kind] = [asset for asset in context[kind] if needed(name(asset), body)]
    pictures = {name: Path(app.srcdir, source) for source, name in app.builder.images.items()}

    def sized(found: re.Match[str]) -> str:
        """Begin the element of a picture with its size, so that its place is kept until it comes."""
        width, height = size(pictures[found[1]])
        return f'<img loading="lazy" width="{width}" height="{height}" '

    if body:
        context["body"] = COLOURLESS.sub(r"\1", PICTURE.sub(sized, body))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("html-page-context", lighten, priority=900)  # when all others have said what they want
    app.connect("config-inited", lambda _, config: config.templates_path.append(str(TEMPLATES)))
    app.connect("build-finished", join, priority=900)  # when all pages and files are there
    return feature(app, __file__)
