"""Peaks, rings and bounds: what the evidence says of them, from a second discretisation, sums and searches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain import parents
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

from pbtlib import bilevel as B  # noqa: N812
from pbtlib import gaussian as G  # noqa: N812
from pbtlib.problems import Himmelblau, Quadratic
from pbtlib.training import EulerMaruyama, GibbsDraw, Particles

# ---------------------------------------------------------------------------------------------- steady states


def steady(x, exponent, sigma):
    """Steady state on these points, from the symmetric eigenproblem √w K √w in plain NumPy; the eigenvalues too."""
    kernel = norm.pdf(x[:, None], x, sigma) * (x[1] - x[0])
    root = np.exp((exponent - exponent.max()) / 2)
    values, vectors = np.linalg.eigh(root[:, None] * kernel * root)
    law = kernel @ (root * np.abs(vectors[:, -1]))
    return law / law.sum(), values[::-1]


def test_with_two_equal_peaks_the_gap_closes_as_the_semiclassical_formula_says():
    """Within 1.2/X, X = 4√(2β)/(3σ), from a matrix of its own; without half of the exponent it is far off."""
    x, sigma = np.linspace(-2.1, 2.1, 421), 0.1
    for beta in (0.1, 0.3, 0.6):
        X = 4 * np.sqrt(2 * beta) / (3 * sigma)
        _, values = steady(x, -beta * (x**2 - 1) ** 2, sigma)
        formula = 4 * sigma * np.sqrt(2 * beta) * np.sqrt(6 * X / np.pi) * np.exp(-X)
        ratio = (1 - values[1] / values[0]) / formula
        assert abs(ratio - 1) < 1.2 / X
        assert abs(ratio * np.exp(-X / 2) - 1) > 1.2 / X


def test_strong_selection_on_agents_own_luck_saturates_and_on_a_fixed_fitness_does_not(rng):
    """Plain populations at rest at β = 200: with F = −θ²/2 the variance is above the floor, with −h²/2 far below."""
    beta, omega2, sigma = 200.0, 0.5, 0.3

    def at_rest(score):
        h, seen = 0.5 * rng.standard_normal((16, 2000)), []
        for k in range(45):
            F = score(h)
            h = np.take_along_axis(h, parents(np.exp(beta * (F - F.max(1, keepdims=True))), rng), 1)
            h = h + sigma * rng.standard_normal(h.shape)
            if k > 14:
                seen.append(h.var(1))
        each = np.mean(seen, 0)
        return each.mean(), each.std(ddof=1) / 4

    floor = G.stationary_variance(1 / omega2, sigma)
    for score, curvature in (
        (lambda h: -((h + np.sqrt(omega2) * rng.standard_normal(h.shape)) ** 2) / 2, beta / (1 + beta * omega2)),
        (lambda h: -(h**2) / 2, beta),
    ):
        value, error = at_rest(score)
        exact = G.stationary_variance(curvature, sigma)
        assert abs(value - exact) < 6 * error + 30 * exact / 2000
        assert (exact > floor) == (curvature != beta)
    assert value < 0.5 * floor


@pytest.mark.parametrize(("high", "flat", "sigma"), [((1.0, 50.0), (0.75, 5.0), 0.25), ((1.0, 25.0), (0.5, 3.0), 0.4)])
def test_with_the_pressure_the_steady_state_changes_from_the_flatter_to_the_higher_peak(high, flat, sigma):
    """Within two per cent of where the growth rates of the two parabolas are equal; not where heights are balanced."""
    x = np.linspace(-4.5, 4.5, 361)
    peaks = np.maximum(high[0] - high[1] / 2 * (x + 2) ** 2, flat[0] - flat[1] / 2 * (x - 2) ** 2)

    def lead(beta):
        return sum(s * (beta * a + np.log(G.contraction(beta * c, sigma)) / 2) for s, (a, c) in ((1, high), (-1, flat)))

    def right(beta):
        return steady(x, beta * peaks, sigma)[0][x > 0].sum()

    turn = brentq(lead, 0.01, 100)
    weak = (sigma * (high[1] ** 0.5 - flat[1] ** 0.5) / (high[0] - flat[0]) / 2) ** 2  # v = σ/√c
    assert right(0.98 * turn) > 0.9
    assert right(1.02 * turn) < 0.1
    assert not (right(0.98 * weak) > 0.9 and right(1.02 * weak) < 0.1)


def test_a_tilt_of_the_size_of_the_gap_shares_the_steady_state_out_as_two_levels_do():
    """A matrix of one's own; the share of a half that a tilt would leave if it did nothing is far off."""
    x, sigma, beta = np.linspace(-2, 2, 401), 0.1, 0.4
    double = (x**2 - 1) ** 2
    law, levels = steady(x, -beta * double, sigma)
    gap = 1 - levels[1] / levels[0]
    ancestors = law**2 * np.exp(-beta * double)
    where = (ancestors * x)[x > 0].sum() / ancestors[x > 0].sum()
    for size in (0.25, 1.0, 4.0):
        tilt = size * gap / beta
        share = steady(x, -beta * (double - tilt * x), sigma)[0][x > 0].sum()
        phi = np.arctan2(gap / 2, beta * tilt * where) / 2
        assert share == pytest.approx(np.cos(phi) / (np.cos(phi) + np.sin(phi)), abs=0.01)
        assert share > 0.55


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.2, 0.6))
def test_a_concave_landscape_has_a_log_concave_steady_state(key, sigma):
    """The least of five random lines, and a parabola; by power iteration. Two wells are no such landscape."""
    r, x = np.random.default_rng(key), np.linspace(-6, 6, 241)
    slope, height = r.normal(0, 2, 5), r.normal(0, 0.5, 5)
    roof = (slope[:, None] * x + height[:, None]).min(0) - 0.3 * x**2

    def bend(exponent):
        law, _ = steady(x, exponent, sigma)
        return np.diff(np.log(law[law > 1e-9 * law.max()]), 2).max() / (x[1] - x[0]) ** 2

    assert bend(roof) < 1e-6
    assert bend(-((x**2 - 1) ** 2)) > 0.01


