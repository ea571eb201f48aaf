"""Sliders, the landing page, previews and the search; the numbers behind the sliders, computed a second time."""

import itertools
import json
import re

import numpy as np
import pytest
import test_browser
from chapter_code import defined
from scipy import integrate, stats
from test_browser import visit

from book import numbers as reading
from book.build import BUILD
from book.execute import FIGURES
from pbtlib import results
from pbtlib.studies import sweep
from pbtlib.training import Particles

browser = test_browser.browser
PLACES = {
    "sawtooth": "02_1_mechanism",
    "many_agents": "02_2_many_agents",
    "two_time_scales": "03_two_time_scales",
    "worth_of_luck": "03_1_bilevel",
    "luck_inherited": "luck_and_tuning",
    "bias_noise": "noise_that_pays",
    "journey": "noise_that_pays",
    "which_peak": "two_peaks",
    "theorem_10": "04_convergence",
    "cartpole_cloud": "05_2_cartpole",
}

# ---------------------------------------------------------------------------------------------- the numbers


def drawn(panel, label):
    """Arrays x and y of one curve of a panel."""
    (found,) = [curve for curve in panel if curve.label == label]
    return np.array(found.data["x"]), np.array(found.data["y"])


def stored(name):
    """The data of a moving figure as its chapter recorded them."""
    return json.loads((FIGURES / f"{PLACES[name]}-{name}.json").read_text())


@pytest.mark.parametrize("name", PLACES)
def test_every_position_of_the_sliders_has_a_frame_with_all_its_curves(name):
    figure = stored(name)
    assert figure["made"].startswith("pbtlib ")
    assert len(figure["frames"]) == np.prod([len(slider["values"]) for slider in figure["sliders"]])
    assert all(0 <= slider["start"] < len(slider["values"]) for slider in figure["sliders"])
    for frame in figure["frames"]:
        assert frame["says"].endswith(".")
        for curve, part in zip(figure["curves"], frame["curves"], strict=True):
            assert not curve.keys() & part.keys()
            whole = {**curve, **part}
            assert len(whole["x"]) == len(whole["y"]) + (curve["kind"] == "bars")
            assert np.isfinite([*whole["x"], *whole["y"]]).all()


def plain_sawtooth(rng, steps, beta, runs=30, agents=10_000, updates=4):
    """Logarithm of the median of 1.2 − F before and after each training, shape (2, updates, runs), in plain NumPy."""
    theta, h = rng.uniform(-5, 5, (2, runs, agents, 2))
    seen = []
    for _ in range(updates):
        seen.append([np.median((theta**2).sum(-1), -1)])
        for _ in range(steps):
            noise = np.abs(h[..., 1:]) * np.sqrt(0.01) * rng.standard_normal(theta.shape)
            theta = theta - 0.01 * 2 * (theta - h[..., :1]) + noise
        F = -(theta**2).sum(-1)
        seen[-1].append(np.median(-F, -1))
        w = np.exp(beta * (F - F.max(-1, keepdims=True)))
        parent = np.array([rng.choice(agents, agents, p=row / row.sum()) for row in w])[..., None]
        theta = np.take_along_axis(theta, parent, 1)
        h = np.take_along_axis(h, parent, 1) + 0.1 * rng.standard_normal(h.shape)
    return np.log(np.moveaxis(np.array(seen), 1, 0))


def test_sawtooth_is_what_plain_numpy_gives(rng):
    (teeth,) = defined("02_1_mechanism", "teeth")
    _, distance, _ = teeth(10, 1.0, agents=100_000, updates=4)
    right, wrong = (plain_sawtooth(rng, 10, beta) for beta in (1.0, 1.5))
    seen = np.log(drawn(distance, "median")[1].reshape(4, -1)[:, [0, -1]].T)

    def deviation(runs):
        error = runs.std(-1, ddof=1) * np.sqrt(1 / 30 + 1 / 10)  # thirty runs here, one ten times as large there
        return (np.abs(seen - runs.mean(-1)) / error).max()

    assert deviation(right) < 7
    assert deviation(wrong) > 7


