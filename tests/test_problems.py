"""Losses, gradients, equilibria and effective fitness against independent computations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.linalg import solve_continuous_lyapunov
from simulated import GENERAL

from pbtlib import problems
from pbtlib.problems import Himmelblau, LinearGaussian, Problem, Quadratic

ALL = [(Quadratic(), 2, 2), (Quadratic(5), 5, 2), (Himmelblau(), 2, 2), (LinearGaussian(), 1, 1), (GENERAL, 3, 2)]
NAMES = ["quadratic", "quadratic in 5 dimensions", "himmelblau", "test case", "general"]


def gauss_hermite(problem, h, beta, nodes=80):
    """(1/β) log E e^{βF} for θ ~ N(mean, covariance), by tensor quadrature; h of shape (p,)."""
    mean, covariance = (x[0] for x in problem.equilibrium(h[None]))
    x, w = np.polynomial.hermite_e.hermegauss(nodes)
    d = len(mean)
    grid = np.stack(np.meshgrid(*[x] * d, indexing="ij"), -1).reshape(-1, d)
    weight = np.prod(np.stack(np.meshgrid(*[w] * d, indexing="ij"), -1).reshape(-1, d), -1) / (2 * np.pi) ** (d / 2)
    vectors = np.linalg.eigh(covariance)
    root = vectors[1] * np.sqrt(np.maximum(vectors[0], 0))
    fitness = problem.fitness(mean + grid @ root.T, h)
    return weight @ fitness if beta == 0 else np.log(weight @ np.exp(beta * fitness)) / beta


@pytest.mark.parametrize(("problem", "d", "p"), ALL, ids=NAMES)
def test_gradient_is_the_derivative_of_the_loss(problem, d, p, rng):
    theta, h, step = rng.uniform(-3, 3, (4, 7, d)), rng.uniform(-2, 2, (4, 7, p)), 1e-5

    def difference(c):
        shift = step * np.eye(d)[c]
        return (problem.loss(theta + shift, h) - problem.loss(theta - shift, h)) / (2 * step)

    found = np.stack([difference(c) for c in range(d)], -1)
    exact = problem.gradient(theta, h)
    assert exact.shape == theta.shape
    assert problem.fitness(theta, h).shape == problem.noise(h).shape == (4, 7)
    np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-5)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(found, 1.01 * exact, rtol=1e-6, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(h1=st.floats(-2, 2), h2=st.floats(-1.5, 1.5), beta=st.just(0.0) | st.floats(1e-3, 2))
@pytest.mark.parametrize("problem", [Quadratic(1), Quadratic(2)])
def test_effective_fitness_of_the_quadratic_is_the_integral(problem, h1, h2, beta):
    h = np.array([h1, h2])
    assert problem.effective_fitness(h, beta) == pytest.approx(gauss_hermite(problem, h, beta), abs=1e-8)


@settings(deadline=None, max_examples=15)
@given(h1=st.floats(-1, 1), h2=st.floats(-1, 1), beta=st.just(0.0) | st.floats(1e-3, 1))
def test_effective_fitness_of_the_general_problem_is_the_integral(h1, h2, beta):
    h = np.array([h1, h2])
    assert GENERAL.effective_fitness(h, beta) == pytest.approx(gauss_hermite(GENERAL, h, beta, 30), abs=1e-8)


def test_a_wrong_temperature_fails_that_integral():
    h, wrong = np.array([0.5, 1.0]), np.array([0.5, np.sqrt(2.0)])  # variance h₂²/2 instead of h₂²/4
    assert abs(Quadratic().effective_fitness(wrong, 1.0) - gauss_hermite(Quadratic(), h, 1.0)) > 0.1


def test_the_two_problems_agree_where_they_overlap(rng):
    h = rng.uniform(-2, 2, (3, 5, 2))
    same = LinearGaussian(A=2 * np.eye(2), B=np.array([[1.0, 0], [1, 0]]), s=lambda h: h[..., 1], best=1.2)
    theta = rng.standard_normal((3, 5, 2))
    for beta in (0.0, 0.3, 5.0):
        np.testing.assert_allclose(same.effective_fitness(h, beta), Quadratic().effective_fitness(h, beta), rtol=1e-12)
    for name in ("loss", "gradient", "fitness"):
        np.testing.assert_allclose(getattr(same, name)(theta, h), getattr(Quadratic(), name)(theta, h), rtol=1e-12)
    for a, b in zip(same.equilibrium(h), Quadratic().equilibrium(h), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-14)


def test_pressure_raises_the_effective_fitness_from_the_mean_fitness(rng):
    h = rng.uniform(-2, 2, (50, 2))
    values = np.stack([Quadratic().effective_fitness(h, beta) for beta in (0.0, 1e-6, 0.5, 1.0, 4.0)])
    assert (np.diff(values, axis=0) >= -1e-12).all()
    gap = (Quadratic().effective_fitness(h, 1e-4) - values[0]) / 1e-4  # → Var F / 2
    variance = h[:, 1] ** 2 / 4
    np.testing.assert_allclose(gap, 2 * variance**2 + 2 * variance * 2 * h[:, 0] ** 2, rtol=5e-3, atol=1e-6)


@pytest.mark.parametrize("beta", [0.3, 1.0, 5.0])
def test_noise_pays_exactly_when_the_bias_is_large(beta):
    problem, variance = Quadratic(), 0.4
    threshold = 2 * (1 / (2 * beta) + variance)  # of r² = 2 h₁²

    def slope(factor):
        h1 = np.sqrt(factor * threshold / 2)
        h2 = 2 * np.sqrt(variance + np.array([-1e-5, 1e-5]))
        return np.diff(problem.effective_fitness(np.stack([np.full(2, h1), h2], -1), beta))[0]

    assert slope(1.02) > 0 > slope(0.98)


@pytest.mark.parametrize("problem", [Quadratic(), GENERAL])
def test_the_sign_of_the_noise_does_not_matter(problem, rng):
    h = rng.uniform(-2, 2, (20, 2))
    if isinstance(problem, LinearGaussian):
        h[:, 0] += 1e-3
        problem = LinearGaussian(A=problem.A, B=problem.B[:, :1] @ [[1.0, 0.0]], s=lambda h: h[..., 1])
    flipped = h * [1, -1]
    assert (problem.noise(h) >= 0).all()
    np.testing.assert_array_equal(problem.noise(h), problem.noise(flipped))
    np.testing.assert_array_equal(problem.effective_fitness(h), problem.effective_fitness(flipped))


def test_covariance_solves_the_lyapunov_equation_and_its_semigroup():
    stationary = GENERAL.covariance()
    np.testing.assert_allclose(stationary, solve_continuous_lyapunov(GENERAL.A, GENERAL.Sigma), atol=1e-12)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(stationary, solve_continuous_lyapunov(GENERAL.A, np.eye(3)), atol=1e-2)
    short = GENERAL.covariance(1e-7)
    np.testing.assert_allclose(short / 1e-7, GENERAL.Sigma, atol=1e-6)


def test_the_test_case_is_a_square_about_h_under_noise_of_strength_one():
    mean, covariance = LinearGaussian().equilibrium([[0.5]])
    assert (mean.item(), covariance.item()) == (0.5, 0.25)


def test_the_gibbs_measure_is_the_equilibrium_when_the_noise_is_isotropic():
    problem, h = LinearGaussian(A=GENERAL.A, B=GENERAL.B, s=0.6), np.zeros((1, 2))
    alpha = 2 / 0.6**2
    np.testing.assert_allclose(problem.equilibrium(h)[1][0], np.linalg.inv(alpha * GENERAL.A), atol=1e-12)
    alpha = 2 / 0.7**2
    covariance = Quadratic().equilibrium(np.array([[0.3, -0.7]]))[1][0]
    np.testing.assert_allclose(covariance, np.linalg.inv(alpha * 2 * np.eye(2)), atol=1e-12)


@pytest.mark.parametrize(("problem", "h"), [(Quadratic(3), [0.7, -0.9]), (GENERAL, [0.7, -0.9])])
def test_equilibrium_sample_has_the_moments(problem, h, rng):
    n = 40_000
    draws = problem.equilibrium_sample(np.tile(np.array(h), (n, 1)), rng)
    mean, covariance = (x[0] for x in problem.equilibrium(np.array([h])))
    spread = np.sqrt(np.diag(covariance))
    assert (np.abs(draws.mean(0) - mean) < 5.5 * spread / np.sqrt(n)).all()
    error = np.sqrt((covariance**2 + np.outer(spread**2, spread**2)) / n)
    found = np.cov(draws.T)
    assert (np.abs(found - covariance) < 5.5 * error).all()
    assert not (np.abs(found - 1.2 * covariance) < 5.5 * error).all()


def test_himmelblau_minima_and_hessian():
    problem = Himmelblau()
    printed = [[3, 2], [-2.805118, 3.131312], [-3.779310, -3.283186], [3.584428, -1.848126]]
    np.testing.assert_allclose(problem.minima, printed, atol=1e-6)
    zero = np.zeros((4, 2))
    np.testing.assert_allclose(problem.loss(problem.minima, zero), 0, atol=1e-20)
    np.testing.assert_allclose(problem.fitness(problem.minima), 0, atol=1e-20)
    step = 1e-5 * np.eye(2)
    by_difference = np.stack(
        [(problem.gradient(problem.minima + e, zero) - problem.gradient(problem.minima - e, zero)) / 2e-5 for e in step]
    )
    np.testing.assert_allclose(np.moveaxis(by_difference, 0, -1), problem.hessian(problem.minima), rtol=1e-7)
    share = np.linalg.det(problem.hessian(problem.minima)) ** -0.5
    np.testing.assert_allclose(share / share.sum(), [0.34, 0.22, 0.16, 0.28], atol=0.006)
    shifted = problem.loss(problem.minima + 1.5, np.tile([1.5, 0.2], (4, 1)))
    np.testing.assert_allclose(shifted, 0, atol=1e-20)


def himmelblau_gibbs(noise, cells=1200):
    """Points of a fine grid, shape (n, 2), and their Gibbs weights; the sampler's own sets play no part."""
    half = 7.0 + 2 * np.sqrt(noise)
    x = (np.arange(cells) + 0.5) * (2 * half / cells) - half
    points = np.stack(np.meshgrid(x, x, indexing="ij"), -1).reshape(-1, 2)
    H = Himmelblau().loss(points, np.zeros((1, 2)))
    near = 2 * H / noise**2 < 60
    weight = np.exp(-2 * H[near] / noise**2)
    return points[near], H[near], weight / weight.sum()


