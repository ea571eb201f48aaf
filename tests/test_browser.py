"""The built pages as a reader meets them: read from disk, in headless Chromium, without any network."""

import csv
import re
from functools import cache
from urllib.parse import unquote

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

from book.build import BUILD, story_pages, toc_files
from book.takeaway import open_page
from pbtlib.claims import ledger

HTML = BUILD / "html"
PAGES = [f"{name}.html" for name in toc_files()] + ["search.html", "genindex.html"]
PAGE = pytest.mark.parametrize("name", PAGES)
FEW = 6000
STANDARD = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}


@pytest.fixture(scope="module")
def browser(pages, browser):
    return browser


def visit(browser, name, **context):
    """Open a page from disk; return it with what it asked the network for and what it complained of."""
    page = browser.new_context(**context).new_page()
    asked, complaints = [], []
    page.on("request", lambda r: asked.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None)
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: complaints.append(str(e)))
    open_page(page, HTML / name)
    return page, asked, complaints


EVERY = Axe()
ALIKE = Axe(EVERY.axe_script + "; axe.configure({ rules: [{ id: 'color-contrast', selector: '[data-like]' }] })")
"""Looks at one text of each kind for its contrast (`LIKE` marks it), and at everything else as `EVERY` does."""


def violations(page, rules, axe=EVERY):
    """What axe finds, as lines: the rule, the element, the reason."""
    options = {"resultTypes": ["violations"], "runOnly": rules, "preload": False}  # it would fetch the style sheets
    found = axe.run(page, options=options).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:200]} ({(node['any'] + node['all'] + node['none'])[0]['message']})"
        for rule in found
        for node in rule["nodes"]
    ]


FIGURES = """
[...document.querySelectorAll(".bd-article .cell_output img, .bd-article figure img")].map((image) => {
  const figure = image.closest("figure");
  const link = figure?.querySelector(".figure-data a.download");
  return {
    alt: image.alt, caption: figure?.querySelector("figcaption p")?.textContent ?? "",
    data: link?.href ?? "", made: link?.parentElement.textContent ?? "",
  };
})
"""
CUT = """
[...document.querySelectorAll(".bd-article :is(mjx-container, img, table, pre, svg)")].filter((part) => {
  if (!part.checkVisibility() || part.getBoundingClientRect().right <= innerWidth) return false;
  for (let box = part; box !== document.body; box = box.parentElement) {
    if (["auto", "scroll"].includes(getComputedStyle(box).overflowX)) return false;
  }
  return true;
}).map((part) => part.closest("p, li, figure, section").outerHTML.slice(0, 200))
"""
"""What sticks out of a narrow screen and cannot be scrolled to."""
WIDE = """
[...document.querySelectorAll("div.math mjx-container")].filter(box => box.checkVisibility() &&
  [...box.querySelectorAll("mjx-c")].some(c => {
    const glyph = c.getBoundingClientRect(), frame = box.getBoundingClientRect();
    return glyph.left < Math.max(frame.left, 0) - 1 || glyph.right > frame.left + box.scrollWidth + 1;
  })).map(box => box.textContent.slice(0, 40))
"""
"""Displayed formulas of which one end cannot be scrolled to."""
BROKEN = "[...document.querySelectorAll('mjx-merror')].map((formula) => formula.textContent)"
"""What stands in place of formulas that are wrong."""
NODES = "document.querySelectorAll('*').length"
CODE = """
[...document.querySelectorAll(".bd-article :is(.cell_input, .cell_output) pre")]
  .filter((box) => box.scrollWidth > box.clientWidth + 1)
  .map((box) => box.textContent.slice(0, 200))
"""
"""Cells and what they print with lines too long for their box."""
LIKE = """
(() => {
  const kinds = new Map([[document.body.parentElement, ""]]), seen = new Set();
  const kind = (e) => {
    if (!kinds.has(e)) {
      const { backgroundColor, backgroundImage, opacity } = getComputedStyle(e);
      const own = opacity === "1" && backgroundImage === "none" && backgroundColor === "rgba(0, 0, 0, 0)"
        ? "" : `|${backgroundColor} ${backgroundImage} ${opacity}`;
      kinds.set(e, kind(e.parentElement) + own);
    }
    return kinds.get(e);
  };
  for (const e of document.querySelectorAll("body *")) {
    const box = e.getBoundingClientRect();
    const text = [...e.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim().length > 1);
    if (!text || box.width < 2 || box.height < 2 || !e.checkVisibility({ visibilityProperty: true })) continue;
    if (e.closest("mjx-assistive-mml")) continue;
    const { color, fontSize, fontWeight } = getComputedStyle(e), key = `${kind(e)}|${color} ${fontSize} ${fontWeight}`;
    if (!seen.has(key)) { seen.add(key); e.dataset.like = ""; }
  }
})()
"""
"""Marks one text of each kind: of all that share colour, size, weight and every background below them."""
FORMULAS = """
{
  const formulas = [...document.querySelectorAll("mjx-container")].slice(20).filter((e) => !e.querySelector("[color]"));
  const boxes = formulas.map((formula) => {
    const { width, height } = formula.firstElementChild.getBoundingClientRect(), box = document.createElement("span");
    box.style.cssText = `display: inline-block; width: ${width}px; height: ${height}px`;
    return box;
  });
  formulas.forEach((formula, k) => formula.replaceChildren(boxes[k]));
}
"""
WORDS = """
for (const word of document.querySelectorAll(".highlight pre span:not([data-like])")) {
  if (!word.querySelector("[data-like]")) word.replaceWith(word.textContent);
}
"""
"""Nine tenths of a page are the inside of formulas and of code, all made alike: some stay for axe to look at."""
DARK = "document.documentElement.dataset.theme = 'dark'"
LIGHT = "document.documentElement.dataset.theme = 'light'"
IDS = "[...document.querySelectorAll('[id]')].map(e => e.id).filter((id, k, all) => all.indexOf(id) < k)"