def test_many_agents_settle_on_what_a_plain_population_gives(rng):
    crowd, marginals, grid = defined("02_2_many_agents", "crowd", "marginals", "axis_h")

    def population(n, updates):
        theta, h = 1.5 + rng.standard_normal(n) / 2, -1 + rng.standard_normal(n) / 2
        decay = np.exp(-2 * 0.5)
        for _ in range(updates):
            theta = h + decay * (theta - h) + 0.3 * np.sqrt(1 - decay**2) * rng.standard_normal(n)  # variance s²/4
            w = np.exp(2 / (1 + theta**2))
            parent = np.where(rng.random(n) < 0.5, rng.choice(n, n, p=w / w.sum()), -1)
            moved = h[parent] + 0.3 * rng.standard_normal(n)
            theta, h = np.where(parent < 0, theta, theta[parent]), np.where(parent < 0, h, moved)
        return h

    n = 200_000
    big = population(n, 4)
    x, mass = grid.points, marginals[2]
    # common parents make a population worth about a third of its number; rounding and cells add 2e-3
    assert abs(mass @ x - big.mean()) < 6 * big.std() * np.sqrt(3 / n) + 2e-3
    assert abs(mass @ x**2 - (big**2).mean()) < 6 * (big**2).std() * np.sqrt(3 / n) + 2e-3
    assert abs(marginals[1] @ x - big.mean()) > 0.05

    apart = [stats.wasserstein_distance(population(100, 4), x, None, mass) for _ in range(80)]
    assert abs(crowd(100, 2, 42)[1] - np.mean(apart)) < 6 * np.std(apart) * np.sqrt(1 / 80 + 1 / 30) + 0.01


def kinetic_by_finite_differences(epsilon, cells, time=1.0):
    """Mean and variance of h under (8), by centred differences in θ and Runge-Kutta in time."""
    x = -4.5 + 9 / cells * (np.arange(cells) + 0.5)
    dx, t = x[1] - x[0], x[:, None]
    jump = np.exp(-((x[:, None] - x) ** 2) / (2 * 0.3**2))
    jump /= jump.sum(0)
    f = np.exp(-2 * (t - 1.5) ** 2 - 2 * (x + 1) ** 2)

    def slope(_, flat):
        f = flat.reshape(cells, cells)
        drift = 2 * ((t[1:] + t[:-1]) / 2 - x) * (f[1:] + f[:-1]) / 2
        flux = np.pad(drift + 0.18 * np.diff(f, axis=0) / dx, ((1, 1), (0, 0)))  # s²/2 = 0.18
        selected = np.exp(-(t**2)) * f
        return (np.diff(flux, axis=0) / dx / epsilon + selected / selected.sum() @ jump.T - f).ravel()

    law = integrate.solve_ivp(slope, (0, time), (f / f.sum()).ravel(), rtol=1e-6, atol=1e-12).y[:, -1]
    rho = law.reshape(cells, cells).sum(0)
    return np.array([rho @ x, rho @ x**2 - (rho @ x) ** 2])


