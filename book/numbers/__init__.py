"""The paper's numbers: "Theorem 10", "(13)", "Figure 2" and "Section 2.1" lead to the thing itself.

They are entries of the index, so that the search finds them, and where the text mentions one it links to it.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx_design.dropdown import dropdown_title
from sphinx_proof.nodes import unenumerable_node

from book import feature

NUMBER = r"\(?[A-Z]?\d+[A-Z]?′?\)?"
KINDS = "Algorithm|Appendix|Assumption|Corollary|Definition|Figure|Lemma|Proposition|Remark|Section|Theorem"
MENTION = re.compile(
    rf"\b(?P<kind>{KINDS})[ \u00a0](?P<number>[A-F]?\d+(?:\.\d)?[A-F]?′?|[A-F])(?![\w.]\w)"
    r"|(?<![\w)])\((?P<equation>\d{1,2}|[B-F]\d{1,2})\)"
)


# ---------------------------------------------------------------------------------------------- numbers in the index


class Numbers(SphinxTransform):
    """Enter numbered sections, equations, boxes and figures in the index, which the search looks through."""

    default_priority = 840  # when targets have reached their nodes and before Sphinx collects the index

    def apply(self, **_: Any) -> None:
        """Put an index entry before every numbered thing of the page."""
        for node in list(self.document.findall(nodes.Element)):
            name = paper_name(node)
            if name is None:
                continue
            if not node["ids"]:
                node["ids"].append(re.sub(r"\W+", "-", name.lower()))
            target = node.parent if isinstance(node.parent, nodes.section) and isinstance(node, nodes.title) else node
            entry = addnodes.index(entries=[("single", name, target["ids"][0], "main", None)])
            target.parent.insert(target.parent.index(target), entry)


def paper_name(node: nodes.Element) -> str | None:
    """Return what a reader would search for to find this node, such as "Theorem 10"; None if it has no number."""
    if isinstance(node, unenumerable_node):
        found = re.match(NUMBER, node["title"])
        return f"{node['realtype'].title()} {found.group()}" if found else None
    if isinstance(node, nodes.math_block):
        found = re.search(r"\\tag\{([^}]+)\}", node.astext())
        return f"equation {found.group(1)}" if found else None
    if isinstance(node, nodes.figure):
        found = re.match(r"(Figure \d+)\.", " ".join(caption.astext() for caption in node.findall(nodes.caption)))
        return found.group(1) if found else None
    if isinstance(node, nodes.title) and isinstance(node.parent, nodes.section):
        found = re.match(r"(\d+(?:\.\d+)?|[A-F]) ", node.astext())
        if found and (found.group(1)[0].isdigit() or isinstance(node.parent.parent, nodes.document)):
            return f"{'Section' if found.group(1)[0].isdigit() else 'Appendix'} {found.group(1)}"
    return None


# ---------------------------------------------------------------------------------------------- links from mentions


def link_numbers(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Turn mentions of numbered things in the text of a page into links, to the same page where it has the thing."""
    places: dict[str, list[tuple[str, str]]] = {}
    for page, entries in app.env.get_domain("index").data["entries"].items():
        for _, name, target, _, _ in entries:
            places.setdefault(name, []).append((page, target))
    untouched = (
        *(nodes.reference, nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw, nodes.title),
        *(addnodes.pending_xref, dropdown_title),  # a summary is a button, in which links are out of reach
    )
    for text in list(doctree.findall(nodes.Text)):
        above = set(ancestors(text))
        if any(isinstance(node, untouched) for node in above):
            continue
        inside = {identifier for node in above for identifier in node["ids"] if not isinstance(node, nodes.section)}
        parts, end = list[nodes.Node](), 0
        for found in MENTION.finditer(text):
            name = f"{found['kind']} {found['number']}" if found["kind"] else f"equation {found['equation']}"
            known = sorted(places.get(name, []), key=lambda place: place[0] != docname)
            if not known or known[0][1] in inside:
                continue
            page, target = known[0]
            address = f"{app.builder.get_relative_uri(docname, page) if page != docname else ''}#{target}"
            link = nodes.reference("", "", nodes.inline("", found.group()), internal=True, refuri=address)
            link["classes"].append("mention")
            parts += [nodes.Text(text[end : found.start()]), link]
            end = found.end()
        if parts and text.parent is not None:
            text.parent.replace(text, [*parts, nodes.Text(text[end:])])


def ancestors(node: nodes.Node) -> list[nodes.Element]:
    """The elements that a node stands in, innermost first."""
    found = []
    while node.parent is not None:
        node = node.parent
        found.append(node)
    return found


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_transform(Numbers)
    app.connect("env-updated", lambda app, env: env.found_docs)  # what is new anywhere may be linked everywhere
    app.connect("doctree-resolved", link_numbers)
    return feature(app, __file__)
