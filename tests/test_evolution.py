"""The slow operator: selection rules, clock, resampling, mutation and projection, each beside its control."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pbtlib import evolution
from pbtlib.evolution import (
    Box,
    Explore,
    GaussianMutation,
    Gibbs,
    Jump,
    Removal,
    Selection,
    Threshold,
    Truncation,
    copy,
    stream,
)
from pbtlib.normals import draw_key, normals
from pbtlib.training import Particles

fitness_lists = st.lists(st.floats(-50, 50), min_size=1, max_size=40).map(np.array)


def score(values, expected):
    """Deviation of a mean of independent values from its expectation, in standard errors."""
    return (np.mean(values) - expected) / (np.std(values) / np.sqrt(np.size(values)))


# ---------------------------------------------------------------------------------------------- streams


def test_a_stream_belongs_to_its_key():
    draw = lambda *key: tuple(stream(*key).integers(2**62, size=3))  # noqa: E731
    keys = [(s, k, role, *sub) for s in (0, 1) for k in (0, 1) for role in ("a", "b") for sub in ((), (0,), (1,))]
    assert len({draw(*key) for key in keys}) == len(keys)
    assert draw(3, 4, "select", 5) == draw(3, 4, "select", 5)


# ---------------------------------------------------------------------------------------------- rules


@settings(deadline=None)
@given(fitness=fitness_lists, beta=st.floats(0, 20), shift=st.floats(-1000, 1000))
@pytest.mark.parametrize("rule", [Gibbs, Removal])
def test_exponential_rules_conserve_mass_and_ignore_a_shift(rule, fitness, beta, shift):
    mass = np.linspace(0.5, 1.5, len(fitness))
    gain, loss = rule(beta)(fitness, mass)
    assert gain.sum() == pytest.approx(1)
    assert loss.sum() == pytest.approx(mass.sum())
    moved = rule(beta)(np.round(fitness, 3) + np.round(shift), mass)
    still = rule(beta)(np.round(fitness, 3), mass)
    np.testing.assert_allclose(moved, still, rtol=1e-8, atol=1e-12)
    order = np.argsort(fitness)
    assert (np.diff((gain / mass)[order]) >= -1e-15).all()
    if rule is Removal:
        assert (np.diff((loss / mass)[order]) <= 1e-12).all()
    else:
        np.testing.assert_array_equal(loss, mass)


def test_rules_are_the_formulas_of_the_paper(rng):
    fitness, mass, beta = rng.normal(size=30), rng.uniform(0.1, 1, 30), 1.7
    up, down = np.exp(beta * fitness) * mass, np.exp(-beta * fitness) * mass
    np.testing.assert_allclose(Gibbs(beta)(fitness, mass)[0], up / up.sum())
    np.testing.assert_allclose(Removal(beta)(fitness, mass)[1], mass.sum() * down / down.sum())


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e4, 1e300, 1e308])
@pytest.mark.parametrize("beta", [1.0, 10.0])
def test_no_finite_fitness_overflows(scale, beta):
    """Weights beyond 10³⁰⁰ apart: the best takes all; two that are equal share it."""
    fitness = scale * np.array([-1.0, 0.0, 1.0, 1.0])
    gain, _ = Gibbs(beta)(fitness, np.ones(4))
    _, loss = Removal(beta)(-fitness, np.ones(4))
    np.testing.assert_allclose(loss, 4 * gain, rtol=1e-15)
    assert gain.sum() == pytest.approx(1)
    if scale >= 1e4:
        np.testing.assert_array_equal(gain, [0, 0, 0.5, 0.5])
    dead, _ = Gibbs(beta)(fitness, np.array([1.0, 0, 0, 0]))  # the best of those who are there
    np.testing.assert_array_equal(dead, [1, 0, 0, 0])


@settings(deadline=None)
@given(
    fitness=st.lists(st.sampled_from([0.0, 1.0, 2.0, 100.0]), min_size=5, max_size=40).map(np.array),
    q=st.floats(0.2, 0.5),
    seed=st.integers(0, 99),
)
def test_truncation_moves_exactly_the_share(fitness, q, seed):
    n = len(fitness)
    chosen = int(np.floor(q * n + 1e-9))
    gain, loss = Truncation(q)(fitness, np.full(n, 1 / n), np.random.default_rng(seed))
    assert (gain > 0).sum() == (loss > 0).sum() == chosen
    assert not ((gain > 0) & (loss > 0)).any()
    assert fitness[gain > 0].min() >= np.sort(fitness)[n - chosen]
    assert fitness[loss > 0].max() <= np.sort(fitness)[chosen - 1]


def test_truncation_breaks_ties_at_random(rng):
    """All rewards capped: every agent is lost with probability q; where one is a hair better, it never is."""

    def losses(fitness):
        return np.sum([Truncation(0.2)(fitness, np.full(10, 0.1), rng)[1] > 0 for _ in range(2000)], axis=0)

    level = np.full(10, 100.0)
    assert stats.chisquare(losses(level)).pvalue > 1e-6
    assert stats.chisquare(losses(level + 1e-9 * (np.arange(10) == 3))).pvalue < 1e-9


def test_truncation_of_a_density_is_the_limit_of_the_population(rng):
    grid = np.linspace(-1, 1, 41)
    fitness, mass = np.round(-(grid**2), 1), np.exp(-grid) / np.exp(-grid).sum()
    gain, loss = Truncation(0.3)(fitness, mass)
    assert gain.sum() == pytest.approx(1)
    assert loss.sum() == pytest.approx(0.3)
    cell = rng.choice(41, size=(200, 2000), p=mass)
    population = Truncation(0.3)(fitness[cell], np.full(cell.shape, 1 / 2000), rng)
    for found, limit in zip(population, (gain, loss), strict=True):
        per_run = np.stack([np.bincount(c, f, 41) for c, f in zip(cell, found, strict=True)])
        spread = per_run.std(0) / np.sqrt(200) + 1e-3  # the last term: bias O(1/N) at the quantile's edge
        assert (np.abs(per_run.mean(0) - limit) < 6 * spread).all()


# ---------------------------------------------------------------------------------------------- clock and parents


@pytest.mark.parametrize("tau", [1.0, 0.5, 0.1])
def test_one_jump_per_agent_and_unit_time(tau, rng):
    updates, shape = round(1 / tau), (300, 40)
    fitness = rng.normal(size=shape)
    jumps = sum(Selection(Gibbs(), tau=tau)(fitness, rng).who for _ in range(updates))
    per_run = jumps.mean(-1)
    if tau == 1:
        assert (jumps == 1).all()
    else:
        assert abs(score(per_run, 1.0)) < 5.5
        assert abs(score(per_run * (1 + tau), 1.0)) > 5.5  # a clock that runs τ(1+τ)


@pytest.mark.parametrize(("rule", "expected"), [(Removal(0.4), 1.0), (Truncation(0.2), 0.2)])
def test_jumps_per_update_of_the_other_rules(rule, expected, rng):
    fitness = rng.uniform(-1, 1, (500, 50))
    who = Selection(rule, tau=0.5)(fitness, rng).who
    assert abs(score(who.mean(-1), 0.5 * expected)) < 5.5
    if expected == 0.2:
        assert (Selection(rule)(fitness, rng).who.sum(-1) == 10).all()


@pytest.mark.parametrize("beta", [0.0, 1.0, 3.0])
def test_parents_follow_the_softmax(beta, rng):
    fitness = rng.permutation(np.linspace(-0.5, 0.5, 20))
    parent = Selection(Gibbs(beta))(np.tile(fitness, (2000, 1)), rng).parent
    counts = np.bincount(parent.ravel(), minlength=20)
    weight = np.exp(beta * fitness) / np.exp(beta * fitness).sum()
    assert stats.chisquare(counts, weight * counts.sum()).pvalue > 1e-6
    wrong = np.exp((beta + 0.4) * fitness) / np.exp((beta + 0.4) * fitness).sum()
    assert stats.chisquare(counts, wrong * counts.sum()).pvalue < 1e-9


def test_parents_of_two_agents_are_independent(rng):
    fitness = np.array([0.0, 0.5, 1.0])
    parent = Selection(Gibbs())(np.tile(fitness, (60_000, 1)), rng).parent
    table = np.histogram2d(parent[:, 0], parent[:, 1], bins=3)[0]
    assert stats.chi2_contingency(table).pvalue > 1e-6
    one_comb = Selection(Gibbs(), resampling="systematic")(np.tile(fitness, (60_000, 1)), rng).parent
    assert stats.chi2_contingency(np.histogram2d(one_comb[:, 0], one_comb[:, 1], bins=3)[0]).pvalue < 1e-9


def test_systematic_resampling_is_unbiased_with_less_variance(rng):
    fitness = rng.normal(size=25)
    weight = 25 * np.exp(fitness) / np.exp(fitness).sum()
    copies = {}
    for kind in ("multinomial", "systematic"):
        parent = Selection(Gibbs(), resampling=kind)(np.tile(fitness, (4000, 1)), rng).parent
        copies[kind] = np.stack([np.bincount(row, minlength=25) for row in parent])
        error = np.sqrt(weight * (1 - weight / 25) / 4000)
        assert (np.abs(copies[kind].mean(0) - weight) < 6 * error).all()
    assert (np.abs(copies["systematic"] - weight) < 1).all()
    assert not (np.abs(copies["multinomial"] - weight) < 1).all()
    assert copies["systematic"].var(0).sum() < 0.5 * copies["multinomial"].var(0).sum()


def test_every_slot_of_a_systematic_comb_has_the_same_law(rng):
    fitness = np.array([0.0, 1.0, 2.0, 0.5])
    parent = Selection(Gibbs(), resampling="systematic")(np.tile(fitness, (20_000, 1)), rng).parent
    weight = np.exp(fitness) / np.exp(fitness).sum()
    for slot in parent.T:
        assert stats.chisquare(np.bincount(slot, minlength=4), 20_000 * weight).pvalue > 1e-6
    assert stats.chisquare(np.bincount(np.sort(parent)[:, 0], minlength=4), 20_000 * weight).pvalue < 1e-9


@settings(deadline=None)
@given(
    pairs=st.lists(
        st.tuples(st.sampled_from([0.0, 1e-300, 1e-17, 0.1, 1.0, 7.0]), st.floats(0, 1)), min_size=1, max_size=60
    ).filter(lambda pairs: sum(w for w, _ in pairs) > 0.05),
    exact=st.booleans(),
)
def test_parents_invert_the_cumulative_weights(pairs, exact):
    weights, u = np.array(pairs).T
    cumulative = np.cumsum(weights) / np.cumsum(weights)[-1]
    u = np.sort(cumulative if exact else u)  # also exactly at the steps, and at 1 where rounding may put one
    parent = np.empty((1, len(u)), dtype=np.intp)
    cut = len(u) // 3
    for a, b in ((cut, len(u)), (0, cut)):  # in two parts, as two threads would
        evolution._invert(cumulative[None], u[None], parent, a, b)
    last = np.flatnonzero(cumulative >= 1)[0]
    wanted = np.minimum(np.searchsorted(cumulative, u, side="right"), last)
    np.testing.assert_array_equal(parent[0], wanted)
    assert (weights[parent] > 0).all()


def parents_in_plain_numpy(fitness, rule, rng):
    """The stream's numbers in their order: rule, clock, exponential gaps, shuffle."""
    runs, n = fitness.shape
    gain, _ = rule(fitness, np.full((runs, n), 1 / n), rng)
    cumulative, _ = np.cumsum(gain, axis=-1), rng.random((runs, n))
    sums = np.cumsum(rng.standard_exponential((runs, n + 1)), axis=-1)
    places = (rng.random((runs, n)) * np.arange(1, n + 1)).astype(int)
    parent = np.empty((runs, n), dtype=int)
    for r in range(runs):
        parent[r] = np.searchsorted(cumulative[r] / cumulative[r, -1], sums[r, :-1] / sums[r, -1], side="right")
        for j in range(n - 1, 0, -1):
            parent[r, [j, places[r, j]]] = parent[r, [places[r, j], j]]
    return parent


