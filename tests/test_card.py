"""The card of a claim says what the judge found: in a word, a number, a strip and a sentence for those who hear it."""

import re
from xml.etree import ElementTree

import pytest

from book.ledger.card import card, text_of
from pbtlib import claims
from pbtlib.claims import PARTED, WORDS, judge, ledger, parse_ledger

pytestmark = pytest.mark.words
ENTRY = {
    "statement": "Two is at least one < three.",
    "source": "this book",
    "chapter": "02_1_mechanism",
    "provenance": "C",
    "assumptions": "met",
    "caveat": "for small numbers",
}
NUMBERS = {"predicted": 2, "uncertainty": 0.01, "relation": ">=", "bound": 0.01}
FOUND = {
    "verified": {"measured": 2.4, "control": 1.5},
    "verified with a caveat": {"measured": 2.4, "control": 1.5},
    "consistent with": {"measured": 2.02, "control": 1.5},
    "disagrees": {"measured": 1.5, "control": 2.4},
}


@pytest.fixture
def drawn(monkeypatch):
    """Draws the card of a claim with this status, measured so."""

    def draw(status, entry=None, **numbers):
        records = parse_ledger({"two": {**ENTRY, "status": status, **(entry or {})}})
        monkeypatch.setattr(claims, "ledger", lambda: records)
        found = judge("two", **{**NUMBERS, **FOUND[status], **numbers}) if status in FOUND else None
        return card(records["two"], found, anchor="claim-two", cell="02_1_mechanism.html#claim-two")

    return draw


def position(html, name):
    """Where along the strip a thing of this class or kind stands, in per cent."""
    return float(re.search(rf'<{name}[^>]*? (?:cx|x|x1)="([\d.]+)%"', html)[1])


@pytest.mark.parametrize("status", WORDS)
def test_a_card_is_well_formed_and_begins_with_its_word(status, drawn):
    html = drawn(status)
    ElementTree.fromstring(html)
    assert text_of(html).startswith(f"{WORDS[status]} Two is at least one &lt; three.")
    assert ("<svg" in html) == (status in FOUND)
    assert "✓" not in html
    assert 'href="02_1_mechanism.html#claim-two"' in html
    assert "http" not in html


def test_the_strip_shows_the_measurement_beside_what_was_predicted(drawn):
    for status, order in [
        ("verified", ['svg class="control"', 'line class="want"', "circle"]),
        ("disagrees", ["circle", 'line class="want"', 'svg class="control"']),
    ]:
        places = [position(drawn(status), name) for name in order]
        assert places == sorted(set(places))
    html = drawn("verified")
    assert 'role="img" aria-label="measured 2.400; predicted at least 2.000; broken model 1.500."' in html
    assert position(html, 'line class="want"') < position(html, 'rect class="band"') < position(html, "circle")


def test_a_control_far_away_stands_at_the_end_and_says_so(drawn):
    html = drawn("verified", control=-1e6)
    assert position(html, 'svg class="control"') == 1
    assert "←" in html
    assert position(html, "circle") - position(html, 'line class="want"') > 30


def test_a_claim_that_parts_from_its_record_is_red_and_says_what_is_recorded(drawn):
    html = drawn("verified", measured=2.02)
    assert '<div class="claim claim-bad" id="claim-two"><p><b>Not as recorded</b>' in html
    assert "Recorded: Holds." in html
    assert "Only so far" not in html


def test_a_claim_that_these_data_cannot_tell_from_its_control_is_not_red(drawn):
    html = drawn("verified", control=2.5)
    assert '<div class="claim claim-open" id="claim-two"><p><b>Not told from its control by these data</b>' in html
    assert "Recorded: Holds." in html
    assert PARTED not in html


def test_a_card_says_how_far_its_verdict_reaches(drawn):
    entry = {"bound": "estimated", "control": "rival formula", "kind": "code check"}
    html = drawn("verified", entry, measured=[2.4, 2.9], control=[3.0, 1.5], replicates=8)
    for words in (
        "code check",
        "Student's quantile of 8 replicates",
        "a bound of 0.010 (estimated)",
        "A rival formula gives 1.500 at another, where at least 2.000 is predicted.",
        "the least favourable of 2",
        "true by construction",
        "Only so far:",
    ):
        assert words in html
    assert "proved" not in html
    assert 'class="control"' not in html, "it has no place beside the entry shown"


def test_a_card_says_where_a_critical_value_comes_from(drawn):
    numbers = {"measured": 1.4, "control": 2.5, "relation": "<=", "uncertainty": 0, "bound": 0}
    assert "0.0010 by chance: the prediction is the largest of 999 that the model itself gave" in drawn(
        "verified", **numbers, false_alarm=1e-3
    )
    assert "the model itself" not in drawn("verified", **numbers)


def test_every_code_check_and_every_weak_word_of_the_ledger_is_one_of_a_computation():
    for record in ledger().values():
        assert record.status in claims.COMPUTED or (record.kind, record.bound) == ("science", "")
