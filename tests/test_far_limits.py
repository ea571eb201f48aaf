"""For ever, for many agents, under the error threshold: what the pages say, from closed forms and plain populations."""

import numpy as np
import pytest
from chapter_code import defined
from plain import follow, parents, trained
from scipy.linalg import eigh
from scipy.optimize import brentq
from scipy.special import zeta
from scipy.stats import binom, norm

from pbtlib import averaged as A  # noqa: N812
from pbtlib import results
from pbtlib.problems import Quadratic

# ---------------------------------------------------------------------------------------------- the error threshold


def norm_of_return(p, sigma):
    """‖T‖/a for the bump e^{−|h|²/2}: Rayleigh and Ritz with seven Gaussians, all integrals and sums in closed form."""
    alpha = np.geomspace(0.15, 5.0, 7)
    B, C = np.meshgrid(alpha + 0.5, alpha + 0.5)
    s = sigma**2
    action = (2 * np.pi / (B * C * s)) ** (p / 2) * zeta(p / 2, 1 + (B + C) / (B * C * s))
    overlap = (2 * np.pi / np.add.outer(alpha, alpha)) ** (p / 2)
    return eigh(action, overlap, eigvals_only=True)[-1]


def growth(p, sigma, a=2.0, reach=25.0, n=400):
    """Largest eigenvalue of weight and mutation for odd (p = 3) or even (p = 1) functions of the radius."""
    r = (np.arange(n) + 0.5) * reach / n
    kernel = norm.pdf(r[:, None], r, sigma) + (1 if p == 1 else -1) * norm.pdf(-r[:, None], r, sigma)
    root = np.sqrt(1 + a * np.exp(-(r**2) / 2))
    return np.linalg.eigvalsh(root[:, None] * kernel * root * reach / n)[-1]


CRITICAL = float(brentq(lambda sigma: 2 * norm_of_return(3, sigma) - 1, 0.5, 4))


def test_a_steady_state_exists_below_the_strength_at_which_lineages_return_once_and_not_above():
    """Ten per cent below and above; on a line there is one on both sides."""
    assert growth(3, 0.9 * CRITICAL) > 1 + 1e-4
    assert growth(3, 1.1 * CRITICAL) < 1 - 1e-4
    assert growth(1, 1.1 * CRITICAL) > 1 + 1e-4
    (returning,) = defined("forever", "returning")
    assert returning(3, CRITICAL) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("p", [3, 4, 6])
def test_the_two_sums_enclose_the_norm_and_from_one_width_on_the_upper_one_needs_its_first_term(p, sigma):
    bounds, returning = defined("forever", "bounds", "returning")
    exact = norm_of_return(p, sigma)
    assert returning(p, sigma) == pytest.approx(exact, rel=2e-4)
    low, high = bounds(p, sigma**2)
    assert low < exact < high
    assert high == pytest.approx(((1 + np.arange(1, 200_000) * sigma**2) ** (-p / 2)).sum(), rel=0.02)
    assert (bounds(p, sigma**2, first=2)[1] < exact) == (sigma > 0.5), "for small steps the first term matters little"


@pytest.mark.parametrize(("p", "factor"), [(3, 0.7), (1, 1.4), (3, 1.4)])
def test_a_thousand_agents_keep_the_mean_weight_of_the_steady_state_or_leave_the_bump(p, factor, rng):
    """Plain populations that start on the bump, over updates 60 to 140; without a bump in reach the weight is one."""
    sigma, runs, n = factor * CRITICAL, 5, 1000
    h, seen = np.zeros((runs, n, p)), []
    for k in range(140):
        weight = 1 + 2 * np.exp(-np.square(h).sum(-1) / 2)
        if k >= 60:
            seen.append(weight.mean(1))
        h = follow(h, parents(weight, rng)) + sigma * rng.standard_normal(h.shape)
    each = np.mean(seen, 0)
    error = each.std(ddof=1) / np.sqrt(runs)
    held = growth(p, sigma) if (p, factor) != (3, 1.4) else 1.0
    assert abs(each.mean() - held) < 12 * error + 0.02
    assert (each.mean() > 1.05) == ((p, factor) != (3, 1.4))