@pytest.mark.parametrize(("runs", "n"), [(1, 40), (3, 500), (300, 60), (1, 20_000)])
@pytest.mark.parametrize("rule", [Gibbs(2.0), Truncation(0.2)])
def test_compiled_parents_are_those_of_plain_numpy_bit_by_bit(rule, runs, n, seed):
    fitness = stream(seed, 0, "x").normal(size=(runs, n))
    plain = parents_in_plain_numpy(fitness, rule, stream(seed, 1, "x"))
    for k, same in ((1, True), (2, False)):
        jump = Selection(rule)(fitness, stream(seed, k, "x"))
        parent = np.where(jump.who, plain, np.arange(n))
        assert np.array_equal(jump.parent, parent) == same


def test_the_slots_are_shuffled_uniformly(rng):
    parent = np.tile(np.arange(4), (48_000, 1))
    evolution._shuffle(parent, rng.random(parent.shape))
    orders = np.unique(parent @ [64, 16, 4, 1], return_counts=True)[1]
    assert len(orders) == 24
    assert stats.chisquare(orders).pvalue > 1e-6


def offspring(fitness, rule, rng, tau, runs=4000):
    """Copies of each agent after one update, itself included if it stayed; shape (runs, N)."""
    parent = Selection(rule, tau=tau)(np.tile(fitness, (runs, 1)), rng).parent
    return np.stack([np.bincount(row, minlength=len(fitness)) for row in parent])