def unfolded(page):
    """Return the page at rest, with every proof, solution and code cell open."""
    page.add_style_tag(content="* { transition: none !important; animation: none !important; }")
    page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    return page


def faint(page, rules=("color-contrast",)):
    """What of a page is too pale to be read, as axe finds it on one text of each kind: the page has thousands alike.

    Or what is against any of the rules, to look at the page no more than once.
    """
    page.evaluate("document.querySelectorAll('[data-like]').forEach((e) => { delete e.dataset.like; })")
    page.evaluate(LIKE)
    return violations(page, rules, ALIKE)


@pytest.fixture(scope="module")
def seen(browser):
    """All that the tests below ask of a page, from one visit to each."""

    @cache
    def look(name):
        phone, desk = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
        page, asked, complaints = visit(browser, name, viewport=phone, reduced_motion="reduce", color_scheme="light")
        found = {"asked": asked, "complaints": complaints, "figures": page.evaluate(FIGURES), "ids": page.evaluate(IDS)}
        found["provenance"] = page.locator(".provenance").count()
        found["nodes"] = page.evaluate(NODES)
        found["phone"] = page.evaluate("document.documentElement.scrollWidth")
        found["wide"] = page.evaluate(WIDE)
        found["cut"] = page.evaluate(CUT)
        unfolded(page)
        found["broken"] = page.evaluate(BROKEN)
        for script in (FORMULAS, DARK, LIKE, LIGHT, LIKE, WORDS):
            page.evaluate(script)
        found["scrolling"] = violations(page, ["scrollable-region-focusable"])
        page.set_viewport_size(desk)
        found["light"] = faint(page, STANDARD)
        found["code"] = page.evaluate(CODE)
        page.evaluate(DARK)
        found["dark"] = faint(page)
        page.context.close()
        return found

    return look


@PAGE
@pytest.mark.slow
def test_a_page_needs_no_network_and_raises_no_error(seen, name):
    assert not seen(name)["asked"]
    assert not seen(name)["complaints"]
    assert not seen(name)["broken"]


@PAGE
def test_a_page_does_not_scroll_sideways_on_a_phone(seen, name):
    assert seen(name)["phone"] <= 390
    assert not seen(name)["scrolling"]
    assert not seen(name)["cut"]


@pytest.mark.parametrize("name", ["02_2_many_agents", "04_convergence", "c_proofs"])
def test_both_ends_of_a_wide_equation_can_be_scrolled_to_on_a_phone(seen, name):
    assert not seen(f"chapters/{name}.html")["wide"]


@pytest.mark.parametrize("name", [f"{page}.html" for page in story_pages()])
def test_a_story_page_has_few_nodes(seen, name):
    assert seen(name)["nodes"] < FEW


@PAGE
def test_code_need_not_be_scrolled_on_a_desk(seen, name):
    assert not seen(name)["code"]


@PAGE
def test_a_page_is_accessible_in_light_and_dark(seen, name):
    assert not seen(name)["light"]
    assert not seen(name)["dark"]
    assert not seen(name)["ids"]


@PAGE
def test_every_figure_has_words_and_data(seen, name):
    for figure in seen(name)["figures"]:
        assert len(figure["alt"]) > 20, figure
        assert len(figure["caption"]) > 20, figure
        assert re.search(r"pbtlib \d.*commit .*executed in", figure["made"]), figure
        path = unquote(figure["data"].removeprefix("file://"))
        assert path.endswith(".csv"), figure
        rows = read_csv(path)
        assert len(rows) > 2, figure


