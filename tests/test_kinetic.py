"""The kinetic solver: structure, orders, its two limits, and particles."""

import doctest
from dataclasses import dataclass, replace
from itertools import pairwise
from time import process_time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbtlib import averaged as A  # noqa: N812
from pbtlib import gaussian as G  # noqa: N812
from pbtlib import kinetic as K  # noqa: N812
from pbtlib.distances import wasserstein_1_grid
from pbtlib.evolution import GaussianMutation, Gibbs, Removal, Selection, Truncation, copy

RULES = {"gibbs": Gibbs(1.0), "removal": Removal(1.0), "truncation": Truncation(0.2)}
NOISE, SIGMA = 0.6, 0.3
keys = st.integers(0, 10**6)


def square(θ, h):
    return (θ - h) ** 2


def two_wells(θ, h):
    return (θ**2 - 1) ** 2 + h * θ


def quadratic(θ, h):
    return -(θ**2)


def bounded(θ, h):
    return -(θ**2) / (1 + θ**2)


def start(θ, h):
    return np.exp(-2 * (θ - 1.5) ** 2 - 2 * (h + 1) ** 2)


def problem(n=81, *, loss=square, fitness=quadratic, rule=RULES["gibbs"], noise=NOISE, sigma=SIGMA, half=5.0, n_h=None):
    theta, h = A.Grid(-half, half, n), A.Grid(-half, half, n_h or n)
    model = K.model(theta, h, loss=loss, fitness=fitness, noise=noise, sigma=sigma, rule=rule)
    return model, A.cell_masses(start, theta, h)


def rough(key, model):
    r = np.random.default_rng(key)
    law = r.dirichlet(np.full(model.fitness.size, 0.1)).reshape(model.fitness.shape)
    return law / law.sum()


def order(x, errors):
    return np.diff(np.log(errors)) / np.diff(np.log(x))


def moments(law, model):
    """Mean of θ, of h, second moment of θ, of h."""
    by_theta, by_h = law.sum(-1), law.sum(-2)
    x, y = model.theta.points, model.h.points
    return np.stack([by_theta @ x, by_h @ y, by_theta @ x**2, by_h @ y**2], -1)


# ------------------------------------------------------------------------------------------------ structure


@settings(max_examples=20, deadline=None)
@given(keys, st.sampled_from(sorted(RULES)), st.floats(-9, 1), st.sampled_from([square, two_wells]))
def test_mass_and_sign_for_every_rule_and_time_scale(key, name, log_epsilon, loss):
    model, _ = problem(24, loss=loss, fitness=bounded, rule=RULES[name], sigma=0.5)
    laws = K.solve(rough(key, model), model, [0.1, 1.0], dt=0.1, epsilon=10.0**log_epsilon)
    assert laws.min() >= 0
    np.testing.assert_allclose(laws.sum((1, 2)), 1, atol=1e-12)


def test_truncation_bears_vanishing_tails():
    """Cells whose mass is near the smallest number there is neither overflow nor count."""
    model, _ = problem(60, fitness=bounded, rule=RULES["truncation"])
    narrow = A.cell_masses(lambda θ, h: np.exp(-62 * (θ - 1.5) ** 2 - 16 * (h + 1) ** 2), model.theta, model.h)
    assert 0 < narrow[narrow > 0].min() < 1e-300
    assert K.solve(narrow, model, 0.2, dt=0.1).sum() == pytest.approx(1, abs=1e-12)


def test_central_differences_lose_the_sign():
    model, _ = problem(40)
    drift = -np.gradient(A.tabulate(square, model.theta, model.h), model.theta.step, axis=0)
    diffusion = NOISE**2 / 2 / model.theta.step**2
    central = replace(
        model,
        up=diffusion + drift[:-1] / (2 * model.theta.step),
        down=diffusion - drift[1:] / (2 * model.theta.step),
    )
    law = np.zeros((40, 40))
    law[36] = 1 / 40  # θ near 4, where the drift is steep for small h
    assert K.relax(law, model, 0.02).min() >= 0
    assert K.relax(law, central, 0.02).min() < -1e-5


