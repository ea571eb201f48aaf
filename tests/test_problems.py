"""Losses, gradients, equilibria and effective fitness against independent computations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solve_continuous_lyapunov

from pbtlib.problems import Himmelblau, LinearGaussian, Problem, Quadratic

GENERAL = LinearGaussian(
    A=np.array([[2.0, 0.4, 0.0], [0.4, 1.0, -0.2], [0.0, -0.2, 0.7]]),
    B=np.array([[1.0, 0.0], [0.5, 0.3], [0.0, -1.0]]),
    c=np.array([0.1, -0.2, 0.3]),
    s=lambda h: h[..., 1],
    Sigma=np.array([[1.0, 0.3, 0.1], [0.3, 0.8, 0.0], [0.1, 0.0, 1.5]]),
    Q=np.array([[1.0, 0.2, 0.0], [0.2, 0.5, 0.1], [0.0, 0.1, 0.3]]),
    target=np.array([0.5, 0.0, -0.5]),
    best=1.2,
)
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
        (lambda: LinearGaussian().centre(np.zeros((3, 2))), "p = 1"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_problem_is_its_functions():
    q = Quadratic()
    mine = Problem(loss=q.loss, gradient=q.gradient, fitness=q.fitness, noise=q.noise)
    assert mine.fitness(np.ones((3, 2)), np.zeros((3, 2))) == pytest.approx([-0.8] * 3)