# ---------------------------------------------------------------------------------------------- for ever


def squared_errors(rng, n, runs, tau, sigma, beta, horizon, limit):
    """Of the mean of h: fresh weights around h, F = sin 3θ, mutation clipped to [−1, 1]; (runs, updates)."""
    h, rows = -rng.random((runs, n)), []
    for _ in range(round(horizon / tau)):
        F = np.sin(3 * (h + 0.5 * rng.standard_normal(h.shape)))
        child = np.take_along_axis(h, parents(np.exp(beta * F), rng), 1)
        child = np.clip(child + sigma * rng.standard_normal(h.shape), -1, 1)
        h = np.where(rng.random(h.shape) < tau, child, h)
        rows.append(h.mean(1))
    return np.square(np.array(rows) - limit[:, None]).T


@pytest.mark.parametrize("tau", [1.0, 0.25])
def test_errors_of_a_mean_are_as_large_late_as_early_and_fall_like_the_root_of_n_and_under_drift_they_grow(tau, rng):
    (limit,) = defined("forever", "limit")
    horizon = 60
    clock = tau * np.arange(1, round(horizon / tau) + 1)
    early, late = (clock > 15) & (clock <= 30), clock > 30

    def over(n, runs, sigma, beta):
        exact = limit(clock.size, tau, sigma, beta)
        square = n * squared_errors(rng, n, runs, tau, sigma, beta, horizon, exact)
        return square[:, early].mean(1), square[:, late].mean(1)

    first, last = over(50, 150, 0.3, 2.0)
    _, many = over(200, 80, 0.3, 2.0)
    for top, bottom in ((last, first), (many, last)):
        value = top.mean() / bottom.mean()
        error = value * np.hypot(*(x.std(ddof=1) / x.mean() / np.sqrt(x.size) for x in (top, bottom)))
        assert abs(value - 1) < 5 * error + 0.04
    first, last = over(50, 150, 0.0, 0.0)
    assert last.mean() > 1.15 * first.mean(), "neutral drift"


# ---------------------------------------------------------------------------------------------- many agents


def ramp(h):
    return np.clip(1 - np.abs(h[..., 1]), 0, 1)


def end_of(rng, runs, n, tau, epsilon, horizon=2.0, sigma=0.3):
    """Mean of the ramp in plain populations of the quadratic example at the horizon; steps of 0.01."""
    theta, h = rng.uniform(-2, 2, (2, runs, n, 2))
    for _ in range(round(horizon / tau)):
        theta = trained(theta, h, round(100 * tau / epsilon), 0.01, rng)
        parent = parents(np.exp(-np.square(theta).sum(-1)), rng)
        jumps = rng.random(parent.shape) < tau
        parent = np.where(jumps, parent, np.arange(n))
        theta, h = follow(theta, parent), follow(h, parent)
        h = h + sigma * np.where(jumps[..., None], rng.standard_normal(h.shape), 0)
    return ramp(h).mean(1)


def doubled(rng, runs, n, shared):
    """Mean of cos 2πθ after four updates of training by θ → 2¹⁶θ mod 1, with numbers of their own or one for all."""
    theta = rng.beta(2, 3, (runs, n))
    for _ in range(4):
        kick = 0.1 * rng.standard_normal((runs, 1 if shared else n))
        theta = (theta * (0 if shared else 2.0**16) + kick) % 1
        parent = parents(np.exp(np.cos(2 * np.pi * theta)), rng)
        theta = np.where(rng.random(theta.shape) < 0.5, np.take_along_axis(theta, parent, 1), theta)
    return np.cos(2 * np.pi * theta).mean(1)


