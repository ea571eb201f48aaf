"""What stands behind a link or a formula, shown beside it on hover and focus.

``_static/preview_data.js`` holds the targets of all links inside the book (equations, boxes, captions, entries of the
bibliography) and the meaning of the symbols. A page that is read from disk cannot fetch other pages, but it can load a
script.
"""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

from bs4 import BeautifulSoup, Tag
from sphinx.application import Sphinx

from book import feature

TOKEN = re.compile(r"\\[a-zA-Z]+|[^\s{}]")
CODE = re.compile(r'(<div class="cell_input docutils container">.*?<pre>).*?(?=</pre>)', re.DOTALL)
MANIFOLD = frozenset("ABDHPRTXacdeijkmnpqrsv") | {"i,j"}
"""Letters that stand for several things in the book; a preview that guesses would mislead."""


def write_previews(app: Sphinx, exception: Exception | None) -> None:
    """Write the previews of all links between and within the pages that were built."""
    if exception is not None or app.builder.name != "html":
        return
    folder = Path(app.outdir)
    pages = {
        path.relative_to(folder).as_posix(): article(path.read_text())
        for path in sorted(folder.glob("chapters/*.html"))
    }
    places = {name: by_id(page) for name, page in pages.items()}
    targets: dict[str, str] = {}
    for name, page in pages.items():
        for link in page.select("a.reference.internal[href*='#']"):
            file, _, anchor = str(link["href"]).partition("#")
            place = resolve(name, file)
            found = places.get(place, {}).get(anchor)
            if found and f"{place}#{anchor}" not in targets and (shown := preview(found)):
                targets[f"{place}#{anchor}"] = shown
    known = symbols(pages["chapters/a_notation.html"]) if "chapters/a_notation.html" in pages else []
    data = json.dumps({"targets": targets, "symbols": known}, ensure_ascii=False, separators=(",", ":"))
    (folder / "_static" / "preview_data.js").write_text(f"window.bookPreviews = {data};\n")


def article(html: str) -> BeautifulSoup:
    """What a page says, without the menus around it and the code of its cells, which are most of its elements."""
    words = html[html.find("<article") : html.rfind("</article>")]
    return BeautifulSoup(CODE.sub(r"\1", words), "html.parser")


def by_id(page: BeautifulSoup) -> dict[str, Tag]:
    """From identifiers to the first element that bears each."""
    return {str(tag["id"]): tag for tag in reversed(page.find_all(id=True))}


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
    for row in notation.select("tbody tr"):
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


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("build-finished", write_previews)
    return feature(app, __file__)