def test_some_pages_have_figures(seen):
    assert sum(len(seen(name)["figures"]) for name in PAGES) > 15


@pytest.mark.parametrize("name", [page for page in PAGES if page.startswith("chapters/")])
def test_a_page_says_how_it_was_made(seen, name):
    assert seen(name)["provenance"] == 1


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def test_the_data_of_a_figure_are_what_it_draws(seen):
    """Each point of the curve solves v/(1 + av) + σ² = v with a = β/(1 + β/2), σ = 0.3, to the digits that are kept."""
    (figure,) = [f for f in seen("chapters/e3_two_time_scales.html")["figures"] if "saturates" in f["caption"]]
    rows = [row for row in read_csv(unquote(figure["data"][7:])) if row["kind"] == "line" and "F}" in row["series"]]
    beta, v = np.array([(float(row["x"]), float(row["y"])) for row in rows]).T
    assert beta == pytest.approx(np.geomspace(0.5, 1000, 100), rel=1e-5)

    def residual(a):
        return np.abs(v / (1 + a * v) + 0.3**2 - v).max()

    assert residual(beta / (1 + beta / 2)) < 1e-5
    assert residual(beta / 1.5) > 1e-2  # what a population selected by the effective fitness would do


def test_mathematics_is_typeset_without_network(browser):
    page, _, _ = visit(browser, "chapters/02_1_mechanism.html")
    assert page.locator("mjx-container").count() > 3
    assert not page.evaluate(BROKEN)
    wrong = r"\\begin{split} a \\tag{1} \\end{split}"
    page.evaluate(f"MathJax.tex2chtmlPromise('{wrong}').then((formula) => document.body.append(formula))")
    assert page.evaluate(BROKEN) == [r"\tag not allowed in split environment"]
    page.context.close()


def test_many_nodes_would_be_noticed(browser, tmp_path):
    (tmp_path / "page.html").write_text("<p>" + "<b>x</b>" * FEW)
    page, _, _ = visit(browser, tmp_path / "page.html")
    assert page.evaluate(NODES) > FEW
    page.context.close()


def test_a_request_to_the_network_would_be_noticed(browser, tmp_path):
    (tmp_path / "page.html").write_text('<script src="http://127.0.0.1:9/x.js"></script>')
    _, asked, complaints = visit(browser, tmp_path / "page.html")
    assert asked == ["http://127.0.0.1:9/x.js"]
    assert complaints


def test_faint_text_and_a_missing_description_would_be_noticed(browser, tmp_path):
    (tmp_path / "page.html").write_text(
        '<html lang="en"><title>x</title><main><p style="color:#999;background:#fff">faint</p><img src="data:,"></main>'
    )
    page, _, _ = visit(browser, tmp_path / "page.html")
    assert [line.partition(":")[0] for line in violations(page, STANDARD)] == ["color-contrast", "image-alt"]
    page.context.close()


def test_a_faint_text_among_others_would_be_noticed(browser, tmp_path):
    """The same grey is read well on black; of two that are faint alike, one is told."""
    texts = "".join(f'<p style="color:#999;background:{shade}">words</p>' for shade in ("#000", "#000", "#fff", "#fff"))
    (tmp_path / "page.html").write_text(f'<html lang="en"><title>x</title><main>{texts}</main>')
    page, _, _ = visit(browser, tmp_path / "page.html")
    (line,) = faint(page)
    assert "background:#fff" in line
    page.context.close()


def test_a_reader_who_prefers_the_dark_sees_it_dark(browser):
    page, _, _ = visit(browser, "chapters/index.html", color_scheme="dark")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.context.close()


def test_what_is_cut_off_on_a_phone_would_be_noticed(browser, tmp_path):
    picture = '<img style="width: 500px; height: 9px" src="data:,">'
    (tmp_path / "page.html").write_text(
        f'<body class="bd-article" style="overflow: hidden"><p>{picture}</p><p style="overflow-x: auto">{picture}</p>'
    )
    page, _, _ = visit(browser, tmp_path / "page.html", viewport={"width": 390, "height": 844})
    assert len(page.evaluate(CUT)) == 1
    sums = "".join(
        f"<div class='math'><mjx-container style='display: block; overflow: auto'><mjx-c style='position: relative;"
        f" left: {shift}px'>x</mjx-c></mjx-container></div>"
        for shift in (-60, 0, 600)  # its left end is lost; it fits; it can be scrolled to
    )
    page.set_content(sums)
    assert len(page.evaluate(WIDE)) == 1
    page.context.close()


