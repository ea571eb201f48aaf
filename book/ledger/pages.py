"""The parts of the ledger's pages, made from the outputs of the chapters and `claims.toml`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from graphlib import CycleError, TopologicalSorter
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np
from docutils.nodes import make_id
from nbformat import NotebookNode
from sphinx.errors import SphinxError

from book import kills, mutants
from book.faults import FAULTS, PARTED, older, stored
from book.ledger import items
from book.ledger.card import evidence, link_to_test, slug
from pbtlib.claims import CHOICES, COMPUTED, STATUSES, WORDS, Record, Verdict, ledger

KINDS = "Theorem|Lemma|Remark|Assumption|Definition|Algorithm|Proposition|Corollary|Figure|Table"
LABELS = {kind: kind[:3].lower() for kind in KINDS.split("|")} | {"Theorem": "thm", "Proposition": "prop", "": "eq"}
"""What labels of a kind begin with."""
REFERENCE = rf"(Section|{KINDS}) (\d+(?:\.\d+)*[A-Z]?′?|[A-D]\d+)|\(([A-D]?\d+)\)"
MARKS = {
    "verified": "✓",
    "verified with a caveat": "≈",
    "consistent with": "~",
    "disagrees": "≠",
    "proof only": "∎",
    "cited, not proved": "“",
    "not yet": "…",
}


class LedgerError(SphinxError):
    """The chapters and the ledger file do not fit each other."""

    category = "The ledger of claims"


def collect(records: dict[str, Record], found: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Sort the verdicts of the chapters by claim, and check that each computed claim is measured where it says.

    Parameters
    ----------
    records : dict of Record
        The ledger file.
    found : dict
        From chapter to the verdicts in its outputs.

    Raises
    ------
    LedgerError
        If a computed claim is not measured, or is measured in another chapter than the file says.
    """
    verdicts: dict[str, list[dict[str, Any]]] = {name: [] for name in records}
    for chapter, measured in found.items():
        for verdict in measured:
            name = verdict["id"]
            if name not in records:
                raise LedgerError(f"chapter {chapter} measures {name!r}, which claims.toml does not hold")
            if records[name].chapter != chapter:
                raise LedgerError(f"claim {name!r} is measured in {chapter}, recorded for {records[name].chapter}")
            verdicts[name].append(verdict)
    missing = [name for name, record in records.items() if record.status in COMPUTED and not verdicts[name]]
    if missing:
        raise LedgerError(f"recorded as computed, but measured in no chapter: {', '.join(missing)}")
    return verdicts


@dataclass(frozen=True)
class Places:
    """Where things stand in the book.

    Attributes
    ----------
    targets : dict
        From a label such as ``eq-11``, ``thm-4`` or ``fig-2`` to (page, anchor, section of the paper).
    sections : dict
        From the number of a section to (page, anchor).
    claims : dict
        From a claim to the section of the paper beside which it is measured and the figure nearest to it, or "".
    titles : dict
        From a page to its title.
    headings : dict
        From ``page#anchor`` to the heading there.
    """

    targets: dict[str, tuple[str, str, str]]
    sections: dict[str, tuple[str, str]]
    claims: dict[str, tuple[str, str]]
    titles: dict[str, str]
    headings: dict[str, str]


def places(chapters: dict[str, NotebookNode]) -> Places:
    """Read from the chapters where sections, labels, figures and claims stand.

    Parameters
    ----------
    chapters : dict of NotebookNode
        With or without outputs.
    """
    found = Places({}, {}, {}, {}, {})
    for page, notebook in chapters.items():
        numbers, heading = {1: _appendix(page)}, 0
        claims: list[tuple[str, int]] = []
        figures: list[tuple[str, int]] = []
        for cell in notebook.cells:
            if cell.cell_type == "code":
                claims += [(name, heading) for name in _claimed(cell.source)]
                if name := cell.metadata.get("mystnb", {}).get("figure", {}).get("name"):
                    figures.append((name, heading))
                    found.targets[name] = (page, name, _last(numbers))
                continue
            for line in cell.source.splitlines():
                if title := re.match(r"(#{1,4}) (.*)", line):
                    level, heading = len(title[1]), heading + 1
                    numbers = {k: v for k, v in numbers.items() if k < level or k == 1}
                    found.titles.setdefault(page, title[2])
                    found.headings.setdefault(f"{page}#{make_id(title[2])}", title[2])
                    if number := re.match(r"\d+(\.\d+)*(?= )", title[2]):
                        numbers[level] = number[0]
                        found.sections.setdefault(number[0], (page, make_id(title[2])))
                elif label := re.match(r"\(([\w-]+)\)=\s*$", line):
                    found.targets[label[1]] = (page, label[1].lower(), _last(numbers))
            for name, _ in claims:
                found.claims.setdefault(name, (_last(numbers), ""))
        for name, where in claims:
            near = [figure for figure, at in figures if at == where]
            found.claims[name] = (found.claims.get(name, (_last(numbers), ""))[0], near[0] if near else "")
    return found


