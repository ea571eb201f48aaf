"""The card of a claim: its verdict in a word, the sentence, one number, a strip, and how it is checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import Any

from pbtlib.claims import PARTED, SIGNS, UNDECIDED, WORDS, Record, Verdict, in_digits

RULES = {
    "=": "Measured and predicted differ by no more than the tolerance.",
    "<=": "Measured lies below what is predicted by at least the tolerance; nearer, it is only consistent with it.",
    ">=": "Measured lies above what is predicted by at least the tolerance; nearer, it is only consistent with it.",
}
EXACT = {
    "<=": "Measured lies no higher than predicted, up to rounding.",
    ">=": "Measured lies no lower than predicted, up to rounding.",
}
NEAR = 4.0
"""A control that lies farther away than so many times the span of the rest is shown at the end of the strip."""


def verdict_of(output: Mapping[str, Any]) -> Verdict | None:
    """The verdict that a cell's output carries, if any."""
    found = output.get("metadata", {}).get("pbtlib.claim")
    return Verdict(**found) if found else None


def card(record: Record, verdict: Verdict | None, *, anchor: str = "", cell: str = "") -> str:
    """The card of a claim as HTML.

    Parameters
    ----------
    record : Record
        The claim.
    verdict : Verdict or None
        What its chapter found; None for a claim that is not computed.
    anchor : str
        The card's id.
    cell : str
        Address of the cell that computes the claim, or of the page that proves it.
    """
    parts = bool(verdict and not verdict.agrees)
    open_ = bool(verdict and verdict.undecided)
    kind = "claim-open" if open_ else "claim-bad" if parts else f"claim-{slug(record.status)}"
    word = UNDECIDED if open_ else "Not as recorded" if parts else WORDS[record.status]
    label = ' <span class="claim-kind">code check</span>' if record.kind == "code check" else ""
    lines = [f"<p><b>{word}</b>{label} {escape(record.statement)}</p>"]
    if verdict:
        lines += [strip(record, verdict), f"<p>{escape(verdict.numbers)}</p>"]
    if parts:
        lines.append(f"<p>{'' if open_ else escape(PARTED) + '. '}Recorded: {WORDS[record.status]}.</p>")
    elif record.caveat:
        only = "" if record.status == "disagrees" else "<i>Only so far:</i> "
        lines.append(f'<p class="claim-caveat">{only}{escape(record.caveat)}</p>')
    rows = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in _checked(record, verdict, cell) if text)
    lines.append(f"<details><summary>how it is checked</summary><dl>{rows}</dl></details>")
    named = f' id="{anchor}"' if anchor else ""
    return f'<div class="claim {kind}"{named}>{"".join(lines)}</div>'


def slug(status: str) -> str:
    """A status as a class of the style sheet."""
    return status.split(",")[0].replace(" ", "-")


def link_to_test(test: str) -> str:
    """A link from a page of the book to a test."""
    path, _, function = test.partition("::")
    anchor = f"#{function.split('[')[0]}" if function else ""
    return f'<a href="../{path.removesuffix(".py")}.html{anchor}"><code>{escape(test)}</code></a>' if test else ""


def _checked(record: Record, verdict: Verdict | None, cell: str) -> list[tuple[str, str]]:
    where = "the cell" if verdict else "the page"
    rules = RULES | EXACT if record.bound == "rounding" else RULES
    rows = [
        ("Claim", f'<a href="claims.html#ledger-{record.id}">{record.id}</a>, {escape(record.source)}'),
        ("Computed" if verdict else "Shown", f'<a href="{cell}">{where}</a>' if cell else ""),
        ("Rule", rules[verdict.relation] if verdict else ""),
        *(evidence(record, verdict) if verdict else []),
        ("Values", escape(record.provenance)),
        ("Assumptions", escape(record.assumptions)),
        ("Test", link_to_test(record.test)),
    ]
    return rows


