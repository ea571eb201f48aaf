"""The paper item by item: the table `chapters/paper_items.toml`, and what a page shows of it."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from html import escape
from pathlib import Path
from typing import Any

from book.ledger.card import slug
from pbtlib.claims import STATUSES, WORDS, Record

TABLE = Path(__file__).resolve().parents[2] / "chapters" / "paper_items.toml"
HOW = {
    "proved and measured": "proved and measured",
    "proved": "proved",
    "measured": "measured",
    "stated": "stated",
    "differently": "treated differently",
    "not treated": "not treated",
}
"""What the book does with an item, and how the page says it."""
PARTED = ("differently", "not treated")
"""These need a reason."""
DEFINING = ("definition", "assumption", "algorithm", "setting")
"""These may be merely stated: there is nothing in them that could be true or false."""
NAMED = "mention"
"""What the paper names without a claim: an example, an extension, a hope. It may be merely stated, with a reason."""
Words = Callable[[str], str]
"""From a page, or a place ``page#anchor``, to its name."""
KINDS = (*DEFINING, NAMED, "statement", "lemma", "theorem", "remark", "figure", "background")


@dataclass(frozen=True)
class Item:
    """One thing that the paper says.

    Attributes
    ----------
    item : str
        Its number in the paper, such as ``(13)``, or a name of ours.
    paper : str
        Section of the paper, as the table's sections are called.
    kind : str
        One of KINDS; ``background`` is what the paper says of the literature and of the world.
    says : str
        What it says, in our words.
    how : str
        One of HOW: what the book does with it, whatever the outcome is.
    page : tuple of str
        Where, as ``page#anchor``.
    claims : tuple of str
        Entries of the ledger that hold it.
    because : str
        Why it is treated differently, not at all, or as something that the paper only names.
    """

    item: str
    paper: str
    kind: str
    says: str
    how: str
    page: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    because: str = ""


def parse(table: Mapping[str, Any]) -> dict[str, list[Item]]:
    """The items by the title of their section, in the order of the table.

    Raises
    ------
    ValueError
        If an entry is malformed; its name and what is allowed are said.
    """
    sections = table.get("sections", {})
    found: dict[str, list[Item]] = {title: [] for title in sections.values()}
    known = {field.name for field in fields(Item)}
    for entry in table.get("item", []):
        name = entry.get("item", "without a name")
        if other := entry.keys() - known or {"item", "paper", "kind", "says", "how"} - entry.keys():
            raise ValueError(f"item {name!r}: {sorted(other)} unknown or missing; its fields are {sorted(known)}")
        given: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in entry.items()}
        item = Item(**given)
        for field, allowed in (("how", tuple(HOW)), ("kind", KINDS), ("paper", tuple(sections))):
            if getattr(item, field) not in allowed:
                raise ValueError(f"item {name!r}: {field} is {getattr(item, field)!r}, allowed are {allowed}")
        if bool(item.because) != (item.how in PARTED or item.kind == NAMED):
            raise ValueError(
                f"item {name!r}: because is for {PARTED} and for a {NAMED}, and needed there; "
                f"how is {item.how!r}, kind is {item.kind!r}"
            )
        if item.how == "stated" and item.kind not in (*DEFINING, NAMED):
            raise ValueError(f"item {name!r}: a {item.kind} is not merely stated, only one of {(*DEFINING, NAMED)} is")
        if not item.page and item.how != "not treated":
            raise ValueError(f"item {name!r}: page is empty, which only an item that is not treated may have")
        found[sections[item.paper]].append(item)
    return found


def stored() -> dict[str, list[Item]]:
    """The items of the table, none if there is no table."""
    return parse(tomllib.loads(TABLE.read_text(encoding="utf-8"))) if TABLE.is_file() else {}


def listed(sections: Mapping[str, list[Item]], records: Mapping[str, Record], words: Words) -> str:
    """The items as MyST Markdown: how many are treated in which way, those that part, then all by section.

    Parameters
    ----------
    sections : dict
        See `parse`.
    records : dict of Record
        The ledger.
    words : Words
        What to call a page, and a place on it.

    Raises
    ------
    ValueError
        If an item names a claim that the ledger does not hold.
    """
    every = [item for items in sections.values() for item in items]
    for item in every:
        if missing := set(item.claims) - records.keys():
            raise ValueError(f"item {item.item!r} names {sorted(missing)}, which claims.toml does not hold")
    held = Counter(records[claim].status for claim in {claim for item in every for claim in item.claims})
    outcomes = " · ".join(f"{held[status]} {WORDS[status].lower()}" for status in STATUSES if held[status])
    lines = [f"**{len(every)} items**: {_counted(every)}. The claims that hold them: {outcomes}.\n"]
    for title, chosen in (
        *((HOW[how].capitalize(), [item for item in every if item.how == how]) for how in PARTED),
        ("Only named", [item for item in every if item.kind == NAMED]),
    ):
        if chosen:
            lines += [f"## {title}\n", _rows(chosen, records, words)]
    lines.append("## All, by section\n")
    lines += [
        f'<details class="ledger-fold"><summary>{escape(title)} ({len(items)}: {_counted(items)})</summary>'
        f"{_rows(items, records, words)}</details>\n"
        for title, items in sections.items()
        if items
    ]
    return "\n".join(lines)


def _counted(items: list[Item]) -> str:
    count = Counter(item.how for item in items)
    return " · ".join(f"{count[how]} {word}" for how, word in HOW.items() if count[how])


def _rows(items: list[Item], records: Mapping[str, Record], words: Words) -> str:
    return f'<ul class="ledger-list">{"".join(_row(item, records, words) for item in items)}</ul>\n'


def _row(item: Item, records: Mapping[str, Record], words: Words) -> str:
    said = f"{HOW[item.how]}: {item.because}" if item.because else HOW[item.how]
    notes = [f'<p class="ledger-note">{" · ".join((f"<em>{escape(said)}</em>", *_where(item, words)))}</p>']
    for status in STATUSES:
        named = [claim for claim in item.claims if records[claim].status == status]
        links = ", ".join(f'<a href="claims.html#ledger-{claim}">{claim}</a>' for claim in named)
        if named:
            pill = f'<span class="status">{WORDS[status]}</span>'
            notes.append(f'<p class="ledger-note ledger-{slug(status)}">{pill} {links}</p>')
    name = f"<strong>{escape(item.item)}</strong>"
    linked = f'<a href="{address(item.page[0])}">{name}</a>' if item.page else name
    return f'<li class="ledger">{linked} {escape(item.says)}{"".join(notes)}</li>'


def _where(item: Item, words: Words) -> list[str]:
    """Links to the places of an item: by the title of the page, and by its own words if the page comes again."""
    pages = [place.partition("#")[0] for place in item.page]
    said = [
        words(place if page in pages[:k] else page)
        for k, (page, place) in enumerate(zip(pages, item.page, strict=True))
    ]
    return [f'<a href="{address(place)}">{escape(text)}</a>' for place, text in zip(item.page, said, strict=True)]


def address(place: str) -> str:
    """The address of a place ``page#anchor``: on the page a label is in lower case, the card of a claim is not."""
    page, _, anchor = place.partition("#")
    return f"{page}.html#{anchor if anchor.startswith('claim-') else anchor.lower()}"
