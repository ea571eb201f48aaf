"""The ledger of claims: what its pages ask for in blocks ``{ledger} PART``, and the tests as pages for it to point at.

It works on the notebooks beside the page, so `jupyter-book build .` shows the same ledger as `make book`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
from sphinx.application import Sphinx
from sphinx.highlighting import PygmentsBridge

import pbtlib.claims
from book import feature
from book.execute import claims_of
from book.ledger.pages import parts, places

RECORDS = Path(pbtlib.claims.__file__).with_name("claims.toml")
TESTS = Path(__file__).resolve().parents[2] / "tests"


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the parts that a page asks for in place of its blocks ``{ledger} PART``, from the notebooks beside it."""
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
    app.connect("source-read", fill)
    app.connect("html-collect-pages", pages_of_tests)
    return feature(app, __file__)