@pytest.mark.parametrize("loss", [square, two_wells])
@pytest.mark.parametrize("time", [1e-3, 1.0, 1e9])
def test_gibbs_state_is_stationary(loss, time):
    model, _ = problem(60, loss=loss, noise=lambda h: 0.5 + 0.1 * np.abs(h))
    s = 0.5 + 0.1 * np.abs(model.h.points)
    level = A.tabulate(loss, model.theta, model.h)
    weights = np.exp(-2 * (level - level.min(0)) / s**2)
    np.testing.assert_allclose(model.equilibrium, weights / weights.sum(0), atol=1e-14)
    for share in (np.full(60, 1 / 60), np.random.default_rng(1).dirichlet(np.ones(60))):
        law = model.equilibrium * share
        np.testing.assert_allclose(K.relax(law, model, time, steps=3), law, atol=1e-13)
        trained = np.matmul(K.propagator(model, min(time, 50.0)), law.T[:, :, None])[:, :, 0].T
        np.testing.assert_allclose(trained, law, atol=1e-12)
    colder = replace(model, up=model.up * 0.9)
    assert np.abs(K.relax(law, colder, time) - law).max() > 1e-7


@settings(max_examples=10, deadline=None)
@given(keys)
def test_one_very_long_step_reaches_the_gibbs_state(key):
    model, _ = problem(24, loss=two_wells, noise=1.0, sigma=0.5)
    law = rough(key, model)
    np.testing.assert_allclose(K.relax(law, model, 1e14), model.equilibrium * law.sum(0), atol=1e-9)


def test_training_is_reversible_and_leaves_h_alone():
    model, law = problem(30, loss=two_wells, sigma=0.5)
    P = K.propagator(model, 0.3)
    flux = P * model.equilibrium.T[:, None, :]
    np.testing.assert_allclose(flux, flux.transpose(0, 2, 1), atol=1e-13)
    assert P.min() >= 0
    np.testing.assert_allclose(K.relax(law, model, 0.7, steps=5).sum(0), law.sum(0), atol=1e-15)
    np.testing.assert_allclose(P @ P, K.propagator(model, 0.6), atol=1e-12)


@settings(max_examples=10, deadline=None)
@given(keys, keys)
def test_a_difference_of_laws_is_trained_as_well(one, other):
    model, _ = problem(24, loss=two_wells, noise=1.0, sigma=0.5)
    laws = [rough(key, model) for key in (one, other)]
    first, second = (K.relax(law, model, 0.7, steps=2) for law in laws)
    np.testing.assert_allclose(K.relax(laws[0] - laws[1], model, 0.7, steps=2), first - second, atol=1e-15)


def test_tridiagonal_solve_against_a_dense_one():
    model, law = problem(30, loss=two_wells, sigma=0.5)
    for z in (1e-3, 1.0, 1e4):
        for j in (0, 13, 29):
            T = np.diag(model.up[:, j], -1) + np.diag(model.down[:, j], 1)
            T -= np.diag(T.sum(0))
            exact = np.linalg.solve(np.eye(30) - z * T, law[:, j])
            np.testing.assert_allclose(K.relax(law, model, z)[:, j], exact, rtol=1e-7, atol=1e-12 * exact.max())


def test_steady_state_does_not_depend_on_the_step():
    """The explicit-implicit step has the zeros of T/ε + E as fixed points, whatever Δt is."""
    model, law = problem(40, sigma=0.4)
    coarse, fine = (K.solve(law, model, 60.0, dt=dt, epsilon=0.5) for dt in (0.5, 0.1))
    np.testing.assert_allclose(coarse, fine, atol=1e-9)
    other = K.solve(law, model, 60.0, dt=0.5, epsilon=1.0)
    assert np.abs(coarse - other).sum() > 1e-2


# ------------------------------------------------------------------------------------------------ orders


def exact_relaxed(time):
    """Mean and variance at h of θ after training from N(1.5, 1/4), L = (θ − h)²."""
    decay = np.exp(-2 * time)
    return decay, 0.25 * decay**2 + NOISE**2 / 4 * (1 - decay**2)


