"""Sphinx extension of the book: data under every figure, the tests as pages, and what the theme leaves inaccessible.

It works on stored outputs alone, so `jupyter-book build .` shows the same pages as `make book`.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from book import feature

TESTS = Path(__file__).resolve().parent.parent.parent / "tests"


class FigureData(SphinxTransform):
    """Put under the caption of each figure a link to its data and the line that says how they were made."""

    default_priority = 210

    def apply(self, **_: Any) -> None:
        """Look for the file of each named figure beside the page, in figures/."""
        page = Path(self.env.docname)
        for figure in list(self.document.findall(nodes.figure)):
            for name in figure["names"]:
                target = (page.parent / "figures" / f"{page.name}-{name}.csv").as_posix()
                path = Path(self.env.srcdir) / target
                self.env.note_dependency(target)
                if not path.is_file():
                    continue
                lines = path.read_text().splitlines()
                notes = [line[2:] for line in lines if line.startswith("# ")]
                rows = len(lines) - len(notes) - 1
                link = addnodes.download_reference("", "", reftarget=f"/{target}", refdomain="", refexplicit=True)
                link["refdoc"] = self.env.docname
                link += nodes.inline("", f"Data of the figure (CSV, {rows:,} rows)")
                text = nodes.paragraph("", "", link, nodes.Text(f" · {_note(notes, 'made by ')}"))
                if thinned := _note(notes, "thinned: "):
                    text += nodes.Text(f" · thinned: {thinned}")
                figure += nodes.legend("", text, classes=["figure-data"])


def _note(notes: list[str], start: str) -> str:
    return next((note.removeprefix(start) for note in notes if note.startswith(start)), "")


def write_tests(app: Sphinx, exception: Exception | None) -> None:
    """Write each test file as a page with an anchor for each of its functions, for the ledger to point at."""
    if exception or app.builder.name != "html":
        return
    look = HtmlFormatter(style="a11y-high-contrast-light", nobackground=True)
    folder = Path(app.outdir) / "tests"
    folder.mkdir(exist_ok=True)
    for path in sorted(TESTS.glob("test_*.py")):
        code = highlight(path.read_text(), PythonLexer(), look)
        code = re.sub(
            r'^(?=<span class="k">def</span>\s*<span class="w"> </span><span class="nf">(\w+)<)',
            lambda found: f'<span id="{found.group(1)}"></span>',
            code,
            flags=re.MULTILINE,
        ).replace("<pre>", '<pre tabindex="0">')
        title = escape(f"tests/{path.name}")
        page = (
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            '<meta name="viewport" content="width=device-width">'
            f"<style>body {{ margin: 1rem; background: #fff; color: #111; font-family: sans-serif; }}"
            f"pre {{ overflow-x: auto; }}:target + span, :target ~ span:first-of-type {{ outline: 2px solid; }}"
            f"{look.get_style_defs('.highlight')}</style></head>"
            f'<body><main><h1>{title}</h1><p><a href="../chapters/claims.html">Back to the ledger of claims</a></p>'
            f"{code}</main></body></html>\n"
        )
        (folder / f"{path.stem}.html").write_text(page)


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


def write_one_page_as_many(app: Sphinx) -> None:
    """Let the builder of one long page write every node as the usual one does; extensions may forget it."""
    handlers = app.registry.translation_handlers
    handlers["singlehtml"] = {**handlers.get("html", {}), **handlers.get("singlehtml", {})}


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_transform(FigureData)
    app.connect("config-inited", launch_only_with_an_address)
    app.connect("builder-inited", write_one_page_as_many)
    app.connect("html-page-context", mend)
    app.connect("build-finished", write_tests)
    return feature(app, __file__)