@pytest.mark.parametrize("training", ["slow", "fast", "expanding", "one number for all"])
def test_means_scatter_like_the_root_of_n_whatever_trains_unless_agents_share_their_numbers(training, rng):
    def scatter(n, runs):
        if training in ("slow", "fast"):
            return end_of(rng, runs, n, 0.25, {"slow": 1.0, "fast": 0.05}[training]).std(ddof=1)
        return doubled(rng, runs, n, training != "expanding").std(ddof=1)

    slope = np.log(scatter(1600, 120) / scatter(64, 800)) / np.log(25)
    error = np.sqrt(1 / 240 + 1 / 1600) / np.log(25)
    assert (abs(slope + 0.5) < 5 * error + 0.03) == (training != "one number for all")


def test_the_distance_from_13_falls_with_all_three_limits_together_and_not_with_epsilon_fixed(rng):
    """Against the semigroup on a grid; divided by N^(−1/2) + τ + δ it does not grow."""
    grid = A.Grid(-4.0, 4.0, 80)
    plane = np.stack(np.meshgrid(grid.points, grid.points, indexing="ij"), -1)
    start = 1.0 * (np.abs(plane) < 2).all(-1)
    law = A.semigroup(
        start / start.sum(), Quadratic().effective_fitness(plane, 1.0), [A.mutation_kernel(grid, 0.3)] * 2, 2.0
    )
    exact = (law * ramp(plane)).sum()

    def scaled(n, tau, epsilon, runs):
        error = end_of(rng, runs, n, tau, epsilon) - exact
        q = np.exp(-2 * tau / epsilon)
        rms = np.sqrt(np.mean(error**2))
        return rms, np.std(error) / np.sqrt(runs), n**-0.5 + tau + tau * q / (1 - (1 - tau) * q)

    first, last, stuck = (
        scaled(*case) for case in ((50, 0.5, 1.0, 600), (800, 0.125, 0.25, 60), (800, 0.125, 1.0, 60))
    )
    error = np.hypot(first[1] / first[2], last[1] / last[2])
    assert last[0] / last[2] < first[0] / first[2] + 5 * error
    assert stuck[0] / (800**-0.5 + 0.125) > first[0] / first[2] + 5 * error


def test_ties_by_lot_scatter_like_the_root_of_n_and_under_the_rank_rule_not_at_all(rng):
    """By enumeration of how many pass, two true scores; then in the stored networks."""
    q = 0.2

    def by_enumeration(n):
        passed = np.arange(n + 1)
        law = binom.pmf(passed, n, q)
        top = np.minimum(passed / n, q)
        lot = top / q  # mean true score of the parents: those who pass have one, the others zero
        rank = np.where(passed / n >= q, 1.0, passed / n)
        return [np.sqrt(law @ x**2 - (law @ x) ** 2) for x in (lot, rank)]

    few, many = by_enumeration(50), by_enumeration(1600)
    slopes = np.log(np.divide(many, few)) / np.log(32)
    assert slopes[0] == pytest.approx(-0.5, abs=0.03)
    assert abs(slopes[1]) < 0.05

    data = results.load(results.DATA / "cartpole_chaos.nc")
    here = np.flatnonzero(data["rule"].to_numpy() == "truncation")
    sizes = data["agents"].to_numpy()[here]
    last = data["score"].to_numpy()[here, -1].astype(float)
    scores = [row[:n] for row, n in zip(last, sizes, strict=True)]
    mark = np.quantile(np.concatenate(scores), 0.8)
    share = np.mean([(s >= mark).mean() for s in scores])
    lot, rank = [], []
    for s in scores:
        order = np.sort(s[s >= mark] if (s >= mark).mean() >= share else s)
        rank.append(order.mean())
        need, top = share, (s >= mark).mean()
        from_top = min(top, need)
        rest = s[s < mark].mean() if need > from_top else 0.0
        lot.append((s[s >= mark].mean() * from_top + (need - from_top) * rest) / need)

    def slope(values):
        n = np.unique(sizes)
        groups = [np.array(values)[sizes == k] for k in n]
        worth = np.array([len(g) - 1 for g in groups])
        x = np.log(n) - np.average(np.log(n), weights=worth)
        fit = (worth * x) @ np.log([g.std(ddof=1) for g in groups]) / (worth @ x**2)
        return fit, 1 / np.sqrt(2 * (worth @ x**2))

    found, error = slope(lot)
    assert abs(found + 0.5) < 5 * error
    found, error = slope(rank)
    assert found > -0.5 + 5 * error