def theta_errors(time=0.5, change=lambda model: model):
    sizes = np.array([50, 100, 200, 400])
    errors = []
    for n in sizes:
        model, law = problem(n, n_h=2, half=4.0, sigma=0.0)
        model = change(model)
        after = np.matmul(K.propagator(model, time), law.T[:, :, None])[:, :, 0]
        after /= after.sum(1, keepdims=True)
        decay, variance = exact_relaxed(time)
        mean = after @ model.theta.points
        spread = after @ model.theta.points**2 - mean**2
        target = model.h.points + (1.5 - model.h.points) * decay
        errors.append(np.abs(mean - target).max() + np.abs(spread - variance).max())
    return 8.0 / sizes, np.array(errors)


def test_order_two_in_theta_and_one_for_the_upwind_flux():
    assert abs(order(*theta_errors())[-1] - 2) < 0.1

    def upwind(model):
        drift = -np.diff(A.tabulate(square, model.theta, model.h), axis=0) / model.theta.step
        diffusion, width = NOISE**2 / 2 / model.theta.step**2, model.theta.step
        return replace(
            model, up=diffusion + np.maximum(drift, 0) / width, down=diffusion + np.maximum(-drift, 0) / width
        )

    assert abs(order(*theta_errors(change=upwind))[-1] - 1) < 0.2


def test_h_is_resolved_faster_than_any_fixed_order():
    """The h grid enters through the sampled Gaussian only: moments at σ = Δh, Δh/2 and Δh/4 agree to 10⁻⁶."""
    values = []
    for n_h in (25, 50, 100):
        model, law = problem(60, n_h=n_h, sigma=0.4)
        values.append(moments(K.algorithm_1(law, model, 4, tau=0.5)[-1], model))
    first, second = np.abs(values[0] - values[2]).max(), np.abs(values[1] - values[2]).max()
    assert first < 1e-5
    assert second < max(first / 64, 1e-11)
    model, law = problem(60, n_h=50, sigma=0.42)
    assert np.abs(moments(K.algorithm_1(law, model, 4, tau=0.5)[-1], model) - values[2]).max() > 1e-3


@pytest.mark.parametrize("epsilon", [1.0, 0.1, 0.01])
def test_order_one_in_time_and_better_after_extrapolation(epsilon):
    """Extrapolated, the order is 2 for steps well below ε; around Δt = ε it lies between, with a small constant."""
    model, law = problem(40, sigma=0.3)
    steps = 0.1 / 2.0 ** np.arange(7)
    runs = [moments(K.solve(law, model, 1.0, dt=dt, epsilon=epsilon), model) for dt in steps]
    extrapolated = [2 * fine - coarse for coarse, fine in pairwise(runs)]
    best = extrapolated[-1] + (extrapolated[-1] - extrapolated[-2]) / 3
    plain = np.array([np.abs(r - best).max() for r in runs[:-2]])
    better = np.array([np.abs(r - best).max() for r in extrapolated[:-1]])
    assert abs(order(steps[:-2], plain)[-1] - 1) < 0.1
    assert (better[1:] < plain[1:] / 5).all()
    if epsilon == 1:
        assert abs(order(steps[:-2], better)[-1] - 2) < 0.1


# ------------------------------------------------------------------------------------------------ exact laws


def test_algorithm_1_is_the_exact_gaussian_law_to_second_order():
    sde, fitness = G.langevin([[2.0]], [[1.0]], NOISE), G.QuadraticFitness(np.diag([2.0, 0.0]))
    begin = G.Gaussian([1.5, -1.0], np.eye(2) / 4)

    def exact(sigma):
        law = G.mean_field_law(begin, G.flow(sde, 0.5), fitness, sigma=sigma, p=1, n_updates=3)[-1]
        return np.concatenate([law.mean, np.diag(law.cov) + law.mean**2])

    sizes, errors, wrong = np.array([50, 100, 200]), [], []
    for n in sizes:
        model, law = problem(n, n_h=50)
        final = moments(K.algorithm_1(law, model, 3, inner_time=0.5)[-1], model)
        errors.append(np.abs(final - exact(SIGMA)).max())
        wrong.append(np.abs(final - exact(1.2 * SIGMA)).max())
    assert abs(order(1 / sizes, errors)[-1] - 2) < 0.2
    assert order(1 / sizes, wrong)[-1] < 0.5


