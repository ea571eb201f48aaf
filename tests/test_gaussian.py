"""The Gaussian closed forms against integration, quadrature, recursion and particles."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from pbtlib import gaussian as G  # noqa: N812
from pbtlib.estimates import fit_rate
from pbtlib.evolution import GaussianMutation, Gibbs, Selection, copy
from pbtlib.problems import LinearGaussian

sizes = st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(0, 10**6))


def random_problem(d, p, key):
    r = np.random.default_rng(key)
    A = r.normal(size=(d, d))
    sde = G.langevin(A @ A.T + np.eye(d), r.normal(size=(d, p)), r.uniform(0.1, 1), offset=r.normal(size=d))
    root = r.normal(size=(d + p, d + p))
    law = G.Gaussian(r.normal(size=d + p), root @ root.T / (d + p))
    C = r.normal(size=(d + p, d + p))
    return sde, law, G.QuadraticFitness(C @ C.T / (d + p), r.normal(size=d + p), r.normal(size=d + p))


def plain(curvature, centre=0.0):
    """Fitness −½ curvature |h − centre|² on h alone, in one dimension."""
    return G.QuadraticFitness(np.array([[curvature]]), centre)


NO_TRAINING = G.Kernel(np.eye(1), np.zeros(1), np.zeros((1, 1)))


# ------------------------------------------------------------------------------------------------ training


@settings(max_examples=15, deadline=None)
@given(sizes)
def test_flow_integrates_the_moment_equations(size):
    sde, law, _ = random_problem(*size)
    n = law.mean.size

    def moments(t, y):
        m, V = y[:n], y[n:].reshape(n, n)
        return np.concatenate([sde.matrix @ m + sde.shift, (sde.matrix @ V + V @ sde.matrix.T + sde.diffusion).ravel()])

    start = np.concatenate([law.mean, law.cov.ravel()])
    end = solve_ivp(moments, (0, 0.7), start, rtol=1e-11, atol=1e-12).y[:, -1]
    after = G.push(law, G.flow(sde, 0.7))
    np.testing.assert_allclose(np.concatenate([after.mean, after.cov.ravel()]), end, atol=1e-8)
    two = G.push(G.push(law, G.flow(sde, 0.5)), G.flow(sde, 0.2))
    np.testing.assert_allclose(two.cov, after.cov, atol=1e-10)


def test_dropping_the_loss_is_seen():
    sde, law, _ = random_problem(2, 1, 1)
    free = G.LinearSDE(0 * sde.matrix, 0 * sde.shift, sde.diffusion)
    assert np.abs(G.push(law, G.flow(free, 0.7)).mean - G.push(law, G.flow(sde, 0.7)).mean).max() > 0.1


@settings(max_examples=15, deadline=None)
@given(sizes, st.integers(0, 40))
def test_chain_is_the_euler_maruyama_recursion(size, steps):
    sde, law, _ = random_problem(*size)
    dt, m, V = 0.01, law.mean, law.cov
    step = np.eye(m.size) + dt * sde.matrix
    for _ in range(steps):
        m, V = m + dt * (sde.matrix @ m + sde.shift), step @ V @ step.T + dt * sde.diffusion
    after = G.push(law, G.chain(sde, dt, steps))
    np.testing.assert_allclose(after.mean, m, atol=1e-10)
    np.testing.assert_allclose(after.cov, V, atol=1e-10)


def chain_errors(sde, law, exact):
    steps = 2 ** np.arange(7, 12)
    return 1 / steps, np.array([np.abs(G.push(law, G.chain(sde, 1 / n, n)).cov - exact.cov).max() for n in steps])


def test_weak_order_of_the_chain_is_one_and_zero_for_a_wrong_drift():
    sde, law, _ = random_problem(2, 2, 7)
    exact = G.push(law, G.flow(sde, 1.0))
    assert abs(fit_rate(*chain_errors(sde, law, exact)).slope - 1) < 0.05
    wrong = G.LinearSDE(0.9 * sde.matrix, sde.shift, sde.diffusion)
    assert fit_rate(*chain_errors(wrong, law, exact)).slope < 0.3


@pytest.mark.parametrize("dt", [0.0, 0.01, 0.3])
def test_equilibrium_variance_is_that_of_25_with_the_bias_of_the_chain(dt):
    sde = G.langevin(2 * np.eye(2), np.ones((2, 1)), 0.8)
    kernel = G.equilibrium(sde, 1, dt=dt)
    np.testing.assert_allclose(kernel.cov[:2, :2], 0.8**2 / (4 * (1 - dt)) * np.eye(2), atol=1e-12)
    np.testing.assert_allclose(kernel.matrix[:2], [[0, 0, 1], [0, 0, 1]], atol=1e-12)
    law = G.Gaussian([3.0, -2.0, 0.5], np.eye(3))
    long = G.flow(sde, 50.0) if dt == 0 else G.chain(sde, dt, 4000)
    np.testing.assert_allclose(G.push(law, long).cov, G.push(law, kernel).cov, atol=1e-10)


@settings(max_examples=15, deadline=None)
@given(sizes, st.floats(0.1, 3.0))
def test_equilibrium_and_effective_fitness_are_those_of_the_linear_gaussian_problem(size, beta):
    """Two derivations of one thing: the closed forms of `problems` and the moves of laws here."""
    d, p, key = size
    r = np.random.default_rng(key)
    A, S, Q = (x @ x.T / d + 0.3 * np.eye(d) for x in r.normal(size=(3, d, d)))
    problem = LinearGaussian(A, r.normal(size=(d, p)), r.normal(size=d), 0.7, S, Q, r.normal(size=d))
    sde = G.langevin(problem.A, problem.B, problem.s, offset=problem.c, covariance=problem.Sigma)
    h = r.normal(size=(1, p))
    law = G.push(G.Gaussian(np.concatenate([np.zeros(d), h[0]]), np.zeros((d + p, d + p))), G.equilibrium(sde, p))
    mean, cov = problem.equilibrium(h)
    np.testing.assert_allclose(law.mean[:d], mean[0], atol=1e-9)
    np.testing.assert_allclose(law.cov[:d, :d], cov[0], atol=1e-9)
    curvature = np.zeros((d + p, d + p))
    curvature[:d, :d] = 2 * problem.Q
    fitness = G.QuadraticFitness(curvature, np.concatenate([problem.target, np.zeros(p)]))
    expected = float(problem.effective_fitness(h, beta)[0])
    assert G._tilt(law, fitness, beta)[1] / beta == pytest.approx(expected, abs=1e-8)
    assert abs(G._tilt(law, fitness, 2 * beta)[1] / (2 * beta) - expected) > 1e-6


def test_underdamped_langevin_has_the_same_theta_marginal():
    a, s, friction = 3.0, 0.7, 1.3
    matrix = [[0, 1, 0], [-a, -friction, a], [0, 0, 0]]

    def marginal(noise2):
        kernel = G.equilibrium(G.LinearSDE(matrix, np.zeros(3), np.diag([0, noise2, 0])), 1)
        return kernel.cov[0, 0]

    gibbs_variance = G.equilibrium(G.langevin([[a]], [[1.0]], s), 1).cov[0, 0]
    assert marginal(friction * s**2) == pytest.approx(gibbs_variance, rel=1e-12)
    assert abs(marginal(s**2) / gibbs_variance - 1) > 0.2


def test_no_equilibrium_is_refused():
    with pytest.raises(ValueError, match="no equilibrium"):
        G.equilibrium(G.LinearSDE([[0.5, 0], [0, 0]], [0, 0], np.eye(2)), 1)
    with pytest.raises(ValueError, match="no equilibrium at dt = 1"):
        G.equilibrium(G.langevin([[2.0]], [[1.0]], 1.0), 1, dt=1.0)


# ------------------------------------------------------------------------------------------------ selection


def tilted_by_quadrature(law, fitness, beta):
    """Mean, covariance and total of e^{βF}·law on a fine grid about its own peak, two dimensions."""
    precision = np.linalg.inv(law.cov)
    offset = np.linalg.inv(precision + beta * fitness.curvature)
    peak = offset @ (precision @ law.mean + beta * (fitness.curvature @ fitness.centre + fitness.slope))
    u = np.linspace(-9, 9, 181)
    root = np.linalg.cholesky(offset)
    x = peak + np.stack(np.meshgrid(u, u), -1).reshape(-1, 2) @ root.T
    y, z = x - law.mean, x - fitness.centre
    log = -np.einsum("ni,ij,nj->n", y, precision, y) / 2 - np.log(np.linalg.det(2 * np.pi * law.cov)) / 2
    log = log + beta * (x @ fitness.slope - np.einsum("ni,ij,nj->n", z, fitness.curvature, z) / 2)
    w = np.exp(log - log.max())
    mean = w @ x / w.sum()
    total = log.max() + np.log(w.sum() * (u[1] - u[0]) ** 2 * np.linalg.det(root))
    return mean, (w[:, None] * (x - mean)).T @ (x - mean) / w.sum(), total


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0, 3.0))
def test_selection_against_quadrature(key, beta):
    _, law, fitness = random_problem(1, 1, key)
    law = G.Gaussian(law.mean, law.cov + 0.05 * np.eye(2))
    mean, cov, total = tilted_by_quadrature(law, fitness, beta)
    after = G.select(law, fitness, beta)
    np.testing.assert_allclose(after.mean, mean, atol=1e-7)
    np.testing.assert_allclose(after.cov, cov, atol=1e-7)
    assert G._tilt(law, fitness, beta)[1] == pytest.approx(total, abs=1e-7)


def test_selection_against_quadrature_sees_a_wrong_pressure():
    _, law, fitness = random_problem(1, 1, 3)
    mean, _, _ = tilted_by_quadrature(law, fitness, 1.0)
    assert np.abs(G.select(law, fitness, 2.0).mean - mean).max() > 1e-2


@settings(max_examples=20, deadline=None)
@given(sizes, st.floats(0, 2), st.floats(0, 2))
def test_selection_is_a_semigroup_in_the_pressure(size, a, b):
    _, law, fitness = random_problem(*size)
    twice, once = G.select(G.select(law, fitness, a), fitness, b), G.select(law, fitness, a + b)
    np.testing.assert_allclose(twice.mean, once.mean, atol=1e-8)
    np.testing.assert_allclose(twice.cov, once.cov, atol=1e-8)


def test_a_known_coordinate_stays_known():
    law = G.Gaussian([1.0, 2.0], [[0.5, 0], [0, 0]])
    after = G.select(law, G.QuadraticFitness(np.eye(2)), 4.0)
    assert after.mean[1] == pytest.approx(2.0)
    assert abs(after.cov[1, 1]) < 1e-14
    assert after.cov[0, 0] == pytest.approx(0.5 / 3)


def test_non_integrable_weight_is_refused_exactly_where_it_starts():
    """Removal of the unfit with F = −θ²: ∫e^{−βF} = ∞ once 2βs² ≥ 1."""
    law, fitness = G.Gaussian([0.0], [[0.5]]), plain(2.0)
    G.select(law, fitness, -0.99)
    with pytest.raises(ValueError, match=r"not integrable at beta = -1\.0"):
        G.select(law, fitness, -1.0)


# ------------------------------------------------------------------------------------------------ Algorithm 1


@dataclass(frozen=True)
class State:
    theta: np.ndarray
    h: np.ndarray


def population_means(rng, n, replicates, *, updates=4, sigma=0.3, time=0.4):
    """Mean of (θ, h) of Algorithm 1 at τ = 1, F = −θ²/2, L = (θ − h)², by the plain loop; shape (replicates, 2)."""
    kernel = G.flow(G.langevin([[2.0]], [[1.0]], 0.6), time)
    spread, mutate = np.sqrt(kernel.cov[0, 0]), GaussianMutation(sigma)
    start = rng.normal([1.5, -1.0], 0.5, (replicates, n, 2))
    state = State(start[..., :1], start[..., 1:])
    for _ in range(updates):
        theta = kernel.matrix[0, 0] * state.theta + kernel.matrix[0, 1] * state.h
        state = State(theta + spread * rng.standard_normal(theta.shape), state.h)
        jump = Selection(Gibbs(1.0))(-(state.theta[..., 0] ** 2) / 2, rng)
        state = mutate(copy(state, jump), jump, rng)
    return np.concatenate([state.theta, state.h], -1).mean(-2)


def law_after(updates=4, *, sigma=0.3, loss=True):
    sde = G.langevin([[2.0]], [[1.0]], 0.6)
    if not loss:
        sde = G.LinearSDE(0 * sde.matrix, 0 * sde.shift, sde.diffusion)
    start = G.Gaussian([1.5, -1.0], np.eye(2) / 4)
    fitness = G.QuadraticFitness(np.diag([1.0, 0.0]))
    return G.mean_field_law(start, G.flow(sde, 0.4), fitness, sigma=sigma, p=1, n_updates=updates)[-1]


def test_particles_follow_the_exact_law_and_no_other(rng):
    means = population_means(rng, 4000, 40)
    se = means.std(0, ddof=1) / np.sqrt(len(means))
    assert (np.abs(means.mean(0) - law_after().mean) < 5 * se).all()
    for wrong in (law_after(loss=False), law_after(sigma=0.6), law_after(3)):
        assert (np.abs(means.mean(0) - wrong.mean) > 5 * se).any()


def test_particle_error_decays_like_the_root_of_n(rng):
    sizes, replicates = [128, 512, 2048], 120
    means = np.stack([population_means(rng, n, replicates)[:, 1] for n in sizes], axis=1)
    rate = fit_rate(sizes, np.abs(means - law_after().mean[1]), rng, norm=2)
    assert abs(rate.slope + 0.5) < 5 * rate.standard_error
    wrong = fit_rate(sizes, np.abs(means - law_after(loss=False).mean[1]), rng, norm=2)
    assert abs(wrong.slope + 0.5) > 5 * wrong.standard_error


def test_only_tau_one_is_closed():
    fitness = G.QuadraticFitness(np.eye(1))
    law = G.Gaussian([0.0], [[1.0]])
    with pytest.raises(ValueError, match=r"tau is 0.5.*mixture"):
        G.mean_field_law(law, NO_TRAINING, fitness, sigma=0.1, p=1, n_updates=1, tau=0.5)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 2), st.floats(0.05, 2), st.floats(-2, 2), st.floats(0.1, 3))
def test_breeders_equation(v, s2, mean, beta):
    """h ~ N(m,v), θ|h ~ N(h,s²), selection on θ alone: Δm_h = v/(v+s²) Δm_θ."""
    law = G.Gaussian([mean, mean], [[v + s2, v], [v, v]])
    change = G.select(law, G.QuadraticFitness(np.diag([1.0, 0.0]), 3.0), beta).mean - mean
    assert change[1] == pytest.approx(v / (v + s2) * change[0], rel=1e-9)


@pytest.mark.parametrize("m", [1, 2, 5])
@pytest.mark.parametrize("beta", [0.3, 2.0, 200.0])
def test_window_slope_and_saturation(m, beta):
    """m independent draws θ_k|h, fitness their mean: the law of h changes as under curvature β/(1+βs²/m) on h."""
    s2, v, mean = 0.5, 0.8, 1.3
    cov = np.full((m + 1, m + 1), v)
    cov[np.arange(m), np.arange(m)] += s2
    joint = G.Gaussian(np.full(m + 1, mean), cov)
    fitness = G.QuadraticFitness(np.diag([1 / m] * m + [0.0]), 0.2)
    marginal = G.select(joint, fitness, beta)
    alone = G.select(G.Gaussian([mean], [[v]]), plain(1.0, 0.2), float(G.effective_curvature(beta, s2, window=m)))
    assert marginal.mean[-1] == pytest.approx(alone.mean[0], rel=1e-9)
    assert marginal.cov[-1, -1] == pytest.approx(alone.cov[0, 0], rel=1e-9)
    naive = G.select(G.Gaussian([mean], [[v]]), plain(1.0, 0.2), beta)
    assert abs(naive.mean[0] - marginal.mean[-1]) > 1e-3


def test_saturation_in_a_worked_case():
    a = G.effective_curvature(200.0, 0.5)
    assert G.stationary_variance(a, 0.3) == pytest.approx(0.263, abs=5e-4)
    assert G.stationary_variance(G.effective_curvature(1e12, 0.5), 0.3) == pytest.approx(0.262, abs=5e-4)
    assert G.stationary_variance(200.0, 0.3) == pytest.approx(0.095, abs=5e-4)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 100), st.floats(0.05, 3))
def test_stationary_variance_and_contraction(c, sigma):
    """Independent of the closed form: iterate the update until it stands still."""
    v, r = G.stationary_variance(c, sigma), G.contraction(c, sigma)
    laws = G.mean_field_law(G.Gaussian([1.0], [[v]]), NO_TRAINING, plain(c), sigma=sigma, p=1, n_updates=3)
    for before, after in pairwise(laws):
        assert after.cov[0, 0] == pytest.approx(v, rel=1e-9)
        assert after.mean[0] == pytest.approx(r * before.mean[0], rel=1e-9)
    diffusive = sigma / np.sqrt(c)
    assert v > diffusive
    assert G.log_growth([c], sigma) == pytest.approx(G._tilt(G.Gaussian([0.0], [[v]]), plain(c), 1.0)[1], rel=1e-9)


def test_linear_fitness_accelerates_without_end():
    """𝓕 = a·h: the variance grows by σ² per update and the mean by a times the variance (result E)."""
    a, sigma, n = 0.3, 0.1, 50
    fitness = G.QuadraticFitness(np.zeros((1, 1)), slope=a)
    laws = G.mean_field_law(G.Gaussian([0.0], [[0.04]]), NO_TRAINING, fitness, sigma=sigma, p=1, n_updates=n)
    variance = 0.04 + sigma**2 * np.arange(n + 1)
    np.testing.assert_allclose([g.cov[0, 0] for g in laws], variance, rtol=1e-10)
    np.testing.assert_allclose([g.mean[0] for g in laws[1:]], a * np.cumsum(variance[:-1]), rtol=1e-10)


# ------------------------------------------------------------------------------------------------ (13) and (16)


@pytest.mark.parametrize("time", [0.0, 0.3, 3.0, 30.0])
def test_mixture_weights_and_limit(time):
    law, fitness = G.Gaussian([2.0], [[0.3]]), plain(3.0, -0.5)
    mixture = G.averaged_mixture(law, fitness, sigma=0.4, time=time)
    assert mixture.weights.sum() == pytest.approx(1, abs=1e-12)
    if time == 0:
        assert mixture.mean == pytest.approx(2.0)
        assert mixture.cov[0, 0] == pytest.approx(0.3)
    if time == 30:
        assert mixture.mean[0] == pytest.approx(-0.5, abs=1e-4)
        assert mixture.cov[0, 0] == pytest.approx(G.stationary_variance(3.0, 0.4), abs=1e-4)


@pytest.mark.parametrize("time", [0.2, 1.0, 4.0])
def test_mixture_solves_19_and_the_energy_balance(time):
    """m′ = m[Sρ] − m and e′ = e[Sρ] + pσ² − e, the derivatives by central differences."""
    law, fitness, sigma = G.Gaussian([1.5, -1.0], [[0.5, 0.2], [0.2, 0.4]]), None, 0.3
    fitness = G.QuadraticFitness(np.array([[1.0, 0.3], [0.3, 0.6]]), 0.2, 0.1)

    def at(t):
        return G.averaged_mixture(law, fitness, sigma=sigma, time=t)

    def energy(mix):
        return np.trace(mix.cov) + mix.mean @ mix.mean

    now, step = at(time), 1e-3
    parts = [G.Gaussian(m, V) for m, V in zip(now.means, now.covs, strict=True)]
    log_w = np.array([G._tilt(g, fitness, 1.0)[1] for g in parts])
    share = now.weights * np.exp(np.maximum(log_w - log_w.max(), -700))
    chosen = [G.select(g, fitness) for g in parts]
    selected = G.Mixture(share / share.sum(), np.array([g.mean for g in chosen]), np.array([g.cov for g in chosen]))
    slope = (at(time + step).mean - at(time - step).mean) / (2 * step)
    np.testing.assert_allclose(slope, selected.mean - now.mean, atol=1e-5)
    change = (energy(at(time + step)) - energy(at(time - step))) / (2 * step)
    balance = energy(selected) + 2 * sigma**2 - energy(now)
    assert change == pytest.approx(balance, abs=1e-5)
    assert abs(change - (balance - sigma**2)) > 1e-2


@settings(max_examples=20, deadline=None)
@given(st.floats(-3, 3), st.floats(0, 4), st.floats(0.1, 5), st.floats(0.1, 2), st.floats(0, 5))
def test_replicator_mutator_against_integration(m0, v0, c, sigma, t):
    def rhs(_, y):
        return [-c * y[1] * (y[0] - 0.7), sigma**2 - c * y[1] ** 2]

    end = solve_ivp(rhs, (0, max(t, 1e-9)), [m0, v0], rtol=1e-10, atol=1e-12, method="LSODA").y[:, -1]
    m, v = G.replicator_mutator(m0, v0, curvature=c, centre=0.7, sigma=sigma, time=t)
    np.testing.assert_allclose([m, v], end, atol=1e-6)


def test_replicator_mutator_for_all_times():
    t = np.array([0.0, 1.0, 1e3, 1e8])
    m, v = G.replicator_mutator(2.0, 0.5, curvature=4.0, centre=1.0, sigma=0.3, time=t)
    assert m[0] == pytest.approx(2.0)
    assert m[-1] == pytest.approx(1.0)
    assert v[-1] == pytest.approx(0.15)


def weak_selection_errors(scale_mutation=True):
    """Mean of (13) under the scaling (15) against (16), at time 1."""
    eps = 2.0 ** -np.arange(3, 9)
    exact, _ = G.replicator_mutator(1.5, 0.25, curvature=2.0, centre=0.0, sigma=0.5, time=1.0)
    errors = []
    for e in eps:
        sigma = 0.5 * np.sqrt(e) if scale_mutation else 0.5
        mix = G.averaged_mixture(G.Gaussian([1.5], [[0.25]]), plain(2.0 * e), sigma=sigma, time=1 / e)
        errors.append(abs(mix.mean[0] - exact))
    return eps, np.array(errors)


def test_weak_selection_limit_is_first_order_and_needs_the_scaled_mutation():
    eps, errors = weak_selection_errors()
    orders = np.diff(np.log(errors)) / np.diff(np.log(eps))
    assert abs(orders[-1] - 1) < 0.05  # the order itself approaches 1 to first order in ε
    assert abs(orders[-1] - 1) < abs(orders[0] - 1) / 4
    eps, errors = weak_selection_errors(scale_mutation=False)
    assert errors[-1] > errors[0] / 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: G.Gaussian([0.0, np.nan], np.eye(2)), "mean contains nan"),
        (lambda: G.Gaussian([0.0], [[-1.0]]), "cov has eigenvalue -1"),
        (lambda: G.Gaussian([0.0, 0.0], [[1.0, 0.3], [0.0, 1.0]]), "cov is not symmetric"),
        (lambda: G.Gaussian([0.0], np.eye(2)), r"mean has shape \(1,\), cov \(2, 2\)"),
        (lambda: G.langevin(np.eye(2), np.ones((3, 1)), 1.0), "coupling has shape"),
        (lambda: G.langevin([[1.0]], [[1.0]], -1.0), "noise is -1.0"),
        (lambda: G.flow(G.langevin([[1.0]], [[1.0]], 1.0), -1.0), "time is -1.0"),
        (lambda: G.chain(G.langevin([[1.0]], [[1.0]], 1.0), 0.0, 3), "dt is 0.0"),
        (lambda: G.QuadraticFitness([[0.0, 1.0], [0.0, 0.0]]), "curvature is not symmetric"),
        (lambda: G.select(G.Gaussian([0.0], [[1.0]]), G.QuadraticFitness(np.eye(2))), "fitness has 2 coordinates"),
        (lambda: G.stationary_variance(0.0, 1.0), "curvature contains 0"),
        (lambda: G.effective_curvature(1.0, 1.0, window=0.5), "window contains 0.5"),
        (lambda: G.mutate(G.Gaussian([0.0], [[1.0]]), -0.1, 1), "sigma is -0.1"),
        (lambda: G.Kernel(np.eye(2), np.zeros((3, 2)), np.eye(2)), r"shift has shape \(3, 2\)"),
        (lambda: G.Kernel(np.eye(2), np.zeros(3), np.eye(2)), r"shift has shape \(3,\)"),
        (lambda: G.LinearSDE(-np.eye(2), np.zeros((3, 2)), np.eye(2)), r"shift has shape \(3, 2\)"),
        (lambda: G.Mixture([2.0, 2.0], [[0.0], [1.0]], np.ones((2, 1, 1))), "weights sum to 4"),
        (lambda: G.Mixture([0.0, 0.0], [[0.0], [1.0]], np.ones((2, 1, 1))), "weights sum to 0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