# -------------------------------------------------------------------------------------------- concentrated populations


def test_a_concentrated_population_moves_by_its_covariance_times_the_gradient_to_first_order():
    """A curved fitness on a line, on points of its own; with the first covariance for ever the order is lost."""

    def error(kappa, frozen):
        step = 0.05 * kappa
        x = np.arange(-1.5, 3.0, max(step, 0.008))
        F = -0.8 * x**2 + 0.5 * np.sin(2 * x)
        w, kernel = np.exp(F), norm.pdf(x[:, None], x, 0.4 * kappa)
        kernel /= kernel.sum(0)
        law = norm.pdf(x, 1.5, 0.4 * np.sqrt(kappa))
        law /= law.sum()
        mean, spread = law @ x, None
        for _ in range(round(1 / kappa)):
            if spread is None or not frozen:
                spread = law @ x**2 - (law @ x) ** 2
            mean += spread * (-1.6 * mean + np.cos(2 * mean))
            law = kernel @ (w * law / (w @ law))
        return abs(mean - law @ x)

    errors = np.array([[error(k, frozen) for k in (1 / 8, 1 / 16, 1 / 32)] for frozen in (False, True)])
    orders = -np.diff(np.log2(errors))
    assert orders[0, -1] == pytest.approx(1, abs=0.15)
    assert orders[1, -1] < 0.6


def test_far_from_the_optimum_the_mean_noise_rises_by_a_fifth_and_falls_by_a_half_later(rng):
    """Plain populations of Algorithm 2 and a power iteration; judged by the mean fitness it does not rise so far."""

    def walk(score):
        h, rows = np.array([2.5, 0.7]) + 0.2 * rng.standard_normal((12, 3000, 2)), []
        for _ in range(50):
            rows.append(h[..., 1].mean(1))
            h = follow(h, parents(np.exp(score(h)), rng)) + 0.1 * rng.standard_normal(h.shape)
        return np.array([*rows, h[..., 1].mean(1)])

    path = walk(lambda h: -np.square(trained(h, h, None, 0.01, rng)).sum(-1))
    tame = walk(lambda h: -2 * h[..., 0] ** 2 - h[..., 1] ** 2 / 2)
    x, y = np.linspace(-1.5, 4, 67), np.linspace(-3, 5, 97)
    weight = np.exp(Quadratic().effective_fitness(np.stack(np.meshgrid(x, y, indexing="ij"), -1), 1.0))
    law = np.outer(norm.pdf(x, 2.5, 0.2), norm.pdf(y, 0.7, 0.2))
    Kx, Ky, grid = norm.pdf(x[:, None], x, 0.1), norm.pdf(y[:, None], y, 0.1), []
    for _ in range(51):
        law /= law.sum()
        grid.append(law.sum(0) @ y)
        law = Kx @ (weight * law) @ Ky
    for noise, rises in ((path, True), (np.array(grid)[:, None], True), (tame, False)):
        up, down = noise.max(0) - noise[0], noise.max(0) - noise[-1]
        assert (up.mean() > 0.2) == rises
        assert not rises or down.mean() > 0.5
    assert np.abs(path.mean(1) - grid)[1] < 0.08, "later few agents lag behind many"
