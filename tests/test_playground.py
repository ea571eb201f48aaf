"""The playground computes what the library computes, and the page around it is for everybody.

Each comparison of laws has a false-alarm probability of 10⁻⁵ in all, by Bonferroni over its statistics.
"""

import json

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from scipy import stats

from book.execute import ROOT
from pbtlib.averaged import Grid, cell_masses, jump, mutation_kernel
from pbtlib.evolution import GaussianMutation, Gibbs, Removal, Selection, Truncation, stream
from pbtlib.loop import evolve
from pbtlib.problems import Himmelblau, Quadratic
from pbtlib.training import EulerMaruyama, GibbsDraw, Last, Particles

pytestmark = pytest.mark.words  # laws, which no processor changes
FOLDER = ROOT / "book" / "playground"
ALGORITHM = (FOLDER / "algorithm.js").read_text()
RUNS, FALSE_ALARM = 300, 1e-5
BASE = {"problem": "quadratic", "N": 60, "start": "box", "algorithm": 1, "steps": 20, "tau": 1, "rule": "gibbs"}
BASE |= {"beta": 1, "q": 0.2, "sigma": 0.3, "updates": 3}
SETTINGS = {
    "softmax": {},
    "softmax, equilibrium": {"algorithm": 2, "start": "quiet"},
    "truncation": {"rule": "truncation"},
    "truncation, half of the time": {"rule": "truncation", "tau": 0.5, "algorithm": 2},
    "removal": {"rule": "removal", "beta": 0.05, "tau": 0.05, "steps": 400, "start": "quiet", "updates": 5},
    "removal, equilibrium": {"rule": "removal", "beta": 0.12, "tau": 0.05, "algorithm": 2, "start": "quiet"}
    | {"updates": 20, "sigma": 0.1},
    "four wells": {"problem": "himmelblau", "steps": 50},
    "four wells, equilibrium": {"problem": "himmelblau", "algorithm": 2},
    "four wells, truncation": {"problem": "himmelblau", "rule": "truncation", "tau": 0.5, "steps": 40},
}
SIMULATE = """
([settings, runs]) => Array.from({ length: runs }, (_, seed) => {
  const s = { ...settings, seed };
  let state = pbt.start(s);
  for (let k = 0; k < s.updates; k++) state = pbt.evolve(pbt.train(state, s, pbt.between(s)), s);
  return { theta: [...state.theta], h: [...state.h], families: new Set(state.founder).size };
})
"""


def computed(browser, source, script, argument=None, *more):
    """What a script returns on an empty page with these sources."""
    page = browser.new_page()
    for text in (source, *more):
        page.add_script_tag(content=text)
    result = page.evaluate(script, argument)
    page.close()
    return result


def statistics(theta, h):
    """What is compared of each population, shape (runs, 6): centres and logarithms of spreads."""
    spread = [np.log(0.01 + x.std(-2)) for x in (h, theta)]
    parts = [h[..., 0].mean(-1), np.abs(h[..., 1]).mean(-1), *spread[0].T, theta.mean((-1, -2)), spread[1].sum(-1)]
    return np.stack(parts, -1)


def by_the_page(browser, name, source=ALGORITHM):
    found = computed(browser, source, SIMULATE, [{**BASE, **SETTINGS[name]}, RUNS])
    theta, h = (np.array([run[key] for run in found]).reshape(RUNS, -1, 2) for key in ("theta", "h"))
    return statistics(theta, h)


def by_the_library(name, seed):
    s = {**BASE, **SETTINGS[name]}
    problem = {"quadratic": Quadratic(), "himmelblau": Himmelblau()}[s["problem"]]
    rng, shape = stream(seed, 0, "start"), (RUNS, s["N"], 2)
    theta, h = rng.uniform(-5, 5, shape), rng.uniform(-5, 5, shape)
    if s["start"] == "quiet":
        h = np.array([2.5, 0.7]) + 0.2 * rng.standard_normal(shape)
    rule = {"gibbs": Gibbs(s["beta"]), "removal": Removal(s["beta"]), "truncation": Truncation(s["q"])}[s["rule"]]
    dt = {"quadratic": 0.01, "himmelblau": 0.001}[s["problem"]]
    train = GibbsDraw(problem)
    if s["algorithm"] == 1:
        train = EulerMaruyama(problem, dt=dt, steps=round(s["tau"] * s["steps"]))
    end = evolve(
        Particles(theta, h),
        train=train,
        evaluate=Last(),
        select=Selection(rule, s["tau"]),
        mutate=GaussianMutation(s["sigma"]),
        n_updates=s["updates"],
        seed=seed,
    )
    return statistics(end.theta, end.h)


