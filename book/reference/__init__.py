"""Names of the library in code lead to their entries in the reference, where the page imports them and nothing else."""

from __future__ import annotations

import ast
import re
from html import escape
from typing import Any

from docutils import nodes
from IPython.core.inputtransformer2 import TransformerManager
from sphinx.application import Sphinx

import pbtlib
from book import feature

CODE = re.compile(r'(?<=<div class="highlight"><pre>).*?(?=</pre></div>)', re.DOTALL)
NAME = re.compile(
    r'(?<!<span class="o">\.</span>)<span class="n">(?P<name>\w+)</span>'
    r'(?:<span class="o">\.</span><span class="n">(?P<member>\w+)</span>)?'
)

BAR = re.compile(r"(``.*?``|`[^`]*`|^ *(?:>>>|\.\.\.)[^\n]*)|\|", re.DOTALL | re.MULTILINE)
"""A bar, or what must keep it as it is: literals, mathematics, examples."""


def imported(code: str) -> dict[str, str]:
    r"""What a page's code imports from the library: from its name there to its full name.

    A name that the code also gives to something of its own is left out, since a reader could not tell which is meant.

    Examples
    --------
    >>> imported("from pbtlib import averaged, pbt\nfrom pbtlib.loop import evolve as run, Lineage\nLineage = 3")
    {'averaged': 'pbtlib.averaged', 'pbt': 'pbtlib.algorithms.pbt', 'run': 'pbtlib.loop.evolve'}
    """
    found: dict[str, str] = {}
    own: set[str] = set()
    for node in ast.walk(ast.parse(TransformerManager().transform_cell(code))):
        match node:
            case ast.Import():
                found |= {a.asname or a.name: a.name for a in node.names if a.name.split(".")[0] == "pbtlib"}
            case ast.ImportFrom() if node.module and node.module.split(".")[0] == "pbtlib":
                found |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                own.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                own.add(name)
    return {name: defined(whole) for name, whole in found.items() if name not in own}


def defined(name: str) -> str:
    """Where a name that ``import pbtlib`` offers is defined; any other name as it is."""
    room = pbtlib._PLACE.get(name.removeprefix("pbtlib."))
    return name.replace("pbtlib.", f"pbtlib.{room}.", 1) if room else name


def link(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Link the names in a page's code."""
    if doctree is None or app.builder.format != "html":
        return
    blocks = [block for block in doctree.findall(nodes.literal_block) if "python" in block.get("language", "")]
    try:
        names = imported("\n".join(block.astext() for block in blocks))
    except SyntaxError:  # an example of a syntax error: nothing of the page is linked
        return
    entries = app.env.domains["py"].data["objects"]

    def linked(found: re.Match[str]) -> str:
        whole = names.get(found["name"], "")
        longer = defined(f"{whole}.{found['member']}")
        entry = entries.get(longer) or entries.get(whole)
        if not entry:
            return found[0]
        address = f"{app.builder.get_relative_uri(page, entry.docname)}#{entry.node_id}"
        link = f'<a class="reference-code" href="{escape(address)}">'
        if longer in entries:
            return f"{link}{found[0]}</a>"
        first = f'<span class="n">{found["name"]}</span>'
        return f"{link}{first}</a>{found[0].removeprefix(first)}"

    if names:
        context["body"] = CODE.sub(lambda code: NAME.sub(linked, code[0]), context["body"])


def keep_bars(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Let the bars of |h₂| in docstrings be bars, where reStructuredText would see a substitution."""
    text = "\n".join(lines)
    lines[:] = BAR.sub(lambda found: found[1] or r"\|", text).split("\n")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("autodoc-process-docstring", keep_bars)
    app.connect("html-page-context", link)
    return feature(app, __file__, only="reference-code|dl class=.py")