def test_two_time_scales_follow_another_solver_and_an_exact_recursion():
    (two_clocks,) = defined("03_two_time_scales", "two_clocks")
    at = two_clocks((1.0, 0.5), (1, 2))

    def moments(epsilon, label):
        x, density = drawn(at(epsilon, 1)[1], label)
        mass = density / density.sum()
        return np.array([mass @ x, mass @ x**2 - (mass @ x) ** 2])

    for epsilon in (1.0, 0.5):
        coarse, fine = (kinetic_by_finite_differences(epsilon, n) for n in (30, 60))
        limit = (4 * fine - coarse) / 3
        allowed = 2 * np.abs(coarse - limit).max()  # twice what cells three times as wide are off
        assert np.abs(moments(epsilon, "kinetic equation (8)") - limit).max() < allowed
        assert np.abs(moments(epsilon, "averaged equation (13)") - limit).max() > allowed

    def together(inner):
        """Mean and standard deviation of h after one and two simultaneous updates, from E and Var of θ and h."""
        m, C, found = np.array([1.5, -1.0]), np.eye(2) / 4, []
        for _ in range(2):
            a = np.exp(-2 * inner)
            A = np.array([[a, 1 - a], [0, 1]])
            m, C = A @ m, A @ C @ A.T + np.diag([0.09 * (1 - a**2), 0])  # s²/4 = 0.09
            gain = C[:, 0] * 2 / (1 + 2 * C[0, 0])  # e^{−θ²} is an observation θ = 0 of variance 1/2
            m, C = m - gain * m[0], C - np.outer(gain, C[0])
            C = C + np.diag([0, 0.09])
            found.append((m[1], np.sqrt(C[1, 1])))
        return np.array(found)

    for i, epsilon in enumerate((1.0, 0.5)):
        for j in range(2):
            (m, s), (m0, s0) = together(1 / epsilon)[j], together(np.inf)[j]
            exact = integrate.quad(lambda u: abs(m - m0 + (s - s0) * stats.norm.ppf(u)), 0, 1, limit=200)[0]  # noqa: B023
            shown = drawn(at(epsilon, j + 1)[2], "simultaneous jumps")[1][i]
            assert shown == pytest.approx(exact, rel=5e-3)


def test_bias_noise_is_an_integral_over_the_equilibrium():
    (cut_at,) = defined("noise_that_pays", "cut_at")
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    weights = weights / weights.sum()

    def by_quadrature(h1, h2, beta):
        theta = h1 + h2 / 2 * nodes
        return 1.2 + 2 / beta * np.log(weights @ np.exp(-beta * theta**2))  # two independent coordinates

    for h1, beta in itertools.product((0.4, 2.0), (0.2, 1.0)):
        _, cut, _ = cut_at(h1, beta)
        x, y = drawn(cut, "effective fitness")
        exact = np.array([by_quadrature(h1, h2, beta) for h2 in x])
        assert np.abs(y - exact).max() < 1e-3 * np.abs(exact).max()
        mean = drawn(cut, "mean fitness")[1]
        assert np.allclose(mean, 1.2 - 2 * h1**2 - x**2 / 2, atol=5e-3)
        (best,), (top,) = drawn(cut, "best noise")
        assert top >= exact.max() - 5e-3
        assert abs(best - x[exact.argmax()]) <= x[1]


def test_rounds_of_many_steps_in_one_draw_have_the_law_of_the_single_steps():
    few, training, split = defined("luck_and_tuning", "few", "training", "split")
    k, n, s, agents = 5, 20, 0.1, 4000
    (X, y), (V, w) = split(k)
    eigenvectors, rng = np.linalg.eigh(X.T @ X / 30)[1], np.random.default_rng(1)
    theta, step = np.ones((agents, X.shape[1])), float(few.dt[k, 0, 0])
    for _ in range(n):
        gradient = (theta @ X.T - y) @ X / 30 + np.exp(-2.0) * theta
        theta = theta - step * gradient + s * np.sqrt(step) * rng.standard_normal(theta.shape)

    def drawn_at_once(n):
        start = np.tile(eigenvectors.sum(0), (24, agents, 1))
        return training(few, n, s)(Particles(start, np.full((24, agents, 1), -2.0)), np.random.default_rng(2))[0]

    def differ(many):
        a, b = theta @ eigenvectors, many.theta[k]
        spread = np.hypot(a.std(0), b.std(0)) / np.sqrt(agents)
        return np.abs(a.mean(0) - b.mean(0)).max() > 6 * spread.max() or (
            np.abs(np.log(a.std(0) / b.std(0))).max() > 6 / np.sqrt(agents)
        )

    assert not differ(drawn_at_once(n))
    assert differ(drawn_at_once(n - 1)), "one step fewer is noticed"
    own = few.error(drawn_at_once(n).theta)[k]
    assert own == pytest.approx(np.square(drawn_at_once(n).theta[k] @ eigenvectors.T @ V.T - w).mean(-1))