@pytest.mark.parametrize("noise", [0.4, 1.5, 4.0, 9.0, 40.0])
def test_himmelblau_draws_have_the_moments_of_the_gibbs_measure(noise, rng):
    problem, n = Himmelblau(), 40_000
    draws = problem.equilibrium_sample(np.tile([0.0, noise], (n, 1)), rng)

    def moments(points, H, weight=None):
        columns = [points[:, 0], points[:, 1], points.prod(1), H, H**2]
        return np.array([np.average(c, weights=weight) for c in columns])

    found = moments(draws, problem.loss(draws, np.zeros((n, 2))))
    points, H, weight = himmelblau_gibbs(noise)
    exact = moments(points, H, weight)
    columns = np.stack([points[:, 0], points[:, 1], points.prod(1), H, H**2])
    error = np.sqrt(((columns - exact[:, None]) ** 2 @ weight) / n)
    assert (np.abs(found - exact) < 5.5 * error).all()
    wrong = moments(*himmelblau_gibbs(1.1 * noise))
    assert not (np.abs(found - wrong) < 5.5 * error).all()


def cell_counts(points, noise, weight=None):
    """Counts on a grid of 30 × 30 cells, so coarse that the quadrature above fills each exactly."""
    half = 7.0 + 2 * np.sqrt(noise)
    return np.histogram2d(*points.T, bins=30, range=[[-half, half]] * 2, weights=weight)[0].reshape(-1)


