"""The built book to take away: as PDF, as an archive for reading without a network, as pictures to look at.

python -m book.takeaway pdf      _build/book.pdf, the whole book for print; _build/reading.pdf, what is read, without
                                 code, evidence and ledger; _build/pdf/, the parts of the whole in a file each
python -m book.takeaway zip      _build/book.zip, the pages; open index.html in it
python -m book.takeaway shots    _build/shots/, every page in three sizes (needs `make book` first, as zip does)
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from html import escape, unescape
from io import BytesIO
from itertools import chain
from pathlib import Path
from posixpath import dirname, normpath
from typing import Any
from unicodedata import normalize
from urllib.parse import unquote

import yaml
from playwright.sync_api import Browser, Page, sync_playwright
from pypdf import PdfReader, PdfWriter

import pbtlib
from book.browser import NONE, bring
from book.build import BUILD, commit, story_pages, toc_files
from book.execute import ROOT

HTML = BUILD / "html"
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic")
APPENDED = ("chapters/ten_minutes", "chapters/a_notation", "chapters/glossary", "chapters/bibliography")
"""What the edition for reading has beside the pages that are read."""
VIEWS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 900}},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}},
}

EAGER = """Promise.all([...document.images].map((picture) => {
  picture.loading = "eager";
  return picture.decode().catch(() => null);
}))"""
"""Loads pictures that would wait until they come near."""

PRINT = """
@page { size: A4; margin: 20mm 18mm; }
.bd-header, .bd-sidebar, .bd-sidebar-primary, .bd-sidebar-secondary, .bd-header-article, .prev-next-footer, .bd-footer,
.bd-footer-content, .headerlink, .copybtn, .toggle-button, #pst-skip-link, #pst-back-to-top,
dialog, .ledger-filters,
.cell.tag_hide-input > details, div.cell > details.hide.above-input { display: none !important; }
body, .bd-container, .bd-container__inner, .bd-main, .bd-content, .bd-article-container, .bd-article {
  display: block !important; max-width: none !important;
  padding: 0 !important; margin: 0 !important; overflow: visible !important; }
