"""Entries for a bibliography to copy: of this book, from CITATION.cff, and of what it cites, from references.bib.

A page asks by ``{bibtex} book`` for the first, by ``{bibtex} KEY`` for one of the others, by ``{bibtex} all`` for all
of them in a fold; the button to copy comes with every block of code.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from book import feature

CITATION = Path(__file__).resolve().parents[2] / "CITATION.cff"


def book_entry(citation: str) -> str:
    """The entry of this book, given the text of CITATION.cff."""
    said = yaml.safe_load(citation)
    people = " and ".join(f"{{{one['name']}}}" for one in said["authors"])
    fields = {"author": people, "title": said["title"], "version": said["version"]}
    if released := said.get("date-released"):
        fields["year"] = str(released)[:4]
    lines = "".join(f"  {key:<7} = {{{value}}},\n" for key, value in fields.items())
    return f"@software{{pbt-alive,\n{lines}}}"


def entries(bibliography: str) -> dict[str, str]:
    """The entries of a bibliography by key, as they are written."""
    found = re.split(r"^(?=@)", bibliography, flags=re.MULTILINE)
    return {match[1]: entry.strip() for entry in found if (match := re.match(r"@\w+\{([^,]+),", entry))}


class Bibtex(SphinxDirective):
    """The block ``{bibtex} book``, ``{bibtex} KEY`` or ``{bibtex} all``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the entries as a block of code."""
        wanted, (bib,) = self.arguments[0], self.config.bibtex_bibfiles
        path = Path(self.env.srcdir) / bib
        for source in (path, CITATION):
            self.env.note_dependency(str(source))
        known = {"book": book_entry(CITATION.read_text()), **entries(path.read_text())}
        known["all"] = "\n\n".join(known.values())
        if wanted not in known:
            raise self.error(f"{wanted!r} is not cited; there are {', '.join(known)}")
        block = nodes.literal_block(known[wanted], known[wanted], language="bibtex")
        if wanted != "all":
            return [block]
        opening = f"<details class='bibtex'><summary>All {len(known) - 1} entries as BibTeX</summary>"
        return [nodes.raw("", opening, format="html"), block, nodes.raw("", "</details>", format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("bibtex", Bibtex)
    return feature(app, __file__)
