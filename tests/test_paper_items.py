"""The list of what the paper says: every item is there, leads somewhere, and is treated as the list says it is."""

import dataclasses
import re
import tomllib
from functools import cache, partial

import pytest
from docutils.nodes import make_id

from book.build import toc_files
from book.execute import CHAPTERS, TWINS, from_twin, names
from book.ledger import items, pages
from pbtlib.claims import COMPUTED, WORDS, ledger

pytestmark = pytest.mark.words
TABLE = tomllib.loads(items.TABLE.read_text(encoding="utf-8"))
SECTIONS = items.parse(TABLE)
ITEMS = [item for found in SECTIONS.values() for item in found]
NUMBERED = {
    **{f"({k})": "" for k in range(1, 42)},
    **dict.fromkeys(("Assumption 3", "Assumption 7", "Assumption 9"), "assumption"),
    **dict.fromkeys(("Lemma 8", "Lemma 13", "Lemma 14", "Lemma 15", "Lemma 16"), "lemma"),
    **dict.fromkeys(("Remark 1", "Remark 2", "Remark 5", "Remark 6", "Remark 11"), "remark"),
    **dict.fromkeys(("Theorem 4", "Theorem 10"), "theorem"),
    **dict.fromkeys(("Algorithm 1", "Algorithm 2"), "algorithm"),
    **{f"Figure {k}": "figure" for k in range(1, 8)},
    "Definition 12": "definition",
}
"""What has a number in the paper, and its kind."""


def by_name(name):
    (item,) = (item for item in ITEMS if item.item == name)
    return item


# ---------------------------------------------------------------------------------------------- what is on the list


def missing(listed):
    kinds = {item.item: item.kind for item in listed}
    return [name for name, kind in NUMBERED.items() if name not in kinds or kind not in ("", kinds[name])]


def test_everything_that_has_a_number_in_the_paper_is_listed_once():
    assert missing(ITEMS) == []
    assert len({item.item for item in ITEMS}) == len(ITEMS)


@pytest.mark.parametrize("name", ["(7)", "Remark 6", "Figure 5"])
def test_a_number_that_is_not_listed_or_as_something_else_is_noticed(name):
    assert missing([item for item in ITEMS if item.item != name]) == [name]
    if NUMBERED[name]:
        assert missing([dataclasses.replace(item, kind="statement") for item in ITEMS if item.item == name])


def unnamed(records, listed):
    """The claims whose source is the paper and which no item names."""
    named = {claim for item in listed for claim in item.claims}
    return [record.id for record in records if not pages.is_ours(record) and record.id not in named]


def test_every_claim_of_the_paper_is_named_by_an_item():
    assert unnamed(ledger().values(), ITEMS) == []


def test_a_claim_of_the_paper_that_no_item_names_is_noticed():
    record = dataclasses.replace(ledger()["eq-25"], id="new")
    assert unnamed([record], ITEMS) == ["new"]
    assert unnamed([dataclasses.replace(record, source="this book")], ITEMS) == []


def wordy(item):
    """Whether an item is not a sentence of at most twenty words, without quotations: those stand elsewhere."""
    return len(item.says.split()) > 20 or not item.says.endswith(".") or '"' in item.says


def test_an_item_is_said_in_a_few_words_of_ours():
    assert [item.item for item in ITEMS if wordy(item)] == []


@pytest.mark.parametrize("says", ["word " * 20 + "word.", "no stop", 'The "words" of others.'])
def test_a_wordy_item_is_noticed(says):
    assert wordy(dataclasses.replace(by_name("(6)"), says=says))


# ---------------------------------------------------------------------------------------------- where it leads


@cache
def chapters():
    return {name: from_twin(TWINS / f"{name}.md") for name in names()}


@cache
def where():
    return pages.places(chapters())


