"""The ledger of claims: the card of a claim wherever a page asks for it, the ledger's pages, the tests as pages.

A page asks for the card of a claim by ``{claim} ID``, and for a part of the ledger by ``{ledger} PART``. Where a claim
is computed its card stands in place of the cell's output. All come from the notebooks beside the page, so that
`jupyter-book build .` shows the same as `make book`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from sphinx.addnodes import only
from sphinx.application import Sphinx
from sphinx.highlighting import PygmentsBridge
from sphinx.util.docutils import SphinxDirective

import pbtlib.claims
from book import feature
from book.execute import claims_of
from book.ledger.card import card, text_of, verdict_of
from book.ledger.pages import parts, places

RECORDS = Path(pbtlib.claims.__file__).with_name("claims.toml")
TESTS = Path(__file__).resolve().parents[2] / "tests"


class Claim(SphinxDirective):
    """The block ``{claim} ID``: the card of a claim, linked to the page that computes or proves it."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the card for pages, and its words for other forms of the book."""
        name, env = self.arguments[0], self.env
        if (record := pbtlib.claims.ledger().get(name)) is None:
            raise self.error(f"claims.toml has no claim {name!r}")
        path = Path(env.srcdir, env.docname).with_name(f"{record.chapter}.ipynb")
        found: dict[str, pbtlib.claims.Verdict] = {}
        if path.is_file():
            env.note_dependency(str(path))
            found = verdicts(path, path.stat().st_mtime_ns)
        if record.status in pbtlib.claims.COMPUTED and name not in found:
            raise self.error(f"claim {name!r} is recorded for {record.chapter}, which does not compute it")
        env.note_dependency(str(RECORDS))
        verdict = found.get(name)
        html = card(record, verdict, cell=f"{record.chapter}.html" + (f"#claim-{name}" if verdict else ""))
        return [nodes.raw("", html, format="html"), only("", nodes.paragraph(text=text_of(html)), expr="not html")]


@cache
def verdicts(path: Path, changed: int) -> dict[str, pbtlib.claims.Verdict]:
    """The verdicts in a notebook by claim; of several of one claim one that parts from its record comes first."""
    found: dict[str, pbtlib.claims.Verdict] = {}
    for output in outputs(nbformat.read(path, as_version=4)):
        verdict = verdict_of(output)
        if verdict and (verdict.id not in found or found[verdict.id].agrees):
            found[verdict.id] = verdict
    return found


def outputs(notebook: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All outputs of a notebook's cells."""
    for cell in notebook["cells"]:
        yield from cell.get("outputs", [])


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Show the cards of a notebook's claims, and put the parts that a page asks for in place of its blocks."""
    if '"pbtlib.claim"' in source[0]:
        app.env.note_dependency(str(RECORDS))
        notebook = json.loads(source[0])
        for output in outputs(notebook):
            if verdict := verdict_of(output):
                record = pbtlib.claims.ledger()[verdict.id]
                output["data"]["text/html"] = card(record, verdict, anchor=f"claim-{verdict.id}")
        source[0] = json.dumps(notebook)
    if "```{ledger}" not in source[0]:
        return
    notebooks = sorted(Path(app.srcdir, docname).parent.glob("*.ipynb"))
    for path in (*notebooks, RECORDS):
        app.env.note_dependency(str(path))
    found = from_notebooks(tuple((path, path.stat().st_mtime_ns) for path in notebooks))
    source[0] = re.sub(r"```\{ledger\} (\w+)\n```\n", lambda asked: found[asked[1]], source[0])


@cache
def from_notebooks(notebooks: tuple[tuple[Path, int], ...]) -> dict[str, str]:
    """The parts of the ledger, from these notebooks in these states."""
    chapters = {path.stem: nbformat.read(path, as_version=4) for path, _ in notebooks}
    found = {name: claims_of(notebook) for name, notebook in chapters.items()}
    return parts(pbtlib.claims.ledger(), found, places(chapters))


def pages_of_tests(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Each test file as a page with an anchor for each of its functions."""
    for path in sorted(TESTS.glob("test_*.py")):
        code = PygmentsBridge(stylename="a11y-high-contrast-light").highlight_block(path.read_text(), "python")
        code = re.sub(
            r'^(?=<span class="k">def</span>\s*<span class="w"> </span><span class="nf">(\w+)<)',
            lambda found: f'<span id="{found.group(1)}"></span>',
            code,
            flags=re.MULTILINE,
        )
        title = f"tests/{path.name}"
        back = '<p><a href="../chapters/claims.html">Back to the ledger of claims</a></p>'
        yield f"tests/{path.stem}", {"title": title, "body": f"<h1>{title}</h1>{back}{code}"}, "page.html"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("claim", Claim)
    app.connect("source-read", fill)
    app.connect("html-collect-pages", pages_of_tests)
    return feature(app, __file__)