def test_inherited_luck_shows_what_the_populations_say():
    dumbbells, few, order = defined("luck_and_tuning", "dumbbells", "few", "order")
    says, left, right = dumbbells(500, 0.03)
    x, anew = drawn(left, "trained anew")
    assert list(x) == list(range(1, 25))
    h = drawn(right, "reported")[1]
    worth = few.error(few.trained(h[np.argsort(order), None, None]))[order, 0] / few.least[order]
    assert np.allclose(anew, 100 * (worth - 1), atol=0.05)
    assert f"on {(anew > 5).sum()} of 24" in says
    assert min(anew) > -0.01, "no penalty is better than the best"


def test_the_journey_shows_agents_their_mean_and_on_which_side_they_are():
    moment, gradient, cloud = defined("noise_that_pays", "moment", "gradient", "cloud")
    sides = set()
    for k in (0, 4, 20):
        says, plane, _ = moment(k)
        (bias,), (noise,) = drawn(plane, "their mean")
        assert (bias, noise) == pytest.approx(cloud[k].mean(0), abs=5e-3)
        assert np.allclose(drawn(plane, "agents"), cloud[k][:150].T, atol=5e-3)
        side = "for" if gradient(bias, noise)[1] > 0 else "against"
        assert says.endswith(f"selected {side}.")
        sides.add(side)
    assert sides == {"for", "against"}


def test_worth_of_luck_is_an_integral_over_the_weights():
    (luck,) = defined("03_1_bilevel", "luck")
    for h, s in itertools.product((-2.0, 0.5), (0.4, 2.0)):
        says, left, right = luck(h, s)
        product = stats.norm(h, s / 2).pdf
        selected = integrate.quad(lambda x: product(x) * np.exp(-(x**2)), -9, 9, points=[0, h])[0]  # noqa: B023
        (band,) = [curve for curve in left if curve.label == "their product"]
        assert np.trapezoid(band.data["high"], band.data["x"]) == pytest.approx(selected, rel=5e-3)
        low, high = drawn(right, "this h")[1]
        assert high == pytest.approx(np.log(selected), abs=1e-3)
        assert low == pytest.approx(-(h**2) - s**2 / 4, abs=1e-3)
        assert abs(float(re.search(r"worth ([\d.]+)\.$", says)[1]) - (high - low)) < 0.006
        for label, value in (("effective fitness", high), ("mean fitness", low)):
            x, y = drawn(right, label)
            assert np.interp(h, x, y) == pytest.approx(value, abs=1e-3)


def test_which_peak_is_what_selecting_and_mutating_for_long_leaves():
    (which_peak,) = defined("two_peaks", "which_peak")
    x = np.linspace(-5, 5, 401)
    weights = np.exp(np.maximum(1 - 10 * (x + 2) ** 2, 0.5 - (x - 2) ** 2))
    for factor in (0.7, 1.5):
        _, laws, rates = which_peak(3, factor)
        sigma = factor * 0.3747
        kernel = stats.norm.pdf(x[:, None], x, sigma) * (x[1] - x[0])
        growth = {}
        for side, label in ((x < 0, "high, sharp"), (x > 0, "low, flat")):
            law = side / side.sum()
            for _ in range(60):
                law = kernel @ (weights * law) * side
                growth[label], law = np.log(law.sum()), law / law.sum()
            at, seen = drawn(rates, label)
            assert np.interp(factor, at, seen) == pytest.approx(growth[label], abs=4e-3)
        best = max(growth, key=growth.get)
        at, density = drawn(laws, "steady state, scaled")
        assert (at[density.argmax()] < 0) == (best == "high, sharp")