def _claimed(source: str) -> list[str]:
    """The claims that a cell makes; an id may stand in a list, over which the cell goes."""
    named = re.findall(r"""claim\(\s*["']([\w-]+)["']""", source)
    if re.search(r"claim\(\s*[a-z]", source):
        named += [name for name in re.findall(r"""["']([\w-]+)["']""", source) if name in ledger()]
    return list(dict.fromkeys(named))


def _appendix(page: str) -> str:
    return f"Appendix {page[0].upper()}" if re.match("[a-z]_", page) else ""


def _last(numbers: dict[int, str]) -> str:
    return numbers[max(numbers)]


def statements(record: Record, where: Places) -> list[tuple[str, str, str]]:
    """The places of the book that state what a record's source names: (words of the source, page, anchor)."""
    found = []
    for match in re.finditer(REFERENCE, record.source):
        words, kind, number = match[0], match[1] or "", match[2] or match[3]
        if kind == "Section":
            place = where.sections.get(number)
            found += [(words, *place)] if place else []
            continue
        label = f"{LABELS[kind]}-{number.replace('′', '-prime')}"
        options = [name for name in where.targets if name == label or name.startswith(f"{label}-")]
        if options:
            # the chapter's own first, and the place that states it rather than the one that proves it
            best = min(
                options, key=lambda n: (where.targets[n][0] != record.chapter, not n.endswith("stated"), n != label, n)
            )
            found.append((words, *where.targets[best][:2]))
    return found


def section(record: Record, where: Places) -> str:
    """The paper's section of a record: named by its source, else that of what the source names, else of the cell."""
    if named := re.search(r"Section (\d+(?:\.\d+)*)", record.source):
        return named[1]
    for words, page, anchor in statements(record, where):
        for target in where.targets.values():
            if target[:2] == (page, anchor) and target[2] and "Section" not in words:
                return target[2]
    return where.claims.get(record.id, (_appendix(record.chapter), ""))[0] or "none"


def is_ours(record: Record) -> bool:
    """Whether the statement as a whole is the book's, not the paper's."""
    return record.source.startswith("this book")


def parts(records: dict[str, Record], found: dict[str, list[dict[str, Any]]], where: Places) -> dict[str, str]:
    """Return what stands for the blocks ``{ledger}`` of the pages, from part to MyST Markdown.

    Parameters
    ----------
    records : dict of Record
        The ledger file.
    found : dict
        From chapter to the verdicts in its outputs (see `book.execute.claims_of`).
    where : Places
        See `places`.
    """
    return {
        "entries": _entries(records, collect(records, found), where),
        "kills": _kills(kills.stored()),
        "graph": graph(records),
        "findings": _findings(records, where),
        "items": items.listed(items.stored(), records, partial(called, where)),
        "faults": _faults(records, where),
        "mutants": _mutants(mutants.stored()),
    }


def _entries(records: dict[str, Record], verdicts: dict[str, list[dict[str, Any]]], where: Places) -> str:
    checks = [record for record in records.values() if record.kind == "code check"]
    science = [record for record in records.values() if record.kind == "science"]
    lines = [
        f"**{len(science)} claims**: {_counted(science)}. Besides **{len(checks)} code checks**, true by construction"
        f"{f': {_counted(checks)}' if checks else ''}.\n",
        _filters(records, where),
    ]
    for chapter, members in _by_chapter(records.values()).items():
        lines.append(f"## {_title(chapter, where)}\n")
        lines += [_entry(record, verdicts[record.id], records, where) for record in members]
    return "\n".join(lines)