@pytest.mark.parametrize("fitness", [quadratic, bounded])
def test_fast_training_gives_the_averaged_equation(fitness):
    """As ε → 0 each step is the Euler step of (13) with the effective fitness (11), to rounding."""
    model, law = problem(50, fitness=fitness, loss=two_wells, noise=0.8)

    def euler(beta):
        def step(rho, dt):
            return A.jump(rho, K.effective_fitness(model, beta), Gibbs(beta), [model.kernel], dt)

        return A.march(relaxed.sum(0), 1.0, 0.05, step)

    relaxed = K.relax(law, model, 1e12)
    full = K.solve(relaxed, model, 1.0, dt=0.05, epsilon=1e-12)
    np.testing.assert_allclose(full.sum(0), euler(1.0), atol=1e-9)
    np.testing.assert_allclose(full, model.equilibrium * full.sum(0), atol=1e-9)
    mean_fitness = (model.fitness * model.equilibrium).sum(0)
    naive = A.march(relaxed.sum(0), 1.0, 0.05, lambda r, dt: A.jump(r, mean_fitness, Gibbs(1.0), [model.kernel], dt))
    assert np.abs(naive - full.sum(0)).sum() > 1e-3


def test_effective_fitness_of_the_quadratic_is_the_closed_form():
    model, _ = problem(240, n_h=20, half=6.0, noise=0.8, sigma=0.6)
    inner = np.abs(model.h.points) < 3
    for beta in (0.5, 2.0):
        s2, h = 0.8**2 / 4, model.h.points[inner]
        exact = -(h**2) / (1 + 2 * beta * s2) - np.log(1 + 2 * beta * s2) / (2 * beta)
        np.testing.assert_allclose(K.effective_fitness(model, beta)[inner], exact, atol=1e-9)
    assert np.abs(K.effective_fitness(model, 0.5) - K.effective_fitness(model, 2.0))[inner].max() > 0.1


# ------------------------------------------------------------------------------------------------ two time scales


def test_poisson_jumps_are_first_order_in_epsilon():
    """The h-marginal of (8) against (13) at time 2: W₁ halves with ε; values of a finer computation (θ, Δt finer)."""
    scales, gaps = 2.0 ** -np.arange(5), []
    for n in (60, 120):
        model, law = problem(n, n_h=80)
        limit = A.semigroup(law.sum(0), K.effective_fitness(model), [model.kernel], 2.0)
        runs = [[K.solve(law, model, 2.0, dt=dt, epsilon=e).sum(0) for e in scales] for dt in (0.01, 0.005)]
        gaps.append(2 * np.array(runs[1]) - np.array(runs[0]) - limit)
    gap = (4 * gaps[1] - gaps[0]) / 3

    def size(difference):
        return model.h.step * np.abs(np.cumsum(difference, -1)).sum(-1)

    np.testing.assert_allclose(size(gap), [0.2288, 0.1110, 0.0536, 0.0263, 0.0131], rtol=0.01)
    assert np.abs(order(scales, size(gap))[1:] - 1).max() < 0.1
    mean_fitness = (model.fitness * model.equilibrium).sum(0)
    wrong = limit - A.semigroup(law.sum(0), mean_fitness, [model.kernel], 2.0)
    assert size(gap[-1] + wrong) > 2 * size(gap[-1])  # ∫F dμ_h is not (11): the error no longer vanishes


