"""What readers take away: the PDF of the whole book, the archive, the pictures of its pages."""

import re
import zipfile
from html import unescape

import numpy as np
import pytest
from matplotlib.image import imread
from pypdf import PdfReader, PdfWriter
from pypdf.generic import DictionaryObject, NameObject

import pbtlib
from book import takeaway
from book.build import BUILD, FIGURES, toc_files

HTML = BUILD / "html"
A4 = (595.3, 841.9)
pytestmark = pytest.mark.usefixtures("pages")


SOME = [
    "chapters/index",
    "chapters/02_1_mechanism",
    "chapters/06_conclusion",
    "chapters/e3_1_bilevel",
    "chapters/glossary",
    "chapters/bibliography",
]
"""One page of each kind: `make pdf` prints all of them in the same way, and checks what it printed."""


@pytest.fixture(scope="module")
def printed(pages, tmp_path_factory):
    return takeaway.pdf(SOME, tmp_path_factory.mktemp("printed"))


@pytest.fixture(scope="module")
def book(printed):
    return PdfReader(printed[0])


@pytest.fixture(scope="module")
def reading(printed):
    return PdfReader(printed[1])


def listed(reader):
    """The contents of an edition as (first words of a line, number of the page that it gives)."""
    first = next(k for k, page in enumerate(reader.pages) if page.extract_text().startswith("Contents"))
    text = reader.pages[first].extract_text(extraction_mode="layout")
    return [(title, int(number)) for title, number in re.findall(r"^ *(\S.{3,}?)\s*(\d+)$", text, re.MULTILINE)]


def links(reader):
    """Addresses that a PDF leads to, and how often a link leads into the PDF itself."""
    addresses, inside = [], 0
    for page in reader.pages:
        for annotation in page.get("/Annots") or []:
            action = annotation.get_object().get("/A")
            if action is not None and "/URI" in action.get_object():
                addresses.append(str(action.get_object()["/URI"]))
            else:
                inside += annotation.get_object().get("/Subtype") == "/Link"
    return addresses, inside


def outline(reader, level=None, depth=0):
    """Bookmarks as (depth, title without blanks, page index); of some headings Chromium writes the words twice."""
    found = []
    for item in reader.outline if level is None else level:
        if isinstance(item, list):
            found += outline(reader, item, depth + 1)
        else:
            title = re.sub(r"^(.+)\1$", r"\1", re.sub(r"\s", "", item.title))
            found.append((depth, title, reader.get_destination_page_number(item)))
    return found


def heading(name):
    """The heading of a built page, without blanks."""
    article = (HTML / f"{name}.html").read_text().partition("<article")[2]
    (found,) = re.findall(r"<h1[^>]*>(.*?)<a class=.headerlink", article, re.DOTALL)
    return re.sub(r"<[^>]+>|\s", "", unescape(found))


@pytest.mark.slow
def test_the_pdf_has_every_page_in_order_and_numbers(book):
    titles = [heading(name) for name in SOME]
    top = [(title, at) for depth, title, at in outline(book) if depth < 2 and title in titles]
    assert [title for title, _ in top] == titles
    starts = [at for _, at in top]
    assert starts == sorted(set(starts)), "each page of the book begins a page of its own"
    assert len(book.pages) > starts[-1] > 10
    for number in (starts[2], len(book.pages) - 1):
        assert book.pages[number].extract_text().strip().endswith(str(number + 1))


def test_the_contents_give_the_pages_where_things_are(reading):
    lines = listed(reading)
    assert len(lines) == 4
    starts = [re.sub(r"\W", "", title)[:20] for title, _ in lines]
    assert all(start in re.sub(r"\W", "", at(reading, n)) for start, (_, n) in zip(starts, lines, strict=True))
    wrong = [start in re.sub(r"\W", "", at(reading, n - 1)) for start, (_, n) in zip(starts, lines, strict=True)]
    assert wrong == [True, False, False, False], "the companion: before the first part come the contents themselves"


def at(reader, number):
    return reader.pages[number - 1].extract_text()


def test_the_edition_for_reading_is_short_and_without_code(book, reading):
    assert len(reading.pages) < 0.7 * len(book.pages)
    code = re.compile(r"^(claim\(\"|def \w+\(|@article\{)", re.MULTILINE)
    shown = [sum(bool(code.search(page.extract_text())) for page in reader.pages) for reader in (reading, book)]
    assert shown[0] == 0
    assert shown[1] > 2, "the companion: the whole book has it"


def test_every_page_of_the_book_has_a_file_of_its_own(printed, book):
    parts = {path.stem: PdfReader(path) for path in printed[2:]}
    assert set(parts) == {name.partition("/")[2] for name in SOME}
    assert sum(len(part.pages) for part in parts.values()) < len(book.pages)
    assert "Conclusion" in parts["06_conclusion"].pages[0].extract_text()[:60]


def test_the_pdf_is_fit_for_a_referee(book):
    assert book.trailer["/Root"]["/MarkInfo"]["/Marked"], "tagged, for reading aloud"
    for page in book.pages:
        np.testing.assert_allclose([float(v) for v in page.mediabox[2:]], A4, atol=1)
    front = book.pages[0].extract_text()
    assert pbtlib.__version__ in front
    assert "Licence" in front
    assert np.median([len(page.extract_text()) for page in book.pages]) > 500, "words, not pictures of words"
    drawn = [thing for page in book.pages for thing in page["/Resources"].get("/XObject", {}).values()]
    pictures = {thing.idnum for thing in drawn if thing.get_object()["/Subtype"] == "/Image"}
    figures = [path for name in SOME for path in FIGURES.glob(f"{name.partition('/')[2]}-*.csv")]
    assert len(pictures) >= len(figures) > 2