@pytest.mark.parametrize(
    ("rule", "tau"), [(Gibbs(1.3), 0.6), (Removal(0.7), 0.3), (Truncation(0.3), 1.0), (Truncation(0.3), 0.5)]
)
def test_expected_offspring(rule, tau, rng):
    """1 − τ·loss/mass + gain·(expected number of jumps), agent by agent."""
    fitness, n = np.linspace(-1, 1, 20), 20
    gain, loss = rule(fitness, np.full(n, 1 / n), rng)
    expected = 1 - tau * n * loss + gain * n * tau * loss.sum()
    found = offspring(fitness, rule, rng, tau)
    error = found.std(0) / np.sqrt(len(found)) + 1e-9
    assert (np.abs(found.mean(0) - expected) < 6 * error).all()
    neutral_loss = 1 - tau + gain * n * tau
    if np.ptp(loss) > 1e-9:
        assert not (np.abs(found.mean(0) - neutral_loss) < 6 * error).all()


def test_removal_doubles_selection_when_it_is_weak(rng):
    """To first order in F the growth per unit time is F − mean(F) for the softmax, twice that for removal."""
    fitness = 1e-4 * rng.normal(size=50)
    mass = np.full(50, 1 / 50)
    growth = []
    for rule in (Gibbs(), Removal()):
        gain, loss = rule(fitness, mass)
        growth.append((gain * loss.sum() - loss) * 50)
    centred = fitness - fitness.mean()
    np.testing.assert_allclose(growth[0], centred, atol=1e-7)
    np.testing.assert_allclose(growth[1], 2 * centred, atol=1e-7)