def test_a_ridge_that_widens_far_from_its_only_peak_holds_a_second_mode():
    """A landscape with one local maximum, looked for; the ridge that keeps its width has one mode."""
    u, y = np.linspace(-5, 5, 81), np.linspace(-2.5, 2.5, 41)
    across, along = (norm.pdf(z[:, None], z, 0.3) for z in (y, u))

    def modes(widens):
        curvature = 20 - widens * 19 / (1 + np.exp(4 * (1 - u)))
        height = 0.53 * np.exp(-2 * (u + 2) ** 2) - 0.02 * np.abs(u + 2) - 2 * np.maximum(np.abs(u) - 4, 0) ** 2
        F = height[:, None] - curvature[:, None] / 2 * y**2
        peaks = [
            (F[i, j] >= F[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]).all() for i in range(81) for j in range(41)
        ]
        law = np.exp(F)
        for _ in range(400):
            law = along @ (np.exp(F) * law) @ across
            law /= law.sum()
        ridge = law[:, 20]
        inner = (ridge[1:-1] > ridge[:-2]) & (ridge[1:-1] > ridge[2:])
        return sum(peaks), inner.sum()

    assert modes(1) == (1, 2)
    assert modes(0) == (1, 1)


# ---------------------------------------------------------------------------------------------- Theorem 10


def test_two_atoms_come_as_near_to_b2_as_one_likes_and_no_law_exceeds_it(rng):
    """Energy after selection over energy before, for a lopsided parabola of curvatures a and b at 0: at most b/a."""
    a, b = 0.5, 2.0

    def gain(h, mass, beta):
        w = mass * np.exp(-beta * (lambda cost: cost - cost.min())(np.where(h < 0, a, b) / 2 * h**2))
        return (w @ h**2) / w.sum() / (mass @ h**2)

    for _ in range(300):
        h, mass = rng.normal(0, 3, 6), rng.dirichlet(np.full(6, 0.3))
        assert gain(h, mass, rng.uniform(0, 20)) < b / a
    far = 1e3 * np.array([1.0, -np.sqrt(b / a) * 0.999])
    assert gain(far, np.array([1 - 1e-8, 1e-8]), 1.0) > 0.99 * b / a
    # c_u/c_l of (21) is this ratio
    flat = B.Assumption9(centre=0.0, eta=np.sqrt(a / 2), nu=0.5, F_inf=2 * a, c_u=b / 2, c_l=a / 2, M=1.0)
    assert B.energy_constants(flat)[1] == pytest.approx(b / a)


