"""What readers take away: the PDF of the whole book, the archive, the pictures of its pages."""

import re
import zipfile
from html import unescape

import numpy as np
import pytest
from matplotlib.image import imread
from pypdf import PdfReader

import pbtlib
from book import takeaway
from book.build import BUILD, FIGURES, toc_files

HTML = BUILD / "html"
A4 = (595.3, 841.9)
pytestmark = pytest.mark.usefixtures("pages")


@pytest.fixture(scope="module")
def printed(pages):
    return takeaway.pdf()


@pytest.fixture(scope="module")
def book(printed):
    return PdfReader(printed[0])


@pytest.fixture(scope="module")
def reading(printed):
    return PdfReader(printed[1])


def listed(reader):
    """The contents of an edition as (first words of a line, number of the page that it gives)."""
    first = next(k for k, page in enumerate(reader.pages) if page.extract_text().startswith("Contents"))
    found = []
    for page in reader.pages[first : first + 2]:
        found += re.findall(r"^(.{4,}?)\s*(\d+)$", page.extract_text(extraction_mode="layout"), re.MULTILINE)
    return [(title.strip(), int(number)) for title, number in found]


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
    """Bookmarks as (depth, title without blanks, page index)."""
    found = []
    for item in reader.outline if level is None else level:
        if isinstance(item, list):
            found += outline(reader, item, depth + 1)
        else:
            found.append((depth, re.sub(r"\s", "", item.title), reader.get_destination_page_number(item)))
    return found


@pytest.mark.slow
def test_the_pdf_has_every_page_in_order_and_numbers(book):
    titles = []
    for name in toc_files():
        article = (HTML / f"{name}.html").read_text().partition("<article")[2]
        (heading,) = re.findall(r"<h1[^>]*>(.*?)<a class=.headerlink", article, re.DOTALL)
        titles.append(re.sub(r"<[^>]+>|\s", "", unescape(heading)))
    top = [(title, at) for depth, title, at in outline(book) if depth < 2 and title in titles]
    assert [title for title, _ in top] == titles
    starts = [at for _, at in top]
    assert starts == sorted(set(starts)), "each page of the book begins a page of its own"
    assert len(book.pages) > starts[-1] > 200
    for number in (starts[2], len(book.pages) - 1):
        assert book.pages[number].extract_text().strip().endswith(str(number + 1))


def test_the_contents_give_the_pages_where_things_are(reading):
    lines = listed(reading)
    assert len(lines) > 20
    right = [re.sub(r"\W", "", title)[:20] in re.sub(r"\W", "", at(reading, number)) for title, number in lines]
    assert sum(right) > 0.95 * len(lines), "formulas in headings may read otherwise"
    wrong = [re.sub(r"\W", "", title)[:20] in re.sub(r"\W", "", at(reading, number - 1)) for title, number in lines]
    assert sum(wrong) < 0.2 * len(lines), "the companion: one page before it is not there"


def at(reader, number):
    return reader.pages[number - 1].extract_text()


def test_the_edition_for_reading_is_short_and_without_code(book, reading):
    assert 60 < len(reading.pages) < 150
    code = re.compile(r"^(claim\(\"|def \w+\()", re.MULTILINE)
    shown = [sum(bool(code.search(page.extract_text())) for page in reader.pages) for reader in (reading, book)]
    assert shown[0] == 0
    assert shown[1] > 20, "the companion: the whole book has it"


def test_every_page_of_the_book_has_a_file_of_its_own(printed, book):
    parts = {path.stem: PdfReader(path) for path in printed[2:]}
    assert set(parts) == {name.partition("/")[2] for name in toc_files()[1:]}
    assert sum(len(part.pages) for part in parts.values()) < len(book.pages)
    heading = re.sub(r"\s", "", parts["06_conclusion"].pages[0].extract_text())[:60]
    assert "Conclusion" in heading


def test_the_pdf_is_fit_for_a_referee(book):
    assert book.trailer["/Root"]["/MarkInfo"]["/Marked"], "tagged, for reading aloud"
    for page in book.pages:
        np.testing.assert_allclose([float(v) for v in page.mediabox[2:]], A4, atol=1)
    front = book.pages[0].extract_text()
    assert pbtlib.__version__ in front
    assert "Licence" in front
    assert np.median([len(page.extract_text()) for page in book.pages[::25]]) > 500, "words, not pictures of words"
    drawn = [thing for page in book.pages for thing in page["/Resources"].get("/XObject", {}).values()]
    pictures = {thing.idnum for thing in drawn if thing.get_object()["/Subtype"] == "/Image"}
    assert len(pictures) >= len(list(FIGURES.glob("*.csv")))


def test_the_pdf_leads_into_itself_or_to_the_web(book):
    addresses, inside = links(book)
    assert inside > 1000
    assert addresses
    assert all(address.startswith(("https://", "http://")) for address in addresses)


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
    assert needed | {f"{top}/_static/mathjax/tex-chtml.js"} <= names


def test_pages_are_pictured_in_three_views():
    name = "chapters/06_conclusion"
    folder = takeaway.shots([name])
    light, dark, phone = (imread(folder / f"06_conclusion-{view}.png")[..., :3] for view in ("light", "dark", "phone"))
    assert (light.shape[1], dark.shape[1], phone.shape[1]) == (1280, 1280, 390)
    assert phone.shape[0] > light.shape[0] > 900
    assert light.mean() > 0.8
    assert dark.mean() < 0.3