def test_the_pdf_leads_into_itself_or_to_the_web(book):
    addresses, inside = links(book)
    assert inside > 20
    assert addresses
    assert all(address.startswith(("https://", "http://")) for address in addresses)


def test_the_long_page_leads_to_its_own_parts_and_has_no_id_twice(pages):
    """All pages of the book: what one calls `exercise` others do too, and a link leads to the one that it meant."""
    whole = takeaway.joined(toc_files())
    ids = re.findall(takeaway.ID, whole)
    assert len(ids) == len(set(ids)) > 2000
    inside = re.findall(r'<a\b[^>]*\shref="(?![a-z]+:)([^"]*)"', whole)
    assert len(inside) > 3000
    assert {href[0] for href in inside} == {"#"}
    assert {href[1:] for href in inside} <= set(ids)
    assert 'id="exercise"' in whole
    assert len(re.findall(r'id="\w+-exercise"', whole)) > 10, "the companion: they were called alike"


# ---------------------------------------------------------------------------------------------- what is not sound


BLANK = "<p>one</p><p style='break-before: page'></p><p style='break-before: page'>two</p>"


@pytest.fixture(scope="module")
def short(pages, tmp_path_factory):
    """Three pages, of which the second has no words."""
    path = tmp_path_factory.mktemp("short") / "short.pdf"
    with takeaway.chromium() as browser:
        page = browser.new_page()
        page.set_content(BLANK)
        page.pdf(path=path)
    return path


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        ([("one", 1), ("two", 3)], "'one' begins on page 1"),  # where the title of the book is
        ([("two", 3), ("one", 2)], "'two' begins on page 3, the next part on page 2"),
        ([("two", 3), ("two", 3)], "'two' begins on page 3, the next part on page 3"),
        ([("one", 3)], "'one' is not on page 3"),
        ([("two", 3)], "page 2 is empty"),
    ],
)
def test_parts_out_of_place_and_empty_pages_are_noticed(short, parts, complaint):
    assert any(line.startswith(complaint) for line in takeaway.unsound(PdfReader(short), parts))


def test_a_font_that_is_not_in_the_file_is_noticed(short):
    (font,) = PdfReader(short).pages[0]["/Resources"]["/Font"].values()
    assert takeaway.embedded(font.get_object())
    bare = DictionaryObject(
        {NameObject("/Subtype"): NameObject("/Type1"), NameObject("/BaseFont"): NameObject("/Courier")}
    )
    assert not takeaway.embedded(bare)
    writer = PdfWriter(clone_from=short)
    writer.pages[0]["/Resources"]["/Font"][NameObject("/F9")] = bare
    assert "page 1 has a font that is not in the file: /Courier" in takeaway.unsound(writer, [("two", 3)])


def test_a_link_to_what_is_left_out_is_a_link_no_more_also_within_a_drawing():
    words = '<p id="here"></p><svg><a href="#here">1</a><a href="#gone">2</a></svg><a href="#gone">3</a>'
    with takeaway.chromium() as browser:
        page = browser.new_page()
        page.set_content(words)
        page.evaluate("window.MathJax = { typesetPromise: async () => {} }")
        page.evaluate(takeaway.PREPARE, "")
        assert page.locator("a[href]").all_text_contents() == ["1"]


def test_a_part_begins_where_its_heading_is_also_after_long_contents(tmp_path, monkeypatch):
    short = takeaway.contents
    monkeypatch.setattr(
        takeaway, "contents", lambda *words: short(*words).replace("</nav>", "<p>more</p>" * 45 + "</nav>")
    )
    whole, *_ = takeaway.pdf(["chapters/index", "chapters/glossary"], tmp_path)
    assert PdfReader(whole).pages[3].extract_text().startswith("Population-based training")


def test_letters_drawn_together_are_letters():
    assert takeaway.letters("4 The \ufb01ttest") == "4Thefittest"


def test_an_edition_that_is_not_sound_is_an_error_of_make_pdf(pages, tmp_path, monkeypatch):
    monkeypatch.setattr(takeaway, "unsound", lambda reader, parts: ["page 7 is empty"])
    with pytest.raises(SystemExit, match=r"book\.pdf is not sound:\npage 7 is empty"):
        takeaway.pdf(["chapters/06_conclusion"], tmp_path)
    assert not (HTML / "book.html").exists()


def test_a_link_to_a_file_would_be_noticed(tmp_path):
    page_file = tmp_path / "page.html"
    page_file.write_text('<p>a <a href="data.csv">file</a></p>')
    with takeaway.chromium() as browser:
        page = browser.new_page()
        page.goto(page_file.as_uri())
        page.pdf(path=tmp_path / "page.pdf")
    assert links(PdfReader(tmp_path / "page.pdf"))[0] == [(tmp_path / "data.csv").as_uri()]


def test_the_archive_holds_every_page():
    with zipfile.ZipFile(takeaway.archive()) as packed:
        names = set(packed.namelist())
    top = min(names, key=len).rstrip("/")
    needed = {f"{top}/{name}.html" for name in [*toc_files(), "index", "search"]}
    assert needed | {f"{top}/_static/mathjax/tex-chtml.js", f"{top}/licences.txt"} <= names


def test_pages_are_pictured_in_three_views():
    name = "chapters/06_conclusion"
    folder = takeaway.shots([name])
    light, dark, phone = (imread(folder / f"06_conclusion-{view}.png")[..., :3] for view in ("light", "dark", "phone"))
    assert (light.shape[1], dark.shape[1], phone.shape[1]) == (1280, 1280, 390)
    assert phone.shape[0] > light.shape[0] > 900
    assert light.mean() > 0.8
    assert dark.mean() < 0.3
