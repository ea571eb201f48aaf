"""Pages that weigh little, are at home where they are shared, and can be taken along: on the built pages."""

import base64
import re
import tomllib
from functools import cache
from io import BytesIO
from urllib.parse import unquote, urldefrag

import numpy as np
import pytest
import yaml
from docutils import nodes
from fontTools.ttLib import TTFont
from PIL import Image

import pbtlib
from benchmarks.pages import LANDING, measured, served
from book.build import BUILD, story_pages, toc_files
from book.citing import CITATION, book_entry, entries
from book.execute import CHAPTERS, ROOT, TWINS
from book.light import needed, size, without_the_unneeded
from book.light.bundles import FONT, Bundles, small_font, used_signs
from book.pictures.kernel import with_palette
from book.sharing import description, sitemap, tags
from book.takeaway import open_page

HTML = BUILD / "html"
PAGES = pytest.mark.parametrize("name", [*toc_files(), "search", "genindex"])


@pytest.fixture(scope="module")
def browser(pages, browser):
    return browser


@cache
def html(name):
    return (HTML / f"{name}.html").read_text()


def head_and_article(name):
    head, _, body = html(name).partition("</head>")
    return head, body.partition("<article")[2]


# ---------------------------------------------------------------------------------------------- weight


def test_the_landing_page_weighs_little(browser):
    with served(HTML) as address:
        found = measured(browser, address, LANDING, slow=False)
    assert found["kB"] <= 350
    assert found["film"] < float("inf"), "it moves"


def test_a_heavy_page_would_be_noticed(browser, tmp_path):
    (tmp_path / "noise.js").write_text(repr(np.random.default_rng(1).bytes(400_000)))
    (tmp_path / "page.html").write_text(
        '<!DOCTYPE html><script src="noise.js"></script><div class="math notranslate">x</div>'
    )
    with served(tmp_path) as address:
        found = measured(browser, address, "page", slow=False, patience=1)
    assert found["kB"] > 350
    assert found["formulas"] == float("inf"), "nothing sets this one"


@PAGES
def test_a_page_loads_no_script_that_it_does_not_need(name, pages):
    head, article = head_and_article(name)
    assert ("tex-chtml.js" in head) == ('class="math' in article)
    assert (re.search(r'[/ "]moving\.js[ "?]', head) is not None) == ('class="moving"' in article)
    assert ("searchindex.js" in head) == (name == "search")
    assert "fontawesome" not in html(name)
    assert head.count('name="viewport"') == 1


def test_some_pages_have_formulas_and_some_have_none(pages):
    assert {'class="math' in head_and_article(name)[1] for name in toc_files()} == {True, False}


def test_what_a_page_needs_is_kept():
    formula, plain = '<span class="math notranslate">', "<p>words</p>"
    assert needed("_static/mathjax/tex-chtml.js", formula)
    assert not needed("_static/mathjax/tex-chtml.js", plain)
    assert needed("_static/copybutton.js", '<div class="highlight"><pre>')
    assert not needed("_static/copybutton.js", plain)
    assert needed("_static/doctools.js", plain), "what nobody speaks of stays"
    search = '<script src="../_static/searchtools.js"></script><script src="../_static/own.js"></script>'
    assert without_the_unneeded(search) == '<script src="../_static/own.js"></script>'


# ---------------------------------------------------------------------------------------------- few files

HEAD = """<head><link rel="stylesheet" href="../_static/basic.css?v=1" />
<link rel="stylesheet" href="../_static/styles/pydata-sphinx-theme.css?v=1" />
<link rel="stylesheet" href="../_static/own.css" />
<script src="../_static/documentation_options.js"></script><script src="../_static/a.js?v=2"></script>
<script>let between;</script><script defer="defer" src="../_static/b.js"></script>
<script defer="defer" src="../_static/mathjax/tex-chtml.js"></script></head><body>words</body>"""


@pytest.fixture
def static(tmp_path):
    """A folder of style sheets and scripts."""
    (tmp_path / "styles").mkdir()
    (tmp_path / "basic.css").write_text("p { background: url(file.png); }")
    (tmp_path / "styles" / "pydata-sphinx-theme.css").write_text(
        '@charset "UTF-8";.fa-x:before,.fa-y:before{content:"\\f000"}b{background:url("../b.svg")}'
    )
    (tmp_path / "own.css").write_text("i { background: url(data:image/png;base64,AA==); }")
    (tmp_path / "documentation_options.js").write_text("const OPTIONS = 1;")
    (tmp_path / "a.js").write_text('"use strict"; const a = 1')
    (tmp_path / "b.js").write_text("b = a;")
    return tmp_path