# ---------------------------------------------------------------------------------------------- menus and links


def test_the_menus_work_by_keyboard(browser):
    page, _, _ = visit(browser, "chapters/04_convergence.html", viewport={"width": 1280, "height": 900})
    focus = "(e => e.textContent.trim() || e.title || e.ariaLabel || e.className)(document.activeElement)"
    page.keyboard.press("Tab")
    assert page.evaluate(focus) == "Skip to main content"
    found = []
    for _ in range(60):
        page.keyboard.press("Tab")
        visible = page.evaluate("(e => e.checkVisibility() && e.getClientRects().length > 0)(document.activeElement)")
        assert visible, page.evaluate("document.activeElement.outerHTML")
        found.append(page.evaluate("document.activeElement.outerHTML"))
    text = "\n".join(found)
    assert "01_introduction.html" in text
    assert "claims.html" in text
    page.locator(".dropdown-download-buttons button").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".dropdown-download-buttons .dropdown-menu.show")
    page.keyboard.press("ArrowDown")
    assert ".ipynb" in page.evaluate("document.activeElement.href")
    page.keyboard.press("Escape")
    theme = page.evaluate("document.documentElement.dataset.mode")
    page.locator(".theme-switch-button").first.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.documentElement.dataset.mode") != theme
    page.context.close()


def test_the_ledger_filters_by_keyboard_and_says_how_many(browser):
    page, _, _ = visit(browser, "chapters/claims.html")
    total = len(ledger())
    count = page.locator(".ledger-filters [role=status]")
    shown = page.locator("details.ledger:visible")
    assert count.text_content() == f"{total} of {total} claims shown."
    for key in ("status", "kind", "chapter", "section"):
        menu = page.locator(f"select[data-filter={key}]")
        menu.focus()
        page.keyboard.press("ArrowDown")
        number = shown.count()
        assert 0 < number < total
        assert count.text_content() == f"{number} of {total} claims shown."
        value = menu.input_value()
        assert page.locator(f'details.ledger:visible[data-{key}="{value}"]').count() == number
        page.get_by_role("button", name="Show all").press("Enter")
        assert shown.count() == total
    page.goto((HTML / "chapters/claims.html").as_uri() + "#status=verified-with-a-caveat")
    page.reload()
    caveats = sum(record.status == "verified with a caveat" for record in ledger().values())
    assert shown.count() == caveats
    page.evaluate("location.hash = 'ledger-thm-4'")
    page.wait_for_function("document.getElementById('ledger-thm-4').open")
    page.context.close()


def test_the_ledger_is_whole_without_scripts(browser):
    page, _, _ = visit(browser, "chapters/claims.html", java_script_enabled=False)
    assert page.locator("details.ledger:visible").count() == len(ledger())
    assert not page.locator(".ledger-filters").is_visible()
    page.context.close()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("02_modelling.html", "02_1_mechanism.html"),
        ("02_modelling.html#fig-2", "02_1_mechanism.html#fig-2"),
        ("05_illustrative_examples.html#exercise-quad-anneal", "e5_quadratic.html#exercise-quad-anneal"),
        ("05d_your_own_problem.html#no-such-place", "your_problem.html#no-such-place"),
    ],
)
def test_an_old_address_leads_to_where_its_object_is_now(old, new, browser):
    page, complaints = browser.new_page(), []
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.goto((HTML / "chapters").as_uri() + f"/{old}")
    page.wait_for_url((HTML / "chapters").as_uri() + f"/{new}")
    assert not complaints
    page.close()


def test_an_old_address_works_without_scripts(browser):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto((HTML / "chapters" / "02_modelling.html").as_uri())
    page.wait_for_url((HTML / "chapters" / "02_1_mechanism.html").as_uri())
    page.context.close()


@pytest.mark.usefixtures("pages")
def test_every_link_of_the_ledger_leads_somewhere():
    names = ("claims", "findings", "disagreements", "paper_items")
    ids = cache(lambda path: set(re.findall(r'\bid="([^"]+)"', path.read_text())))
    links = 0
    for name in names:
        article = (HTML / f"chapters/{name}.html").read_text().partition("<article")[2]
        for href in re.findall(r'href="([^"]+)"', article):
            if re.match(r"https?:|#status=|.*#status=", href):
                continue
            page, _, anchor = href.partition("#")
            path = (HTML / "chapters" / (page or f"{name}.html")).resolve()
            assert path.is_file(), href
            assert not anchor or anchor in ids(path), href
            links += 1
    assert links > 3 * len(ledger())
