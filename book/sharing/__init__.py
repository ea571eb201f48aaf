"""Pages as others meet them: an icon, a sentence and a picture where a link is shared, a page for a wrong address.

What must be a full address, the picture and the list of pages for search engines, is there once `baseurl` in
_config.yml says where the pages are published.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from textwrap import shorten
from typing import Any
from urllib.parse import urljoin

from docutils import nodes
from markupsafe import Markup
from sphinx.application import Sphinx

from book import feature

LONG = 200
"""Characters of a description, more of which nobody shows."""
PICTURE = "picture-fig-1.png"
"""What is shown with a page that has no picture of its own."""
NOT_FOUND = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>There is no such page</title>
<style>
:root { color-scheme: light dark; }
body { max-width: 32rem; margin: 20vh auto; padding: 0 1rem; font: 1.1rem/1.6 sans-serif; }
</style>
</head>
<body>
<h1>There is no such page</h1>
<p>The <a href="ROOTchapters/index.html">book</a> begins here, its <a href="ROOTgenindex.html">index</a> and its
<a href="ROOTsearch.html">search</a> find what it holds.</p>
</body>
</html>
"""


def description(doctree: nodes.Node | None, otherwise: str) -> str:
    """The first paragraph of a page with words enough, without formulas; other words if there is none."""
    for paragraph in doctree.findall(nodes.paragraph) if doctree is not None else ():
        if not any(paragraph.findall(nodes.math)) and len(paragraph.astext()) > 60:
            return shorten(paragraph.astext(), LONG, placeholder=" …")
    return otherwise


def tags(title: str, words: str, root: str, address: str = "", picture: str = PICTURE) -> str:
    """What the head of a page says of it, given the way to the top folder and the address of the page if it has one."""
    said = {"og:title": title, "og:type": "article", "og:description": words}
    if address:
        said |= {"og:url": address, "og:image": urljoin(address, f"{root}_images/{picture}")}
    lines = [f'<meta property="{name}" content="{escape(value)}">' for name, value in said.items()]
    icon = f'<link rel="icon" type="image/svg+xml" href="{root}_static/favicon.svg">'
    return "\n".join([f'<meta name="description" content="{escape(words)}">', *lines, icon])


def sitemap(address: str, pages: list[str]) -> str:
    """The list of pages that search engines read."""
    places = "".join(f"<url><loc>{escape(urljoin(address, page))}</loc></url>\n" for page in pages)
    kind = "http://www.sitemaps.org/schemas/sitemap/0.9"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="{kind}">\n{places}</urlset>\n'


def describe(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Give a page its description."""
    top = app.config.html_baseurl
    found = doctree.next_node(nodes.image) if doctree is not None else None
    picture = Path(app.builder.images.get(found["uri"], PICTURE)).name if found is not None else PICTURE
    words = description(doctree, app.config.project)
    root = "../" * pagename.count("/")
    title = Markup(context.get("title", app.config.project)).striptags()
    context["sharing"] = Markup(tags(title, words, root, urljoin(top, f"{pagename}.html") if top else "", picture))


def write(app: Sphinx, exception: Exception | None) -> None:
    """Write the page for wrong addresses, and the list of pages if they have an address."""
    if exception is not None or app.builder.name != "html":
        return
    folder, top = Path(app.outdir), app.config.html_baseurl
    (folder / "404.html").write_text(NOT_FOUND.replace("ROOT", top))
    (folder / "sitemap.xml").unlink(missing_ok=True)
    if top:
        (folder / "sitemap.xml").write_text(sitemap(top, [f"{name}.html" for name in sorted(app.env.found_docs)]))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("html-page-context", describe)
    app.connect("build-finished", write)
    return feature(app, __file__)