def test_theorem_10_is_the_solution_of_the_averaged_equation():
    (under_the_bound,) = defined("04_convergence", "under_the_bound")
    x = np.linspace(-5, 7, 361)
    gap = np.where(x < 0.5, 0.5, 1.0) * (x - 0.5) ** 2
    start = stats.norm.pdf(x, 2, 0.5)

    def solution(beta, sigma, times):
        kernel = stats.norm.pdf(x[:, None], x, sigma)
        kernel /= kernel.sum(0)

        def slope(_, rho):
            selected = np.exp(-beta * gap) * rho
            return kernel @ (selected / selected.sum()) - rho

        found = integrate.solve_ivp(slope, (0, times[-1]), start / start.sum(), t_eval=times, rtol=1e-7, atol=1e-12)
        return np.abs(x @ found.y - 0.5)

    for beta, sigma in itertools.product((1.0, 10.0), (0.3, 0.5)):
        says, panel = under_the_bound(beta, sigma)
        times, seen = drawn(panel, "exact solution of (13)")
        assert np.abs(seen - solution(beta, sigma, times)).max() < 2e-3
        assert np.abs(seen - solution(beta, 1.5 * sigma, times)).max() > 2e-3
        bound = drawn(panel, "bound of Theorem 10, δ = 0.2")[1]
        assert np.allclose(bound, 1.5 * np.exp(-times) + 0.2, rtol=1e-3)
        holds = (seen <= bound)[times <= np.log(1.5 / 0.2)].all()
        assert ("bound holds" in says) == holds


def stored_generation(name, generation):
    """Learning rate, exploration decay, scaled h and mean of the last five returns, straight from the file."""
    raw = results.load(sweep.DATA)
    run = list(raw["run"].to_numpy()).index(name)
    h = raw["h"].to_numpy()[run, 0, :, :, generation - 1] / 32767
    returns = raw["window_sum"].sel(window=5).to_numpy()[run, 0, generation - 1] / 5
    return 10 ** (-5 + 1.5 * (1 + h[:, 0])), 500 + 2250 * (1 + h[:, 1]), h, returns


def test_the_cartpole_cloud_is_the_stored_population():
    (cloud,) = defined("05_2_cartpole", "cloud")

    def misplaced(parts, population):
        """Share of the drawn agents that are not in the population at that fitness."""
        lr, decay, _, returns = population
        wrong, ranges = [], []
        for label in ("replaced", "kept", "copied"):
            x, y = drawn(parts, label)
            off = np.abs(np.log(x[:, None] / lr)) + np.abs(np.log(y[:, None] / decay))
            wrong.append(off.min(1) > 2e-3)
            ranges.append(returns[off.argmin(1)])
        pairs = itertools.pairwise(ranges)
        return np.concatenate(wrong).mean() + sum(low.max() > high.min() for low, high in pairs)

    for (sigma, name), generation in itertools.product(((0.1, "500 steps m=5"), (0.2, "sigma=0.2")), (2, 10)):
        says, parts, width = cloud(sigma, generation)
        population = stored_generation(name, generation)
        assert sum(len(drawn(parts, label)[0]) for label in ("replaced", "kept", "copied")) > 150
        assert misplaced(parts, population) == 0
        assert misplaced(parts, stored_generation(name, generation - 1)) > 0.1
        assert f"mean return is {population[3].mean():.0f}," in says
        _, seen = drawn(width, "now")
        assert seen == pytest.approx(population[2].std(0), rel=1e-3)
        for label, value in zip(("learning rate", "exploration decay", "batch size"), seen, strict=True):
            assert drawn(width, label)[1][generation - 1] == value