def test_the_files_of_a_page_are_joined_in_their_order(static):
    page = Bundles(static).page(HEAD)
    theme, own = (static / name for name in re.findall(r'href="../_static/([^"]+)"', page))
    script, formulas = re.findall(r'src="../_static/([^"]+)"', page)
    assert theme.read_text().index("p {") < theme.read_text().index("b{")
    assert "url(b.svg)" in theme.read_text()
    assert "url(file.png)" in theme.read_text()
    assert "fa-x" not in theme.read_text()
    assert "url(data:image/png" in own.read_text()
    assert (static / script).read_text().startswith(";"), "else one file's strictness would hold for all"
    assert (static / script).read_text().index("const a") < (static / script).read_text().index("b = a")
    assert formulas == "mathjax/tex-chtml.js"
    assert "<script>const OPTIONS = 1;</script>" in page
    assert 'data-of="a.js b.js"' in page


def test_what_is_joined_follows_its_files(static):
    page = Bundles(static).page(HEAD)
    assert Bundles(static).page(page) == page
    (static / "b.js").write_text("b = 2 * a;")
    again = Bundles(static).page(page)
    assert again != page
    assert "2 * a" in (static / re.search(r'src="../_static/(together-[^"]+)"', again)[1]).read_text()


@PAGES
def test_a_page_is_a_handful_of_files(name, pages):
    head, _ = head_and_article(name)
    assert len(re.findall(r'<link (?=[^>]*rel="stylesheet")', head)) == 2
    scripts = re.findall(r'<script[^>]*src="([^"]+)"', head)
    assert name == "search" or len([one for one in scripts if "mathjax" not in one]) == 1
    for one in re.findall(r'(?:href|src)="([^"]*_static/together-[^"]+)"', head):
        assert ((HTML / f"{name}.html").parent / one).is_file()


def test_the_font_of_icons_holds_what_is_used_and_little_else(pages):
    signs = used_signs('a:after{content:"\\f107"}')
    assert signs == {0xF107}
    font = small_font(HTML / "_static" / FONT, signs | {0xF0EB})
    with TTFont(BytesIO(base64.b64decode(font.partition(",")[2][:-1]))) as opened:
        assert set(opened.getBestCmap()) == {0xF107, 0xF0EB}
    assert len(font) < 5000


def test_a_page_is_dark_before_its_scripts_have_come(browser):
    for scheme in ("light", "dark"):
        page = browser.new_context(color_scheme=scheme).new_page()
        page.route("**/*.js*", lambda route: route.abort())
        page.goto((HTML / "chapters/04_convergence.html").as_uri())
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        page.context.close()


# ---------------------------------------------------------------------------------------------- figures


def drawn(dots):
    """A PNG of random colours with this density."""
    colours = np.random.default_rng(3).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    out = BytesIO()
    Image.fromarray(colours).save(out, "png", dpi=(dots, dots))
    return out.getvalue()


def test_a_picture_keeps_its_density_and_its_colours_nearly(tmp_path):
    before, after = drawn(220), with_palette(drawn(220))
    with Image.open(BytesIO(before)) as old, Image.open(BytesIO(after)) as new:
        assert new.mode == "P"
        assert round(new.info["dpi"][0]) == 220
        assert np.abs(np.asarray(old, float) - np.asarray(new.convert("RGB"), float)).mean() < 20, (
            "2,400 colours in 256"
        )
    assert len(after) < len(before)
    (tmp_path / "sharp.png").write_bytes(after)
    (tmp_path / "soft.png").write_bytes(drawn(110))
    assert size(tmp_path / "sharp.png") == (30, 20)
    assert size(tmp_path / "soft.png") == (60, 40)


def test_a_small_mark_of_its_own_colour_keeps_it(monkeypatch):
    """Beside two thousand shades that are all more frequent; a palette of the most frequent ones would give it up."""
    shades = np.zeros((100, 2000, 3), np.uint8)
    shades[..., 0], shades[..., 1] = np.arange(2000) // 8, np.arange(2000) % 8 * 30
    pink, out = (220, 120, 190), BytesIO()
    shades[50:53, 700:704] = pink
    Image.fromarray(shades).save(out, "png")

    def middle():
        with Image.open(BytesIO(with_palette(out.getvalue()))) as few:
            return few.convert("RGB").getpixel((701, 51))

    assert middle() == pink
    monkeypatch.setattr("book.pictures.kernel.FREQUENT", 256)
    assert np.abs(np.subtract(middle(), pink)).max() > 20