html { font-size: 9.5pt !important; }
body { background: #fff !important; }
section > h1, .part { break-before: page; }
.part > h1 { break-before: auto; }
span[id^="document-"] { display: block; height: 1px; }
:is(h1, h2):has(> span[id^="document-"]) { break-inside: avoid; }
h1, h2, h3, h4, summary { break-after: avoid; }
figure, .cell_input, .admonition-title, mjx-container, li.ledger, .ledger > summary { break-inside: avoid; }
figure img { max-height: 220mm; max-width: 100%; }
pre { white-space: pre-wrap !important; overflow: visible !important; font-size: 7.2pt !important; }
div.math, .cell_output .text_html, .bd-content table, .ledger-graph { overflow: visible !important; }
.ledger-graph { break-inside: avoid; border: none !important; }
.ledger-graph svg { width: 100%; height: auto; max-height: 235mm; }
a { color: inherit; text-decoration: none; }
.bd-article h1 { display: block !important; }
.title-page { height: 245mm; display: flex; flex-direction: column; justify-content: center; gap: 1.5rem;
  break-after: page; }
.title-page h1 { break-before: auto; font-size: 26pt; }
.edition-reading :is(.cell_input, .output.text_plain, .output.stream, .figure-data, .provenance),
.edition-reading :is(details.hide, details.bibtex, .claim details) { display: none !important; }
.edition-reading { font-size: 0.87em; line-height: 1.3; }
.edition-reading :is(.part, section > h1) { break-before: auto; }
.edition-reading .contents { break-after: page; }
.edition-reading figure img { max-height: 53mm; width: auto; }
.edition-reading figure, .edition-reading :is(h2, h3) { margin-block: 0.6rem; }
.title-page dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1rem; }
"""

ARTICLE = re.compile(r'<article class="bd-article">(.*?)</article>', re.DOTALL)
ID = re.compile(r'\sid="([^"]+)"')
LAZY = ' loading="lazy"'
NEEDED = re.compile(
    r'<link[^>]*rel="stylesheet"[^>]*>|<script>window\.MathJax = .*?</script>|<script[^>]*tex-chtml\.js[^>]*></script>'
)
"""What the one long page takes of the heads of its parts: style, and what sets the formulas."""

CONTENTS = """
.contents { font: 10pt sans-serif; }
.contents p { margin: 0; height: 7mm; line-height: 7mm; display: flex; justify-content: space-between; gap: 1em; }
.contents p.heading { font-weight: 700; padding-top: 2mm; height: 9mm; }
.contents a { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; color: inherit; text-decoration: none; }
"""
"""Lines of a fixed height: the numbers of pages, known only after printing, are laid over them."""
PARTS = """
(kept) => {   // leave out what is not kept, if anything is said of that, and return what is left: [anchor, title]
  const starts = [...document.querySelectorAll('span[id^="document-"]')], found = [];
  for (const start of starts) {
    const section = start.closest(".part") ?? start.nextElementSibling, heading = section?.querySelector("h1, h2");
    if (!heading) continue;
    const title = heading.cloneNode(true);
    title.querySelectorAll(".headerlink, mjx-assistive-mml").forEach((gone) => gone.remove());
    if (kept && !kept.includes(start.id.replace("document-", ""))) { section.remove(); start.remove(); }
    else {
      section.classList.add("part");
      heading.prepend(start);   // so that a link to it leads past any break
      found.push([start.id, title.textContent.trim()]);
    }
  }
  return found;
}
"""
PREPARE = """
async (front) => {
  for (const old of document.querySelectorAll(".title-page, .contents")) old.remove();
  document.documentElement.dataset.theme = "light";
  for (const fold of document.querySelectorAll("details")) fold.open = true;
  for (const fold of document.querySelectorAll(".toggle-hidden")) fold.classList.remove("toggle-hidden");
  for (const link of document.querySelectorAll('a[href^="#"]'))   // it may lead to what an edition leaves out
    if (!document.getElementById(decodeURIComponent(link.getAttribute("href").slice(1)))) link.removeAttribute("href");
  const unset = [...document.querySelectorAll(".math")].filter((formula) => !formula.querySelector("mjx-container"));
  await MathJax.typesetPromise(unset);
  const sums = [...document.querySelectorAll("mjx-container[display=true]")].map((sum) => {   // measured all at once
    const inner = sum.firstElementChild, room = sum.parentElement.clientWidth;
    const wide = Math.max(inner.scrollWidth, inner.getBoundingClientRect().width, sum.scrollWidth);
    return [sum, room, wide];
  });
  for (const [sum, room, wide] of sums) {   // wide equations shrink to fit
    if (room && wide > room) sum.style.fontSize = Math.floor(98 * room / wide) + "%";
  }
  document.body.insertAdjacentHTML("afterbegin", front);
}
"""


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m book.takeaway", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("pdf", "zip", "shots"))
    parser.add_argument("page", nargs="*", help="pages to picture, such as chapters/04_convergence (shots)")
    arguments = parser.parse_args()
    if not (HTML / "index.html").is_file():
        raise SystemExit("The book is not built; run `make book` first.")
    match arguments.what:
        case "pdf":
            whole, reading, *apart = pdf()
            print(f"The book for print is at {whole}, for reading at {reading}, {len(apart)} parts in {BUILD / 'pdf'}")
        case "zip":
            print(f"The book for reading without a network is at {archive()}")
        case _:
            print(f"The pictures are in {shots(arguments.page or [*toc_files(), 'search'])}")
    return 0


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium of this machine."""
    path = bring()
    if path is None:
        raise SystemExit(f"This needs a browser: {NONE}.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


def open_page(page: Page, path: Path) -> None:
    """Load a page from disk and wait until its mathematics is typeset."""
    page.goto(path.as_uri(), wait_until="domcontentloaded", timeout=600_000)
    page.wait_for_load_state("load", timeout=600_000)
    page.evaluate("window.MathJax?.startup?.promise?.then(() => true)")


def pdf(names: list[str] | None = None, folder: Path = BUILD) -> list[Path]:
    """Print the book and the edition for reading, with contents, cut the book into its parts, and return the files.

    Parameters
    ----------
    names : list of str, optional
        The pages, as _toc.yml calls them; all by default.
    folder : Path
        Where the files go.

    Raises
    ------
    SystemExit
        If what was printed is not sound: see `faults`.
    """
    whole, reading, source = folder / "book.pdf", folder / "reading.pdf", HTML / "book.html"
    source.write_text(joined(names or toc_files()))  # beside the style sheets and pictures that it asks for
    try:
        with chromium() as browser:
            page = browser.new_page(viewport={"width": 680, "height": 1000})
            open_page(page, source)
            page.add_style_tag(content=PRINT + CONTENTS)
            page.emulate_media(media="print", color_scheme="light")
            starts = _edition(browser, page, whole)
            page.evaluate("document.body.classList.add('edition-reading')")
            _edition(
                browser, page, reading, "Edition for reading, without code and evidence.", [*story_pages(), *APPENDED]
            )
    finally:
        source.unlink()
    return [whole, reading, *_apart(whole, starts)]


def joined(names: list[str]) -> str:
    """Built pages as one long page: a link between them leads to its part, one to anything else beside them nowhere."""
    texts = {name: (HTML / f"{name}.html").read_text() for name in names}
    articles = {name: ARTICLE.search(text)[1].strip() for name, text in texts.items()}  # type: ignore[index]
    ids, seen = {}, set()  # from page and id to an id of the long page
    for name, article in articles.items():
        for old in re.findall(ID, article):
            ids[name, old] = f"{name.rpartition('/')[2]}-{old}" if old in seen else old
            seen.add(old)

    def link(name: str, found: re.Match[str]) -> str:
        if re.match(r"[a-z]+:", found[2]):
            return found[0]
        path, _, anchor = unescape(found[2]).partition("#")
        there = normpath(f"{dirname(name)}/{path}").removesuffix(".html") if path else name
        if there not in names:
            return found[1]
        return f'{found[1]} href="#{ids.get((there, unquote(anchor)), f"document-{there}")}"'

    parts = ""
    for name, article in articles.items():
        article = re.sub(r"(<a\b[^>]*?)\shref=\"([^\"]*)\"", partial(link, name), article)
        article = re.sub(ID, lambda found, name=name: f' id="{ids[name, found[1]]}"', article)  # type: ignore[misc]
        parts += f'<span id="document-{name}"></span>{article.replace(LAZY, "")}\n'
    heads = sorted((re.findall(NEEDED, text.partition("</head>")[0]) for text in texts.values()), key=len, reverse=True)
    head = "\n".join(dict.fromkeys(chain(*heads)))  # the longest first: it has nearly all, in their order
    body = f'<main class="bd-main"><div class="bd-content"><article class="bd-article">\n{parts}</article></div></main>'
    page = f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n{head}\n</head>\n<body>{body}</body></html>'
    return re.sub(r'(?<=")(?:\.\./)+(?=_(?:static|images)/)', "", page)


def _edition(
    browser: Browser, page: Page, target: Path, note: str = "", kept: list[str] | None = None
) -> dict[str, int]:
    """Print what is kept of the one long page; returns from the anchor of each part to the number of its first page.

    An edition of which something is left out has numbers of pages in its contents; the whole has its bookmarks.
    """
    parts = page.evaluate(PARTS, kept)
    page.evaluate(PREPARE, _title_page(note) + contents(parts))
    number = '<div style="font-size:8px;width:100%;text-align:center"><span class="pageNumber"></span></div>'
    page.pdf(
        path=target,
        prefer_css_page_size=True,
        print_background=True,
        display_header_footer=True,
        header_template="<span></span>",
        footer_template=number,
        outline=True,
        tagged=True,
    )
    writer = PdfWriter(clone_from=target)
    places = {name.removeprefix("/"): place for name, place in writer.named_destinations.items()}
    starts = {anchor: 1 + (writer.get_destination_page_number(places[anchor]) or 0) for anchor, _ in parts}
    if kept:
        sheet = browser.new_page()
        sheet.set_content(
            f"<style>{CONTENTS} @page {{ size: A4; margin: 20mm 18mm; }}</style>{contents(parts, starts)}"
        )
        first = next(k for k, page in enumerate(writer.pages) if page.extract_text().startswith("Contents"))
        numbers = PdfReader(BytesIO(sheet.pdf(prefer_css_page_size=True))).pages
        for under, over in zip(writer.pages[first:], numbers, strict=False):
            under.merge_page(over)
        sheet.close()
        writer.write(target)
    if wrong := unsound(PdfReader(target), [(title, starts[anchor]) for anchor, title in parts]):
        raise SystemExit("\n".join([f"{target.name} is not sound:", *wrong[:10]]))
    return starts


def unsound(reader: PdfReader, parts: list[tuple[str, int]]) -> list[str]:
    """What is wrong with an edition, in lines: parts out of order or not where they should be, empty pages, fonts.

    Parameters
    ----------
    reader : PdfReader
        The edition.
    parts : list of (str, int)
        Title of each part, and number of the page that it begins on.
    """
    words, found = [letters(page.extract_text()) for page in reader.pages], []
    for (title, first), (_, after) in zip(parts, [*parts[1:], ("", len(words) + 1)], strict=True):
        if not 1 < first < after:
            found.append(f"{title!r} begins on page {first}, the next part on page {after}")
        elif letters(re.sub(r"\\\(.*", "", title))[:20] not in words[first - 1]:
            found.append(f"{title!r} is not on page {first}")
    for number, (page, said) in enumerate(zip(reader.pages, words, strict=True), 1):
        resources: Any = page["/Resources"].get_object()
        if not re.sub(r"\d", "", said) and not resources.get("/XObject"):
            found.append(f"page {number} is empty")
        fonts = [font.get_object() for font in resources.get("/Font", {}).values()]
        lacking = [font.get("/BaseFont") for font in fonts if not embedded(font)]
        found += [f"page {number} has a font that is not in the file: {name}" for name in lacking]
    return found


def letters(text: str) -> str:
    """A text without what stands between its letters, and with those that a font has drawn together apart."""
    return re.sub(r"\W", "", normalize("NFKC", text))


def embedded(font: Any) -> bool:
    """Whether a font of a PDF is in the file."""
    own = font.get("/DescendantFonts", [font])[0].get_object()
    described = own["/FontDescriptor"].get_object() if "/FontDescriptor" in own else {}
    return own["/Subtype"] == "/Type3" or any(f"/FontFile{kind}" in described for kind in ("", 2, 3))


def contents(parts: list[tuple[str, str]], numbers: dict[str, int] | None = None) -> str:
    """The contents of an edition as HTML; with numbers of pages these alone, to be laid over the others."""
    lines = []
    for anchor, title in parts:
        words = "" if numbers else f'<a href="#{escape(anchor)}">{escape(title)}</a>'
        lines.append(f"<p><span>{words}</span><span>{numbers[anchor] if numbers else ''}</span></p>")
    heading = "" if numbers else "Contents"
    return f'<nav class="contents"><p class="heading"><span>{heading}</span></p>{"".join(lines)}</nav>'


def _apart(whole: Path, starts: dict[str, int]) -> list[Path]:
    """Write each part of the whole book into a file of its own, with the page numbers of the whole."""
    folder = whole.parent / "pdf"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    read, files = PdfReader(whole), []
    ends = [*[first - 1 for first in list(starts.values())[1:]], len(read.pages)]
    for (anchor, first), last in zip(starts.items(), ends, strict=True):
        part = PdfWriter()
        for page in read.pages[first - 1 : last]:
            page.pop("/StructParents", None)
            part.add_page(page, excluded_keys=["/Annots"])  # its links lead to pages that are not there
        files.append(folder / f"{anchor.rpartition('/')[2]}.pdf")
        part.write(files[-1])
    return files


def _title_page(note: str = "") -> str:
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    rows = {"Version": pbtlib.__version__, "Commit": commit(), "Licence": config["copyright"]}
    lines = "".join(f"<dt>{key}</dt><dd>{escape(str(value))}</dd>" for key, value in rows.items())
    return (
        f'<div class="title-page"><p style="font-size:26pt;font-weight:700">{escape(config["title"])}</p>'
        "<p>A computational paper on <em>Two-Time-Scale Learning Dynamics: A Population View of Neural Network "
        "Training</em> by Borghi, Im and Pareschi: every claim derived, computed and checked.</p>"
        f"<p>{escape(config['author'])}</p>{f'<p>{escape(note)}</p>' if note else ''}<dl>{lines}</dl></div>"
    )


def archive() -> Path:
    """Pack the pages and return the file."""
    with tempfile.TemporaryDirectory() as folder:
        inside = Path(folder) / f"book-{pbtlib.__version__}"
        shutil.copytree(HTML, inside, ignore=shutil.ignore_patterns(".buildinfo", "objects.inv", "*.map"))
        return Path(shutil.make_archive(str(BUILD / "book"), "zip", folder, inside.name))


def shots(pages: list[str]) -> Path:
    """Picture pages in full height, light, dark and on a phone, and return the folder."""
    folder = BUILD / "shots"
    folder.mkdir(exist_ok=True)
    with chromium() as browser:
        for view, options in VIEWS.items():
            page = browser.new_context(**options).new_page()
            for name in pages:
                open_page(page, HTML / f"{name}.html")
                page.evaluate(EAGER)
                page.screenshot(path=folder / f"{Path(name).name}-{view}.png", full_page=True, timeout=300_000)
    return folder


if __name__ == "__main__":
    raise SystemExit(main())