def test_the_landing_page_shows_training_and_copying():
    theta, h, family = defined("e2_mechanism", "small_population")[0]()
    updates, every = 12, 11
    assert theta.shape == (every * updates + 1, 48, 2)
    z = []
    for k in range(updates):
        path = theta[every * k : every * (k + 1)]
        centre, decay = h[k, :, :1], 0.98**5
        loud = np.abs(h[k, :, 1]) > 0.3
        noise = np.abs(h[k, loud, 1:]) * np.sqrt(0.01 * (1 - 0.98**10) / (1 - 0.98**2))
        z.append(((path[1:] - centre - decay * (path[:-1] - centre))[:, loud] / noise).ravel())
        before, after = theta[every * (k + 1) - 1], theta[every * (k + 1)]
        same = (after[:, None] == before).all(-1)  # [child, parent]
        near = np.abs(h[k + 1][:, None] - h[k]).max(-1) < 6 * 0.1
        kin = family[k + 1][:, None] == family[k]
        assert (same & near & kin).any(1).all()
    z = np.concatenate(z)
    assert abs(z.mean()) < 6 / np.sqrt(z.size)
    assert abs(z.var() - 1) < 6 * np.sqrt(2 / z.size) + 0.02


# ---------------------------------------------------------------------------------------------- sliders in a browser


def drawn_curve(box, figure, number):
    """The points of a drawn line in the units of its axes, read back from the picture."""
    spec = figure["panels"][figure["curves"][number]["panel"]]
    drawing = box.locator(".panel > svg").nth(figure["curves"][number]["panel"])
    path = box.locator("g > path").nth(number).get_attribute("d")
    left, top, width, height = (
        float(drawing.locator("clipPath rect").get_attribute(a)) for a in ("x", "y", "width", "height")
    )
    points = np.array([[float(v) for v in pair.split()] for pair in re.findall(r"[ML]([^MLZ]+)", path)])
    shares = (points[:, 0] - left) / width, 1 - (points[:, 1] - top) / height
    ends = [np.array([spec[a]["low"], spec[a]["high"]]) for a in ("x", "y")]
    ends = [np.log10(end) if spec[a]["log"] else end for end, a in zip(ends, ("x", "y"), strict=True)]
    values = [low + share * (high - low) for share, (low, high) in zip(shares, ends, strict=True)]
    return [10**v if spec[a]["log"] else v for v, a in zip(values, ("x", "y"), strict=True)]


@pytest.mark.parametrize("name", PLACES)
def test_a_slider_moves_the_curve_it_says_by_keyboard(browser, name):
    page, asked, complaints = visit(browser, f"chapters/{PLACES[name]}.html")
    figure = json.loads((BUILD / "html" / "_static" / "moving" / f"{name}.json").read_text())
    box = page.locator(f".moving[data-name={name}]")
    lines = [i for i, c in enumerate(figure["curves"]) if c["kind"] == "line"]
    sliders = box.get_by_role("slider")
    assert sliders.count() == len(figure["sliders"])
    positions = [slider["start"] for slider in figure["sliders"]]
    for which in range(sliders.count()):
        before = box.locator("g > path").evaluate_all("paths => paths.map(p => p.getAttribute('d')).join()")
        sliders.nth(which).focus()
        page.keyboard.press("ArrowRight")
        positions[which] += 1
        index = np.ravel_multi_index(positions, [len(s["values"]) for s in figure["sliders"]])
        frame = figure["frames"][index]
        assert box.locator("g > path").evaluate_all("paths => paths.map(p => p.getAttribute('d')).join()") != before
        assert box.locator(".says").inner_text() == frame["says"]
        text = figure["sliders"][which]["values"][positions[which]]
        assert box.locator("output").nth(which).inner_text() == text
        assert sliders.nth(which).get_attribute("aria-valuetext") == text
        for i in lines:
            curve = figure["curves"][i]
            x, y = (np.array({**curve, **frame["curves"][i]}[axis]) for axis in ("x", "y"))
            seen_x, seen_y = drawn_curve(box, figure, i)
            spec = figure["panels"][curve["panel"]]
            for axis, values, seen in (("x", x, seen_x), ("y", y, seen_y)):
                low, high = spec[axis]["low"], spec[axis]["high"]
                if spec[axis]["log"]:
                    assert np.abs(np.log(seen / values)).max() < 2e-4 * np.log(high / low)
                else:
                    assert np.abs(seen - values).max() < 2e-4 * (high - low)
    assert not asked
    assert not complaints
    page.context.close()


