"""Selection, drift and the noise of finite populations, by enumeration and integrals."""

from types import SimpleNamespace

import numpy as np
import pytest
from chapter_code import defined
from scipy.stats import binom, norm

from pbtlib import averaged as A  # noqa: N812
from pbtlib import gaussian as G  # noqa: N812
from pbtlib.evolution import Gibbs, Removal, Selection, Truncation

LINE = A.Grid(-9.0, 9.0, 6000)
NORMAL = norm.pdf(LINE.points) * LINE.step

# ---------------------------------------------------------------------------------------------- one update


def expected(rule, tau):
    """Intensity and drift of a rule on a slope: every agent stays or goes, and has a Poisson number of children."""
    gain, loss = rule(LINE.points, NORMAL)
    stays, children = 1 - tau * loss / NORMAL, tau * gain / NORMAL * loss.sum()
    return tau * LINE.points @ (gain * loss.sum() - loss), NORMAL @ (children**2 + 2 * children * stays)


@pytest.mark.parametrize("tau", [1.0, 0.5, 0.2])
@pytest.mark.parametrize("rule", [Gibbs, Removal, Truncation])
def test_intensity_and_drift_on_a_slope_are_integrals_over_the_rules_own_weights(rule, tau):
    """With the drift of a softmax for removal, or half the intensity, it fails."""
    y = 0.2 if rule is not Gibbs else 0.7
    if rule is Truncation:
        cost = 2 * tau * norm.pdf(norm.isf(y)), y * (tau**2 + 2 * tau)
    else:
        stay = 1 if rule is Gibbs else 1 - tau * np.exp(-(y**2))
        stay = 1 - tau if rule is Gibbs else stay
        cost = (1 if rule is Gibbs else 2) * tau * y, tau**2 * np.exp(y**2) + 2 * tau * stay
    found = expected(rule(y), tau)
    np.testing.assert_allclose(found, cost, rtol=2e-3)
    assert abs(found[1] - (tau**2 + 2 * tau * (1 - tau))) > 0.01 * tau, "the drift of neutral agents"


@pytest.mark.parametrize(
    ("tau", "resampling"),
    [(1.0, "multinomial"), (0.5, "multinomial"), (0.2, "multinomial"), (1.0, "systematic")],
)
@pytest.mark.parametrize("beta", [0.0, 3.0, 40.0])
def test_two_agents_share_a_parent_as_the_expected_numbers_of_copies_say(beta, tau, resampling, rng):
    """Exact for a given population: τ²E[x²] + 2τ(1−τ), for a comb E[x²] − 1 + E{x}(1−{x}); not the neutral rate."""
    n, runs = 40, 8000
    fitness = -(rng.standard_normal(n) ** 2)
    x = np.exp(beta * fitness) / np.exp(beta * fitness).mean()
    pairs = tau**2 * (x**2).mean() + 2 * tau * (1 - tau)
    others = n - 1
    if resampling == "systematic":
        pairs, others = (x**2).mean() - 1 + (x % 1 * (1 - x % 1)).mean(), n
    parent = Selection(Gibbs(beta), tau=tau, resampling=resampling)(np.tile(fitness, (runs, 1)), rng).parent
    copies = np.stack([np.bincount(row, minlength=n) for row in parent])
    found = (copies * (copies - 1)).sum(-1) / others
    error = found.std(ddof=1) / np.sqrt(runs) + 1e-9
    assert abs(found.mean() - pairs) < 5.5 * error
    neutral = 0.5 if resampling == "systematic" else tau * (2 - tau)
    assert (beta == 0 and resampling == "multinomial") or abs(found.mean() - neutral) > 5.5 * error


