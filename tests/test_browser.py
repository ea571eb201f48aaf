"""The built pages as a reader meets them: read from disk, in headless Chromium, without any network."""

import os
import shutil

import pytest
from playwright.sync_api import sync_playwright

from tools.build import BUILD, toc_files

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
PAGES = [f"{name}.html" for name in toc_files()] + ["search.html", "genindex.html"]


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have a Chromium for the browser tests")
        pytest.skip("no Chromium on this machine (set CHROMIUM to its path)")
    if not (BUILD / "html" / "index.html").is_file():
        pytest.fail("the book is not built; run `make book` first")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


def visit(browser, name, **context):
    """Open a page from disk; return it with what it asked the network for and what it complained of."""
    page = browser.new_context(**context).new_page()
    asked, complaints = [], []
    page.on("request", lambda r: asked.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None)
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.goto((BUILD / "html" / name).as_uri(), timeout=60_000)
    page.evaluate("window.MathJax?.startup?.promise?.then(() => true)")
    return page, asked, complaints


@pytest.mark.parametrize("name", PAGES)
def test_a_page_needs_no_network_and_raises_no_error(browser, name):
    page, asked, complaints = visit(browser, name)
    assert not asked
    assert not complaints
    page.context.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_does_not_scroll_sideways_on_a_phone(browser, name):
    page, _, _ = visit(browser, name, viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.context.close()


def test_mathematics_is_typeset_without_network(browser):
    page, _, _ = visit(browser, "chapters/02_modelling.html")
    assert page.locator("mjx-container").count() > 3
    page.context.close()


def test_a_request_to_the_network_would_be_noticed(browser, tmp_path):
    (tmp_path / "page.html").write_text('<script src="http://127.0.0.1:9/x.js"></script>')
    _, asked, complaints = visit(browser, tmp_path / "page.html")
    assert asked == ["http://127.0.0.1:9/x.js"]
    assert complaints