def test_the_drawn_effective_fitness_is_the_closed_form(browser):
    page, *_ = visit(browser, "chapters/noise_that_pays.html")
    figure = json.loads((BUILD / "html" / "_static" / "moving" / "bias_noise.json").read_text())
    box = page.locator(".moving[data-name=bias_noise]")
    number = [c["label"] for c in figure["curves"]].index("effective fitness")
    for h1, beta in ((2.4, 5.0), (0.4, 0.2)):
        for which, value in enumerate((h1, beta)):
            slider = box.get_by_role("slider").nth(which)
            slider.focus()
            page.keyboard.press("Home")
            for _ in range(figure["sliders"][which]["values"].index(f"{value:g}")):
                page.keyboard.press("ArrowRight")
        h2, fitness = drawn_curve(box, figure, number)
        v = h2**2 / 4
        exact = 1.2 - 2 * h1**2 / (1 + 2 * beta * v) - np.log(1 + 2 * beta * v) / beta
        assert np.abs(fitness - exact).max() < 0.01
    page.context.close()


def test_the_curves_can_be_taken_as_a_table(browser):
    page, *_ = visit(browser, "chapters/noise_that_pays.html", accept_downloads=True)
    box = page.locator(".moving[data-name=bias_noise]")
    with page.expect_download() as started:
        box.get_by_role("link", name="CSV").click()
    rows = started.value.path().read_text(encoding="utf-8-sig").splitlines()
    assert rows[0] == '"panel","curve","x","y","high"'
    assert any("effective fitness" in row for row in rows)
    assert (BUILD / "html" / "_static" / "moving" / "bias_noise.json").is_file()
    page.context.close()


# ---------------------------------------------------------------------------------------------- the landing page


def test_the_landing_page_moves_and_can_be_stopped(browser):
    page, asked, complaints = visit(browser, "chapters/index.html")
    box = page.locator(".moving[data-name=landing]")
    page.wait_for_function("Number(document.querySelector('.moving').dataset.now) > 1")
    box.get_by_role("button", name="Pause").focus()
    page.keyboard.press("Enter")
    stopped = box.get_attribute("data-now")
    page.wait_for_timeout(300)
    assert box.get_attribute("data-now") == stopped
    box.get_by_role("slider").focus()
    page.keyboard.press("End")
    assert "12 updates" in box.locator(".state").inner_text()
    assert not asked
    assert not complaints
    page.context.close()


def test_the_landing_page_rests_for_those_who_want_it(browser):
    page, *_ = visit(browser, "chapters/index.html", reduced_motion="reduce")
    box = page.locator(".moving[data-name=landing]")
    box.get_by_role("button", name="Play").wait_for()
    page.wait_for_timeout(300)
    assert box.get_attribute("data-now") == "0"
    page.context.close()


def test_the_landing_page_says_it_on_one_screen_and_has_three_doors(browser):
    page, *_ = visit(browser, "chapters/index.html", viewport={"width": 1280, "height": 800})
    for door in ("In ten minutes", "Read", "Use it"):
        card = page.locator(".sd-card", has_text=door).first
        place = card.bounding_box()
        assert place["y"] + place["height"] <= 800
    page.context.close()


# ---------------------------------------------------------------------------------------------- previews and search


@pytest.fixture(scope="module")
def convergence(browser):
    """Section 4 as a reader has it open, loaded once; a test leaves no preview behind."""
    page, asked, complaints = visit(browser, "chapters/04_convergence.html")
    yield page, asked, complaints
    page.context.close()