@pytest.mark.parametrize("tau", [1.0, 0.5, 0.2])
def test_pairs_coalesce_at_rate_two_minus_tau_over_n(tau, rng):
    """Neutral drift: a pair has a common parent with probability τ(2 − τ)/N per update, exactly."""
    n, runs = 30, 20_000
    parent = Selection(Gibbs(), tau=tau)(np.zeros((runs, n)), rng).parent
    copies = np.stack([np.bincount(row, minlength=n) for row in parent])
    share = (copies * (copies - 1)).sum(-1) / (n * (n - 1))
    assert abs(score(share, tau * (2 - tau) / n)) < 5.5
    if tau < 1:
        assert abs(score(share, tau / n)) > 5.5  # the rate of synchronous jumps, at this clock


# ---------------------------------------------------------------------------------------------- copy


@dataclass(frozen=True)
class Mixed:
    theta: np.ndarray
    h: np.ndarray
    flags: np.ndarray


@settings(deadline=None, max_examples=30)
@given(runs=st.integers(1, 4), n=st.integers(1, 9), seed=st.integers(0, 1000))
def test_copies_come_from_the_snapshot(runs, n, seed):
    rng = np.random.default_rng(seed)
    state = Mixed(rng.normal(size=(runs, n, 3)), rng.normal(size=(runs, n, 2)), rng.integers(0, 9, (runs, n, 1)))
    jump = Selection(Gibbs(), tau=0.7)(rng.normal(size=(runs, n)), rng)
    new = copy(state, jump)
    for r in range(runs):
        for i in range(n):
            for name in ("theta", "h", "flags"):
                have = getattr(new, name)[r, i]
                np.testing.assert_array_equal(have, getattr(state, name)[r, jump.parent[r, i]])
    assert new.flags.dtype == state.flags.dtype
    assert (jump.parent == np.arange(n))[~jump.who].all()