@pytest.mark.parametrize("c", [0.1, 1.0, 100.0])
def test_a_sharp_maximum_leaves_few_parents_and_one_update_the_variance_of_their_children(c):
    """Shares of weights at 40,000 quantiles of N(0, v) and the grid's update; the rival shares are (1 + cv)^(−1/2)."""
    v, sigma, grid = 0.25, 0.2, A.Grid(-6.0, 6.0, 1200)
    h = np.sqrt(v) * norm.ppf((np.arange(40_000) + 0.5) / 40_000)
    gain, _ = Gibbs(1.0)(-c / 2 * h**2, np.full(h.size, 1 / h.size))
    share = np.sqrt(1 + 2 * c * v) / (1 + c * v)
    assert 1 / (h.size * np.square(gain).sum()) == pytest.approx(share, rel=2e-3)
    assert abs((1 + c * v) ** -0.5 / share - 1) > 0.005
    law = A.cell_masses(lambda x: np.exp(-(x**2) / (2 * v)), grid)
    fitness = A.tabulate(lambda x: -c / 2 * x**2, grid)
    after = A.jump(law, fitness, Gibbs(1.0), [A.mutation_kernel(grid, sigma)], 1.0)
    assert after @ grid.points**2 == pytest.approx(v / (1 + c * v) + sigma**2, rel=2e-3)


@pytest.mark.parametrize("tau", [1.0, 0.5, 0.2])
def test_agents_that_wait_widen_a_population_on_the_move(tau):
    """Per unit of time by (1 − τ)Δ² beyond what selection and mutation do together; with Δ = 0 it is not."""
    c, sigma, grid = 4.0, 0.3, A.Grid(-4.0, 6.0, 1000)
    v, r = G.stationary_variance(c, sigma), G.contraction(c, sigma)
    law = A.cell_masses(lambda h: np.exp(-((h - 2) ** 2) / (2 * v)), grid)
    fitness = A.tabulate(lambda h: -c / 2 * h**2, grid)
    after = A.jump(law, fitness, Gibbs(1.0), [A.mutation_kernel(grid, sigma)], tau)
    spread = [m @ grid.points**2 - (m @ grid.points) ** 2 for m in (law, after)]
    lead = 2 * (1 - r)
    assert (spread[1] - spread[0]) / tau == pytest.approx((1 - tau) * lead**2, abs=2e-3)
    assert tau == 1 or (1 - tau) * lead**2 > 0.1


# ---------------------------------------------------------------------------------------------- two types, enumerated

WEIGHT, LUCK, MUTANT = np.array([1.0, 0.6]), 0.9, np.array([[0.9, 0.2], [0.1, 0.8]])
"""Mean weights of two types, by how much of it luck raises or lowers an agent's, types of children (columns: from)."""


def stationary(n, tau):
    """Exact law of the number of agents of the first type, after very long."""
    law = np.zeros((n + 1, n + 1))
    for k in range(n + 1):
        good, bad = np.arange(k + 1), np.arange(n - k + 1)
        first = WEIGHT[0] * (k + LUCK * (2 * good - k))[:, None]
        second = WEIGHT[1] * (n - k + LUCK * (2 * bad - n + k))
        p = ((MUTANT[0, 0] * first + MUTANT[0, 1] * second) / (first + second)).reshape(-1, 1)
        chance = np.outer(binom.pmf(good, k, 0.5), binom.pmf(bad, n - k, 0.5)).ravel()
        parts = binom.pmf(good, k, 1 - tau + tau * p), binom.pmf(bad, n - k, tau * p)
        product = np.prod([np.fft.rfft(part, n + 1) for part in parts], axis=0)  # of sums of two numbers
        law[k] = np.fft.irfft(chance @ product, n + 1)
    return np.linalg.solve(np.vstack([(law.T - np.eye(n + 1))[1:], np.ones(n + 1)]), np.eye(n + 1)[-1])


@pytest.fixture
def two_types():
    """The evidence's formulas, told of two types instead of its grid; noise of selection and of luck; a mean weight."""
    fluctuations, bias = defined("e_beyond", "fluctuations", "bias")
    values, vectors = np.linalg.eig(MUTANT * WEIGHT)
    rho = np.abs(vectors[:, values.argmax()])
    rho /= rho.sum()
    z, M = WEIGHT @ rho, MUTANT - rho[:, None]
    luck = rho * WEIGHT**2 * LUCK**2 / z**2
    known = {"grid": SimpleNamespace(n=2), "w": WEIGHT, "z": z, "M": M, "luck": luck, "rho": rho}
    for function in (fluctuations, bias):
        function.__globals__.update(known)
    return fluctuations, bias, rho, np.diag(rho) - np.outer(rho, rho), M @ np.diag(luck) @ M.T