def test_a_link_shows_what_it_leads_to_on_hover_and_on_focus(convergence):
    page, asked, complaints = convergence
    tip = page.get_by_role("tooltip")
    link = page.locator("article a[href='c_proofs.html#lem-16']").first
    link.hover()
    tip.wait_for()
    assert "Lemma 16" in tip.inner_text()
    tip.locator("mjx-container").first.wait_for()
    assert link.get_attribute("aria-describedby") == tip.get_attribute("id")
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    page.mouse.move(0, 0)
    citation = page.locator("article a[href^='bibliography.html#']").first
    citation.focus()
    page.wait_for_function("document.querySelector('[role=tooltip]:not([hidden])')?.textContent.includes('Borghi')")
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    assert page.evaluate("document.activeElement.href").endswith(citation.get_attribute("href"))
    assert not asked
    assert not complaints


def test_a_mentioned_equation_is_a_link_with_a_preview(convergence):
    page, *_ = convergence
    page.locator("article a.mention", has_text="(13)").first.hover()
    tip = page.get_by_role("tooltip")
    tip.wait_for()
    assert tip.locator("mjx-container[display=true]").count() == 1
    page.keyboard.press("Escape")
    page.mouse.move(0, 0)


def test_a_formula_explains_its_symbols(convergence):
    page, *_ = convergence
    formula = page.locator("article p .math mjx-container").first
    tip = page.get_by_role("tooltip")
    for ask in (formula.hover, formula.focus):
        ask()
        tip.wait_for()
        assert "effective fitness" in tip.inner_text()
        page.keyboard.press("Escape")
        page.mouse.move(0, 0)
        assert tip.is_hidden()


def test_long_proofs_are_folded_until_linked_to_or_printed(browser):
    page, *_ = visit(browser, "chapters/c_proofs.html")
    folded = page.locator("details.folded-proof")
    assert folded.count() > 0
    assert page.locator("article details[open]").count() <= 1
    folded.first.locator("summary").focus()
    page.keyboard.press("Enter")
    assert folded.first.get_attribute("open") is not None
    page.keyboard.press("Enter")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("article details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert folded.first.get_attribute("open") is None
    inside = page.locator("article details:not([open]) [id]").first.get_attribute("id")
    page.evaluate("id => { location.hash = id }", inside)
    page.wait_for_function("id => document.getElementById(id).closest('details').open", arg=inside)
    page.context.close()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("Theorem 10", "04_convergence.html#box-thm-10-stated"),
        ("theorem 10", "c_proofs.html#box-thm-10"),
        ("equation 22", "04_convergence.html#eq-22"),
        ("Figure 2", "02_1_mechanism.html#fig-2"),
        ("Section 2.3", "02_3_chaos.html#"),
        ("Lemma 16", "c_proofs.html#box-lem-16"),
    ],
)
def test_search_finds_the_papers_numbers(browser, query, found):
    page, asked, complaints = visit(browser, BUILD / "html" / "search.html")
    page.goto(f"{page.url}?q={query.replace(' ', '+')}", timeout=60_000)
    page.wait_for_function("document.querySelector('#search-results')?.textContent.includes('found')")
    links = page.locator("#search-results li a").evaluate_all("all => all.map(a => a.href)")
    assert any(f"/{found}" in link for link in links[:8])
    first = page.locator("#search-results li a").first
    assert first.inner_text().lower().endswith(f"› {query.lower()}")
    assert not asked
    assert not complaints
    page.context.close()


def test_mentions_are_told_from_other_numbers():
    def seen(text):
        return [found.group() for found in reading.MENTION.finditer(text)]

    assert seen("by (13) and Theorem 10, Lemma C1, (C2) or Section 2.3.") == [
        "(13)",
        "Theorem 10",
        "Lemma C1",
        "(C2)",
        "Section 2.3",
    ]
    assert not seen("in 2026 (2026), f(3), Lemma of others, (i), Theorem 2.1.4")