# ---------------------------------------------------------------------------------------------- mutation


def populations(h, n=20_000):
    return Particles(np.zeros((n, 1)), np.tile(h, (n, 1)).astype(float)), Jump(np.ones(n, bool), np.arange(n))


def test_everybody_has_normals_of_their_own_beyond_one_block(rng):
    """Agents 256 and on, and coordinates 4 and on, continue the table of normals of the update's key."""
    key = draw_key(np.random.default_rng(5))
    h = np.zeros((600, 6))
    moved = GaussianMutation(0.5)(Particles(h, h), Jump(np.ones(600, bool), np.arange(600)), np.random.default_rng(5)).h
    np.testing.assert_allclose(moved, 0.5 * normals(key, 600, 6).T, rtol=1e-14)


@pytest.mark.parametrize("q", [0.5, 0.25])
def test_a_probability_of_one_is_a_probability(q, rng):
    """At τ = 1 truncation moves the lowest for sure; rounding must not make that more than certain."""
    jump = Selection(Truncation(q))(np.arange(12.0) / 7, rng)
    assert jump.who.tolist() == [True] * int(12 * q) + [False] * (12 - int(12 * q))


def test_a_rule_that_would_move_an_agent_more_than_once_needs_a_smaller_tau(rng):
    def twice(fitness, mass, rng=None):
        return np.full(fitness.shape, 1 / fitness.shape[-1]), 1.5 * mass

    with pytest.raises(ValueError, match=r"probability 1\.5 > 1 at tau = 1.*tau <= 0\.667"):
        Selection(twice)([1.0, 2.0], rng)
    assert Selection(twice, tau=0.5)([1.0, 2.0], rng).who.shape == (2,)


def test_mutation_keeps_the_mean_and_adds_its_variance(rng):
    state, jump = populations([1.0, -2.0])
    h = GaussianMutation([0.3, 0.1])(state, jump, rng).h
    for c, sigma in enumerate((0.3, 0.1)):
        assert abs(score(h[:, c], state.h[0, c])) < 5.5
        assert abs((h[:, c].var() / sigma**2 - 1) * np.sqrt(len(h) / 2)) < 5.5
        assert abs((h[:, c].var() / (1.1 * sigma) ** 2 - 1) * np.sqrt(len(h) / 2)) > 5.5
    assert abs(np.corrcoef(h.T)[0, 1]) < 5.5 / np.sqrt(len(h))


def test_only_those_who_jumped_mutate(rng):
    state, _ = populations([1.0], 500)
    who = rng.random(500) < 0.5
    new = GaussianMutation(0.2)(state, Jump(who, np.arange(500)), rng)
    np.testing.assert_array_equal(new.h[:, 0] != 1.0, who)
    np.testing.assert_array_equal(new.theta, state.theta)


def test_zero_strength_changes_nothing(rng):
    state, jump = populations([1.0], 50)
    np.testing.assert_array_equal(GaussianMutation(0.0)(state, jump, rng).h, state.h)


@pytest.mark.parametrize("distance", [0.0, 0.2, 0.6])
def test_projection_moves_the_mean_by_the_half_normal_excess(distance, rng):
    """At distance a from an end of the box: E Π(h + σξ) − h = −σ[φ(a/σ) − (a/σ)Φ(−a/σ)], (the other end is far)."""
    sigma = 0.3
    state, jump = populations([1.0 - distance])
    h = GaussianMutation(sigma, Box(-9.0, 1.0))(state, jump, rng).h[:, 0]
    x = distance / sigma
    shift = -sigma * (stats.norm.pdf(x) - x * stats.norm.sf(x))
    assert abs(score(h, 1.0 - distance + shift)) < 5.5
    if distance == 0:
        assert abs(score(h, 1.0)) > 50


@settings(deadline=None)
@given(x=st.lists(st.floats(-10, 10), min_size=3, max_size=3), y=st.lists(st.floats(-10, 10), min_size=3, max_size=3))
def test_projections_are_the_nearest_points(x, y):
    x, y = np.array(x), np.array(y)
    project = Box([-1, -2, 0], [1, 0.5, 3])
    p = project(x)
    assert (p >= [-1, -2, 0]).all()
    assert (p <= [1, 0.5, 3]).all()
    np.testing.assert_array_equal(project(p), p)
    # variational inequality: the angle between x − Π(x) and any other point of the convex set is obtuse
    assert (x - p) @ (project(y) - p) <= 1e-9
    assert np.linalg.norm(p - project(y)) <= np.linalg.norm(x - y) + 1e-12
    np.testing.assert_array_equal(project(np.tile(x, (2, 4, 1))), np.tile(p, (2, 4, 1)))


