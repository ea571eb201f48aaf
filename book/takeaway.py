"""The built book to take away: as PDF, as an archive for reading without a network, as pictures to look at.

python -m book.takeaway pdf      _build/book.pdf, the whole book for print
python -m book.takeaway zip      _build/book.zip, the pages; open index.html in it
python -m book.takeaway shots    _build/shots/, every page in three sizes (needs `make book` first, as zip does)
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import yaml
from playwright.sync_api import Browser, Page, sync_playwright

import pbtlib
from book.browser import NONE, bring
from book.build import BUILD, SOURCE, commit, environment, jupyter_book, toc_files
from book.execute import ROOT

HTML = BUILD / "html"
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic")
VIEWS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 900}},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}},
}

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
section > h1, span[id^="document-"] + section { break-before: page; }
h1, h2, h3, h4, summary { break-after: avoid; }
figure, .cell_input, .admonition-title, mjx-container, li.ledger, .ledger > summary { break-inside: avoid; }
figure img { max-height: 220mm; max-width: 100%; }
pre { white-space: pre-wrap !important; overflow: visible !important; font-size: 7.2pt !important; }
div.math, .cell_output .text_html, .bd-content table, .ledger-graph { overflow: visible !important; }
.ledger-graph { break-inside: avoid; border: none !important; }
.ledger-graph svg { width: 100%; height: auto; max-height: 235mm; }
a { color: inherit; text-decoration: none; }
.title-page { height: 245mm; display: flex; flex-direction: column; justify-content: center; gap: 1.5rem;
  break-after: page; }
.title-page h1 { break-before: auto; font-size: 26pt; }
.title-page dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1rem; }
"""

PREPARE = """
(front) => {
  document.documentElement.dataset.theme = "light";
  for (const fold of document.querySelectorAll("details")) fold.open = true;
  for (const fold of document.querySelectorAll(".toggle-hidden")) fold.classList.remove("toggle-hidden");
  for (const link of document.querySelectorAll("a[href]")) {   // pages have become parts of one
    const href = link.getAttribute("href"), anchor = decodeURIComponent(href.split("#")[1] || "");
    if (/^[a-z]+:/.test(href)) continue;
    if (anchor && document.getElementById(anchor)) link.setAttribute("href", "#" + anchor);
    else link.removeAttribute("href");   // a file beside the pages
  }
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
            print(f"The book for print is at {pdf()}")
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


def pdf() -> Path:
    """Print the book, with a title page, page numbers and bookmarks, and return the file."""
    target = BUILD / "book.pdf"
    with tempfile.TemporaryDirectory() as folder:
        read = BUILD / ".doctrees"  # the sources as they were read for the pages: they need not be read again
        if read.is_dir():
            shutil.copytree(read, Path(folder) / "_build" / read.name)
        words = ["build", str(SOURCE), "--path-output", folder, "--builder", "singlehtml", "-q"]
        subprocess.run([*jupyter_book(), *words], env=environment(), check=True)
        built = Path(folder) / "_build" / "singlehtml"
        whole = built / "book.html"  # its links to style and pictures start at the top folder
        shutil.copy(built / f"{toc_files()[0]}.html", whole)
        with chromium() as browser:
            page = browser.new_page(viewport={"width": 680, "height": 1000})
            open_page(page, whole)
            page.add_style_tag(content=PRINT)
            page.emulate_media(media="print", color_scheme="light")
            page.evaluate(PREPARE, _title_page())
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
    return target


def _title_page() -> str:
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    rows = {"Version": pbtlib.__version__, "Commit": commit(), "Licence": config["copyright"]}
    lines = "".join(f"<dt>{key}</dt><dd>{escape(str(value))}</dd>" for key, value in rows.items())
    return (
        f'<div class="title-page"><p style="font-size:26pt;font-weight:700">{escape(config["title"])}</p>'
        "<p>A computational paper on <em>Two-Time-Scale Learning Dynamics: A Population View of Neural Network "
        "Training</em> by Borghi, Im and Pareschi: every claim derived, computed and checked.</p>"
        f"<p>{escape(config['author'])}</p><dl>{lines}</dl></div>"
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
                page.screenshot(path=folder / f"{Path(name).name}-{view}.png", full_page=True, timeout=300_000)
    return folder


if __name__ == "__main__":
    raise SystemExit(main())