def test_figures_are_sharp_and_keep_their_place(pages):
    shown = 0
    for name in story_pages():
        for picture in re.findall(r"<img[^>]*_images/[^>]*>", html(name)):
            path = HTML / "_images" / re.search(r'_images/([^"]+)', picture)[1]
            with Image.open(path) as opened:
                assert round(opened.info["dpi"][0]) == 220, path
            assert 'loading="lazy"' in picture
            assert re.search(r'width="\d+" height="\d+"', picture)
            shown += 1
    assert shown > 50


def share_still_blue(light, dark):
    """Of the pixels that are blue in the light, how many are in the dark."""
    blue, seen = (colours[..., 2] - colours[..., 0] > 40 for colours in (light, dark))
    assert blue.any()
    return seen[blue].mean()


def test_a_figure_is_at_home_in_the_dark(browser):
    """What is white in it becomes the page, and blue stays blue, as it would not if colours were only inverted."""
    shots = {}
    for scheme in ("light", "dark"):
        page = browser.new_context(color_scheme=scheme).new_page()
        open_page(page, HTML / "chapters/02_1_mechanism.html")
        figure = page.locator("article figure img").first
        figure.scroll_into_view_if_needed()
        page.wait_for_function("e => e.complete", arg=figure.element_handle())
        with Image.open(BytesIO(figure.screenshot())) as shot:
            colours = np.asarray(shot.convert("RGB"), float)
        corner = colours[:4, :4].reshape(-1, 3).mean(0)
        page_colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert np.allclose(corner, [int(v) for v in re.findall(r"\d+", page_colour)[:3]], atol=6)
        shots[scheme] = colours
        page.context.close()
    assert shots["light"].mean() > 200
    assert shots["dark"].mean() < 90
    assert share_still_blue(**shots) > 0.8
    assert share_still_blue(shots["light"], 255 - shots["light"]) < 0.2


# ---------------------------------------------------------------------------------------------- formulas


def copied(page, selector):
    return page.evaluate(
        """(selector) => {
          getSelection().selectAllChildren(document.querySelector(selector));
          const data = new DataTransfer();
          document.dispatchEvent(new ClipboardEvent("copy", { clipboardData: data, cancelable: true }));
          return data.getData("text/plain");
        }""",
        selector,
    )


def test_copied_prose_keeps_its_formulas(browser):
    page = browser.new_page()
    open_page(page, HTML / "chapters/04_convergence.html")
    words = copied(page, "article p:has(mjx-container)")
    assert re.search(r"\$[^$]*[\\_^=a-zA-Z][^$]*\$", words)
    assert copied(page, "article h2") == "", "without a formula the browser copies as it does"
    page.close()


def test_formulas_in_lines_are_no_stops_of_the_tab_key(browser):
    page = browser.new_page()
    open_page(page, HTML / "chapters/02_1_mechanism.html")
    page.wait_for_function("document.querySelector('mjx-container[tabindex]')")
    stops = page.evaluate(
        "[...document.querySelectorAll('mjx-container')].map(e => [e.tabIndex, e.matches('[display], .wide')])"
    )
    assert {(stop, reachable) for stop, reachable in stops} == {(0, True), (-1, False)}
    page.close()


def test_every_formula_can_be_read_aloud_folded_ones_too(browser):
    """It is hidden from a screen reader as drawn, and has MathML, which comes after all are drawn."""
    page = browser.new_page()
    open_page(page, HTML / "chapters/03_two_time_scales.html")
    mute = """[...document.querySelectorAll("mjx-container")].filter((one) =>
        one.querySelector("mjx-math").ariaHidden !== "true"
        || !one.querySelector("mjx-assistive-mml math")?.childElementCount).length"""
    assert page.locator("mjx-container").count() > 50
    assert page.evaluate(mute) == 0
    page.locator("article details:has(.math) summary").first.click()
    page.locator("article details[open] mjx-container").first.wait_for()
    page.wait_for_function(f"{mute} === 0")
    page.evaluate("document.querySelector('mjx-assistive-mml').remove()")
    assert page.evaluate(mute) == 1, "one without would be noticed"
    page.close()


def test_folded_formulas_are_set_when_they_come_into_view_and_for_print(browser):
    page = browser.new_page()
    open_page(page, HTML / "chapters/03_two_time_scales.html")
    unset = "[...document.querySelectorAll('article .math')].filter(e => !e.querySelector('mjx-container')).length"
    before = page.evaluate(unset)
    assert before > 0
    fold = page.locator("article details:has(.math)").first
    fold.locator("summary").first.click()
    fold.locator("mjx-container").first.wait_for()
    assert page.evaluate(unset) < before
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(unset) == 0
    page.close()


# ---------------------------------------------------------------------------------------------- where pages are shared