LOPSIDED = {"a": 1.0, "b": 2.0, "best": 0.5, "sigma": 0.3, "shift": 1.5}


def distance_of_mean(beta, times, n=261):
    """|m(t) − h*| under (13) from N(2, ¼), by Runge-Kutta on points of its own."""
    x = np.linspace(-3, 5, n)
    gap = np.where(x < 0.5, 1.0, 2.0) / 2 * (x - 0.5) ** 2
    K = norm.pdf(x[:, None], x, 0.3)
    K /= K.sum(0)

    def slope(rho):
        w = np.exp(-beta * gap) * rho
        return K @ (w / w.sum()) - rho

    rho, now, found = norm.pdf(x, 2, 0.5), 0.0, []
    rho /= rho.sum()
    for t in times:
        steps = max(1, int(np.ceil((t - now) / 0.05)))
        for _ in range(steps if t > now else 0):
            d = (t - now) / steps
            k1 = slope(rho)
            k2 = slope(rho + d / 2 * k1)
            k3 = slope(rho + d / 2 * k2)
            rho = rho + d / 6 * (k1 + 2 * k2 + 2 * k3 + slope(rho + d * k3))
        now = t
        found.append(abs(rho @ x - 0.5))
    return np.array(found)


def pressures(delta):
    """The two pressures that the proofs ask for."""
    given = {
        "delta": delta,
        "horizon": np.log(1.5 / delta),
        "sigma": 0.3,
        "p": 1,
        "radius": lambda q: np.sqrt(q),
        "ball_mass": lambda r: norm.cdf(0.5 + r, 2, 0.5) - norm.cdf(0.5 - r, 2, 0.5),
    }
    held = B.Assumption9(centre=0.5, eta=np.sqrt(0.5), nu=0.5, F_inf=2.0, c_u=1.25, c_l=1 / 8, M=1.0)
    return (
        B.pressure(held, energy=4.25, **given),
        B.pressure_without_growth(held, distance=1.51, **given),
    )


def test_the_bound_holds_all_the_way_with_the_pressures_of_the_proofs_and_not_at_one():
    delta = 0.2
    times = np.linspace(0, np.log(1.5 / delta), 13)
    allowed = 1.5 * np.exp(-times) + delta
    for beta in pressures(delta):
        assert (distance_of_mean(beta, times) <= allowed).all()
    assert (distance_of_mean(1.0, times) > allowed).any()


def test_the_energy_stays_below_its_bound_at_every_pressure_and_for_a_parabola_comes_near_it():
    """Second moment under (13) up to T*, on points of its own; a fitness that grows outwards exceeds the bound."""
    x, times = np.linspace(-8, 8, 321), np.log(1.5 / 0.2)
    K = norm.pdf(x[:, None], x, 0.3)
    K /= K.sum(0)

    def largest(gap, beta):
        w, rho, top = np.exp(-beta * (gap - gap.min())), norm.pdf(x, 2, 0.5), 0.0
        rho /= rho.sum()
        for _ in range(100):
            half = rho + times / 200 * (K @ (w * rho / (w @ rho)) - rho)
            rho = rho + times / 100 * (K @ (w * half / (w @ half)) - half)
            top = max(top, rho @ x**2)
        return top

    sizes = {"energy": 4.25, "sigma": 0.3, "p": 1, "horizon": times}
    lopsided = B.Assumption9(centre=0.5, eta=np.sqrt(0.5), nu=0.5, F_inf=2.0, c_u=1.25, c_l=1 / 8, M=1.0)
    even = B.Assumption9(centre=0.0, eta=1.0, nu=0.5, F_inf=2.0, c_u=0.5, c_l=0.5, M=0.1)
    limits = [B.energy_bound(held, **sizes) for held in (lopsided, even)]
    for limit, gap in zip(limits, (np.where(x < 0.5, 0.5, 1.0) * (x - 0.5) ** 2, x**2 / 2), strict=True):
        assert max(largest(gap, beta) for beta in (0.01, 1.0, 100.0)) < limit
    assert largest(x**2 / 2, 0.01) > 0.6 * limits[1]
    assert largest(-(x**2) / 2, 1.0) > limits[1]