def test_simultaneous_jumps_are_exponentially_close():
    """τ = 1: the error shrinks by e^{−2} per unit of inner time at drift rate 2, on the grid and in closed form."""
    model, law = problem(160, n_h=60)
    limit = K.algorithm_1(law, model, 3, inner_time=40.0)[-1].sum(0)
    inner = np.array([1.0, 2.0, 3.0])
    gaps = [
        wasserstein_1_grid(K.algorithm_1(law, model, 3, inner_time=t)[-1].sum(0), limit, model.h.step) for t in inner
    ]
    sde, fitness = G.langevin([[2.0]], [[1.0]], NOISE), G.QuadraticFitness(np.diag([2.0, 0.0]))
    begin = G.Gaussian([1.5, -1.0], np.eye(2) / 4)

    def mean(kernel):
        return G.mean_field_law(begin, kernel, fitness, sigma=SIGMA, p=1, n_updates=3)[-1].mean[1]

    exact = [abs(mean(G.flow(sde, t)) - mean(G.equilibrium(sde, 1))) for t in (3.0, 4.0, 5.0)]
    assert exact[-1] / exact[-2] == pytest.approx(np.exp(-2), rel=0.01)
    assert gaps[-1] / gaps[-2] == pytest.approx(np.exp(-2), rel=0.05)
    assert abs(gaps[-1] / gaps[-2] - 0.5) > 0.3  # not the first order of Poisson jumps


def kinked(θ, h):
    return -np.minimum(np.abs(θ), 2.0)


@pytest.mark.parametrize("fitness", [quadratic, kinked])
def test_first_order_in_tau(fitness):
    """Algorithm 1 with infinitely many agents approaches (6) linearly in τ, also for a fitness with kinks."""
    model, law = problem(60, half=4.0, fitness=fitness)
    coarse, fine = (K.solve(law, model, 2.0, dt=dt) for dt in (0.01, 0.005))
    limit = moments(2 * fine - coarse, model)
    taus = 2.0 ** -np.arange(2, 7)

    def error(tau, n):
        return np.abs(moments(K.algorithm_1(law, model, n, tau=tau)[-1], model) - limit).max()

    errors = np.array([error(t, round(2 / t)) for t in taus])
    assert abs(order(taus, errors)[-1] - 1) < 0.05
    wrong = np.array([error(t, round(3 / t)) for t in taus])  # another time
    assert abs(order(taus, wrong)[-1]) < 0.3


# ------------------------------------------------------------------------------------------------ particles


@dataclass(frozen=True)
class State:
    theta: np.ndarray
    h: np.ndarray


def particle_moments(rng, rule, *, tau, updates, n=1500, replicates=30):
    """The plain loop of Algorithm 1 with exact training, L = (θ − h)², bounded fitness."""
    decay, mutate = np.exp(-2 * tau), GaussianMutation(SIGMA)
    spread = NOISE / 2 * np.sqrt(1 - decay**2)
    state = State(*rng.normal([[[[1.5]]], [[[-1.0]]]], 0.5, (2, replicates, n, 1)))
    for _ in range(updates):
        theta = state.h + (state.theta - state.h) * decay + spread * rng.standard_normal(state.theta.shape)
        state = State(theta, state.h)
        jump = Selection(rule, tau=tau)(bounded(state.theta, state.h)[..., 0], rng)
        state = mutate(copy(state, jump), jump, rng)
    return np.stack([x.mean((-2, -1)) for x in (state.theta, state.h, state.theta**2, state.h**2)], -1)


@pytest.mark.parametrize(("name", "tau"), [("gibbs", 1.0), ("gibbs", 0.25), ("removal", 0.25), ("truncation", 0.5)])
def test_particles_and_kinetic_law_agree_for_every_rule(rng, name, tau):
    updates = int(3 / tau)

    def after(n, rule, loss=square):
        model, law = problem(n, n_h=60, loss=loss, fitness=bounded, rule=rule)
        return moments(K.algorithm_1(law, model, updates, tau=tau)[-1], model)

    coarse, fine = after(60, RULES[name]), after(120, RULES[name])
    law, grid_error = (4 * fine - coarse) / 3, np.abs(fine - coarse) / 3
    sample = particle_moments(rng, RULES[name], tau=tau, updates=updates)
    se = sample.std(0, ddof=1) / np.sqrt(len(sample))
    assert (np.abs(sample.mean(0) - law) < 5 * se + grid_error).all()
    for wrong in (after(60, RULES[name], loss=lambda θ, h: 0 * θ), after(60, Gibbs(4.0))):
        assert (np.abs(sample.mean(0) - wrong) > 5 * se + grid_error).any()