def chi_square(observed, probability):
    """p-value of counts against probabilities; rare cells are put together."""
    expected = probability * observed.sum()
    rare = expected < 10
    f_obs = np.append(observed[~rare], observed[rare].sum())
    f_exp = np.append(expected[~rare], expected[rare].sum())
    kept = f_exp > 1
    return stats.chisquare(f_obs[kept], f_exp[kept] * f_obs[kept].sum() / f_exp[kept].sum()).pvalue


def test_agents_of_every_noise_and_bias_are_drawn_at_once_and_fill_the_cells(rng):
    problem, n = Himmelblau(), 30_000
    noises = np.array([0.8, 2.0, 4.0, 9.0, -40.0])
    h = np.stack([np.broadcast_to([0.0, 1.5, -2.0, 0.3, 0.0], (n, 5)), np.broadcast_to(noises, (n, 5))], -1)
    draws = problem.equilibrium_sample(h, rng) - problem.centre(h)
    for k, noise in enumerate(np.abs(noises)):
        points, _, weight = himmelblau_gibbs(noise)
        assert chi_square(cell_counts(draws[:, k], noise), cell_counts(points, noise, weight)) > 1e-6
        points, _, weight = himmelblau_gibbs(1.1 * noise)
        assert chi_square(cell_counts(draws[:, k], noise), cell_counts(points, noise, weight)) < 1e-6