@pytest.mark.parametrize("width", [1280, 390])
def test_a_picture_keeps_its_proportions_where_it_is_made_narrower(width, browser):
    """And where a sheet did not see to it, it would not: a notebook gives its pictures a width and a height."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    open_page(page, HTML / "chapters" / "05_1a_quadratic.html")
    stretched = """() => [...document.querySelectorAll("article img[width]")].map((one) =>
        Math.abs(one.clientWidth / one.clientHeight * one.getAttribute("height") / one.getAttribute("width") - 1))"""
    assert max(page.evaluate(stretched)) < 0.02
    page.evaluate("""() => document.querySelectorAll("article img[height]").forEach((one) =>
        one.style.setProperty("height", `${one.getAttribute("height")}px`, "important"))""")
    assert max(page.evaluate(stretched)) > 0.1
    page.close()


@PAGES
def test_a_page_says_what_it_is(name, pages):
    head, _ = head_and_article(name)
    assert len(re.findall(r'<meta name="description" content="[^"]{20,}"', head)) == 1
    assert head.count('property="og:title"') == head.count('property="og:description"') == 1
    (icon,) = re.findall(r'<link rel="icon"[^>]*href="([^"]+)"', head)
    assert ((HTML / f"{name}.html").parent / icon).is_file()


def test_descriptions_tell_pages_apart(pages):
    said = [re.search(r'<meta name="description" content="([^"]*)"', html(name))[1] for name in toc_files()]
    assert len(set(said)) > 0.8 * len(said)


def test_a_wrong_address_leads_to_the_book(pages):
    links = re.findall(r'href="([^"]+)"', (HTML / "404.html").read_text())
    assert len(links) == 3
    assert all((HTML / unquote(urldefrag(link).url)).is_file() for link in links)


def test_with_an_address_a_page_has_a_picture_and_there_is_a_list_of_pages():
    top, page = "https://someone.example/book/", "https://someone.example/book/chapters/index.html"
    head = tags("Title", 'Words & "more"', "../", page)
    assert 'og:image" content="https://someone.example/book/_images/' in head
    assert "Words &amp; &quot;more&quot;" in head
    assert f"<loc>{page}</loc>" in sitemap(top, ["chapters/index.html"])
    assert "og:image" not in tags("Title", "Words", "../"), "a picture needs a full address"


def test_a_description_has_no_formula_and_no_broken_word():
    formula, plain = nodes.paragraph("", "", nodes.math("", "x")), nodes.paragraph("", "word " * 60)
    words = description(nodes.section("", formula, plain), "otherwise")
    assert words.startswith("word word")
    assert len(words) <= 200
    assert description(nodes.section("", formula), "otherwise") == "otherwise"


# ---------------------------------------------------------------------------------------------- to cite


def test_the_entry_of_this_book_is_what_the_citation_file_says():
    citation, here = CITATION.read_text(), pbtlib.__version__
    entry = book_entry(citation)
    assert entry.startswith("@software{")
    assert all(words in entry for words in ("Population-based training, alive", here, "The authors of the book"))
    assert "9.9" in book_entry(citation.replace(here, "9.9"))


def test_the_version_is_that_of_the_library_wherever_a_format_asks_for_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "pbtlib.__version__"}
    assert yaml.safe_load(CITATION.read_text())["version"] == pbtlib.__version__
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == pbtlib.__version__
    said = [path.name for path in TWINS.glob("*.md") if pbtlib.__version__ in path.read_text()]
    assert said == [], "the foot of each page says it"


def test_every_entry_can_be_copied(browser):
    known = entries((CHAPTERS / "references.bib").read_text())
    assert len(known) == (CHAPTERS / "references.bib").read_text().count("\n@") + 1
    page = browser.new_page()
    open_page(page, HTML / "chapters/bibliography.html")
    blocks = page.locator("article div.highlight")
    assert all(key in blocks.first.text_content() for key in known)
    assert page.locator("article div.highlight button.copybtn").count() == blocks.count() >= 3
    page.close()


# ---------------------------------------------------------------------------------------------- the ledger's filters


def test_the_filters_of_the_ledger_stand_in_the_address(browser):
    page = browser.new_page()
    open_page(page, HTML / "chapters/claims.html")
    for menu in ("status", "kind"):
        page.locator(f"select[data-filter={menu}]").select_option(index=1)
    shown = page.locator("details.ledger:visible").count()
    address = page.url
    assert "status=" in address
    assert "kind=" in address
    other = browser.new_page()
    open_page(other, HTML / "chapters/claims.html")
    other.goto(address)
    other.reload()
    assert other.locator("details.ledger:visible").count() == shown
    other.get_by_role("button", name="Show all").click()
    assert "status=" not in other.url
    page.close()
    other.close()
