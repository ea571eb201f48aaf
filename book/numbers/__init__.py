"""What the built pages offer a reader beyond their text, as a Sphinx extension.

- The paper's numbers become entries of the index, so that the search finds "Theorem 10", "equation 22", "Figure 2" and
  "Section 2.1" and leads to the place.
- Long proofs are folded.
- Where the text says "(13)" or "Theorem 10", it links to it.
- ``_static/previews.js`` holds what stands behind every link inside the book (equations, boxes, captions, entries of
  the bibliography) and the meaning of the symbols, for `book/previews` to show beside the link. A page that is read
  from disk cannot fetch other pages, but it can load a script.
"""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

from bs4 import BeautifulSoup, Tag
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx_design.dropdown import dropdown_title
from sphinx_proof.nodes import proof_node, unenumerable_node

from book import feature

NUMBER = r"\(?[A-Z]?\d+[A-Z]?′?\)?"
TOKEN = re.compile(r"\\[a-zA-Z]+|[^\s{}]")
KINDS = "Algorithm|Appendix|Assumption|Corollary|Definition|Figure|Lemma|Proposition|Remark|Section|Theorem"
MENTION = re.compile(
    rf"\b(?P<kind>{KINDS})[ \u00a0](?P<number>[A-D]?\d+(?:\.\d)?[A-D]?′?|[A-D])(?![\w.]\w)"
    r"|(?<![\w)])\((?P<equation>\d{1,2}|[B-D]\d{1,2})\)"
)
LONG = 400
"""Characters, with those of formulas, of a proof that is folded."""
MANIFOLD = frozenset(
    {
        "A",
        "B",
        "D",
        "H",
        "P",
        "R",
        "T",
        "X",
        "a",
        "c",
        "d",
        "e",
        "i",
        "i,j",
        "j",
        "k",
        "m",
        "n",
        "p",
        "q",
        "r",
        "s",
        "v",
    }
)
"""Letters that stand for several things in the book; a preview that guesses would mislead."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the parts with Sphinx."""
    app.add_transform(Numbers)
    app.add_transform(Folds)
    app.connect(
        "env-updated", lambda app, env: env.found_docs
    )  # a number that is new anywhere may be linked everywhere
    app.connect("doctree-resolved", link_numbers)
    app.connect("build-finished", write_previews)
    return feature(app, __file__)


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


class Folds(SphinxTransform):
    """Fold long proofs; `book/previews` opens them when they are printed or linked to."""

    default_priority = 841

    def apply(self, **_: Any) -> None:
        """Put every long proof into an element that opens and closes."""
        for proof in list(self.document.findall(proof_node)):
            if len(proof.astext()) > LONG:
                place = proof.parent.index(proof)
                opening = '<details class="folded-proof"><summary>Proof</summary>'
                first = next(iter(proof.findall(nodes.Text)))  # its word "Proof." is now in the summary
                first.parent.replace(first, nodes.Text(first.removeprefix("Proof. ")))
                proof.parent.insert(place + 1, nodes.raw("", "</details>", format="html"))
                proof.parent.insert(place, nodes.raw("", opening, format="html"))


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
        found = re.match(r"(\d+(?:\.\d+)?|[A-D]) ", node.astext())
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


# ---------------------------------------------------------------------------------------------- previews


def write_previews(app: Sphinx, exception: Exception | None) -> None:
    """Write the previews of all links between and within the pages that were built."""
    if exception is not None or app.builder.name != "html":
        return
    folder = Path(app.outdir)
    pages = {
        path.relative_to(folder).as_posix(): BeautifulSoup(path.read_text(), "html.parser")
        for path in sorted(folder.glob("chapters/*.html"))
    }
    targets: dict[str, str] = {}
    for name, page in pages.items():
        for link in page.select("article a.reference.internal[href*='#']"):
            file, _, anchor = str(link["href"]).partition("#")
            place = resolve(name, file)
            if place in pages and anchor and f"{place}#{anchor}" not in targets:
                found = pages[place].find(id=anchor)
                if isinstance(found, Tag) and (shown := preview(found)):
                    targets[f"{place}#{anchor}"] = shown
    known = symbols(pages["chapters/a_notation.html"]) if "chapters/a_notation.html" in pages else []
    data = json.dumps({"targets": targets, "symbols": known}, ensure_ascii=False, separators=(",", ":"))
    (folder / "_static" / "previews.js").write_text(f"window.bookPreviews = {data};\n")


def resolve(page: str, file: str) -> str:
    """Return the page that a relative address on another page leads to."""
    parts: list[str] = []
    for part in (PurePosixPath(page).parent / file).parts if file else PurePosixPath(page).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def preview(target: Tag) -> str:
    """Return what to show for a link to this element, as HTML without links and identifiers; empty for nothing."""
    classes = target.get_attribute_list("class")
    if box := (target if {"proof", "exercise"} & set(classes) else target.find_parent(class_=["proof", "exercise"])):
        found = [box]
    elif "math" in classes or target.name == "figure":
        found = target.select("figcaption") or [target]
    elif "citation" in classes:
        found = target.find_all("p", recursive=False)
    else:
        section = target if target.name == "section" else target.find_parent("section")
        heads = section.find_all(["h1", "h2", "h3", "h4", "p"], recursive=False, limit=2) if section else []
        found = [head for head in heads if head.get_text(strip=True)]
    return "".join(plain(part) for part in found)


def plain(element: Tag) -> str:
    """HTML of an element with links turned into text, headings into paragraphs, and no identifiers."""
    part = BeautifulSoup(str(element), "html.parser")
    for gone in part.select(".headerlink, script, style, button"):
        gone.decompose()
    for tag in part.find_all(True):
        if tag.name == "a":
            tag.unwrap()
            continue
        tag.attrs = {key: value for key, value in tag.attrs.items() if key == "class"}
        if tag.name in ("h1", "h2", "h3", "h4"):
            tag.name, tag.attrs = "p", {"class": "admonition-title"}
        elif tag.name == "section":
            tag.name = "div"
    return str(part).strip()


def symbols(notation: BeautifulSoup) -> list[tuple[list[str], str, str]]:
    """Return the symbols of the tables of notation: their tokens, their TeX, and what they mean."""
    found: dict[str, tuple[list[str], str, str]] = {}
    for row in notation.select("article tbody tr"):
        cells = row.find_all("td")
        formulas = cells[0].select("span.math") if len(cells) > 1 else []
        if len(formulas) != 1 or cells[0].get_text(strip=True) != formulas[0].get_text(strip=True):
            continue
        tex = formulas[0].get_text().removeprefix("\\(").removesuffix("\\)")
        for part in re.split(r",\s*\\?\s", tex) if r"\ " in tex else [tex]:
            name = re.split(r"\\in\b|=|\(|:|\\propto|>", part)[0].strip()
            if name and name not in MANIFOLD and name not in found:
                meaning = plain(cells[1]).removeprefix("<td>").removesuffix("</td>")
                found[name] = (TOKEN.findall(name), name, meaning)
    return sorted(found.values(), key=lambda entry: -len(entry[0]))
