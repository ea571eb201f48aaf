"""Effective fitness, its estimates and the constants of Theorem 10 against closed forms and direct integration."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import logsumexp
from scipy.stats import norm, truncnorm

from pbtlib import bilevel as B  # noqa: N812
from pbtlib.estimates import fit_rate
from pbtlib.problems import LinearGaussian, Quadratic

unit = st.floats(0.1, 3.0)


# ------------------------------------------------------------------------------------------- effective fitness


@settings(max_examples=25, deadline=None)
@given(st.floats(-2, 2), st.floats(0.1, 1.5), st.floats(0.05, 1.0))
def test_gauss_hermite_gives_the_closed_form(bias, noise, beta):
    problem, h = Quadratic(), np.array([bias, noise])
    nodes, weights = B.gauss_hermite(*problem.equilibrium(h), n=40)
    found = B.log_mean_exp(problem.fitness(nodes), beta, weights)
    np.testing.assert_allclose(found, problem.effective_fitness(h, beta), atol=1e-7)
    np.testing.assert_allclose(
        B.log_mean_exp(problem.fitness(nodes), 0, weights), problem.effective_fitness(h, 0), atol=1e-10
    )


def test_gauss_hermite_integrates_polynomials_of_a_correlated_law_exactly():
    mean, covariance = np.array([[0.3, -1.0], [2.0, 0.0]]), np.array([[1.0, 0.6], [0.6, 2.0]])
    nodes, weights = B.gauss_hermite(mean, covariance, n=3)
    np.testing.assert_allclose(weights @ nodes, mean, atol=1e-12)
    x, y = (nodes - mean[:, None])[..., 0], (nodes - mean[:, None])[..., 1]
    fourth = covariance[0, 0] * covariance[1, 1] + 2 * covariance[0, 1] ** 2
    np.testing.assert_allclose((x**2 * y**2) @ weights, [fourth, fourth])
    coarse, w = B.gauss_hermite(mean, covariance, n=2)  # exact below degree 4 only
    assert abs((((coarse - mean[:, None])[..., 0]) ** 4 @ w - 3)[0]) > 0.5


@settings(max_examples=15, deadline=None)
@given(st.floats(-2, 2), st.floats(0.2, 200), unit, unit)
def test_adaptive_quadrature_gives_the_closed_form(bias, alpha, beta, stiffness):
    problem = LinearGaussian(A=[[stiffness]], s=np.sqrt(2 / alpha))
    found = B.effective_fitness(
        lambda t: -(t**2), lambda t: stiffness / 2 * (t - bias) ** 2, alpha, bias, beta=beta, limit=500.0
    )
    np.testing.assert_allclose(found, problem.effective_fitness(np.array([bias]), beta), rtol=1e-7, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.floats(-33, 33), st.floats(0, 8), st.floats(-1, 2))
def test_a_peak_far_from_the_centre_is_found_however_narrow(place, log_beta, log_alpha):
    """For F = −(θ − c)², L = θ²: under strong pressure the weights peak near c, between two edges of the quadrature."""
    alpha, beta = 10**log_alpha, 10**log_beta
    found = B.effective_fitness(lambda t: -((t - place) ** 2), lambda t: t**2, alpha, 0.0, beta=beta)
    spread = beta / alpha
    exact = -(place**2) / (1 + spread) - np.log1p(spread) / (2 * beta)
    assert found == pytest.approx(exact, rel=1e-8, abs=1e-12)


def test_mass_beyond_the_limit_is_not_lost_in_silence():
    def found(limit):
        return B.effective_fitness(lambda t: -1e-3 * t**2, lambda t: t**2, 1e-3, 0.0, limit=limit)

    assert found(500.0) == pytest.approx(-np.log(2) / 2, rel=1e-9)
    for limit in (50.0, 195.0):
        with pytest.raises(ValueError, match="take a larger limit"):
            found(limit)


@settings(max_examples=10, deadline=None)
@given(st.floats(1, 1e5))
def test_adaptive_quadrature_of_a_kink(alpha):
    # E exp(−|y|) for a normal y of variance 1/α is 2 exp(1/2α) Φ(−α^{-1/2})
    exact = np.log(2) + 0.5 / alpha + norm.logcdf(-(alpha**-0.5))
    found = B.effective_fitness(lambda t: -np.abs(t - 0.3), lambda t: (t - 0.3) ** 2 / 2, alpha, 0.3)
    np.testing.assert_allclose(found, exact, rtol=1e-7)


def test_a_wrong_temperature_is_seen():
    exact = LinearGaussian(s=1.0).effective_fitness(np.array([0.5]))  # α = 2/s² = 2
    right, wrong = (B.effective_fitness(lambda t: -(t**2), lambda t: (t - 0.5) ** 2, a, 0.5) for a in (2.0, 1.0))
    assert abs(right - exact) < 1e-8 < 0.05 < abs(wrong - exact)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.just(0.0) | st.floats(1e-9, 5.0), st.floats(1e-9, 5.0))
def test_effective_fitness_grows_with_pressure_and_lies_between_mean_and_maximum(key, first, second):
    r = np.random.default_rng(key)
    F, w = r.normal(size=7), r.dirichlet(np.ones(7))
    low, high = sorted((first, second))
    assert w @ F - 1e-9 <= B.log_mean_exp(F, low, w) <= B.log_mean_exp(F, high, w) + 1e-9 <= F.max() + 2e-9
    assert B.log_mean_exp(-F, high, w) >= -B.log_mean_exp(F, high, w) - 1e-9  # the mean lies between the two


def test_the_jensen_gap_is_half_beta_times_the_variance():
    r = np.random.default_rng(1)
    F, w = r.normal(size=9), r.dirichlet(np.ones(9))
    betas = 0.1 * 2.0 ** -np.arange(8)
    variance = w @ (F - w @ F) ** 2
    rest = [abs(B.log_mean_exp(F, b, w) - w @ F - b / 2 * variance) for b in betas]
    rate = fit_rate(betas[3:], np.array(rest[3:]))
    assert abs(rate.slope - 2) < 0.05
    wrong = [abs(B.log_mean_exp(F, b, w) - w @ F - b * variance) for b in betas]
    assert abs(fit_rate(betas[3:], np.array(wrong[3:])).slope - 2) > 0.5


@settings(max_examples=15, deadline=None)
@given(st.floats(0.5, 1e4), st.floats(0.5, 3))
def test_soft_minimum_of_a_parabola(alpha, stiffness):
    found = B.soft_minimum(lambda t: 0.7 + stiffness / 2 * (t - 1) ** 2, alpha, 1.0)
    np.testing.assert_allclose(found, 0.7 + np.log(alpha * stiffness / (2 * np.pi)) / (2 * alpha), rtol=1e-8)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.5, 1e4), st.floats(-2, 2))
def test_penalised_fitness_of_parabolas(alpha, bias):
    # sup over θ of −θ² − α(θ−b)²/2 is −b² α/(2+α)
    found = B.penalised_fitness(lambda t: -(t**2), lambda t: 0.4 + (t - bias) ** 2 / 2, alpha, bias)
    np.testing.assert_allclose(found, -(bias**2) * alpha / (2 + alpha), atol=1e-10)
    if abs(bias) > 0.1:
        without_penalty = B.penalised_fitness(lambda t: -(t**2), lambda t: 0 * t, alpha, bias)
        assert without_penalty > found + 1e-8


# ------------------------------------------------------------------------------------------- Donsker-Varadhan


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_donsker_varadhan(key):
    r = np.random.default_rng(key)
    F, mu, nu = r.normal(size=6), r.dirichlet(np.ones(6)), r.dirichlet(np.ones(6))
    best = mu * np.exp(F) / (mu @ np.exp(F))
    top = B.log_mean_exp(F, 1.0, mu)
    np.testing.assert_allclose(B.donsker_varadhan(F, mu, best), top)
    # the deficit is exactly KL(ν|ν*)
    np.testing.assert_allclose(top - B.donsker_varadhan(F, mu, nu), nu @ np.log(nu / best), atol=1e-9)


def test_an_optimiser_that_knows_nothing_finds_the_same_supremum():
    r = np.random.default_rng(3)
    F, mu = r.normal(size=5), r.dirichlet(np.ones(5))
    found = minimize(lambda x: -float(B.donsker_varadhan(F, mu, np.exp(x - logsumexp(x)))), np.zeros(5), tol=1e-10)
    np.testing.assert_allclose(-found.fun, B.log_mean_exp(F, 1.0, mu), atol=1e-8)
    assert abs(-found.fun - mu @ F) > 0.01


# ------------------------------------------------------------------------------------------- estimates


def test_estimate_covers_and_knows_its_bias(rng):
    beta, n, runs = 0.8, 20, 150_000
    F = -(rng.normal(0.4, 0.7, (runs, n)) ** 2)
    exact = LinearGaussian(A=[[1.0]], s=np.sqrt(2) * 0.7).effective_fitness(np.array([0.4]), beta)
    found = B.estimate(F, beta)
    spread, mean = found.value.std(ddof=1), found.value.mean() - exact
    error = spread / np.sqrt(runs)
    assert abs(found.error.mean() / spread - 1) < 5 * np.sqrt(0.5 / runs) + 3 / n
    assert abs(mean - found.bias.mean()) < 5 * error + abs(found.bias.mean()) * 5 / n
    assert abs(mean) > 5 * error  # the bias is there, and an estimate without it would be wrong
    assert np.all(B.estimate(F, 0.0).bias == 0)
    np.testing.assert_allclose(B.estimate(F, 0.0).value, F.mean(-1))


# ------------------------------------------------------------------------------------------- (21), (22), Theorem 10


def lopsided(a, b, centre):
    """Gap (a/2)(h−h*)² left and (b/2)(h−h*)² right of h*, a ≤ b, with the constants of Assumption 9."""

    def gap(h):
        return np.where(h < centre, a, b) / 2 * (h - centre) ** 2

    constants = B.Assumption9(
        centre=abs(centre),
        eta=np.sqrt(a / 2),
        nu=0.5,
        F_inf=2 * a,
        c_u=b / 2 * (1 + centre**2),
        c_l=a / 8,
        M=2 * abs(centre) + 0.1,
    )
    return gap, constants


def random_law(key):
    """Atoms and masses of a random law on the line."""
    r = np.random.default_rng(key)
    atoms = np.concatenate([r.normal(r.normal(), r.uniform(0.1, 4), 200), 1.0 + r.uniform(-0.1, 0.1, 5)])
    return atoms, r.dirichlet(np.full(205, r.uniform(0.05, 2)))


def selected(mass, gap, beta):
    return mass * np.exp(-beta * gap) / (mass @ np.exp(-beta * gap))


laws = st.tuples(st.integers(0, 10**6), st.floats(0.0, 50.0))


@settings(max_examples=60, deadline=None)
@given(laws, unit)
def test_21_and_22_hold_for_random_laws(law, a):
    (key, beta), centre = law, 1.0
    gap, constants = lopsided(a, 2 * a, centre)
    h, mass = random_law(key)
    after = selected(mass, gap(h), beta)
    b1, b2 = B.energy_constants(constants)
    assert after @ h**2 <= b1 + b2 * (mass @ h**2)
    q, r = 0.3 * a, 0.5
    ball = mass[np.abs(h - centre) < r].sum()
    bound = B.laplace_bound(
        constants, beta, q=q, F_r=gap(centre + r), ball_mass=ball, distance=mass @ np.abs(h - centre)
    )
    assert abs(after @ h - centre) <= bound


def test_21_fails_without_its_constant_and_the_paper_constant_is_weaker():
    gap, constants = lopsided(0.2, 4.0, 1.0)
    h, mass = np.array([-12.0, 4.5]), np.array([0.05, 0.95])  # gaps 16.9 and 24.5: selection prefers the far one
    after = selected(mass, gap(h), 3.0)
    assert after @ h**2 > constants.M**2 + 1 + mass @ h**2  # b₂ = 1 would be wrong
    b1, b2 = B.energy_constants(constants)
    assert after @ h**2 <= b1 + b2 * (mass @ h**2)
    for beta in (0.1, 1.0, 100.0):
        assert all(np.array(B.energy_constants(constants, beta)) >= (b1, 2 * b2))


def test_constants_of_21_and_22_are_what_one_computes_by_hand():
    a = B.Assumption9(centre=0.0, eta=2.0, nu=0.5, F_inf=0.3, c_u=3.0, c_l=2.0, M=2.0)
    assert B.energy_constants(a) == (4 + 1.5, 1.5)
    assert B.energy_constants(a, 0.5) == (4 + 3.75, 3.75)  # 2 (3 / 2) (1 + 1 / (0.5 · 2 · 4))
    assert a.resolution(0.8) == 0.5 * 0.3  # (2 · 0.8 / 2)² = 0.64 is beyond F_inf
    assert a.resolution(0.4) == pytest.approx(0.5 * 0.16, rel=1e-15)
    bound = B.laplace_bound(a, 4.0, q=0.25, F_r=0.0, ball_mass=0.5, distance=3.0)
    assert bound == pytest.approx(np.sqrt(0.25) / 2 + np.exp(-1.0) * 3.0 / 0.5, rel=1e-15)


def test_22_allows_a_gap_of_f_inf_itself_whatever_rounding_makes_of_the_sum():
    a = B.Assumption9(centre=0.0, eta=1.0, nu=0.5, F_inf=0.3)
    assert a.F_inf < 0.1 + 0.2
    for q, gap in ((0.3, 0.0), (0.1, 0.2)):
        assert np.isfinite(B.laplace_bound(a, 1.0, q=q, F_r=gap, ball_mass=1.0, distance=1.0))


def test_22_fails_without_its_second_term():
    gap, constants = lopsided(1.0, 2.0, 1.0)
    h, mass = np.array([1.0, 4.0]), np.array([1e-6, 1 - 1e-6])
    after = selected(mass, gap(h), 0.5)
    first = B.laplace_bound(constants, 0.5, q=0.1, F_r=0.0, ball_mass=1.0, distance=0.0)
    assert abs(after @ h - 1) > first
    assert abs(after @ h - 1) <= B.laplace_bound(constants, 0.5, q=0.1, F_r=0.0, ball_mass=1e-6, distance=3.0)


@settings(max_examples=30, deadline=None)
@given(laws, unit, st.floats(0.2, 1.0))
def test_lemma_16_holds_for_random_laws_and_is_no_lower_than_its_formula(law, sigma, r):
    (key, beta), centre = law, 1.0
    gap, constants = lopsided(1.0, 2.0, centre)
    h, mass = random_law(key)
    energy = mass @ h**2
    after = selected(mass, gap(h), beta)
    inside = after @ (norm.cdf((centre + r - h) / sigma) - norm.cdf((centre - r - h) / sigma))
    log_c = B.mass_bound(constants, r=r, energy=energy, sigma=sigma, p=1)
    assert np.log(max(inside, 1e-300)) >= max(log_c, -690.0)
    b1, b2 = B.energy_constants(constants)
    reach = np.sqrt(2 * (b1 + b2 * energy)) + centre + r
    np.testing.assert_allclose(log_c, np.log(r) + norm.logpdf(reach / sigma) - np.log(sigma), rtol=1e-10)


def test_theorem_10_pressure_is_what_its_proof_needs():
    gap, constants = lopsided(1.0, 2.0, 0.5)
    delta, horizon, sigma, start = 0.4, 2.0, 0.3, norm(2.0, 0.5)
    energy, distance = 2.0**2 + 0.25, 1.5 + 0.01
    given = {
        "delta": delta,
        "horizon": horizon,
        "sigma": sigma,
        "p": 1,
        "radius": lambda q: np.sqrt(q),  # the gap is at most h² within r
        "ball_mass": lambda r: float(start.cdf(0.5 + r) - start.cdf(0.5 - r)),
    }
    q = constants.resolution(delta)
    assert gap(0.5 + given["radius"](q)) <= q * (1 + 1e-12)
    assert (2 * q) ** constants.nu / constants.eta <= delta / 2 * (1 + 1e-12)
    C = B.energy_bound(constants, energy=energy, sigma=sigma, p=1, horizon=horizon)
    beta = B.pressure(constants, energy=energy, **given)
    ball = np.exp(-horizon) * given["ball_mass"](given["radius"](q))
    bound = B.laplace_bound(
        constants, beta, q=q, F_r=q * (1 - 1e-12), ball_mass=ball, distance=np.sqrt(C) + constants.centre
    )
    assert abs(bound - delta) < 1e-9  # the two terms are δ/2 each: β₀ is just large enough
    other = B.pressure_without_growth(constants, distance=distance, **given)
    Y = max(distance, delta + 2 * sigma)
    assert np.exp(-other * q) / ball <= 0.5 * (1 + 1e-9)
    assert np.exp(-other * q) * Y / ball <= delta / 2 * (1 + 1e-9)
    assert np.exp(-0.9 * other * q) * Y / ball > delta / 2
    assert other < beta
    far = {**given, "ball_mass": lambda r: float(truncnorm(-1, 1, 2, 0.5).cdf(0.5 + r))}
    with pytest.raises(ValueError, match="ball_mass"):
        B.pressure(constants, energy=energy, **far)  # h* outside the support


def test_energy_bound_solves_its_differential_inequality():
    _, constants = lopsided(1.0, 2.0, 0.5)
    b1, b2 = B.energy_constants(constants)
    sigma, p, e0 = 0.4, 3, 2.0
    t = np.linspace(0, 1, 2001)
    bound = np.array([B.energy_bound(constants, energy=e0, sigma=sigma, p=p, horizon=x) for x in t])
    exact = (e0 + (b1 + p * sigma**2) / (b2 - 1)) * np.exp((b2 - 1) * t) - (b1 + p * sigma**2) / (b2 - 1)
    assert np.all(bound >= exact * (1 - 1e-12))
    assert bound[0] == e0
    no_mutation = B.energy_bound(constants, energy=e0, sigma=0.0, p=p, horizon=1.0)
    assert bound[-1] - no_mutation == pytest.approx(np.exp(b2 - 1) * p * sigma**2)


# ------------------------------------------------------------------------------------------- bad input

GROWING = B.Assumption9(0.0, 1.0, 0.5, 1.0, c_u=1.0, c_l=1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: B.log_mean_exp([1.0], -1.0), "beta is -1.0"),
        (lambda: B.log_mean_exp([1.0, 2.0], 1.0, [0.0, 0.0]), "weights sum to zero"),
        (lambda: B.estimate([1.0]), "at least 2"),
        (lambda: B.donsker_varadhan([1.0, 2.0], [0.5, 0.5], [0.5, 0.6]), "nu sums to"),
        (lambda: B.donsker_varadhan([1.0, 2.0], [1.0, 0.0], [0.5, 0.5]), "nu has mass"),
        (lambda: B.Assumption9(0.0, 1.0, 0.5, 1.0, c_u=1.0, c_l=2.0), "c_u is 1"),
        (lambda: B.energy_constants(B.Assumption9(0.0, 1.0, 0.5, 1.0)), r"\(21\) needs"),
        (
            lambda: B.laplace_bound(B.Assumption9(0.0, 1.0, 0.5, 1.0), 1.0, q=0.9, F_r=0.2, ball_mass=1, distance=1),
            "at most F_inf",
        ),
        (lambda: B.effective_fitness(np.sin, np.square, 0.0, 0.0), "alpha is 0.0"),
        (lambda: B.soft_minimum(np.square, -1.0, 0.0), "alpha is -1.0"),
        (lambda: B.penalised_fitness(np.sin, np.square, -1.0, 0.0), "alpha is -1.0"),
        (lambda: B.gauss_hermite([0.0], [[1.0]], 0), "n is 0"),
        (lambda: B.gauss_hermite([0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]]), "covariance is not symmetric"),
        (lambda: B.effective_fitness(np.sin, np.square, 1.0, 0.0, limit=-1.0), "limit is -1"),
        (lambda: B.soft_minimum(np.square, 1e-3, 0.0), r"limit is 50, where the integrand is e\^-2.5"),
        (lambda: B.penalised_fitness(np.sin, np.square, 1.0, 0.0, limit=0.0), "limit is 0"),
        (lambda: B.mass_bound(GROWING, r=0.1, energy=-5.0, sigma=1.0, p=1), "energy is -5"),
        (lambda: B.mass_bound(GROWING, r=0.1, energy=5.0, sigma=1.0, p=-2), "p is -2"),
        (lambda: B.energy_bound(GROWING, energy=5.0, sigma=1.0, p=0, horizon=1.0), "p is 0"),
    ],
)
def test_bad_input_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
