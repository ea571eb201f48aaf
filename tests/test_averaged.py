"""The averaged equation against exact mixtures, its own spectrum, and particles."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from pbtlib import averaged as A  # noqa: N812
from pbtlib import gaussian as G  # noqa: N812
from pbtlib import kinetic as K  # noqa: N812
from pbtlib.checks import check_array
from pbtlib.estimates import fit_rate
from pbtlib.evolution import GaussianMutation, Gibbs, Removal, Selection, Truncation, copy

GRID = A.Grid(-5.0, 5.0, 200)
keys = st.integers(0, 10**6)
RULES = {"gibbs": Gibbs(1.0), "removal": Removal(1.0), "truncation": Truncation(0.2)}


def hill(c=2.0, centre=0.0):
    return A.tabulate(lambda h: -c / 2 * (h - centre) ** 2, GRID)


def bump(mean=1.5, variance=0.25):
    return A.cell_masses(lambda h: np.exp(-((h - mean) ** 2) / (2 * variance)), GRID)


def rough(key, height=2.0):
    """A random fitness and a random law on the grid."""
    r = np.random.default_rng(key)
    h = GRID.points
    wave = sum(r.normal() * np.cos(k * h * np.pi / 10 + r.uniform(0, 6)) / k for k in range(1, 6))
    law = r.dirichlet(np.full(h.size, 0.2))
    return height * wave, law / law.sum()


def order(x, errors):
    """Observed orders between successive refinements."""
    return np.diff(np.log(errors)) / np.diff(np.log(x))


# ------------------------------------------------------------------------------------------------ mutation


@pytest.mark.parametrize("boundary", ["reflect", "project"])
@pytest.mark.parametrize("sigma", [0.0, 0.05, 0.3, 4.0])
def test_kernel_keeps_mass_and_sign(boundary, sigma):
    kernel = A.mutation_kernel(GRID, sigma, boundary=boundary)
    np.testing.assert_allclose(kernel.sum(0), 1, atol=1e-13)
    assert kernel.min() >= 0
    if boundary == "reflect":
        np.testing.assert_allclose(kernel, kernel.T, atol=1e-15)
    elif sigma:
        assert np.abs(kernel - kernel.T).max() > 1e-3
    else:
        np.testing.assert_array_equal(kernel, np.eye(GRID.n))


@pytest.mark.parametrize("cells", [1.0, 1.5, 6.0])
def test_kernel_has_the_variance_of_the_gaussian(cells):
    sigma = cells * GRID.step
    column = A.mutation_kernel(GRID, sigma)[:, GRID.n // 2]
    offset = GRID.points - GRID.points[GRID.n // 2]
    assert column @ offset == pytest.approx(0, abs=1e-12)
    assert column @ offset**2 == pytest.approx(sigma**2, rel=1e-6)
    assert column @ offset**4 == pytest.approx(3 * sigma**4, rel=1e-5)


def test_kernels_compose_like_gaussians_and_cell_integrals_do_not():
    a, b, c = (A.mutation_kernel(GRID, s) for s in (0.3, 0.4, 0.5))
    np.testing.assert_allclose(a @ b, c, atol=1e-12)
    edges = GRID.step * (np.arange(-GRID.n, GRID.n + 2) - 0.5)

    def integrated(s):
        mass = np.diff(norm.cdf(edges, scale=s))
        return np.array([[mass[GRID.n + i - j] for j in range(GRID.n)] for i in range(GRID.n)])

    middle = slice(80, 120)
    gap = (integrated(0.3) @ integrated(0.4) - integrated(0.5))[middle, middle]
    assert np.abs(gap).max() > 1e-6


def test_projection_is_the_clipped_gaussian():
    """Mean of a projected mutant near the wall, against quadrature; reflection gives another one."""
    sigma, start = 0.5, GRID.points[-4]
    wall = GRID.points[-1]
    x = np.linspace(-10, 10, 200001)
    exact = np.minimum(start + sigma * x, wall) @ norm.pdf(x) * (x[1] - x[0])
    project = A.mutation_kernel(GRID, sigma, boundary="project")[:, -4] @ GRID.points
    reflect = A.mutation_kernel(GRID, sigma)[:, -4] @ GRID.points
    assert abs(project - exact) < GRID.step**2
    assert abs(reflect - exact) > 10 * GRID.step**2


# ------------------------------------------------------------------------------------------------ (12), (13)


@settings(max_examples=25, deadline=None)
@given(keys, st.sampled_from(sorted(RULES)), st.floats(0.02, 1.0))
def test_a_jump_keeps_mass_and_sign_or_says_why_not(key, name, tau):
    fitness, law = rough(key)
    kernels = [A.mutation_kernel(GRID, 0.2)]
    gain, loss = A.slow_operator(law, fitness, RULES[name], kernels)
    assert gain.sum() == pytest.approx(loss.sum(), rel=1e-12)
    rate = (loss[law > 0] / law[law > 0]).max()
    if tau * rate > 1 + 1e-9:
        with pytest.raises(ValueError, match="need steps of at most"):
            A.jump(law, fitness, RULES[name], kernels, tau)
    else:
        after = A.jump(law, fitness, RULES[name], kernels, tau)
        assert after.min() >= 0
        assert after.sum() == pytest.approx(1, abs=1e-12)


@settings(max_examples=10, deadline=None)
@given(keys, st.floats(-50, 50))
def test_a_constant_added_to_the_fitness_and_a_mirror_change_nothing(key, constant):
    fitness, law = rough(key)
    kernels = [A.mutation_kernel(GRID, 0.2)]
    plain = A.solve(law, fitness, Gibbs(1.0), kernels, 0.5, dt=0.1)
    np.testing.assert_allclose(A.solve(law, fitness + constant, Gibbs(1.0), kernels, 0.5, dt=0.1), plain, atol=1e-12)
    mirrored = A.solve(law[::-1], fitness[::-1], Gibbs(1.0), kernels, 0.5, dt=0.1)
    np.testing.assert_allclose(mirrored[::-1], plain, atol=1e-12)


@pytest.mark.parametrize("name", RULES)
def test_neutral_fitness_only_spreads(name):
    """With F constant, m′ = 0 and e′ = rate·σ² for every rule whose parents and victims are then alike."""
    kernels, law = [A.mutation_kernel(GRID, 0.3)], bump(0.0)
    after = A.solve(law, np.zeros(GRID.n), RULES[name], kernels, 2.0)
    rate = 0.2 if name == "truncation" else 1.0
    assert after @ GRID.points == pytest.approx(0, abs=1e-10)
    assert after @ GRID.points**2 == pytest.approx(0.25 + rate * 2.0 * 0.09, rel=1e-6)


def test_matrices_may_come_from_a_generator():
    law, exponent, blur = bump(), hill(), A.mutation_kernel(GRID, 0.3)
    for call in (lambda k: A.semigroup(law, exponent, k, 1.0), lambda k: A.solve(law, exponent, Gibbs(), k, 0.1)):
        np.testing.assert_array_equal(call(iter([blur])), call([blur]))


@pytest.mark.parametrize(
    "march",
    [
        lambda model: A.solve(bump(), hill(), Gibbs(), [model.kernel], 1.0, dt=0.02),
        lambda model: A.semigroup(bump(), hill(), [model.kernel], 20.0),
        lambda model: K.solve(model.equilibrium / 200, model, 1.0, dt=0.02),
        lambda model: K.algorithm_1(model.equilibrium / 200, model, 50, tau=0.02),
    ],
)
def test_what_does_not_change_is_checked_once_however_many_steps_are_taken(march, monkeypatch):
    """A check of a matrix at each step would cost as much as the step itself."""
    theta = A.Grid(-3.0, 3.0, 9)
    model = K.model(
        theta, GRID, loss=lambda x, h: (x - h) ** 2, fitness=lambda x, h: -(x**2), noise=1.0, sigma=0.3, rule=Gibbs()
    )
    seen = []
    for module in (A, K):
        monkeypatch.setattr(
            module, "check_array", lambda name, *a, **k: (seen.append(name), check_array(name, *a, **k))[1]
        )
    march(model)
    assert len(seen) < 12


def test_solver_has_order_two_and_euler_has_not():
    kernels, steps = [A.mutation_kernel(GRID, 0.3)], 0.4 / 2.0 ** np.arange(5)
    exact = A.semigroup(bump(), hill(), kernels, 2.0)
    heun = [np.abs(A.solve(bump(), hill(), Gibbs(1.0), kernels, 2.0, dt=dt) - exact).sum() for dt in steps]

    def euler(law, dt):
        return A.jump(law, hill(), Gibbs(1.0), kernels, dt)

    lower = [np.abs(A.march(bump(), 2.0, dt, euler) - exact).sum() for dt in steps]
    assert abs(order(steps, heun)[-1] - 2) < 0.15
    assert abs(order(steps, lower)[-1] - 1) < 0.15


def test_both_ways_to_the_solution_agree_in_two_dimensions():
    grids = [A.Grid(-4.0, 4.0, 48), A.Grid(-3.0, 3.0, 36)]
    fitness = A.tabulate(lambda x, y: -(x**2) - 0.5 * (y - 0.3 * x) ** 2 + np.sin(2 * x), *grids)
    start = A.cell_masses(lambda x, y: np.exp(-2 * (x - 1) ** 2 - 3 * (y + 0.5) ** 2), *grids)
    kernels = [A.mutation_kernel(g, 0.25) for g in grids]
    times = np.array([0.5, 3.0])
    exact = A.semigroup(start, fitness, kernels, times)
    coarse, fine = (A.solve(start, fitness, Gibbs(1.0), kernels, times, dt=dt) for dt in (0.04, 0.02))
    assert np.abs((4 * fine - coarse) / 3 - exact).sum((-2, -1)).max() < 1e-5
    swapped = A.semigroup(start.T, fitness.T, kernels[::-1], times)
    np.testing.assert_allclose(swapped.transpose(0, 2, 1), exact, atol=1e-12)
    wrong = A.solve(start, fitness, Gibbs(1.0), [kernels[0], A.mutation_kernel(grids[1], 0.35)], times, dt=0.02)
    assert np.abs(wrong - exact).sum((-2, -1)).max() > 1e-2


@pytest.mark.parametrize("time", [0.5, 2.0, 8.0])
def test_semigroup_is_the_gaussian_mixture_and_no_gaussian(time):
    fitness = G.QuadraticFitness(np.array([[2.0]]))
    mix = G.averaged_mixture(G.Gaussian([1.5], [[0.25]]), fitness, sigma=0.3, time=time)
    scale = np.sqrt(mix.covs[:, 0, 0])
    density = mix.weights @ norm.pdf(GRID.points, mix.means, scale[:, None])
    law = A.semigroup(bump(), hill(), [A.mutation_kernel(GRID, 0.3)], time)
    np.testing.assert_allclose(law / GRID.step, density, atol=1e-9)
    single = norm.pdf(GRID.points, mix.mean[0], np.sqrt(mix.cov[0, 0]))
    assert np.abs(law / GRID.step - single).max() > 1e-3
    wrong = A.semigroup(bump(), hill(), [A.mutation_kernel(GRID, 0.33)], time)
    assert np.abs(wrong / GRID.step - density).max() > 1e-3


def test_mixture_in_two_dimensions_with_coupled_coordinates():
    C, grids = np.array([[1.0, 0.6], [0.6, 2.0]]), [A.Grid(-4.0, 4.0, 64)] * 2
    fitness = A.tabulate(lambda x, y: -(C[0, 0] * x**2 + 2 * C[0, 1] * x * y + C[1, 1] * y**2) / 2, *grids)
    start = A.cell_masses(lambda x, y: np.exp(-2 * (x - 1) ** 2 - 2 * y**2), *grids)
    law = A.semigroup(start, fitness, [A.mutation_kernel(g, 0.3) for g in grids], 1.5)
    mix = G.averaged_mixture(G.Gaussian([1.0, 0.0], np.eye(2) / 4), G.QuadraticFitness(C), sigma=0.3, time=1.5)
    x, y = grids[0].points[:, None], grids[1].points[None]
    np.testing.assert_allclose([(law * x).sum(), (law * y).sum()], mix.mean, atol=1e-7)
    assert ((law * x * y).sum() - mix.mean.prod()) == pytest.approx(mix.cov[0, 1], abs=1e-7)
    assert abs(mix.mean[1]) > 0.01  # the coupling moves y although it starts at its optimum


@dataclass(frozen=True)
class Population:
    h: np.ndarray


def particle_moments(rng, rule, fitness, *, tau, updates, n=2000, replicates=30):
    """Mean and second moment of h in the reduced algorithm, per replicate, by the plain loop."""
    population, mutate = Population(rng.normal(1.5, 0.5, (replicates, n, 1))), GaussianMutation(0.3)
    for _ in range(updates):
        jump = Selection(rule, tau=tau)(fitness(population.h[..., 0]), rng)
        population = mutate(copy(population, jump), jump, rng)
    return np.stack([population.h.mean((-2, -1)), (population.h**2).mean((-2, -1))], -1)


@pytest.mark.parametrize(("name", "tau"), [("gibbs", 1.0), ("gibbs", 0.3), ("removal", 0.1), ("truncation", 1.0)])
def test_particles_and_grid_agree_for_every_rule(rng, name, tau):
    rule, updates = RULES[name], int(np.ceil(4 + 1 / tau))

    def fitness(h):
        return np.cos(h)

    def after(rule, grid=GRID):
        law, table = A.cell_masses(lambda h: np.exp(-2 * (h - 1.5) ** 2), grid), A.tabulate(fitness, grid)
        for _ in range(updates):
            law = A.jump(law, table, rule, [A.mutation_kernel(grid, 0.3)], tau)
        return np.array([law @ grid.points, law @ grid.points**2])

    moments = particle_moments(rng, rule, fitness, tau=tau, updates=updates)
    se = moments.std(0, ddof=1) / np.sqrt(len(moments))
    grid_error = np.abs(after(rule) - after(rule, A.Grid(-5.0, 5.0, 100)))  # truncation cuts at cells
    assert (np.abs(moments.mean(0) - after(rule)) < 5 * se + grid_error).all()
    wrong = Truncation(0.3) if name == "truncation" else {"gibbs": Gibbs, "removal": Removal}[name](0.6)
    assert (np.abs(moments.mean(0) - after(wrong)) > 5 * se + grid_error).any()


# ------------------------------------------------------------------------------------------------ spectrum


@pytest.mark.parametrize("c", [1.0, 4.0, 50.0])
@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_spectrum_is_geometric_and_the_steady_state_gaussian(c, sigma):
    grid = A.Grid(-12.0, 12.0, 600)
    fitness = A.tabulate(lambda h: -c / 2 * (h - 0.4) ** 2, grid)
    steady = A.steady_state(fitness, [A.mutation_kernel(grid, sigma)], k=5)
    r, v = G.contraction(c, sigma), G.stationary_variance(c, sigma)
    np.testing.assert_allclose(steady.ratios, r ** np.arange(5), rtol=1e-8)
    assert steady.log_growth == pytest.approx(np.log(r) / 2, abs=1e-8)
    assert steady.rate == pytest.approx(1 - r, rel=1e-8)
    np.testing.assert_allclose(steady.mass / grid.step, norm.pdf(grid.points, 0.4, np.sqrt(v)), atol=1e-8)
    assert abs(steady.ratios[1] / (1 / (1 + sigma * np.sqrt(c))) - 1) > 1e-3  # the diffusive guess v = σ/√c


@settings(max_examples=8, deadline=None)
@given(keys, keys)
def test_one_steady_state_from_any_start(key, other):
    fitness, start = rough(key, height=1.0)
    _, second = rough(other)
    kernels = [A.mutation_kernel(GRID, 0.6)]
    steady = A.steady_state(fitness, kernels)
    time = 30 / steady.rate
    for law in (start, second):
        end = A.semigroup(law, fitness, kernels, time)
        assert np.abs(end - steady.mass).sum() < 1e-7
    np.testing.assert_allclose(A.jump(steady.mass, fitness, Gibbs(1.0), kernels, 1.0), steady.mass, atol=1e-12)
    assert np.abs(A.jump(steady.mass, fitness, Gibbs(2.0), kernels, 1.0) - steady.mass).sum() > 1e-4


def test_a_weight_need_not_be_integrable_for_a_steady_state():
    """w = (1 + h²/2)^(−1/2): one end from either side, with tails below every exponential; not so for a constant."""
    line = A.Grid(-40.0, 40.0, 400)
    kernels = [A.mutation_kernel(line, 1.0)]
    starts = [1.0 * (np.abs(line.points - centre) < 1) for centre in (5.0, -9.0)]

    def ends(exponent):
        return [A.semigroup(law, exponent, kernels, 60.0) for law in starts]

    right, left = ends(-np.log(1 + line.points**2 / 2) / 2)
    assert np.abs(right - left).sum() < 1e-6
    density = np.log(right[np.searchsorted(line.points, [2, 6, 10, 14])])
    assert (np.diff(density, 2) < 0).all()
    right, left = ends(np.zeros(400))
    assert np.abs(right - left).sum() > 0.1


def test_relaxation_rates_of_both_clocks():
    """(13) approaches its steady state at rate 1 − λ₁/λ₀, simultaneous updates by the factor λ₁/λ₀ each."""
    fitness, kernels = hill(c=4.0) + np.cos(3 * GRID.points), [A.mutation_kernel(GRID, 0.3)]
    steady = A.steady_state(fitness, kernels)
    first, second = A.semigroup(bump(), fitness, kernels, np.array([18.0, 20.0]))
    distance = [np.abs(law - steady.mass).sum() for law in (first, second)]
    measured = np.log(distance[0] / distance[1]) / 2
    assert measured == pytest.approx(steady.rate, rel=0.01)
    assert abs(measured / -np.log(steady.ratios[1]) - 1) > 0.05
    law, gaps = bump(), []
    for _ in range(22):
        law = A.jump(law, fitness, Gibbs(1.0), kernels, 1.0)
        gaps.append(np.abs(law - steady.mass).sum())
    assert gaps[-1] / gaps[-2] == pytest.approx(steady.ratios[1], rel=0.01)


def test_steady_state_in_two_dimensions_is_a_product_for_separable_fitness():
    grids = [A.Grid(-4.0, 4.0, 60), A.Grid(-4.0, 4.0, 50)]
    fitness = A.tabulate(lambda x, y: -(x**2) - 3 * (y - 0.5) ** 2, *grids)
    steady = A.steady_state(fitness, [A.mutation_kernel(g, 0.4) for g in grids], k=4)
    r = G.contraction([2.0, 6.0], 0.4)
    np.testing.assert_allclose(steady.ratios[:4], sorted([1, r[0], r[1], r[0] ** 2, r[0] * r[1]])[::-1][:4], rtol=1e-7)
    assert steady.log_growth == pytest.approx(float(G.log_growth([2.0, 6.0], 0.4)), abs=1e-7)
    np.testing.assert_allclose(steady.mass, np.outer(steady.mass.sum(1), steady.mass.sum(0)), atol=1e-10)


# ------------------------------------------------------------------------------------------------ result A


@settings(max_examples=20, deadline=None)
@given(keys)
def test_the_rayleigh_functional_never_decreases(key):
    fitness, law = rough(key)
    kernels = [A.mutation_kernel(GRID, 0.4)]
    laws = A.semigroup(law, fitness, kernels, np.linspace(0, 6, 25))
    values = np.array([A.log_rayleigh(x, fitness, kernels) for x in laws])
    assert (np.diff(values) > -1e-10).all()
    assert values[-1] <= A.steady_state(fitness, kernels).log_growth + 1e-10


def test_mean_fitness_does_decrease():
    """The companion: from a peak without variance, mutation load lowers the mean fitness while R grows."""
    kernels, peak = [A.mutation_kernel(GRID, 0.4)], bump(0.0, 0.01)
    laws = A.semigroup(peak, hill(), kernels, np.linspace(0, 6, 25))
    assert (np.diff(laws @ hill()) < 0).all()
    values = np.array([A.log_rayleigh(x, hill(), kernels) for x in laws])
    assert (np.diff(values) > -1e-12).all()
    assert values[-1] == pytest.approx(A.steady_state(hill(), kernels).log_growth, abs=1e-3)


def test_functionals_of_the_symmetric_theory_refuse_projection():
    kernels = [A.mutation_kernel(GRID, 0.4, boundary="project")]
    for call in (A.steady_state, lambda f, k: A.log_rayleigh(bump(), f, k)):
        with pytest.raises(ValueError, match="not symmetric"):
            call(hill(), kernels)


# ------------------------------------------------------------------------------------------------ result B


@pytest.mark.parametrize(("heights", "curvatures"), [((1.0, 0.8), (60.0, 6.0)), ((1.0, 0.7), (80.0, 3.0))])
def test_the_flatter_peak_survives_beyond_a_critical_sigma(heights, curvatures):
    (high, low), (sharp, flat) = heights, curvatures
    grid = A.Grid(-5.0, 5.0, 500)

    def two_peaks(h):
        return np.maximum(high - sharp / 2 * (h + 2) ** 2, low - flat / 2 * (h - 2) ** 2)

    def advantage(sigma):
        return float(G.log_growth([sharp], sigma, high) - G.log_growth([flat], sigma, low))

    critical = brentq(advantage, 0.02, 2.0)
    fitness = A.tabulate(two_peaks, grid)

    def share_of_the_flat(sigma):
        return A.steady_state(fitness, [A.mutation_kernel(grid, sigma)]).mass[grid.points > 0].sum()

    assert share_of_the_flat(0.9 * critical) < 0.1
    assert share_of_the_flat(1.1 * critical) > 0.9
    by_height_alone = share_of_the_flat(3 * critical) < 0.5
    assert not by_height_alone


# ------------------------------------------------------------------------------------------------ (15), (16)


def test_splitting_of_16_has_order_two_and_the_exact_limit():
    grid = A.Grid(-5.0, 5.0, 400)
    fitness = A.tabulate(lambda h: -(h**2), grid)
    start = A.cell_masses(lambda h: np.exp(-2 * (h - 1.5) ** 2), grid)
    m, v = G.replicator_mutator(1.5, 0.25, curvature=2.0, centre=0.0, sigma=0.5, time=1.0)
    exact = A.cell_masses(lambda h: np.exp(-((h - m) ** 2) / (2 * v)), grid)
    steps = 0.2 / 2.0 ** np.arange(5)

    def errors(sigma):
        laws = [A.replicator_mutator(start, fitness, [grid], sigma, 1.0, dt=dt) for dt in steps]
        return np.array([np.abs(law - exact).sum() for law in laws])

    assert abs(order(steps, errors(0.5))[-1] - 2) < 0.05
    assert errors(0.6)[-1] > 100 * errors(0.5)[-1]
    assert abs(order(steps, errors(0.6))[-1]) < 0.2


def test_weak_selection_limit_is_first_order_for_any_fitness():
    grid = A.Grid(-4.0, 4.0, 200)
    fitness = A.tabulate(lambda h: np.cos(2 * h) - 0.3 * h**2, grid)
    start = A.cell_masses(lambda h: np.exp(-2 * (h - 1) ** 2), grid)
    limit = A.replicator_mutator(start, fitness, [grid], 0.5, 1.0, dt=1 / 128)
    scales = 2.0 ** -np.arange(2, 8)

    def error(eps, *, power):
        kernels = [A.mutation_kernel(grid, 0.5 * eps**power)]
        return np.abs(A.semigroup(start, eps * fitness, kernels, 1 / eps) - limit).sum()

    errors = np.array([error(e, power=0.5) for e in scales])
    assert abs(order(scales, errors)[-1] - 1) < 0.05
    assert abs(fit_rate(scales, errors).slope - 1) < 0.15
    unscaled = np.array([error(e, power=0.25) for e in scales])
    assert order(scales, unscaled)[-1] < 0.5


def spoilt(values, entry):
    """A copy with another third entry."""
    values = values.copy()
    values[2] = entry
    return values


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: A.Grid(1.0, 0.0, 10), r"lower is 1\.0 and upper 0\.0"),
        (lambda: A.Grid(0.0, 1.0, 1), "n is 1"),
        (lambda: A.mutation_kernel(GRID, -0.1), r"sigma is -0\.1"),
        (lambda: A.mutation_kernel(GRID, 0.02), "less than the grid step.*at least 500 cells"),
        (lambda: A.mutation_kernel(GRID, 0.3, boundary="wrap"), "boundary is 'wrap'"),
        (lambda: A.cell_masses(lambda h: 0 * h, GRID), "zero on the whole grid"),
        (lambda: A.cell_masses(lambda h: h, GRID), "density contains -4"),
        (lambda: A.tabulate(lambda h: np.full(h.shape, np.nan), GRID), "function contains nan"),
        (lambda: A.jump(bump(), hill()[:-1], Gibbs(), [np.eye(200)], 1.0), "fitness has shape"),
        (lambda: A.jump(bump(), hill(), Gibbs(), [np.eye(5)], 1.0), "kernels has one of shape"),
        (lambda: A.jump(bump(), hill(), Gibbs(), [], 1.0), "kernels has 0 entries"),
        (lambda: A.jump(bump(), hill(), Gibbs(), [np.eye(200)], 1.5), r"tau is 1\.5"),
        (lambda: A.jump(bump(), hill(), lambda f, m: (-m, m), [np.eye(200)], 1.0), "gain of the rule contains -"),
        (lambda: A.jump(bump(), hill(), lambda f, m: (m, m * np.nan), [np.eye(200)], 1.0), "loss of the rule contains"),
        (lambda: A.solve(bump(), hill(), Gibbs(), [np.eye(200)], [1.0, 0.5]), "they must increase"),
        (lambda: A.solve(bump(), hill(), Gibbs(), [np.eye(200)], -1.0), "times contains -1"),
        (lambda: A.solve(bump(), hill(), Gibbs(), [np.eye(200)], 3.0, dt=1.5), r"dt is 1\.5"),
        (lambda: A.replicator_mutator(bump(), hill(), [GRID], 0.5, 1.0, dt=1e-3), "less than the grid step"),
        (
            lambda: A.replicator_mutator(bump(), hill(), [GRID, GRID], 0.5, 1.0, dt=0.5),
            r"grids have \(200, 200\) cells",
        ),
        (lambda: A.steady_state(spoilt(hill(), np.nan), [np.eye(200)]), "exponent contains nan"),
        *(
            (lambda call=call, law=law, fitness=fitness: call(law, fitness), message)
            for call in (
                lambda law, exponent: A.semigroup(law, exponent, [np.eye(200)], 1.0),
                lambda law, fitness: A.replicator_mutator(law, fitness, [GRID], 0.5, 1.0, dt=0.5),
                lambda law, exponent: A.log_rayleigh(law, exponent, [np.eye(200)]),
            )
            for law, fitness, message in (
                (spoilt(bump(), -0.5), hill(), r"mass contains -0\.5"),
                (spoilt(bump(), np.nan), hill(), "mass contains nan"),
                (0 * bump(), hill(), "mass sums to 0"),
                (bump(), spoilt(hill(), np.nan), "(fitness|exponent) contains nan"),
                (bump(), spoilt(hill(), -np.inf), "(fitness|exponent) contains -inf"),
                (bump(), hill()[:1], "(fitness|exponent) has shape"),
            )
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