def _counted(records: list[Record]) -> str:
    count = Counter(record.status for record in records)
    return " · ".join(f"{count[status]} {_word(status)}" for status in STATUSES if count[status])


def _word(status: str) -> str:
    return WORDS[status][0].lower() + WORDS[status][1:]


def _by_chapter(records: Iterable[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.chapter, []).append(record)
    return found


def _title(chapter: str, where: Places) -> str:
    return where.titles.get(chapter, chapter.replace("_", " ").lstrip("0123456789 ").capitalize())


def called(where: Places, place: str) -> str:
    """The title of a page, and of a place on it the heading, the number or what it is."""
    page, _, anchor = place.partition("#")
    if not anchor:
        return _title(page, where)
    if place in where.headings:
        return where.headings[place]
    if label := re.match(r"([a-z]+)-([A-F]?\d+[A-Z]?)(?=-|$)", anchor):
        for kind, begin in LABELS.items():
            if begin == label[1]:
                return f"{kind} {label[2]}" if kind else f"({label[2]})"
    return "measured" if anchor.startswith("claim-") else anchor.replace("-", " ")


def _filters(records: dict[str, Record], where: Places) -> str:
    """Four menus that a script puts to use; without scripts they stay hidden and the list is whole."""

    def menu(key: str, label: str, options: dict[str, str]) -> str:
        items = "".join(f'<option value="{escape(v)}">{escape(text)}</option>' for v, text in options.items())
        return f'<label>{label} <select data-filter="{key}"><option value="">all</option>{items}</select></label> '

    found = {record.status for record in records.values()}
    numbers = sorted({section(record, where) for record in records.values()}, key=lambda s: (not s[0].isdigit(), s))
    return (
        '<div class="ledger-filters" role="group" aria-label="Filter the ledger" hidden>'
        + menu("status", "Status", {slug(s): WORDS[s] for s in STATUSES if s in found})
        + menu("kind", "Kind", {slug(k): k for k in CHOICES["kind"] if any(r.kind == k for r in records.values())})
        + menu("chapter", "Chapter", {c: _title(c, where) for c in _by_chapter(records.values())})
        + menu("section", "Section of the paper", {n: f"Section {n}" if n[0].isdigit() else n for n in numbers})
        + '<button type="button">Show all</button>'
        + f'<p role="status">{len(records)} of {len(records)} claims shown.</p></div>\n'
    )


def _entry(record: Record, verdicts: list[dict[str, Any]], records: dict[str, Record], where: Places) -> str:
    bearing = [other.id for other in records.values() if record.id in other.depends]
    cell = (f"#claim-{record.id}", f"in the cell of {record.id}")
    anchor, words = cell if verdicts else ("", _title(record.chapter, where))
    rows = [
        ("Source", _linked(escape(record.source), statements(record, where))),
        ("Computed" if verdicts else "Shown", f'<a href="{record.chapter}.html{anchor}">{escape(words)}</a>'),
        ("Figure", _figure(record, where)),
        ("Values", escape(record.provenance)),
        ("Assumptions", escape(record.assumptions)),
        ("Caveat", escape(record.caveat)),
        ("Against", escape(record.against)),
        *(
            row
            for v in verdicts
            for row in (("Measured", escape(Verdict(**v).numbers)), *evidence(record, Verdict(**v)))
        ),
        ("Rests on", ", ".join(f'<a href="#ledger-{d}">{d}</a>' for d in record.depends)),
        ("Bears", ", ".join(f'<a href="#ledger-{d}">{d}</a>' for d in bearing)),
        ("Test", link_to_test(record.test)),
    ]
    body = "".join(f"<dt>{label}</dt><dd>{text}</dd>" for label, text in rows if text)
    status = slug(record.status)
    return (
        f'<details class="ledger ledger-{status}" id="ledger-{record.id}" data-status="{status}" '
        f'data-kind="{slug(record.kind)}" data-chapter="{record.chapter}" '
        f'data-section="{escape(section(record, where))}">'
        f'<summary><span class="status">{WORDS[record.status]}</span> {escape(record.statement)}</summary>'
        f"<dl>{body}</dl></details>\n"
    )


def _linked(source: str, said: list[tuple[str, str, str]]) -> str:
    """The source with its references as links, each once."""
    for words, page, anchor in dict.fromkeys(said):
        source = re.sub(
            rf"{re.escape(words)}(?![^<]*</a>)", f'<a href="{page}.html#{anchor}">{words}</a>', source, count=1
        )
    return source


def _figure(record: Record, where: Places, words: str = "") -> str:
    """A link to the figure that the source names, else to the one in the same part of the chapter, if any."""
    named = [anchor for said, _, anchor in statements(record, where) if said.startswith("Figure")]
    figure = named[0] if named else where.claims.get(record.id, ("", ""))[1]
    return f'<a href="{where.targets[figure][0]}.html#{figure}">{words or figure}</a>' if figure else ""


# ---------------------------------------------------------------------------------------------- a page drawn from it


def _findings(records: dict[str, Record], where: Places) -> str:
    ours = [record for record in records.values() if is_ours(record)]
    partly = [record for record in records.values() if "this book" in record.source and not is_ours(record)]
    lines = [
        f"**{len(ours)} results of this book's own**, and {len(partly)} of the paper's to which it adds a rate, a "
        "constant or a formula.\n"
    ]
    lines += [_folded(_title(chapter, where), members, where) for chapter, members in _by_chapter(ours).items()]
    lines.append("**Made explicit.** The statement is the paper's; the part that the source line names is ours.\n")
    return "\n".join([*lines, _folded("Rates, constants and formulas", partly, where)])


def _folded(title: str, records: list[Record], where: Places) -> str:
    summary = f"<summary>{escape(title)} ({len(records)})</summary>"
    return f'<details class="ledger-fold">{summary}{_list(records, where)}</details>\n'


def _list(records: list[Record], where: Places) -> str:
    items = []
    for record in records:
        lines = [("The paper", record.against), ("Caveat", record.caveat)]
        said = "".join(
            f'<p class="ledger-note"><strong>{label}:</strong> {escape(text)}</p>' for label, text in lines if text
        )
        figure = _figure(record, where, "figure")
        source = _linked(escape(record.source), statements(record, where))
        cell = f"#claim-{record.id}" if record.status in COMPUTED else ""
        items.append(
            f'<li class="ledger ledger-{slug(record.status)}"><span class="status">{WORDS[record.status]}</span> '
            f'{escape(record.statement)}{said}<p class="ledger-note">{source}'
            f' · <a href="claims.html#ledger-{record.id}">numbers</a>'
            f' · <a href="{record.chapter}.html{cell}">{escape(_title(record.chapter, where))}</a>'
            + (f" · {figure}" if figure else "")
            + "</p></li>"
        )
    return f'<ul class="ledger-list">{"".join(items)}</ul>\n' if items else ""


# ---------------------------------------------------------------------------------------------- faults planted


def _faults(records: dict[str, Record], where: Places) -> str:
    """The table of `book.faults`: what was broken, and which claims parted, were true all the same, or missed it."""
    faults = [fault for fault in FAULTS if records.keys() >= {*fault.claims}]  # of the ledger at hand
    table = {name: rows for name, rows in stored().items() if name in {fault.name for fault in faults}}
    if lacking := [fault.name for fault in faults if fault.name not in table]:
        raise LedgerError(
            f"chapters/faults.json has no row of {', '.join(lacking)}; run: python run.py faults {' '.join(lacking)}"
        )
    lines, before = [], older(faults)
    for fault in faults:
        pages = ", ".join(_page(page, where) for page in fault.pages)
        place = f"on the page {pages}" if fault.file.startswith("chapters") else f"in {fault.file}; judged: {pages}"
        notes = "".join(
            f'<p class="ledger-note"><a href="#ledger-{name}">{name}</a>, {kind}: {escape(reason)}</p>'
            for kind, reasons in (("true with the fault too", fault.true), ("missed", fault.missed))
            for name, reason in reasons.items()
        )
        parted = sum(became == PARTED for became in table[fault.name].values())
        lines.append(
            f"<tr><td>{escape(fault.what)}{' †' * (fault.name in before)} "
            f'<span class="ledger-note">({place})</span>{notes}</td>'
            f"<td>{len(fault.claims)}</td><td>{parted}</td></tr>"
        )
    became = [what for rows in table.values() for what in rows.values()]
    true = sum(len(fault.true) for fault in faults)
    return (
        f"**{len(faults)} faults.** {len(became)} times a claim depends on one, and {became.count(PARTED)} times it "
        f"parts from its record; {true} times it is true with the fault too, "
        f"{sum(len(fault.missed) for fault in faults)} times it misses it."
        f"{' †: before the last change of the code in question.' * bool(before)}\n\n"
        "<table><thead><tr><th>fault</th><th>claims that depend on it</th><th>parted</th></tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>\n"
    )


def _page(page: str, where: Places) -> str:
    return f'<a href="{page}.html">{escape(_title(page, where))}</a>'


# ---------------------------------------------------------------------------------------------- mutants


def breakable(name: str) -> str:
    """A name that may go on in the next line of a narrow table."""
    return re.sub(r"(?<=\w[._])(?=\w)", "\u200b", name)


def _mutants(table: dict[str, Any]) -> str:
    """The table of `book.mutants`: by module, how many small changes the tests notice; and those that they do not."""
    if not table.get("made"):
        return "Nothing was changed yet.\n"
    columns = (mutants.KILLED, mutants.EQUIVALENT, mutants.SURVIVED)
    rows = {mutants.module_of(file): [row[name] for name in columns] for file, row in table["modules"].items()}
    rows = {f"`{breakable(name)}`": numbers for name, numbers in rows.items() if any(numbers)}
    rows["all"] = [sum(numbers) for numbers in zip(*rows.values(), strict=True)]
    changed = [f"`{mutants.module_of(file)}`" for file in mutants.changed(table)]
    unexplained = [row for row in table["read"] if row["outcome"] == mutants.SURVIVED]
    killed, _, survived = rows["all"]
    return "\n".join(
        (
            f"**{table['planned']} changes drawn, {table['made']} made, {table['missing']} missing.** Of those that "
            f"change what the library does, tests notice {killed} of {killed + survived}; "
            f"{table[mutants.SLOW]} of these by the time they take.\n",
            "| module | killed | equal | left |",
            f"|---|{'--:|' * len(columns)}",
            *(f"| {name} | {' | '.join(map(str, numbers))} |" for name, numbers in rows.items()),
            "",
            f"The changes were made at commit {table['commit']}"
            + (f"; changed since: {', '.join(changed)} (`make mutants` does these again)." if changed else "."),
            "",
            *(
                f"- Not noticed: {mutants.module_of(row['file'])}, line {row['line']} ({row['scope']}): "
                f"`` {row['before']} `` → `` {row['after']} ``"
                for row in unexplained
            ),
            "",
        )
    )


# ---------------------------------------------------------------------------------------------- kills, and sizes


def _kills(table: dict[str, list[dict[str, Any]]]) -> str:
    """The tables of `book.kills` and `benchmarks.sizes`: how what was done ended; what large sizes cost."""
    rows = [row for part in kills.PARTS for row in table.get(part, [])]
    total = {name: sum(row[name] for row in rows) for name in kills.OUTCOMES}
    missing = ", ".join(part for part in (*kills.PARTS, "sizes") if not table.get(part))
    lines = [
        f"**{sum(total.values())} trials:** {total['identical']} ended bit-identical, {total['error']} with an error "
        f"that names the file and says why, {total['wrong']} otherwise."
        f"{' Not made yet: ' * bool(missing)}{missing}{'.' * bool(missing)}\n",
        "| what | same | error | wrong |",
        "|---|--:|--:|--:|",
        *(f"| {breakable(row['what'])} | {' | '.join(str(row[name]) for name in kills.OUTCOMES)} |" for row in rows),
        "",
    ]
    if table.get("sizes"):
        lines += [
            "| size | seconds | of processors | GB | as a tenth tells | gives first |",
            "|---|--:|--:|--:|---|---|",
        ]
    for row in table.get("sizes", []):
        told = f"{row['told_seconds']:.3g} s, {row['told_memory']:.3g} GB"
        numbers = " | ".join(f"{row[name]:.3g}" for name in ("seconds", "processor", "memory"))
        lines.append(f"| {row['what']} | {numbers} | {told} | {row['first']} |")
    return "\n".join([*lines, ""])


# ---------------------------------------------------------------------------------------------- the graph


def layers(records: dict[str, Record]) -> list[list[list[str]]]:
    """Groups of claims that hang together, largest first, each in columns: what a claim rests on stands left of it.

    Raises
    ------
    LedgerError
        If claims rest on each other in a circle.
    """
    try:
        order = list(TopologicalSorter({name: record.depends for name, record in records.items()}).static_order())
    except CycleError as error:
        raise LedgerError(f"claims rest on each other in a circle: {' → '.join(error.args[1])}") from error
    depth: dict[str, int] = {}
    group = {name: name for name in records}
    for name in order:
        depth[name] = 1 + max((depth[other] for other in records[name].depends), default=-1)
        for other in records[name].depends:
            mine, theirs = group[name], group[other]
            group = {key: mine if value == theirs else value for key, value in group.items()}
    for name in reversed(order):  # a foundation stands beside the first claim that rests on it
        bearing = [depth[other] for other, record in records.items() if name in record.depends]
        depth[name] = min(bearing) - 1 if bearing and not records[name].depends else depth[name]
    found = []
    for key in dict.fromkeys(group.values()):
        members = [name for name in records if group[name] == key]
        if len(members) == 1:
            continue
        columns = [[name for name in members if depth[name] == d] for d in range(max(depth[m] for m in members) + 1)]
        columns = [column for column in columns if column]
        for left, right in pairwise(columns):  # close to what they rest on, so that few lines cross
            right.sort(
                key=lambda name: np.mean([left.index(o) for o in records[name].depends if o in left] or [len(left)])
            )
        found.append(columns)
    return sorted(found, key=lambda columns: -sum(map(len, columns)))


def graph(records: dict[str, Record]) -> str:
    """Return the graph of which claim rests on which as SVG: colour, outline and mark say the status."""
    width, height, across, down = 212, 26, 268, 34
    groups = layers(records)
    wide = across * max(map(len, groups), default=1)
    boxes, lines, left, top, shelf = [], [], 0, 10, 0
    for columns in groups:  # side by side as long as they fit, then on the next shelf
        tallest = max(map(len, columns))
        if left + across * len(columns) > wide:
            left, top, shelf = 0, top + shelf, 0
        shelf = max(shelf, down * tallest + 14)
        at = {
            name: (10 + left + across * i, top + down * (k + (tallest - len(column)) / 2))
            for i, column in enumerate(columns)
            for k, name in enumerate(column)
        }
        for name, (x, y) in at.items():
            record = records[name]
            mark = MARKS[record.status]
            boxes.append(
                f'<a href="#ledger-{name}" class="ledger-{slug(record.status)}"><title>{WORDS[record.status]}: '
                f'{escape(record.statement)}</title><rect x="{x}" y="{y:g}" width="{width}" height="{height}" rx="5"/>'
                f'<text x="{x + 8}" y="{y + 17:g}">{mark} {escape(name)}</text></a>'
            )
            for other in record.depends:
                a, b = at[other]
                a, b, c = a + width, b + height / 2, y + height / 2
                lines.append(f'<path d="M{a} {b:g}C{(a + x) / 2:g} {b:g} {(a + x) / 2:g} {c:g} {x} {c:g}"/>')
        left += across * len(columns)
    top += shelf
    key = " · ".join(f"{MARKS[s]} {_word(s)}" for s in STATUSES if any(r.status == s for r in records.values()))
    return (
        f'<div class="ledger-graph" id="ledger-graph" role="region" aria-label="Graph of the claims" tabindex="0">'
        f"<p>{key}</p>"
        f'<svg role="group" aria-label="Claims as boxes, joined by lines from what they rest on, at the left" '
        f'width="{wide}" height="{top}" viewBox="0 0 {wide} {top}" xmlns="http://www.w3.org/2000/svg">'
        f'<g class="edges">{"".join(lines)}</g>{"".join(boxes)}</svg></div>\n'
    )