# ---------------------------------------------------------------------------------------------- bounds and bad input


def second_moment(fitness_of, n, rng, tau=0.5, sigma=0.3, time=3):
    """Mean over runs of the empirical E|h|² after Algorithm 1 without training, from standard normals."""
    state = Particles(np.zeros((20_000 // n, n, 1)), rng.standard_normal((20_000 // n, n, 1)))
    mutate = GaussianMutation(sigma)
    for _ in range(round(time / tau)):
        jump = Selection(Gibbs(), tau=tau)(fitness_of(state.h[..., 0]), rng)
        state = mutate(copy(state, jump), jump, rng)
    return np.square(state.h).mean()


def test_moments_are_bounded_in_n_when_the_fitness_is(rng):
    """Per update E|h|² ≤ (1 − τ + τ e^{osc F}) E|h|² + τ e^{0} pσ²: no N in it (the idea of Lemma 15)."""
    tau, sigma, oscillation, bound = 0.5, 0.3, 0.5, 1.0
    for _ in range(6):
        bound = (1 - tau + tau * np.exp(oscillation)) * bound + tau * sigma**2
    bounded = [second_moment(lambda h: oscillation * np.tanh(h**2), n, rng) for n in (10, 100, 1000, 10_000)]
    assert max(bounded) < bound
    unbounded = [second_moment(lambda h: 3 * h**2, n, rng) for n in (10, 1000, 10_000)]
    assert max(unbounded) > bound


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: Selection(Gibbs(), tau=0.0)(np.zeros(3), r), "tau is 0.0"),
        (lambda r: Selection(Gibbs(), tau=1.5)(np.zeros(3), r), "tau is 1.5"),
        (lambda r: Selection(Gibbs(), tau=np.nan)(np.zeros(3), r), "tau is nan"),
        (lambda r: Selection(Gibbs())(np.array([0.0, np.nan]), r), "fitness contains nan"),
        (lambda r: Selection(Gibbs())(np.array([0.0, np.inf]), r), "fitness contains inf"),
        (lambda r: Selection(Gibbs())(np.zeros((0, 5)), r), r"fitness has shape \(0, 5\)"),
        (lambda r: Selection(Gibbs())(np.zeros(0), r), r"fitness has shape \(0,\)"),
        (lambda r: Selection(Gibbs())(1.0, r), "at least 1 axes"),
        (lambda r: Selection(Gibbs(), resampling="best")(np.zeros(3), r), "resampling is 'best'"),
        (
            lambda r: Selection(Removal())(np.array([-50.0, 0, 0, 0]), r),
            "probability 4 > 1 at tau = 1.0; .* tau <= 0.25",
        ),
        (lambda r: Selection(Truncation(0.2))(np.zeros(4), r), "N must be at least 5"),
        (lambda r: Gibbs()(np.zeros(3), np.zeros(3)), "mass sums to zero"),
        (lambda r: Removal()(np.zeros(3), -np.ones(3)), "mass contains -1"),
        (lambda r: Gibbs(-1.0), "beta is -1.0"),
        (lambda r: Truncation(0.0), "q is 0.0"),
        (lambda r: Truncation(0.6), "q is 0.6"),
        (lambda r: GaussianMutation(-0.1), "sigma contains -0.1"),
        (lambda r: GaussianMutation(np.nan), "sigma contains nan"),
        (lambda r: Box(1.0, 0.0), "exceeds upper"),
        (lambda r: stream(-1, 0, "x"), "seed is -1"),
        (
            lambda r: Jump(np.ones((2, 3), bool), np.array([[7, -9, 0], [2, 1, 2]])),
            "parent goes from -9 to 7; .* N = 3",
        ),
        (lambda r: Jump(np.ones(3, bool), np.array([0, 1, 3])), "parent goes from 0 to 3"),
        (lambda r: Jump(np.ones(3, bool), np.array([-1, 1, 2])), "parent goes from -1 to 2"),
        (lambda r: Jump(np.ones(4, bool), np.arange(3)), r"who has shape \(4,\) and parent \(3,\)"),
        (lambda r: Jump(np.ones(0, bool), np.arange(0)), "N >= 1"),
        (
            lambda r: GaussianMutation(1.0)(populations([1.0])[0], Jump(np.ones(4, bool), np.arange(4)), r),
            "not follow",
        ),
        (
            lambda r: copy(Particles(np.zeros((3, 1)), np.zeros((3, 1))), Jump(np.ones(2, bool), np.arange(2))),
            "jumps need",
        ),
    ],
)
def test_bad_input_is_named(call, message, rng):
    with pytest.raises(ValueError, match=message):
        call(rng)


