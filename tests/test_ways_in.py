"""The ways into the book: pictures, numbers of the ledger in sentences, the glossary, and addresses that have moved."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from book import addresses, pictures
from book.build import toc_files
from book.execute import CHAPTERS, TWINS
from book.ledger import number_of
from pbtlib.claims import COMPUTED, ledger

pytestmark = pytest.mark.words
NOTEBOOKS = tuple((path, path.stat().st_mtime_ns) for path in sorted(CHAPTERS.glob("*.ipynb")))
WAYS = ("ten_minutes", "findings", "disagreements", "glossary")


def text(page):
    return (CHAPTERS / f"{page}.md").read_text()


@pytest.fixture
def here():
    """What a page of the book knows of its surroundings."""
    noted = []
    return SimpleNamespace(srcdir=CHAPTERS.parent, docname="chapters/findings", note_dependency=noted.append)


@pytest.mark.parametrize("page", WAYS)
def test_every_link_of_a_way_in_leads_to_a_page_or_a_label(page):
    twins = [path.read_text() for path in TWINS.glob("*.md")]
    labels = {label for twin in twins for label in re.findall(r"^\(([\w-]+)\)=|^ +name: ([\w-]+)$", twin, re.MULTILINE)}
    known = {name for pair in labels for name in pair}
    for target in re.findall(r"\]\(([^)]+)\)", text(page)):
        if target.startswith("#"):
            assert target[1:] in known, target
        else:
            assert f"chapters/{target.partition('.')[0]}" in toc_files(), target


@pytest.mark.parametrize("page", WAYS)
def test_every_picture_and_number_of_a_way_in_is_found(page, here):
    drawn = pictures.drawn(NOTEBOOKS)
    for name in re.findall(r"```\{picture\} (\S+)", text(page)):
        assert name in drawn, name
        assert drawn[name][2], "words for those who do not see it"
    for field, asked in re.findall(r"\{(measured|predicted|control)\}`([^`]+)`", text(page)):
        record, number = number_of(here, field, asked)
        assert re.search(r"\d", number)
        assert record.status in COMPUTED


def test_ten_minutes_are_seven_stops_each_with_a_picture_few_sentences_and_a_link():
    stops = text("ten_minutes").partition("\n---\n")[0].split("\n## ")[1:]
    assert len(stops) == 7
    for stop in stops:
        assert stop.count("```{picture}") == 1
        words = stop.split("```")[-1]
        assert words.count("](") == 1
        said = words.partition("[")[0]
        assert 1 <= len(re.findall(r"\.(?:\s|$)", said)) <= 3, words
        assert len(said.split()) <= 60, words


def test_what_we_found_is_ten_and_types_no_measurement():
    results = text("findings").partition("\n## All of them")[0].split("\n## ")[1:]
    assert [result.partition(".")[0] for result in results] == [str(k) for k in range(1, 11)]
    for result in results:
        assert "{measured}`" in result
        assert not re.search(r"\d\.\d|±", re.sub(r"\[[^]]*\]\([^)]*\)", "", result)), "a number typed by hand"


def test_every_disagreement_says_what_the_paper_says_what_we_find_why_and_where():
    entries = text("disagreements").partition("\n---\n")[0].split("\n## ")[1:]
    assert len(entries) == 7
    for entry in entries:
        places = [entry.index(words) for words in ("**The paper says**", "**We find**", "**Because**", "**Where:**")]
        assert places == sorted(places)
        assert '"' in entry[places[0] : places[1]], "its own words"
        assert len(re.findall(r"```\{claim\} \S+", entry)) == 1


def test_whatever_speaks_against_the_paper_is_a_disagreement():
    shown = set(re.findall(r"```\{claim\} (\S+)", text("disagreements")))
    assert {record.id for record in ledger().values() if record.against} <= shown
    assert 'href="claims.html#status=disagrees"' in text("disagreements"), "what else is refuted"


def test_a_number_of_a_claim_has_the_digits_that_its_error_leaves(here):
    assert number_of(here, "predicted", "lem-8-kink") == (ledger()["lem-8-kink"], "−0.500")
    several = number_of(here, "measured", "window-is-the-mean")[1]
    assert re.fullmatch(r"−0\.\d+ ± 0\.\d+", several)
    assert number_of(here, "measured", "window-is-the-mean[0]")[1] != several
    assert number_of(here, "measured", "cartpole-scales %")[1].endswith("%")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("no-such-claim", "has no claim 'no-such-claim'"),
        ("window-is-the-mean[99]", "compares 9 numbers"),
        ("thm-4", "is not computed"),
        ("lem-8-kink, please", "does not name a number"),
    ],
)
def test_a_number_that_no_claim_has_is_refused(asked, message, here):
    with pytest.raises(ValueError, match=message):
        number_of(here, "measured", asked)


def test_the_glossary_defines_each_of_its_terms_once_in_one_sentence():
    body = text("glossary").partition("```{glossary}\n")[2].partition("```")[0]
    entries = [entry.splitlines() for entry in body.strip().split("\n\n")]
    terms = [line for lines in entries for line in lines if not line.startswith("  ")]
    assert len(entries) >= 40
    assert len(set(terms)) == len(terms)
    assert [lines[0].casefold() for lines in entries] == sorted(lines[0].casefold() for lines in entries)
    for lines in entries:
        words = " ".join(line.strip() for line in lines if line.startswith("  "))
        assert words.endswith(").")
        assert "](" in words
        assert ". " not in words.replace("v. ", ""), words


# ---------------------------------------------------------------------------------------------- addresses


def test_old_addresses_are_no_pages_any_more_and_lead_to_pages():
    pages = {Path(page).name for page in toc_files()}
    assert not set(addresses.MOVED) & pages
    assert set(addresses.MOVED.values()) <= pages


def test_an_anchor_leads_to_the_one_page_that_has_it():
    pages = {
        "a": '<div id="menu"></div><article><h2 id="exercises">E</h2><figure id="fig-1"></figure>',
        "b": '<div id="menu"></div><article><h2 id="exercises">E</h2><figure id="fig-2"></figure>',
    }
    assert addresses.anchors(pages) == {"fig-1": "a", "fig-2": "b"}


@pytest.mark.parametrize("files", [["new"], [], ["new", "old"]])
def test_an_address_is_kept_where_its_page_was_built_and_needs_no_server(files, tmp_path, monkeypatch):
    monkeypatch.setattr(addresses, "MOVED", {"old": "new", "older": "elsewhere"})
    for folder in ("chapters", "_static"):
        (tmp_path / folder).mkdir()
    for name in files:
        (tmp_path / "chapters" / f"{name}.html").write_text('<article><p id="fig-9"></p>')
    titles = {f"chapters/{name}": SimpleNamespace(astext=lambda: "Two & two") for name in files}
    env = SimpleNamespace(found_docs=set(titles), titles=titles)
    addresses.write(SimpleNamespace(outdir=tmp_path, env=env, builder=SimpleNamespace(name="html")), None)
    assert not (tmp_path / "chapters" / "older.html").exists()
    assert (tmp_path / "chapters" / "old.html").exists() == bool(files)
    if files == ["new"]:
        page = (tmp_path / "chapters" / "old.html").read_text()
        assert 'content="0; url=new.html"' in page
        assert '<a href="new.html">Two &amp; two</a>' in page
        assert not re.search(r'(?:href|src|url)="?(?:/|[a-z]+:)', page), "no absolute address"
        assert (tmp_path / "_static" / "anchors.js").read_text() == 'window.bookAnchors = {"fig-9":"new"};\n'