def test_particles_with_poisson_clocks_follow_6(rng):
    """Small τ against the kinetic equation itself: the gap is at most the first-order one that the law shows."""
    tau, laws = 1 / 32, []
    for n in (60, 120):
        model, law = problem(n, n_h=60, fitness=bounded)
        limit = moments(2 * K.solve(law, model, 1.0, dt=0.01) - K.solve(law, model, 1.0, dt=0.02), model)
        laws.append((limit, np.abs(moments(K.algorithm_1(law, model, 32, tau=tau)[-1], model) - limit)))
    (coarse, _), (fine, bias) = laws
    allowed = bias + np.abs(fine - coarse)
    sample = particle_moments(rng, RULES["gibbs"], tau=tau, updates=32)
    se = sample.std(0, ddof=1) / np.sqrt(len(sample))
    assert (np.abs(sample.mean(0) - fine) < 5 * se + allowed).all()
    assert (np.abs(sample.mean(0) - moments(law, model)) > 10 * se + allowed).any()


# ------------------------------------------------------------------------------------------------ cost


def test_cost_is_linear_in_cells_and_independent_of_epsilon():
    """Ratios of processor time within one run, best of three, with the slack that a shared machine needs."""

    def seconds(n, epsilon, steps=20):
        model, law = problem(n)
        best = np.inf
        for _ in range(3):
            begin = process_time()
            K.solve(law, model, 0.01 * steps, dt=0.01, epsilon=epsilon)
            best = min(best, process_time() - begin)
        return best

    base = seconds(100, 1.0)
    assert seconds(100, 1e-8) < 2 * base
    assert seconds(300, 1.0) < 3 * 9 * base


def test_the_example_of_the_docstring_runs():
    assert doctest.testmod(K).failed == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, f: problem(noise=0.0), "noise contains 0"),
        (lambda m, f: problem(noise=lambda h: h), "noise contains -4"),
        (lambda m, f: problem(loss=lambda θ, h: np.full(θ.shape, np.inf)), "function contains inf"),
        (lambda m, f: K.solve(f[:-1], m, 1.0), "mass has shape"),
        (lambda m, f: K.solve(f, m, 1.0, epsilon=0.0), r"epsilon is 0\.0"),
        (lambda m, f: K.solve(f, m, 1.0, dt=2.0), r"dt is 2\.0"),
        (lambda m, f: K.solve(-f, m, 1.0), "mass contains -"),
        (lambda m, f: K.algorithm_1(-f, m, 0), "mass contains -"),
        (lambda m, f: K.relax(f * np.nan, m, 1.0), "mass contains nan"),
        (lambda m, f: K.relax(f, m, -1.0), r"time is -1\.0"),
        (lambda m, f: K.relax(f, m, 1.0, steps=0), "steps is 0"),
        (lambda m, f: K.propagator(m, -0.5), r"time is -0\.5"),
        (lambda m, f: K.algorithm_1(f, m, 2, tau=0.0), r"tau is 0\.0"),
        (lambda m, f: K.algorithm_1(f, m, -1), "n_updates is -1"),
        (lambda m, f: K.effective_fitness(m, 0.0), r"beta is 0\.0"),
    ],
)
def test_bad_input_is_named(call, message):
    model, law = problem(40)
    with pytest.raises(ValueError, match=message):
        call(model, law)


def test_removal_of_the_unfit_with_an_unbounded_fitness_is_refused():
    """The quadratic fitness asks for jump probabilities above 1 in the far tail: bounded fitness or nothing."""
    model, law = problem(60, rule=Removal(1.0))
    with pytest.raises(ValueError, match="need steps of at most"):
        K.solve(law, model, 1.0, dt=0.01)