@pytest.mark.parametrize(("who", "parent"), [(np.ones(3), np.arange(3)), (np.ones(3, bool), np.arange(3.0))])
def test_jumps_of_another_type_are_named(who, parent):
    with pytest.raises(TypeError, match="must be bool and int"):
        Jump(who, parent)


LAW = np.full(4, 0.25)


@pytest.mark.parametrize(
    ("gain", "loss", "message"),
    [
        ([-1.0, 1.0, 1.0, 0.0], LAW, "gain of the rule contains -1"),
        ([np.nan, 1.0, 0.0, 0.0], LAW, "gain of the rule contains nan"),
        ([np.inf, 1.0, 0.0, 0.0], LAW, "gain of the rule sums to inf"),
        ([0.0, 0.0, 0.0, 0.0], LAW, "gain of the rule sums to 0; it must sum to 1"),
        ([0.5, 0.5, 0.01, 0.0], LAW, "gain of the rule sums to 1.01"),
        (np.full(8, 1 / 8), LAW, r"gain of the rule has shape \(8,\)"),
        (LAW, [0.25, np.nan, 0.25, 0.25], "loss of the rule contains nan"),
        (LAW, [0.25, -0.25, 0.25, 0.25], "loss of the rule contains -0.25"),
        (LAW, [0.25, np.inf, 0.25, 0.25], "would jump with probability inf"),
        (LAW, 0.25, r"loss of the rule has shape \(\)"),
    ],
)
def test_a_rule_that_gives_no_law_is_named(gain, loss, message, rng):
    with pytest.raises(ValueError, match=message):
        Selection(lambda fitness, mass, rng=None: (gain, loss))(np.arange(4.0), rng)
    selected = Selection(lambda fitness, mass, rng=None: (LAW.astype(np.float32), mass))(np.arange(4.0), rng)
    assert selected.who.all()


@pytest.mark.parametrize("rule", [Gibbs(2.0), Removal(2.0)])
def test_one_agent_is_its_own_parent(rule, rng):
    jump = Selection(rule)(np.array([3.0]), rng)
    assert jump.who.tolist() == [True]
    assert jump.parent.tolist() == [0]


def test_weights_that_all_underflow_are_still_a_law(rng):
    fitness = np.array([-1e5, -1e5 - 1, -2e5])  # exp of each is zero in floating point
    parent = Selection(Gibbs())(np.tile(fitness, (20_000, 1)), rng).parent
    share = np.bincount(parent.ravel(), minlength=3) / parent.size
    assert share[2] == 0
    assert abs(share[0] - 1 / (1 + np.exp(-1))) < 5.5 * 0.5 / np.sqrt(parent.size)


# ---------------------------------------------------------------------------------------------- rules of other engines


def test_a_threshold_on_a_normal_fitness_is_truncation_and_lifts_the_mean_by_its_density():
    """Φ(−k) lead and lag; the mean moves by 2φ(k) standard deviations; on a skewed fitness it is no truncation."""
    cell = np.linspace(-8, 8, 4001)
    mass = stats.norm.pdf(cell) / stats.norm.pdf(cell).sum()
    for k in (0.1, 0.5, 1.0):
        gain, loss = Threshold(k)(3.0 + 2.0 * cell, mass)
        same = Truncation(stats.norm.sf(k))(cell, mass)
        assert abs(loss.sum() - stats.norm.sf(k)) < 0.002
        assert np.abs(gain - same[0]).sum() < 0.01
        assert np.abs(loss - same[1]).sum() < 0.005
        assert (gain * loss.sum() - loss) @ cell == pytest.approx(2 * stats.norm.pdf(k), abs=0.005)
        skewed = Threshold(k)(-np.exp(cell), mass)
        assert np.abs(skewed[0] - same[0][::-1]).sum() > 0.1, "ten times what a normal fitness may differ"
        assert abs(skewed[1].sum() - stats.norm.sf(k)) > 0.02


