"""The ledger of claims: the card of a claim wherever a page asks for it, its pages, the paper's items, tests as pages.

A page asks for the card of a claim by ``{claim} ID``, for a part of the ledger by ``{ledger} PART``, and in a sentence
for one number of a claim by the roles ``measured``, ``predicted`` and ``control``. Where a claim is computed its card
stands in place of the cell's output. All come from the notebooks beside the page, so that `jupyter-book build .` shows
the same as `make book`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from docutils import nodes
from sphinx.addnodes import only
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.highlighting import PygmentsBridge
from sphinx.util.docutils import SphinxDirective, SphinxRole

import pbtlib.claims
from book import feature
from book.execute import claims_of
from book.ledger.card import card, text_of, verdict_of
from book.ledger.items import TABLE as ITEMS
from book.ledger.pages import parts, places

RECORDS = Path(pbtlib.claims.__file__).with_name("claims.toml")
TESTS = Path(__file__).resolve().parents[2] / "tests"


class Claim(SphinxDirective):
    """The block ``{claim} ID``: the card of a claim, linked to the page that computes or proves it."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the card for pages, and its words for other forms of the book."""
        name = self.arguments[0]
        try:
            record, verdict = computed(self.env, name)
        except ValueError as error:
            raise self.error(str(error)) from error
        html = card(record, verdict, cell=f"{record.chapter}.html" + (f"#claim-{name}" if verdict else ""))
        return [nodes.raw("", html, format="html"), only("", nodes.paragraph(text=text_of(html)), expr="not html")]


class Number(SphinxRole):
    """A number of a claim in a sentence: ``ID``, ``ID[2]`` for one of several, ``ID %`` in per cent.

    Without an index it is the entry that favours the claim least, as on the card; what was measured has its error.
    """

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the number, linked to the card where it is computed."""
        try:
            record, number = number_of(self.env, self.name, self.text)
        except ValueError as error:
            message = self.inliner.reporter.error(str(error), line=self.lineno)
            return [self.inliner.problematic(self.rawtext, self.rawtext, message)], [message]
        cell = f"{record.chapter}.html#claim-{record.id}"
        return [nodes.reference("", number, refuri=cell, internal=True, classes=["claim-number"])], []


def number_of(env: BuildEnvironment, field: str, text: str) -> tuple[pbtlib.claims.Record, str]:
    """The claim that a role names, and its number in words.

    Raises
    ------
    ValueError
        If the text is no such name, or the claim is not computed or has no such entry.
    """
    asked = re.fullmatch(r"([\w-]+)(?:\[(\d+)\])?( %)?", text)
    if not asked:
        raise ValueError(f"{text!r} does not name a number of a claim, such as lem-8-kink or jump-survives[2] %")
    record, verdict = computed(env, asked[1])
    if verdict is None:
        raise ValueError(f"claim {asked[1]!r} is not computed")
    value, factor = entry(verdict, int(asked[2])) if asked[2] else verdict.shown, 100 if asked[3] else 1
    scale = factor * (value["uncertainty"] or value["tolerance"] or abs(value[field]) / 100)
    number = pbtlib.claims.in_digits(factor * value[field], scale)
    if field == "measured" and value["uncertainty"]:
        number += f" ± {pbtlib.claims.in_digits(factor * value['uncertainty'], scale)}"
    return record, number + ("%" if asked[3] else "")


def entry(verdict: pbtlib.claims.Verdict, at: int) -> dict[str, float]:
    """Measured, predicted, uncertainty, tolerance and control of one of the numbers that a claim compares.

    Raises
    ------
    ValueError
        If there are not so many.
    """
    if at >= verdict.size:
        raise ValueError(f"claim {verdict.id!r} compares {verdict.size} numbers, counted from 0; there is no {at}")
    names = tuple(verdict.shown)
    arrays = np.broadcast_arrays(*(np.asarray(getattr(verdict, name), float) for name in names))
    return {name: float(array.flat[at]) for name, array in zip(names, arrays, strict=True)}


def computed(env: BuildEnvironment, name: str) -> tuple[pbtlib.claims.Record, pbtlib.claims.Verdict | None]:
    """The record of a claim, and what the notebook beside the page found; None if it is one that is not computed.

    Raises
    ------
    ValueError
        If there is no such claim, or it is not computed where it is recorded.
    """
    if (record := pbtlib.claims.ledger().get(name)) is None:
        raise ValueError(f"claims.toml has no claim {name!r}")
    path = Path(env.srcdir, env.docname).with_name(f"{record.chapter}.ipynb")
    found: dict[str, pbtlib.claims.Verdict] = {}
    if path.is_file():
        env.note_dependency(str(path))
        found = verdicts(path, path.stat().st_mtime_ns)
    if record.status in pbtlib.claims.COMPUTED and name not in found:
        raise ValueError(f"claim {name!r} is recorded for {record.chapter}, which does not compute it")
    env.note_dependency(str(RECORDS))
    return record, found.get(name)


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
    for path in (*notebooks, RECORDS, ITEMS):
        app.env.note_dependency(str(path))
    found = from_notebooks(tuple((path, path.stat().st_mtime_ns) for path in notebooks))
    source[0] = with_parts(source[0], found)


def with_parts(source: str, found: dict[str, str]) -> str:
    """The source of a page, text or notebook, with parts of the ledger in place of the blocks that ask for them."""

    def filled(text: str) -> str:
        return re.sub(r"```\{ledger\} (\w+)\n```(?:\n|$)", lambda asked: found[asked[1]], text)

    if not source.startswith("{"):
        return filled(source)
    notebook = json.loads(source)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = filled("".join(cell["source"]))
    return json.dumps(notebook)


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
    for name in ("measured", "predicted", "control"):
        app.add_role(name, Number())
    app.connect("source-read", fill)
    app.connect("html-collect-pages", pages_of_tests)
    return feature(app, __file__, only=r'class="(claim|ledger)\b')
