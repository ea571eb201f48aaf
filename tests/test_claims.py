"""The ledger: well formed, and a claim tells the truth in both directions."""

import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbtlib import claims
from pbtlib.claims import ClaimError, claim, compare, judge, parse_ledger

ENTRY = {
    "statement": "Two is two.",
    "source": "this book",
    "chapter": "02_1_mechanism",
    "provenance": "C",
    "assumptions": "met",
    "status": "verified",
}


@pytest.fixture
def book(monkeypatch):
    entries = {
        "two": ENTRY,
        "off": {**ENTRY, "status": "disagrees", "caveat": "it is not so"},
        "later": {**ENTRY, "status": "not yet"},
    }
    monkeypatch.setattr(claims, "ledger", lambda: parse_ledger(entries))
    monkeypatch.setenv("PBTLIB_STRICT", "1")


def test_the_ledger_is_well_formed():
    records = claims.ledger()
    assert records
    for record in records.values():
        assert all((record.statement, record.source, record.chapter, record.provenance, record.assumptions))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "probably"}, "probably"),
        ({"status": "disagrees"}, "caveat"),
        ({"depends": ["nowhere"]}, "nowhere"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_malformed_entries_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        parse_ledger({"two": {**ENTRY, **change}})


def test_a_right_measurement_passes_and_a_wrong_one_breaks(book):
    assert judge("two", measured=2.01, predicted=2, uncertainty=0.01, control=3).agrees
    with pytest.raises(ClaimError, match=r"tolerance 0\.05: fails"):
        claim("two", measured=2.2, predicted=2, uncertainty=0.01, control=3)


def test_a_control_that_passes_breaks_the_claim(book):
    with pytest.raises(ClaimError, match=r"control 2\.020: holds"):
        claim("two", measured=2.01, predicted=2, uncertainty=0.01, control=2.02)


def test_a_recorded_disagreement_must_stay_one(book):
    assert judge("off", measured=2.2, predicted=2, uncertainty=0.01, control=2.01).agrees
    with pytest.raises(ClaimError, match="recorded: disagrees"):
        claim("off", measured=2.0, predicted=2, uncertainty=0.01, control=2.01)
    with pytest.raises(ClaimError, match=r"control 3\.000: fails"):
        claim("off", measured=2.2, predicted=2, uncertainty=0.01, control=3)


def test_a_reader_sees_red_and_goes_on(book, monkeypatch, capsys):
    monkeypatch.setenv("PBTLIB_STRICT", "0")
    claim("two", measured=2.2, predicted=2, uncertainty=0.01, control=3)
    assert capsys.readouterr().out.startswith("✗ two")


@pytest.mark.parametrize(("measured", "parts"), [(2.0, False), (2.2, True)])
def test_a_parted_claim_is_red_without_the_books_style_sheet_and_says_what_may_be_the_cause(
    measured, parts, book, monkeypatch
):
    shown = []
    shell = SimpleNamespace(display_pub=SimpleNamespace(publish=lambda **what: shown.append(what)))
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setenv("PBTLIB_STRICT", "0")
    claim("two", measured=measured, predicted=2, uncertainty=0.01, control=3)
    (what,) = shown
    html, text = what["data"]["text/html"], what["data"]["text/plain"]
    assert ("style=" in html and "#c4320a" in html) == parts
    assert ("If you changed a parameter" in html and "If you changed a parameter" in text) == parts
    color = re.search(r"(?<![-\w])color:", html)
    assert not color, "the words keep the editor's own colour, which can be read in the dark too"


def test_uncomputed_and_unknown_claims_are_refused(book):
    with pytest.raises(ValueError, match="not yet"):
        claim("later", measured=2, predicted=2, control=3)
    with pytest.raises(KeyError, match="nobody"):
        claim("nobody", measured=2, predicted=2, control=3)


@pytest.mark.parametrize("bad", [{"measured": np.nan}, {"uncertainty": -1.0}, {"predicted": []}, {"z": 0.0}])
def test_bad_numbers_are_refused(book, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        claim("two", **{"measured": 2.0, "predicted": 2.0, "control": 3.0, **bad})


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0, 1e3), st.floats(0, 10))
def test_equality_is_both_inequalities(measured, predicted, uncertainty, bound):
    def holds(relation):
        return bool(compare(measured, predicted, uncertainty, bound, relation=relation, z=5.0))

    assert holds("=") == (holds("<=") and holds(">="))


def test_every_entry_of_an_array_counts(book):
    ok = judge("two", measured=[2.0, 2.01], predicted=[2, 2], uncertainty=0.01, control=[2.0, 3.0])
    assert ok.holds
    assert "worst of 2" in ok.line
    with pytest.raises(ClaimError):
        claim("two", measured=[2.0, 2.5], predicted=2, uncertainty=0.01, control=3)