def test_a_sampler_that_accepts_whatever_is_proposed_is_found_out(rng, monkeypatch):
    propose = problems._propose

    def careless(s, rng):
        point, _ = propose(s, rng)
        return point, np.square(point).sum(-1) > 0

    points, _, weight = himmelblau_gibbs(3.0)
    for broken in (False, True):
        if broken:
            monkeypatch.setattr(problems, "_propose", careless)
        with np.errstate(all="ignore"):
            draws = np.nan_to_num(Himmelblau().equilibrium_sample(np.tile([0.0, 3.0], (20_000, 1)), rng))
        p = chi_square(cell_counts(np.clip(draws, -10, 10), 3.0), cell_counts(points, 3.0, weight))
        assert (p < 1e-6) == broken


@pytest.mark.parametrize("noise", [0.0, 1e-200, 1e-6, 0.01])
def test_small_noise_puts_the_weights_of_the_hessians_on_the_minima(noise, rng):
    problem, n = Himmelblau(), 50_000
    draws = problem.equilibrium_sample(np.tile([2.0, noise], (n, 1)), rng) - 2.0
    well = np.square(draws[:, None] - problem.minima).sum(-1).argmin(-1)
    distance = np.linalg.norm(draws - problem.minima[well], axis=-1)
    assert distance.max() <= 4 * noise + 1e-12
    share = np.linalg.det(problem.hessian(problem.minima)) ** -0.5
    count = np.bincount(well, minlength=4)
    assert stats.chisquare(count, n * share / share.sum()).pvalue > 1e-6
    assert stats.chisquare(count, np.full(4, n / 4)).pvalue < 1e-6
    if noise > 1e-7:  # equipartition: the mean loss is s²/2 in every well, whatever its curvature
        H = problem.loss(draws, np.zeros((n, 2)))
        for k in range(4):
            mean, error = H[well == k].mean(), H[well == k].std() / np.sqrt(count[k])
            assert abs(mean - noise**2 / 2) < 5.5 * error + noise**4


@settings(deadline=None, max_examples=200)
@given(x=st.floats(-9, 9), y=st.floats(-9, 9))
def test_the_covers_hold_the_level_sets(x, y):
    cover, point = problems._cover(), np.array([x, y])
    H = Himmelblau().loss(point, np.zeros(2))
    assert np.abs(point).max() <= problems._reach(np.sqrt(H)) + 1e-9
    above, below = point - cover.corners, cover.corners + problems._SIDE - point
    assert (cover.bounds[((above >= 0) & (below >= 0)).all(-1)] <= H + 1e-9).all()
    touched = ((above >= -1e-12) & (below >= -1e-12)).all(-1)  # corners are rounded
    assert touched.any() or np.abs(point).max() > 6.0


def test_the_ellipses_hold_the_low_level_sets(rng):
    cover, n = problems._cover(), 200_000
    wide = cover.minima[:, None] + rng.uniform(-0.6, 0.6, (4, n, 2))
    H = Himmelblau().loss(wide, np.zeros((n, 2)))
    reach = np.linalg.norm(
        np.linalg.solve(cover.inverse[:, None], (wide - cover.minima[:, None])[..., None])[..., 0], axis=-1
    )
    low = H < problems._LOW
    level = np.sqrt(np.minimum(H, problems._LOW))
    allowed = level * np.sqrt(problems._stretch(level, cover.squeeze[:, None]))
    assert (reach <= allowed + 1e-12)[low].all()
    assert not (reach <= level)[low].all()  # without the stretch they would not
    x = np.linspace(-6, 6, 1201)  # and no other point is as low
    plane = np.stack(np.meshgrid(x, x), -1)
    distance = np.abs(plane[..., None, :] - cover.minima).max(-1).min(-1)
    assert Himmelblau().loss(plane, np.zeros((1, 2)))[distance > 0.6].min() > problems._LOW