def test_without_the_growth_condition_the_bound_holds_for_the_quadratic_example_at_an_explicit_pressure():
    """Distance of the mean under (13) from a box, on a plane of its own; at a fifth of a unit of pressure it fails."""
    held = B.Assumption9(centre=0.0, eta=np.sqrt(np.log(1.5)), nu=0.5, F_inf=np.log(1.5))
    x = np.linspace(-2.5, 6.5, 181)
    u, v = np.meshgrid(x, x, indexing="ij")
    inside = 1.0 * ((u > -1) & (u < 5) & (v > -1) & (v < 5))
    inside /= inside.sum()
    away, accuracy = np.hypot(2, 2), 1.0
    T = np.log(away / accuracy)
    beta = B.pressure_without_growth(
        held, delta=accuracy, horizon=T, distance=(inside * np.hypot(u, v)).sum(), sigma=0.1, p=2,
        radius=lambda q: np.sqrt(q / 2), ball_mass=lambda r: np.pi * r**2 / 36)  # fmt: skip
    # F is that of pressure one: log-mean-exp of −θ² over N(h₁, h₂²/4), twice
    F = -2 * u**2 / (1 + v**2 / 2) - np.log1p(v**2 / 2)
    for q in (0.05, 0.2):
        near = np.hypot(u, v) <= np.sqrt(q / 2)
        assert (-F[near] <= q + 1e-9).all(), "the radius keeps the gap below q"
    K = norm.pdf(x[:, None], x, 0.1)
    K /= K.sum(0)

    def worst(pressure):
        w, rho, over = np.exp(pressure * F), inside, []
        for k in range(1, 41):
            half = rho + T / 80 * (K @ (w * rho / (w * rho).sum()) @ K.T - rho)
            rho = rho + T / 40 * (K @ (w * half / (w * half).sum()) @ K.T - half)
            mean = np.hypot((rho * u).sum(), (rho * v).sum())
            over.append(mean / (np.exp(-k * T / 40) * away + accuracy))
        return max(over)

    assert worst(beta) <= 1
    assert worst(0.2) > 1


def test_at_the_horizon_the_mean_is_within_two_delta_if_the_pressure_is_what_the_proofs_ask():
    delta = 0.2
    for beta in pressures(delta):
        assert distance_of_mean(beta, [np.log(1.5 / delta)])[-1] < 2 * delta
    assert distance_of_mean(1.0, [np.log(1.5 / delta)])[-1] > 2 * delta


def test_below_a_pressure_the_bound_of_theorem_10_fails_and_above_it_holds():
    delta = 0.2
    times = np.linspace(0, np.log(1.5 / delta), 9)
    allowed = 1.5 * np.exp(-times) + delta
    worst = np.array([(distance_of_mean(beta, times) / allowed).max() for beta in (1.0, 2.0, 20.0, 60.0)])
    assert (worst[:2] > 1.05).any()
    assert worst[0] > 1
    assert (worst[2:] < 1).all()
    assert min(pressures(delta)) > 20


def test_particles_with_fixed_weights_obey_the_bound_at_pressure_20_and_not_at_1(rng):
    """Plain populations of 200, a twentieth jumping at a time, to the horizon; the mean over populations."""
    tau, horizon = 0.05, np.log(1.5 / 0.2)

    def path(beta, runs=60, n=200):
        h, rows = rng.normal(2, 0.5, (runs, n)), []
        for _ in range(round(horizon / tau)):
            gap = np.where(h < 0.5, 1.0, 2.0) / 2 * (h - 0.5) ** 2
            parent = parents(np.exp(-beta * (gap - gap.min(1, keepdims=True))), rng)
            jumps = rng.random(h.shape) < tau
            child = np.take_along_axis(h, parent, 1) + 0.3 * rng.standard_normal(h.shape)
            h = np.where(jumps, child, h)
            rows.append(h.mean(1))
        rows = np.array(rows)
        clock = tau * np.arange(1, len(rows) + 1)
        error = rows.std(1, ddof=1) / np.sqrt(runs)
        return np.abs(rows.mean(1) - 0.5) - (1.5 * np.exp(-clock) + 0.2), error

    over, error = path(20.0)
    assert (over[8:] + 6 * error[8:] < 0).all()
    over, error = path(1.0)
    assert (over - 6 * error > 0).any()