def test_a_threshold_moves_with_shift_and_scale_and_knows_no_leaders(rng):
    fitness, mass = rng.normal(size=(3, 50)), np.full(50, 1 / 50)
    for one, other in zip(Threshold(0.3)(fitness, mass), Threshold(0.3)(7 * fitness - 40, mass), strict=True):
        np.testing.assert_allclose(one, other)
    assert not Threshold(0.3, gap=100.0)(fitness, mass)[1].any()
    jump = Selection(Threshold(3.0))(np.append(np.zeros(49), -1.0), rng)  # one laggard, nobody leads
    assert jump.who.tolist() == [False] * 49 + [True]
    assert jump.parent[49] == 49
    assert not Selection(Threshold(0.1))(np.zeros(8), rng).who.any()
    for wrong, word in (((-1.0,), "k is -1"), ((1.0, -2.0), "gap is -2")):
        with pytest.raises(ValueError, match=word):
            Threshold(*wrong)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e150, 1e155, 1e300])
def test_a_threshold_does_not_know_the_unit_of_the_fitness(scale, rng):
    """Squares of the deviations neither overflow nor underflow."""
    fitness, mass = rng.uniform(-1, 1, 20), np.full(20, 1 / 20)
    for one, other in zip(Threshold(0.3)(fitness, mass), Threshold(0.3)(scale * fitness, mass), strict=True):
        np.testing.assert_allclose(one, other)
    if 3.0 * scale <= 1e150:  # no gap may be larger
        assert not Threshold(0.0, gap=3.0 * scale)(scale * fitness, mass)[1].any()


@pytest.mark.parametrize("lost", [-1e100, -1e154, -1e155, -1e160, -1e308, -np.inf])
@pytest.mark.parametrize(
    ("rule", "tau"), [(Gibbs(), 1.0), (Removal(), 1 / 8), (Truncation(0.25), 1.0), (Threshold(0.3), 1.0)]
)
def test_who_is_about_to_overflow_is_replaced_like_who_has(rule, tau, lost, rng):
    select = Selection(rule, tau=tau, diverged="replace")
    jumps = [select(np.append(np.arange(1.0, 8.0), lost), rng) for _ in range(50)]
    assert all(jump.who[-1] for jump in jumps)
    assert all((jump.parent < 7).all() for jump in jumps)


def test_explore_draws_anew_or_scales_each_hyperparameter_of_copies_alone(rng):
    n = 40_000
    who = np.arange(n) % 2 == 0
    state = Particles(np.zeros((n, 1)), np.full((n, 2), 10.0))
    h = Explore(Box(-1.0, (1.0, 3.0)))(state, Jump(who, np.arange(n)), rng).h
    assert (h[~who] == 10.0).all()
    for column in h[who].T:
        for value, share in ((8.0, 0.375), (12.0, 0.375)):
            assert abs((column == value).sum() - share * n / 2) < 5 * np.sqrt(n / 2 * share * (1 - share))
    fresh = np.abs(h[who]) < 5
    assert abs((fresh[:, 0] & fresh[:, 1]).mean() - 1 / 16) < 5 * np.sqrt(1 / 16 * 15 / 16 / (n / 2))
    assert abs(h[who][:, 1][fresh[:, 1]].mean() - 1.0) < 5 * np.sqrt(16 / 12 / (n / 8))
    with pytest.raises(ValueError, match=r"resample is 1\.5"):
        Explore(Box(0.0, 1.0), resample=1.5)
    with pytest.raises(ValueError, match="jumps of shape"):
        Explore(Box(0.0, 1.0))(state, Jump(who[:4], np.arange(4)), rng)


def test_the_edges_of_a_box_belong_to_it():
    box = Box([-1.0, 0.0], [1.0, 2.0])
    box.check("h", [[-1.0, 0.0], [1.0, 2.0]])
    for beyond in ([np.nextafter(-1, -2), 0.0], [1.0, np.nextafter(2, 3)]):
        with pytest.raises(ValueError, match="outside the box"):
            box.check("h", [beyond])