@pytest.mark.parametrize("tau", [1.0, 0.4])
def test_noise_of_the_mean_and_bias_are_those_of_all_populations_of_two_types(two_types, tau):
    """Times N, small N extrapolated, by enumeration; without luck, or with the noise of the other clock, it fails."""
    fluctuations, bias, rho, draws, luck = two_types
    gamma = fluctuations(tau * (2 - tau) * draws + tau**2 * luck, tau)
    sizes, moments = (10, 20, 40) if tau == 1 else (15, 30), []
    for n in sizes:
        law, x = stationary(n, tau), np.arange(n + 1) / n
        moments.append((n * (law @ x**2 - (law @ x) ** 2), n * (law @ x - rho[0])))
    limit = 2 * np.array(moments[-1]) - moments[-2]
    assert limit[0] == pytest.approx(gamma[0, 0], rel=0.02)
    assert tau < 1 or abs(fluctuations(draws)[0, 0] / limit[0] - 1) > 0.1
    if tau == 1:
        assert limit[1] == pytest.approx(bias(gamma, np.array([1.0, 0.0])), rel=0.05)
        steps = np.abs(np.diff(np.array(moments), axis=0)) / np.abs(limit)
        assert (steps[1] < 0.6 * steps[0] + 0.005).all(), "variance and bias are of order 1/N: times N they settle"
    else:
        assert abs(fluctuations(draws + luck)[0, 0] / limit[0] - 1) > 0.1


# ---------------------------------------------------------------------------------------------- a settled population


def comb(weight, rng):
    """Parents by one uniform number for each population, agents in random order."""
    order = rng.permuted(np.tile(np.arange(weight.shape[1]), (len(weight), 1)), axis=1)
    edges = np.cumsum(np.take_along_axis(weight, order, 1), 1)
    marks = (np.arange(weight.shape[1]) + rng.random((len(weight), 1))) / weight.shape[1] * edges[:, -1:]
    return np.stack([o[np.minimum(e.searchsorted(m), len(o) - 1)] for o, e, m in zip(order, edges, marks, strict=True)])


def independent(weight, rng):
    edges = np.cumsum(weight, 1)
    marks = rng.random(weight.shape) * edges[:, -1:]
    return np.stack([np.minimum(e.searchsorted(m), len(e) - 1) for e, m in zip(edges, marks, strict=True)])


@pytest.mark.parametrize(("parents", "noise"), [(independent, "noise_of_mean"), (comb, "noise_of_comb")])
def test_the_mean_of_a_settled_population_scatters_as_predicted_for_independent_draws_and_for_a_comb(
    parents, noise, rng
):
    """Plain numpy; the noise predicted for the other way of drawing is rejected."""
    right, one, other = defined("e_beyond", noise, "noise_of_mean", "noise_of_comb")
    n, runs, beta, sigma, variance = 60, 60, 3.0, 0.3, 1 / 12
    h, squares = 0.33 * rng.standard_normal((runs, n)), []
    for k in range(330):
        theta = h + np.sqrt(variance) * rng.standard_normal(h.shape)
        chosen = parents(np.exp(-beta * theta**2), rng)
        h = np.take_along_axis(h, chosen, 1) + sigma * rng.standard_normal(h.shape)
        if k >= 30:
            squares.append(h.mean(1) ** 2)
    each = n * np.mean(squares, 0)
    error = each.std(ddof=1) / np.sqrt(runs)
    assert abs(each.mean() - right) < 6 * error + 10 / n**2 * right
    wrong = other if right == one else one
    assert abs(each.mean() - wrong) > 6 * error + 10 / n**2 * wrong