def test_along_the_noise_the_gap_of_the_quadratic_example_grows_like_a_logarithm():
    """Doubling h₂ adds 2 log 2 however large it is; along the bias it multiplies the gap by four."""

    def gap(h):
        mean, spread = h[0], h[1] / 2
        inside = quad(lambda t: norm.pdf(t, mean, spread) * np.exp(-(t**2)), -12, 12, points=[0], limit=200)[0]
        return -2 * np.log(inside)

    for size in (20.0, 80.0, 320.0):
        assert gap((0.0, 2 * size)) - gap((0.0, size)) == pytest.approx(2 * np.log(2), abs=0.02)
        library = 1.2 - Quadratic().effective_fitness(np.array([0.0, size]), 1.0)
        assert library == pytest.approx(gap((0.0, size)), rel=1e-6)
    assert gap((0.0, 320.0)) / 320.0**2 < 2e-4
    bias = [1.2 - Quadratic().effective_fitness(np.array([s, 0.0]), 1.0) for s in (20.0, 40.0)]
    assert bias[1] / bias[0] == pytest.approx(4)


# ---------------------------------------------------------------------------------------------- effective fitness


def test_the_mean_over_a_window_is_the_mean_fitness_and_not_the_effective_fitness(rng, seed):
    """Windows of a hundred draws of N(h, ω²) for four h; exact both."""
    problem = Quadratic()
    h = np.array([[0.0, 1.0], [1.0, 0.5], [0.5, 2.0], [2.0, 1.0]])
    agents = np.repeat(h, 4000, 0)
    fitness = GibbsDraw(problem, window=100)(Particles(agents, agents), rng)[1].fitness.mean(-1).reshape(4, -1)
    error = fitness.std(1, ddof=1) / np.sqrt(4000)
    mean = 1.2 - 2 * h[:, 0] ** 2 - h[:, 1] ** 2 / 2
    assert (np.abs(fitness.mean(1) - mean) < 5.5 * error).all()
    assert (np.abs(fitness.mean(1) - problem.effective_fitness(h, 1.0)) > 5.5 * error).all()


def test_single_draws_reward_noise_where_windows_of_ten_punish_it_and_windows_pull_harder_at_the_bias():
    """Logarithm of E exp(β·mean of m draws), by quadrature of one coordinate to the power m; at (0.8, 1), β = 10."""

    def value(h1, h2, m, beta=10.0):
        one = quad(lambda t: norm.pdf(t, h1, h2 / 2) * np.exp(-beta / m * t**2), -6, 6, limit=200)[0]
        return 2 * m * np.log(one)

    def slopes(m, d=1e-3):
        return np.array(
            [
                (value(0.8 + d, 1, m) - value(0.8 - d, 1, m)) / (2 * d),
                (value(0.8, 1 + d, m) - value(0.8, 1 - d, m)) / (2 * d),
            ]
        )

    single, ten = slopes(1), slopes(10)
    assert single[1] > 0.1
    assert ten[1] < -0.1
    assert ten[0] < 2 * single[0] < 0
    for m in (1, 10):
        closed = 10 * Quadratic().effective_fitness(np.array([[0.8, 1.01], [0.8, 0.99]]), 10.0 / m)
        assert (closed[0] - closed[1]) / 0.02 == pytest.approx(slopes(m)[1], rel=1e-3)


def test_the_closed_form_beats_the_agents_own_fitness_at_high_pressure_and_a_mean_of_ten_beats_both(rng):
    """Distance of the mean from the optimum after twelve updates of plain populations; at β = 1 nothing is gained."""
    start = rng.uniform(-5, 5, (500, 100, 2))

    def distance(beta, score):
        h = start
        for _ in range(12):
            F = score(h)
            parent = parents(np.exp(beta * (F - F.max(1, keepdims=True))), rng)
            h = np.take_along_axis(h, parent[..., None], 1) + 0.1 * rng.standard_normal(h.shape)
        return np.linalg.norm(h.mean(1), axis=-1)

    def drawn(m):
        def score(h):
            total = 0.0
            for _ in range(m):
                theta = h[..., :1] + np.abs(h[..., 1:]) / 2 * rng.standard_normal(h.shape)
                total = total - np.square(theta).sum(-1)
            return total / m

        return score

    def closed(beta):
        return lambda h: (-np.log1p(beta * h[..., 1] ** 2 / 2) - 2 * beta * h[..., 0] ** 2
                          / (1 + beta * h[..., 1] ** 2 / 2)) / beta  # fmt: skip

    def better(one, two):
        return one.mean() - two.mean(), np.hypot(one.std(), two.std()) / np.sqrt(500)

    own, known, ten = distance(10.0, drawn(1)), distance(10.0, closed(10.0)), distance(10.0, drawn(10))
    for pair in ((own, known), (known, ten)):
        gain, error = better(*pair)
        assert gain > 4 * error
    gain, error = better(distance(1.0, drawn(1)), distance(1.0, closed(1.0)))
    assert abs(gain) < 5 * error