@cache
def addresses():
    """Every place of the book that an item may name, as its address."""
    labels = {f"{page}.html#{anchor}" for page, anchor, _ in where().targets.values()}
    cells = {f"{r.chapter}.html#claim-{r.id}" for r in ledger().values() if r.status in COMPUTED}
    plain = {
        f"{path.stem}.html#{make_id(title)}"
        for path in CHAPTERS.glob("*.md")
        for title in re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    return labels | cells | plain | {items.address(place) for place in where().headings}


def astray(item):
    return [place for place in item.page if items.address(place) not in addresses()]


def test_every_place_of_an_item_is_in_the_book():
    assert {item.item: astray(item) for item in ITEMS if astray(item)} == {}
    assert {f"chapters/{place.partition('#')[0]}" for item in ITEMS for place in item.page} <= {*toc_files()}


@pytest.mark.parametrize(
    "place", ["02_1_mechanism#eq-6", "nowhere#eq-1", "02_2_many_agents#claim-kinetic-orders", "02_3_chaos"]
)
def test_a_place_that_is_not_in_the_book_is_noticed(place):
    item = dataclasses.replace(by_name("(6)"), page=("02_2_many_agents#eq-6", place))
    assert astray(item) == [place]


def test_a_claim_that_is_not_in_the_ledger_stops_the_build():
    item = dataclasses.replace(by_name("(6)"), claims=("thm-B4", "no-such-claim"))
    with pytest.raises(ValueError, match=r"'\(6\)' names \['no-such-claim'\]"):
        items.listed({"Section 2.2": [item]}, ledger(), str)


# ---------------------------------------------------------------------------------------------- as what it is treated


def stretch(place):
    """What the page says from a label or a heading to the next heading or box; a label may stand before its heading."""
    page, _, anchor = place.partition("#")
    cells = chapters()[page].cells if page in chapters() else []
    lines = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown").splitlines()
    said, begun = [], False
    for line in lines:
        title = re.match(r"#{1,4} (.*)", line)
        box = re.match(r"\((thm|lem|prop|cor|ass|def|alg|rem)-.*\)=", line)
        if begun and (title or box) and "".join(said).strip():
            break
        if begun:
            said.append(line)
        begun = begun or line.strip() == f"({anchor})=" or bool(title and make_id(title[1]) == anchor)
    return "\n".join(said)


def not_as_said(item):
    """What is missing for an item to be treated as the list says."""
    found = []
    if "proved" in item.how and not any(
        re.search(r"\{prf:proof\}|\{dropdown\} Proof|\\square", stretch(place)) for place in item.page
    ):
        found.append("a proof")
    if "measured" in item.how and not any(ledger()[claim].status in COMPUTED for claim in item.claims):
        found.append("a measurement")
    return found


def test_what_is_said_to_be_proved_has_a_proof_and_what_is_measured_a_claim():
    assert {item.item: not_as_said(item) for item in ITEMS if not_as_said(item)} == {}


@pytest.mark.parametrize(
    ("change", "lacks"),
    [
        ({"page": ("04_convergence#thm-10-stated",)}, ["a proof"]),
        ({"page": ("c_proofs#ass-9",)}, ["a proof"]),
        ({"page": ("disagreements#mutation-at-a-wall",)}, ["a proof"]),
        ({"claims": ("thm-C2",)}, ["a measurement"]),
        ({"claims": (), "how": "proved"}, []),
    ],
)
def test_a_proof_or_a_measurement_that_is_not_there_is_noticed(change, lacks):
    assert not_as_said(dataclasses.replace(by_name("Theorem 10"), **change)) == lacks


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("Crossover and merging", {"because": ""}, "because is for"),
        ("Small jumps", {"because": ""}, "because is for"),
        ("(13)", {"because": "it is so"}, "because is for"),
        ("(13)", {"how": "stated"}, "a statement is not merely stated"),
        ("Crossover and merging", {"kind": "statement", "because": None}, "a statement is not merely stated"),
        ("Theorem 4", {"how": "stated"}, "a theorem is not merely stated"),
        ("(13)", {"how": "believed"}, "how is 'believed'"),
        ("(13)", {"kind": "formula"}, "kind is 'formula'"),
        ("(13)", {"paper": "3.3"}, "paper is '3.3'"),
        ("(13)", {"page": []}, "page is empty"),
        ("(13)", {"colour": "red"}, r"\['colour'\] unknown or missing"),
        ("(13)", {"says": None}, r"\['says'\] unknown or missing"),
    ],
)
def test_a_malformed_item_is_named(name, change, message):
    (entry,) = (entry for entry in TABLE["item"] if entry["item"] == name)
    changed = {key: value for key, value in {**entry, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=f"item '{re.escape(name)}': .*{message}|item '{re.escape(name)}': {message}"):
        items.parse({**TABLE, "item": [changed]})
    items.parse({**TABLE, "item": [entry]})


# ---------------------------------------------------------------------------------------------- the page


@cache
def page():
    return items.listed(SECTIONS, ledger(), partial(pages.called, where()))


def test_the_page_counts_and_shows_every_item_and_first_those_that_part_or_are_only_named():
    counted = page().partition("\n## ")[0]
    first, _, rest = page().partition("## All, by section")
    parted = [item for item in ITEMS if item.how in items.PARTED or item.kind == items.NAMED]
    assert f"**{len(ITEMS)} items**" in counted
    by_how, by_outcome = counted.split(": ")[1:]
    assert sum(map(int, re.findall(r"\d+", by_how))) == len(ITEMS)
    assert sum(map(int, re.findall(r"\d+", by_outcome))) == len({claim for item in ITEMS for claim in item.claims})
    assert first.count('<li class="ledger">') == len(parted)
    assert rest.count('<li class="ledger">') == len(ITEMS)
    assert rest.count("<details") == sum(map(bool, SECTIONS.values())) == len(TABLE["sections"])


def test_a_row_tells_outcome_places_and_reason():
    row = items.listed({"Section 5.1": [by_name("Figure 3: towards (6)")]}, ledger(), partial(pages.called, where()))
    assert '<a href="05_1a_quadratic.html#claim-fig-3-kinetic-limit"><strong>Figure 3: towards (6)</strong></a>' in row
    pill = f'ledger-disagrees"><span class="status">{WORDS["disagrees"]}</span>'
    assert f'{pill} <a href="claims.html#ledger-fig-3-kinetic-limit">' in row
    better = {
        **ledger(),
        "fig-3-kinetic-limit": dataclasses.replace(ledger()["fig-3-kinetic-limit"], status="verified"),
    }
    assert pill not in items.listed({"Section 5.1": [by_name("Figure 3: towards (6)")]}, better, str)
    reason = items.listed({"Appendix B": [by_name("Small jumps")]}, ledger(), partial(pages.called, where()))
    assert "treated differently: jumps are rare, not small" in reason


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("c_proofs", "C Proofs of Theorem 10 and Lemma 8"),
        ("disagreements", "Disagreements"),
        ("c_proofs#thm-C2", "Theorem C2"),
        ("04_convergence#thm-10-stated", "Theorem 10"),
        ("e4_convergence#eq-21", "(21)"),
        ("05_1a_quadratic#fig-3-scatter", "Figure 3"),
        ("e_beyond#resampling", "Resampling"),
        ("e5_cartpole#claim-cartpole-window-late", "measured"),
        ("cartpole_open#open-scales", "open scales"),
    ],
)
def test_a_place_has_a_name(place, name):
    assert pages.called(where(), place) == name
