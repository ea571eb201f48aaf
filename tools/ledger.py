"""The ledger page, made from the chapters' stored outputs and `claims.toml`; nothing in it is typed by hand."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import Any

import numpy as np

from pbtlib.claims import COMPUTED, STATUSES, Record

INTRODUCTION = """# The claims ledger

Every theorem, lemma, figure and statement about behaviour of the paper that this book has reached so far, and every
result of the book beyond it, is an entry here. A *computed* entry asserts its recorded status: the chapter measures,
compares with the prediction within a tolerance of five standard errors plus a proved bound, repeats the measurement
on a deliberately broken model (the *control*, which must come out the other way), and the build fails when what it
finds is not what is recorded, in either direction. This page is generated from the outputs of the chapters.

Values are marked S (stated in the paper), R (restored, because the text at hand had lost its formulas, and forced by
the context) or C (chosen by us).
"""


class LedgerError(ValueError):
    """The chapters and the ledger file do not fit each other."""


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


def page(records: dict[str, Record], found: dict[str, list[dict[str, Any]]]) -> str:
    """Return the ledger page as MyST Markdown.

    Parameters
    ----------
    records : dict of Record
        The ledger file.
    found : dict
        From chapter to the verdicts in its outputs (see `tools.notebooks.claims_of`).
    """
    verdicts = collect(records, found)
    count = Counter(record.status for record in records.values())
    summary = " · ".join(f"{count[status]} {status}" for status in STATUSES if count[status])
    parts = [INTRODUCTION, f"**{len(records)} claims**: {summary}.\n"]
    for chapter in dict.fromkeys(record.chapter for record in records.values()):
        parts.append(f"## {chapter.replace('_', ' ').lstrip('0123456789 ').capitalize()}\n")
        parts += [
            _entry(record, verdicts[name], records) for name, record in records.items() if record.chapter == chapter
        ]
    return "\n".join(parts)


def _entry(record: Record, verdicts: list[dict[str, Any]], records: dict[str, Record]) -> str:
    colour = record.status.split(",")[0].replace(" ", "-")
    rows = [
        ("Source", escape(record.source)),
        ("Values", escape(record.provenance)),
        ("Assumptions", escape(record.assumptions)),
    ]
    if record.caveat:
        rows.append(("Caveat", escape(record.caveat)))
    rows += [("Measured", _numbers(verdict)) for verdict in verdicts]
    if record.depends:
        rows.append(("Rests on", ", ".join(f'<a href="#ledger-{d}">{d}</a>' for d in record.depends)))
    if record.test:
        rows.append(("Test", f"<code>{escape(record.test)}</code>"))
    anchor = f'<a href="{record.chapter}.html#claim-{record.id}">{record.id}</a>' if verdicts else record.id
    body = "".join(f"<dt>{label}</dt><dd>{text}</dd>" for label, text in rows)
    return (
        f'<details class="ledger ledger-{colour}" id="ledger-{record.id}">'
        f'<summary><span class="status">{record.status}</span> {escape(record.statement)}</summary>'
        f"<dl><dt>Where</dt><dd>{anchor}</dd>{body}</dl></details>\n"
    )


def _numbers(verdict: dict[str, Any]) -> str:
    got, want, tolerance = (np.atleast_1d(verdict[k]).astype(float) for k in ("measured", "predicted", "tolerance"))
    got, want, tolerance = (a.ravel() for a in np.broadcast_arrays(got, want, tolerance))
    error = np.broadcast_to(np.ravel(verdict["uncertainty"]), got.shape) if np.size(verdict["uncertainty"]) else got * 0
    sign = {"=": "", "<=": "at most ", ">=": "at least "}[verdict["relation"]]
    items = [
        f"{g:.4g}{f' ± {e:.1g}' if e > 0 else ''} (predicted {sign}{w:.4g}, tolerance {t:.2g})"
        for g, w, t, e in zip(got, want, tolerance, error, strict=True)
    ]
    shown = items if len(items) <= 6 else [*items[:5], f"and {len(items) - 5} more"]
    control = ", ".join(f"{c:.4g}" for c in np.ravel(verdict["control"])[:3])
    found, other = ("holds" if verdict[key] else "fails" for key in ("holds", "control_holds"))
    return f"{'; '.join(shown)}: {found}. Control {control}{'…' if np.size(verdict['control']) > 3 else ''}: {other}."