def test_training_chains_on_himmelblau_estimate_the_effective_fitness_up_to_their_step(rng):
    """From exact draws on, with two time steps, extrapolated; β = 0 is another number."""
    problem, beta, h = Himmelblau(), 0.02, np.array([0.5, 8.0])
    agents = np.tile(h, (10_000, 1))
    start = problem.equilibrium_sample(agents, rng)

    def chain(dt, steps):
        state, _ = EulerMaruyama(problem, dt=dt, steps=steps)(Particles(start, agents), rng)
        weight = np.exp(beta * problem.fitness(state.theta, agents))
        value = np.log(weight.mean()) / beta
        return value, weight.std() / weight.mean() / np.sqrt(len(weight)) / beta

    (half, small), (full, large) = chain(4e-4, 120), chain(8e-4, 60)
    axis = np.linspace(-9, 9, 241)
    plane = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    exponent = -2 / h[1] ** 2 * problem.loss(plane, np.broadcast_to(h, plane.shape))
    F = problem.fitness(plane, np.broadcast_to(h, plane.shape))
    exact = (logsumexp(exponent + beta * F) - logsumexp(exponent)) / beta
    mean = (np.exp(exponent - exponent.max()) @ F) / np.exp(exponent - exponent.max()).sum()
    error = np.hypot(2 * small, large)
    assert abs(2 * half - full - exact) < 5.5 * error + 0.05
    assert abs(mean - exact) > 5.5 * error + 0.05


def test_infinite_pressure_is_the_density_at_the_best_weights():
    """(β/π)^{d/2} e^{β(𝓕−1.2)} against scipy's normal density at zero; at β = 1 it is not."""
    for h in ((0.5, 1.0), (1.0, 2.0), (-0.4, 0.8)):
        density = multivariate_normal([h[0]] * 2, h[1] ** 2 / 4 * np.eye(2)).pdf([0.0, 0.0])
        scaled = [b / np.pi * np.exp(b * (Quadratic().effective_fitness(np.array(h), b) - 1.2)) for b in (1e6, 1.0)]
        assert scaled[0] == pytest.approx(density, rel=1e-4)
        assert abs(scaled[1] / density - 1) > 0.05


def test_the_effective_fitness_is_a_penalised_fitness_with_an_entropy(rng):
    """At the selected law of random finite problems; at the prior it is smaller, without the entropy another."""
    F, L, alpha = rng.normal(size=30), rng.uniform(0, 2, 30), 3.0
    prior = np.exp(-alpha * L) / np.exp(-alpha * L).sum()
    least = -np.log(np.exp(-alpha * L).sum()) / alpha

    def value(nu):
        return nu @ F - alpha * (nu @ L - least) - nu @ np.log(nu)

    selected = prior * np.exp(F) / (prior @ np.exp(F))
    exact = B.log_mean_exp(F, 1.0, prior)
    assert value(selected) == pytest.approx(float(exact), abs=1e-12)
    assert value(prior) < exact - 0.01
    assert abs(value(selected) + selected @ np.log(selected) - exact) > 0.1
    for _ in range(200):
        assert value(rng.dirichlet(np.full(30, rng.uniform(0.1, 3)))) < exact


# ---------------------------------------------------------------------------------------------- Lemma 8


def expectation(F, L, alpha, reach=14.0):
    """𝓕 at β = 1 for a loss with its minimum at 0, by a sum of its own over 20,001 points."""
    t = np.linspace(-reach, reach, 20_001) / np.sqrt(alpha)
    exponent = -alpha * L(t)
    return logsumexp(F(t) + exponent) - logsumexp(exponent)