def worst(a, b):
    """The largest deviation of the means, in standard errors; populations are independent."""
    deviation = np.abs(a.mean(0) - b.mean(0)) / np.sqrt((a.var(0, ddof=1) + b.var(0, ddof=1)) / RUNS)
    return deviation.max()


LIMIT = stats.norm.isf(FALSE_ALARM / (2 * 6 * len(SETTINGS)))  # 600 populations: Student's quantile is 1% larger


@pytest.mark.parametrize("name", SETTINGS)
def test_the_page_has_the_law_of_the_library(browser, name, seed):
    assert worst(by_the_page(browser, name), by_the_library(name, seed)) < 1.02 * LIMIT


WEIGHTS = "softmax(F.map((f) => beta * f)), loss: F.map(() => 1)"
FAULTS = {
    "pressure doubled": ("softmax", WEIGHTS, "beta * f", "2 * beta * f"),
    "mutation without noise": ("softmax, equilibrium", "sigma * noise[j]", "sigma * noise[j]", "0"),
    "selection off": ("softmax", WEIGHTS, "beta * f", "0 * f"),
    "worst for best": ("truncation", "order.slice(-n)", "slice(-n)", "slice(0, n)"),
    "losses at random": ("removal, equilibrium", "softmax(F.map((f) => -beta * f))", "-beta * f", "0 * f"),
    "all jump at any time": ("truncation, half of the time", "u < tau * loss[i]", "tau * loss[i]", "loss[i]"),
    "noise of half the size": ("softmax", "Math.abs(h[j + 1]) * root", "* root", "* root / 2"),
    "proposals taken as they come": ("four wells, equilibrium", "u[2 * j + 1] > accepted(s, x, y)", "u[2", "0 * u[2"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(browser, fault, seed):
    name, line, old, new = FAULTS[fault]
    assert ALGORITHM.count(line) >= 1
    broken = ALGORITHM.replace(line, line.replace(old, new))
    assert worst(by_the_page(browser, name, broken), by_the_library(name, seed)) > 1.02 * LIMIT


def test_its_random_numbers_are_uniform_and_those_of_different_keys_independent(browser):
    script = (
        "() => [[1, 0, 2, 0], [1, 0, 2, 1], [1, 1, 2, 0], [2, 0, 2, 0]].map((key) => [...pbt.uniforms(20000, ...key)])"
    )
    found = np.array(computed(browser, ALGORITHM, script))
    for row in found:
        assert stats.kstest(row, "uniform").pvalue > 1e-6
        assert abs(np.corrcoef(row[:-1], row[1:])[0, 1]) < 5 / np.sqrt(20_000)
    assert np.abs(np.corrcoef(found) - np.eye(4)).max() < 5 / np.sqrt(20_000)
    z = np.array(computed(browser, ALGORITHM, "() => [...pbt.normals(40000, 3, 1)]"))
    assert stats.kstest(z, "norm").pvalue > 1e-6


def test_the_exact_draw_lies_below_its_envelope(browser):
    """Rejection is exact if the density never exceeds the proposal's: H ≥ FLAT·bowl, on a lattice and far outside."""
    script = """() => {
      let least = Infinity;
      for (const [far, cells] of [[8, 800], [60, 600]]) for (let c = 0; c <= cells * (cells + 2); c++) {
        const i = c % (cells + 1), j = (c - i) / (cells + 1);
        const x = far * (2 * i / cells - 1) + 1e-7, y = far * (2 * j / cells - 1) + 1e-7;
        least = Math.min(least, pbt.H(x, y) / Math.min(...pbt.WELLS.map(({ bowl }) => bowl(x, y))));
      }
      return [least, pbt.FLAT];
    }"""
    least, flat = computed(browser, ALGORITHM, script)
    assert flat < least < 1.1 * flat


def test_removal_that_asks_too_much_is_refused_with_what_it_needs(browser):
    script = """() => { try { pbt.select(Float64Array.of(0, 0, 9), { rule: "removal", beta: 1, tau: 1, seed: 1 }, 0); }
      catch (error) { return error.message; } }"""
    said = computed(browser, ALGORITHM, script)
    assert "probability 1.5" in said
    assert "τ below 0.67" in said
    with pytest.raises(ValueError, match=r"1\.5 > 1"):
        Selection(Removal(1.0))([0.0, 0.0, 9.0], stream(0, 0, "select"))


# ---------------------------------------------------------------------------------------------- the limit


def test_the_limit_is_that_of_the_library(browser):
    """One grid, one law, one equation: the page's averaged law after four updates is that of `pbtlib.averaged`."""
    script = """() => {
      const s = { problem: "quadratic", start: "quiet", beta: 1, sigma: 0.2, tau: 0.5 };
      const weights = pbtLimit.weightsOf(pbtLimit.LANDSCAPES.quadratic(1).exponent);
      let law = pbtLimit.begin(s);
      for (let k = 0; k < 4; k++) law = pbtLimit.next(law, weights, s);
      return [...law];
    }"""
    found = np.array(computed(browser, ALGORITHM, script, None, (FOLDER / "limit.js").read_text())).reshape(140, 140).T
    grid, normal = Grid(-7, 7, 140), stats.norm.pdf
    law = np.outer(cell_masses(lambda x: normal(x, 2.5, 0.2), grid), cell_masses(lambda x: normal(x, 0.7, 0.2), grid))
    h = np.stack(np.meshgrid(grid.points, grid.points, indexing="ij"), -1)
    fitness, kernels = Quadratic().effective_fitness(h, 1.0), [mutation_kernel(grid, 0.2)] * 2
    for _ in range(4):
        law = jump(law, fitness, Gibbs(1.0), kernels, 0.5)
    assert np.abs(found - law).sum() < 0.02  # cells as wide as half a spread: points for means, twice
    assert np.abs(np.roll(found, 1, 0) - law).sum() > 0.02


def test_the_effective_fitness_of_the_four_wells_is_an_integral(browser):
    script = "() => [...pbtLimit.LANDSCAPES.himmelblau(1).exponent]"
    found = np.array(computed(browser, ALGORITHM, script, None, (FOLDER / "limit.js").read_text())).reshape(140, 140)
    at, problem = -6.95 + 0.1 * np.arange(140), Himmelblau()
    axis = np.linspace(-8, 8, 1601)
    plane = np.stack(np.meshgrid(axis, axis), -1)
    level = -problem.fitness(plane)
    for i, j in ((70, 73), (72, 75), (70, 90), (66, 110)):
        weight = np.exp(np.maximum(-2 * level / at[j] ** 2, -700))
        moved = -problem.fitness(plane + at[i])
        exact = np.log((weight * np.exp(np.maximum(-moved, -700))).sum() / weight.sum())
        assert found[j, i] == pytest.approx(exact, abs=0.03, rel=0.03)
        assert found[139 - j, i] == found[j, i]


# ---------------------------------------------------------------------------------------------- the page

FRAME = """<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8"><title>Playground</title>
<meta name="viewport" content="width=device-width">
<style>html {{ --pst-color-text-base: #222832; --pst-color-text-muted: #48566b; --pst-color-border: #c9c9c9;
  --pst-color-background: #fff; --pst-color-primary: #0a7d91; }}
html[data-theme="dark"] {{ --pst-color-text-base: #ced6dd; --pst-color-text-muted: #9ca4af; --pst-color-border: #48566b;
  --pst-color-background: #14181e; --pst-color-primary: #3fb1c5; --pst-color-primary-text: #000; color-scheme: dark; }}
body {{ background: var(--pst-color-background); color: var(--pst-color-text-base); }}</style>
<link rel="stylesheet" href="{folder}/playground.css">{scripts}
<main><h1>Playground</h1><a href="#beta=0&N=30">off</a><div class="playground"><p>Later.</p></div></main></html>"""


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    """A page with nothing but a playground."""
    folder = FOLDER.as_uri()
    scripts = "".join(
        f'<script defer src="{folder}/{name}.js"></script>' for name in ("algorithm", "limit", "playground")
    )
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(FRAME.format(folder=folder, scripts=scripts))
    return path.as_uri()


def visit(browser, harness, hash_, **context):
    page = browser.new_context(
        **{"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce", **context}
    ).new_page()
    page.asked, page.errors = [], []
    page.on("request", lambda r: page.asked.append(r.url) if not r.url.startswith("file:") else None)
    page.on("pageerror", lambda e: page.errors.append(str(e)))
    page.goto(harness + hash_)
    return page


def rest(page, update):
    """Wait until so many updates are seen and nothing moves."""
    page.wait_for_function(f"document.querySelector('.playground').dataset.update === '{update}'", timeout=60_000)


PIXELS = "[...document.querySelectorAll('.playground canvas')].map((canvas) => canvas.toDataURL())"


def test_a_link_leads_to_what_was_seen(browser, harness):
    """Update by update, or at once by the link: the same words and the same pixels, and other ones for another seed."""
    page = visit(browser, harness, "#problem=himmelblau&N=60&steps=20&seed=7")
    for k in range(1, 4):
        page.get_by_role("button", name="One update").click()
        rest(page, k)
    seen, words = page.evaluate(PIXELS), page.locator(".says").text_content()
    there = page.evaluate("location.hash")
    again = visit(browser, harness, there)
    rest(again, 3)
    assert again.evaluate(PIXELS) == seen
    assert again.locator(".says").text_content() == words
    assert again.evaluate("location.hash") == there
    other = visit(browser, harness, there.replace("seed=7", "seed=8"))
    rest(other, 3)
    assert other.evaluate(PIXELS) != seen
    for one in (page, again, other):
        assert not one.errors
        assert not one.asked
        one.context.close()


def test_it_plays_and_pauses_by_keyboard_and_says_what_one_sees(browser, harness):
    page = visit(browser, harness, "#N=30&steps=5", reduced_motion="no-preference")
    box = page.locator(".playground")
    assert box.get_attribute("data-playing") == "true"
    page.wait_for_function("/After [1-9]/.test(document.querySelector('.says').textContent)")
    button = page.get_by_role("button", name="Pause")
    assert page.locator(".says").get_attribute("aria-live") == "off"
    button.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('.says').ariaLive === 'polite'")
    assert box.get_attribute("data-playing") == "false"
    said = page.locator(".says").text_content()
    assert "families" in said
    assert "The limit says bias" in said
    slider = page.get_by_label("Pressure β")
    slider.focus()
    page.keyboard.press("Home")
    rest(page, 0)
    assert "beta=0" in page.evaluate("location.hash")
    assert slider.get_attribute("aria-valuetext") == "0"
    names = page.evaluate(
        "[...document.querySelectorAll('.playground :is(button, select, input)')].map((e) => e.tabIndex)"
    )
    assert set(names) == {0}
    page.context.close()


def test_it_starts_at_rest_for_who_prefers_no_motion(browser, harness):
    page = visit(browser, harness, "")
    rest(page, 0)
    assert page.locator(".playground").get_attribute("data-playing") == "false"
    page.get_by_role("link", name="off").click()
    page.wait_for_function("document.querySelector('.says').textContent.includes('of 30 families')")
    assert page.locator(".playground").get_attribute("data-playing") == "false"
    page.context.close()


def test_an_address_that_asks_for_the_impossible_is_answered_in_words(browser, harness):
    page = visit(browser, harness, "#N=5000&seed=1.5&colour=red&rule=truncation")
    said = page.locator(".wrong").text_content()
    for words in ("N = 5000 is none of 10,", "seed = 1.5 is no whole number from 0", "nothing called colour"):
        assert words in said
    assert "for softmax only" in page.locator(".says").text_content()
    page.context.close()


def test_it_stops_and_says_why_where_removal_asks_too_much(browser, harness):
    page = visit(browser, harness, "#N=30&rule=removal&steps=1")
    page.get_by_role("button", name="One update").click()
    page.wait_for_function("document.querySelector('.says').textContent.includes('Stopped: an agent would be')")
    page.context.close()


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_it_is_accessible_and_fits(browser, harness, theme, width):
    page = visit(browser, harness, "#N=30", viewport={"width": width, "height": 800})
    page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
    page.wait_for_timeout(300)
    rules = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
    found = Axe().run(page, options={**rules, "preload": False}).response["violations"]
    assert not found, json.dumps(found)[:2000]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not page.errors
    page.context.close()