def test_the_acceptance_rate_is_the_ratio_of_the_areas(rng):
    cover, n = problems._cover(), 40_000
    predicted = cover.density.sum() / cover.slope  # as E → 0 the ellipses are {H ≤ E}
    rate = problems._propose(np.full(n, 1e-3), rng)[1].mean()
    assert abs(rate - predicted) < 5.5 * np.sqrt(predicted * (1 - predicted) / n) + 1e-3
    for noise in (1.0, 3.0, 10.0, 100.0, 1e4):
        assert problems._propose(np.full(n, noise), rng)[1].mean() > 0.45


def test_the_exact_draw_ends_for_the_strongest_noise_allowed(rng):
    theta = Himmelblau().equilibrium_sample(np.array([[0.0, 1e100], [0.0, -1e100]]), rng)
    assert np.isfinite(theta).all()


def own(Sigma):
    q = Quadratic()
    return Problem(loss=q.loss, gradient=q.gradient, fitness=q.fitness, noise=q.noise, Sigma=Sigma)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Quadratic(0), "d is 0"),
        (lambda: Quadratic().noise(np.zeros((4, 3))), r"h has shape \(4, 3\)"),
        (lambda: Quadratic().effective_fitness(np.zeros(2), -1.0), "beta is -1.0"),
        (lambda: Quadratic().effective_fitness(np.zeros(2), np.nan), "beta is nan"),
        (lambda: Himmelblau().centre(np.zeros(3)), "h has shape"),
        (lambda: Himmelblau().hessian(np.zeros(3)), "theta has shape"),
        (lambda: LinearGaussian(A=np.array([[-1.0]])), "A has the eigenvalue -1"),
        (lambda: LinearGaussian(A=np.array([[1.0, 0.5], [0.0, 1.0]]), B=np.ones((2, 1))), "A is not symmetric"),
        (lambda: LinearGaussian(A=np.ones((1, 2))), "A has shape"),
        (lambda: LinearGaussian(A=np.eye(2)), "B has shape"),
        (lambda: LinearGaussian(Q=np.array([[-1.0]])), "Q has the eigenvalue"),
        (lambda: LinearGaussian(Sigma=np.array([[0.0]])), "Sigma has the eigenvalue"),
        (lambda: LinearGaussian(Sigma=np.array([[np.nan]])), "Sigma contains nan"),
        (lambda: LinearGaussian(s=-1.0), "s is -1.0"),
        (lambda: own(np.array([[1.0, 5.0], [0.0, 1.0]])), "Sigma is not symmetric"),
        (lambda: own(np.array([[1.0, 2.0], [2.0, 1.0]])), "Sigma has the eigenvalue -1"),
        (lambda: own(np.ones(2)), "Sigma has shape"),
        (lambda: own(np.array([[np.inf]])), "Sigma contains inf"),
        (lambda: Quadratic().effective_fitness([np.nan, 1.0]), "h contains nan"),
        (lambda: Quadratic().equilibrium([0.0, np.inf]), "h contains inf"),
        (lambda: Quadratic().equilibrium_sample(np.array([[0.0, np.nan]]), None), "h contains nan"),
        (lambda: LinearGaussian().effective_fitness([np.nan]), "h contains nan"),
        (lambda: LinearGaussian().equilibrium([np.nan]), "h contains nan"),
        (lambda: LinearGaussian().equilibrium_sample(np.array([[np.nan]]), None), "h contains nan"),
        (lambda: Himmelblau().equilibrium_sample(np.array([[0.0, np.nan]]), None), "h contains nan"),
        (lambda: Himmelblau().equilibrium_sample(np.array([[0.0, -1e101]]), None), "h2 reaches 1e.101"),
        (lambda: LinearGaussian().centre(np.zeros((3, 2))), "p = 1"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_fitness_may_be_flat_in_a_direction_and_noise_may_not_be_missing_in_one():
    sizes = {"A": np.eye(2), "B": np.eye(2)}
    assert LinearGaussian(**sizes, Q=np.diag([1.0, 0.0])).Q[1, 1] == 0
    with pytest.raises(ValueError, match=r"Q has the eigenvalue -0\.1; it must be positive semi-definite"):
        LinearGaussian(**sizes, Q=np.diag([1.0, -0.1]))
    with pytest.raises(ValueError, match="Sigma has the eigenvalue 0; it must be positive definite"):
        LinearGaussian(**sizes, Sigma=np.diag([1.0, 0.0]))


def test_a_problem_is_its_functions():
    mine = own(None)
    assert mine.fitness(np.ones((3, 2)), np.zeros((3, 2))) == pytest.approx([-0.8] * 3)