@settings(max_examples=10, deadline=None)
@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.6, 2), st.floats(-0.3, 0.3))
def test_the_coefficient_of_one_over_alpha_holds_the_third_derivative(slope, bend, stiff, skew):
    """½(F″ + F′²)/L″ − ½F′L‴/L″²; without L‴ it is off by what that term says."""
    alphas = np.array([2000.0, 4000.0])

    def F(t):
        return slope * t + bend / 2 * t**2

    def L(t):
        return stiff / 2 * t**2 + skew / 6 * t**3 + 0.1 * t**4

    found = alphas * [expectation(F, L, a) for a in alphas]
    limit = 2 * found[1] - found[0]
    rest = (bend + slope**2) / 2 / stiff
    # the fourth derivative of L acts at the next order only
    assert limit == pytest.approx(rest - slope * skew / 2 / stiff**2, abs=2e-3)
    library = 4000.0 * B.effective_fitness(F, L, 4000.0, 0.0)
    assert library == pytest.approx(found[1], abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0, 0.4))
def test_the_gap_is_below_the_constant_of_lemma_8_for_any_bounded_lipschitz_fitness_and_not_for_a_step(key, wave):
    """Random zigzags of slope ±1 and range o, losses with λ ≤ L″ ≤ K, at three α."""
    r = np.random.default_rng(key)
    knots = np.cumsum(r.uniform(0.02, 1.0, 61))
    knots -= r.uniform(knots[20], knots[40])
    heights = np.cumsum(np.append(0.0, np.diff(knots) * r.choice([-1.0, 1.0], 60)))
    o = np.ptp(heights)
    C = np.expm1(o) / o * np.sqrt(2 * (1 + wave) / (1 - wave)) * np.sqrt(2 / (1 - wave))

    def F(t):
        return np.interp(t, knots, heights)

    def L(t):
        return t**2 / 2 + wave * (np.sin(t) - t)

    gaps = np.array([abs(expectation(F, L, a) - F(0.0)) * np.sqrt(a) for a in (20.0, 200.0, 2000.0)])
    assert (gaps <= C).all()
    steps = [abs(expectation(lambda t: -1.0 * (t > 0), L, a)) * np.sqrt(a) for a in (1e3, 1e6)]
    assert steps[1] > 20 * steps[0]


def on_the_circle(F, tilt, power):
    phi = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
    return logsumexp(F(1.0, np.cos(phi)), b=(1 + tilt * np.cos(phi)) ** power) - logsumexp(
        np.zeros(4000), b=(1 + tilt * np.cos(phi)) ** power
    )


def around_the_circle(F, alpha, tilt):
    """𝓕 for L = (1 + tilt cos φ)(r − 1)²/2, by a sum in polar coordinates."""
    phi = np.linspace(0, 2 * np.pi, 256, endpoint=False)[:, None]
    r = 1 + np.linspace(-1, 1, 2001) * min(0.999, 12 / np.sqrt(alpha * (1 - abs(tilt))))
    exponent = -alpha * (1 + tilt * np.cos(phi)) * (r - 1) ** 2 / 2 + np.log(r)
    return logsumexp(exponent + F(r, np.cos(phi))) - logsumexp(exponent)


def smooth(r, c):
    return 1.3 * r * c


def kinked(r, c):
    return 1.3 * c - np.abs(r - 1)


@pytest.mark.parametrize("tilt", [-0.6, 0.0, 0.7])
def test_on_a_ring_the_limit_weighs_by_the_curvature_and_the_gap_falls_as_the_fitness_is_smooth_or_kinked(tilt):
    limit = on_the_circle(smooth, tilt, -0.5)
    alphas = np.array([400.0, 1600.0, 6400.0])
    for F, rate, gap in ((smooth, -1.0, 0.03), (kinked, -0.5, 0.03)):
        values = np.array([around_the_circle(F, a, tilt) for a in alphas])
        slopes = np.diff(np.log(np.abs(values - limit))) / np.log(4)
        assert slopes[-1] == pytest.approx(rate, abs=gap)
        assert abs(values[-1] - limit) < 0.05
    if tilt:
        assert abs(on_the_circle(smooth, tilt, 0.0) - limit) > 0.02, "the even weighting is another number"