def evidence(record: Record, verdict: Verdict) -> list[tuple[str, str]]:
    """How far a verdict reaches, in rows: its tolerance, what chance may do, its control and its kind."""
    value = verdict.shown
    bound = value["tolerance"] - verdict.factor * value["uncertainty"]
    law = f"Student's quantile of {verdict.replicates} replicates" if verdict.replicates else "normal law"
    terms = [f"{verdict.factor:.3g} standard errors ({law})"] if value["uncertainty"] else []
    if bound > 1e-6 * value["tolerance"]:
        terms.append(f"a bound of {in_digits(bound, bound)}{f' ({record.bound})' if record.bound else ''}")
    least = "" if verdict.simulated else "at most "
    chance = f"{least}{in_digits(verdict.false_alarm, verdict.false_alarm)} by chance" if verdict.false_alarm else ""
    if verdict.simulated:
        chance += f": the prediction is the largest of {verdict.draws} that the model itself gave"
    sure = "true by construction; it can only show a fault of the program" if record.kind == "code check" else ""
    return [
        (
            "Tolerance",
            f"{in_digits(value['tolerance'], value['tolerance'])}: {' and '.join(terms)}" if terms else "none",
        ),
        ("Wrong verdict", chance),
        ("Control", f"{record.control}: {verdict.control_outcome}"),
        ("Code check", sure),
    ]


def strip(record: Record, verdict: Verdict) -> str:
    """Measurement with its error bar, prediction, tolerance and control along a line, as SVG of any width.

    A control that is caught at another entry than the one shown has no place on its line.
    """
    value = verdict.shown
    got, want, error, slack, other = (
        value[k] for k in ("measured", "predicted", "uncertainty", "tolerance", "control")
    )
    told = verdict.caught == value
    band = {"=": (want - slack, want + slack), "<=": (None, want - slack), ">=": (want + slack, None)}[verdict.relation]
    known = [got - error, got + error, want, *(x for x in band if x is not None)]
    low, high = min(known), max(known)
    if told and (min(abs(other - low), abs(other - high)) <= NEAR * (high - low) or low == high):
        low, high = min(low, other), max(high, other)
    span = (high - low) or abs(high) or 1.0
    low, high = low - span / 8, high + span / 8

    def at(x: float | None, end: float) -> float:
        return end if x is None else min(max(100 * (x - low) / (high - low), 1), 99)

    def words(x: float, row: int, text: str) -> str:
        side = "start" if x < 25 else "end" if x > 75 else "middle"
        return f'<text x="{x:.1f}%" y="{row}" text-anchor="{side}">{escape(text)}</text>'

    said = {name: in_digits(number, error or slack) for name, number in value.items()}
    control = "where it is true" if record.status == "disagrees" else record.control
    away = "" if low <= other <= high else " →" if other > high else " ←"
    labels = [f"measured {said['measured']}", f"predicted {SIGNS[verdict.relation]}{said['predicted']}"]
    left, right = at(band[0], 0), at(band[1], 100)
    x, y, z, mark = at(got, 0), at(want, 0), at(other, 0), ""
    if told:
        labels.append(f"{control} {said['control']}")
        mark = f'<svg class="control" x="{z:.1f}%" y="27"><path d="M-4-4l8 8m0-8l-8 8"/></svg>'
        mark += words(z, 66, labels[2] + away)
    return (
        f'<svg class="claim-strip" role="img" aria-label="{escape("; ".join(labels))}." width="100%" height="72">'
        '<line class="axis" x1="0" x2="100%" y1="27" y2="27"/>'
        f'<rect class="band" x="{left:.1f}%" width="{max(right - left, 0.4):.1f}%" y="18" height="18" rx="3"/>'
        f'<line class="want" x1="{y:.1f}%" x2="{y:.1f}%" y1="18" y2="36"/>'
        f'<line x1="{at(got - error, 0):.1f}%" x2="{at(got + error, 0):.1f}%" y1="27" y2="27"/>'
        f'<circle cx="{x:.1f}%" cy="27" r="4.5"/>'
        f"{mark}{words(x, 12, labels[0])}{words(y, 50, labels[1])}</svg>"
    )


def text_of(html: str) -> str:
    """The words of a card, for what is no page of the web."""
    plain = re.sub(r"<svg.*?</svg>|<details>.*?</details>|<[^>]+>", " ", html, flags=re.DOTALL)
    return " ".join(plain.split())
