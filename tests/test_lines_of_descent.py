"""Ancestors, families and the luck of parents: laws on a grid, matrices of pairs, exact Gaussian laws, counting."""

from dataclasses import dataclass

import numpy as np
import pytest
from plain import follow, parents, quadratic, trained
from scipy.stats import norm

from pbtlib import averaged as A  # noqa: N812
from pbtlib import gaussian as G  # noqa: N812
from pbtlib.evolution import GaussianMutation, Gibbs, Removal, Selection, Truncation
from pbtlib.problems import Quadratic
from pbtlib.studies.ray_tune import load

# ---------------------------------------------------------------------------------------------- lines of descent


def settled(c, sigma, cells=400):
    """Points, steady state, and the law of a parent's h given its child's, on a grid."""
    grid = A.Grid(-3.0, 3.0, cells)
    kernel = A.mutation_kernel(grid, sigma)
    fitness = A.tabulate(lambda h: -c / 2 * h**2, grid)
    rho = A.steady_state(fitness, [kernel]).mass
    back = kernel * (np.exp(fitness) * rho)
    return grid.points, rho, back / back.sum(1, keepdims=True)


@pytest.mark.parametrize("tau", [1.0, 0.25])
def test_going_back_the_variance_falls_to_that_of_ancestors_and_a_line_is_an_autoregression(tau):
    """The law of an ancestor k updates ago given today's agent, on a grid; the rival is a variance that stays."""
    c, sigma = 3.0, 0.3
    x, rho, back = settled(c, sigma)
    v, r = G.stationary_variance(c, sigma), G.contraction(c, sigma)
    step = (1 - tau) * np.eye(x.size) + tau * back
    np.testing.assert_allclose((step @ x)[80:-80], (1 - tau * (1 - r)) * x[80:-80], atol=1e-4)
    law = rho
    for k in range(1, 12):
        law = law @ step
        fade = (1 - tau * (1 - r**2)) ** k
        assert law @ x**2 == pytest.approx(fade * v + (1 - fade) * v / (2 + c * v), rel=1e-4)
    for _ in range(200):
        law = law @ step
    assert law @ x**2 == pytest.approx(v / (2 + c * v), rel=1e-4)
    assert v / (2 + c * v) < 0.7 * v


@pytest.mark.parametrize("tau", [1.0, 0.25])
def test_agents_have_ancestors_of_that_law(tau, rng):
    """Counted in populations of 400 over eight updates: the variance of ancestors, and the slope of h upon theirs."""
    c, sigma, runs, n = 3.0, 0.3, 60, 400
    v, r = G.stationary_variance(c, sigma), G.contraction(c, sigma)
    h = np.sqrt(v) * rng.standard_normal((runs, n))
    rows, mothers = [h], []
    for _ in range(8):
        jump = Selection(Gibbs(1.0), tau=tau)(-c / 2 * h**2, rng)
        moved = np.where(jump.who, sigma * rng.standard_normal(h.shape), 0.0)
        h = np.take_along_axis(h, jump.parent, 1) + moved
        rows.append(h)
        mothers.append(jump.parent)
    line = np.broadcast_to(np.arange(n), (runs, n))
    for parent in mothers[::-1]:
        line = np.take_along_axis(parent, line, 1)
    old = np.take_along_axis(rows[0], line, 1)
    fade = (1 - tau * (1 - r**2)) ** 8
    seen = (old**2).mean(1)
    error = seen.std(ddof=1) / np.sqrt(runs)
    assert abs(seen.mean() - (fade * v + (1 - fade) * v / (2 + c * v))) < 6 * error + 5 * v / n
    assert abs(seen.mean() - v) > 6 * error + 5 * v / n
    slope = (old * h).mean(1) / (h**2).mean(1)
    error = slope.std(ddof=1) / np.sqrt(runs)
    assert abs(slope.mean() - (1 - tau * (1 - r)) ** 8) < 6 * error + 5 / n


def test_over_a_fifth_of_a_unit_of_time_an_ancestor_differs_less_than_a_twentieth_of_what_agents_do():
    """Joint law of today's agent and its ancestor, on a grid; ten units back it is no longer so."""
    x, rho, back = settled(1.0, 0.1, 800)
    step = 0.95 * np.eye(x.size) + 0.05 * back

    def change(updates):
        joint = rho[:, None] * np.linalg.matrix_power(step, updates)
        return (joint * (x[:, None] - x) ** 2).sum() / (2 * rho @ x**2)

    assert change(4) < 0.02
    assert change(200) > 0.05


def test_pairs_on_one_peak_meet_at_the_rate_of_the_ancestors_squared_density():
    """The largest eigenvalue of two lines that have not met, over pairs of places; the rival rate is one."""
    x = np.linspace(0.4, 1.6, 25)
    kernel = norm.pdf(x[:, None], x, 0.1)
    weight = np.exp(-20 * (x**2 - 1) ** 2)
    values, vectors = np.linalg.eig(kernel / kernel.sum(0) * weight)
    rho = np.abs(vectors[:, values.real.argmax()].real)
    rho /= rho.sum()
    back = kernel / kernel.sum(0) * (weight * rho)
    back /= back.sum(1, keepdims=True)
    values, vectors = np.linalg.eig(back.T)
    ancestors = np.abs(vectors[:, values.real.argmax()].real)
    ancestors /= ancestors.sum()
    rate = (ancestors**2 / rho).sum()
    pair = np.einsum("ik,jl->ijkl", back, back)
    found = []
    for n in (1000, 2000):
        apart = pair * (1 - np.eye(25) / (n * rho))
        u = np.ones((25, 25))
        for _ in range(60):
            u = np.einsum("ijkl,kl->ij", apart, u)
            top, u = u.max(), u / u.max()
        found.append(n * (1 - top))
    assert 2 * found[1] - found[0] == pytest.approx(rate, rel=1e-3)
    assert abs(rate - 1) > 0.1


@pytest.mark.parametrize("tau", [1.0, 0.4])
def test_without_selection_a_family_takes_over_with_the_probability_that_is_its_share(tau, rng):
    """Two thousand populations of six; a weight of 1.3 for the last family is noticed."""
    start, runs = np.array([0, 0, 0, 1, 2, 2]), 2000
    share = np.array([3, 1, 2]) / 6

    def winners(gain):
        family = np.tile(start, (runs, 1))
        while (family != family[:, :1]).any():
            parent = Selection(Gibbs(1.0), tau=tau)(np.log(gain)[family], rng).parent
            family = np.take_along_axis(family, parent, 1)
        return np.bincount(family[:, 0], minlength=3) / runs

    error = np.sqrt(share * (1 - share) / runs)
    assert (np.abs(winners(np.ones(3)) - share) < 5.5 * error).all()
    assert (np.abs(winners(np.array([1, 1, 1.3])) - share) > 5.5 * error).any()


# ---------------------------------------------------------------------------------------------- luck and tuning


@pytest.mark.parametrize("time", [0.1, 0.5, 2.0])
def test_of_a_jump_of_the_mean_weight_tuning_stays_and_luck_is_forgotten(time):
    """Exact Gaussian law of weight and hyperparameter: selected, then trained on; luck alone would leave e^{−2t}."""
    v, luck = 0.3, 1 / 12
    sde = G.langevin([[2.0]], [[1.0]], 2 * np.sqrt(luck))
    law = G.Gaussian([0.8, 0.8], [[v + luck, v], [v, v]])
    chosen = G.select(law, G.QuadraticFitness(np.diag([2.0, 0.0])), 3.0)
    later = G.push(chosen, G.flow(sde, time))
    left = (later.mean[0] - 0.8) / (chosen.mean[0] - 0.8)
    H = v / (v + luck)
    assert left == pytest.approx(H + (1 - H) * np.exp(-2 * time), rel=1e-10)
    assert abs(left - np.exp(-2 * time)) > 0.1


def tuning(h):
    """Mean fitness after long training."""
    return 1.2 - 2 * h[..., 0] ** 2 - h[..., 1] ** 2 / 2


def test_the_first_jumps_in_the_setting_of_figure_2_are_tuning_by_four_fifths(rng):
    jump, part, mixed = [], [], []
    for theta, h, parent, _ in quadratic(rng, 10, 2000, 3):
        F, merit = -np.square(theta).sum(-1), tuning(h)
        other = np.roll(merit, 1, -1)
        for rows, values in ((jump, F), (part, merit), (mixed, other)):
            rows.append((np.take_along_axis(values, parent, 1) - values).mean(1))
    share = np.sum(part, 0) / np.sum(jump, 0)
    assert share.mean() - 5 * share.std(ddof=1) / np.sqrt(10) > 0.8
    assert np.sum(mixed) / np.sum(jump) < 0.1, "others' hyperparameters gain nothing"


def test_a_settled_population_wins_back_by_tuning_what_mutation_costs_and_the_rest_of_a_jump_is_luck():
    """In the steady state of Algorithm 2, on a grid; each update of mutation costs 5σ²/2."""
    sigma, axis = 0.1, A.Grid(-1.5, 1.5, 60)
    plane = np.stack(np.meshgrid(axis.points, axis.points, indexing="ij"), -1)
    exponent = Quadratic().effective_fitness(plane, 1.0)
    law = A.steady_state(exponent, [A.mutation_kernel(axis, sigma)] * 2).mass
    chosen = law * np.exp(exponent) / (law * np.exp(exponent)).sum()
    gain = ((chosen - law) * tuning(plane)).sum()
    assert gain == pytest.approx(2.5 * sigma**2, rel=2e-3)
    more = 1e-4  # d/dβ of 1.2 + log-mean-exp/β at β = 1: the mean fitness of those who are chosen
    top = (1 + more) * Quadratic().effective_fitness(plane, 1 + more)
    low = (1 - more) * Quadratic().effective_fitness(plane, 1 - more)
    jump = (chosen * (top - low) / (2 * more)).sum() - (law * tuning(plane)).sum()
    assert jump > 1.5 * gain


def test_the_early_decay_is_luck_forgotten_and_the_late_one_mutation(rng):
    """Change of the median fitness in training with and without mutation, after the first update and after sixteen."""

    def decay(sigma):
        rows, before = [], None
        for theta, _, parent, _ in quadratic(rng, 120, 1000, 17, sigma=sigma):
            F = -np.square(theta).sum(-1)
            if before is not None:
                rows.append(np.median(F, 1) - before)
            before = np.median(np.take_along_axis(F, parent, 1), 1)
        return np.array(rows)

    with_it, without = decay(0.1), decay(0.0)
    for k, same in ((0, True), (15, False)):
        a, b = without[k], with_it[k]
        share = a.mean() / b.mean()
        error = abs(share) * np.hypot(a.std() / a.mean(), b.std() / b.mean()) / np.sqrt(120)
        assert (abs(share - 1) < 5.5 * error + 0.02) == same


def test_between_updates_the_median_loss_falls_in_nine_intervals_of_ten(rng):
    """Medians of |θ − h₁|² over agents before and after training, twelve intervals; without selection fewer."""

    def falls(beta):
        theta, h = rng.uniform(-5, 5, (2, 40, 1000, 2))
        seen = []
        for _ in range(12):
            after = trained(theta, h, 50, 0.01, rng)
            loss = [np.median(np.square(x - h[..., :1]).sum(-1), 1) for x in (theta, after)]
            seen.append(loss[1] < loss[0])
            parent = parents(np.exp(-beta * np.square(after).sum(-1)), rng)
            theta, h = follow(after, parent), follow(h, parent) + 0.1 * rng.standard_normal(h.shape)
        return np.mean(seen, 0)

    share, other = falls(1.0), falls(0.0)
    assert share.mean() > 0.9 - 5 * share.std(ddof=1) / np.sqrt(40)
    assert other.mean() < 0.9 - 5 * other.std(ddof=1) / np.sqrt(40)


def test_copies_lose_as_much_without_perturbation(rng):
    """Thirty-two trials, the worst quarter replaced, intervals of 50 steps, as under Ray; in plain NumPy."""

    def lost(sigma, runs=1500):
        theta, h = rng.uniform(-5, 5, (2, runs, 32, 2))
        rows, F, copies = [], None, None
        for _ in range(10):
            theta = trained(theta, h, 50, 0.01, rng)
            now = -np.square(theta).sum(-1)
            if F is not None:
                rows.append(np.where(copies, now - F, 0).sum(1) / 8)
            order = np.argsort(now, 1)
            parent = np.tile(np.arange(32), (runs, 1))
            best = order[:, -8:][np.arange(runs)[:, None], rng.integers(8, size=(runs, 8))]
            np.put_along_axis(parent, order[:, :8], best, 1)
            copies = parent != np.arange(32)
            theta, F = follow(theta, parent), np.take_along_axis(now, parent, 1)
            h = follow(h, parent) + np.where(copies[..., None], sigma * rng.standard_normal(h.shape), 0)
        return np.mean(rows, 0)

    with_it, still = lost(0.1), lost(0.0)
    error = np.hypot(with_it.std(), still.std()) / np.sqrt(1500)
    assert abs(with_it.mean() - still.mean()) + 5 * error < 0.2 * abs(with_it.mean())
    assert with_it.mean() < 0


@pytest.mark.parametrize(("quarter", "right"), [(8, True), (3, False)])
def test_the_stored_runs_of_ray_have_the_mean_scores_of_plain_populations_under_its_rule(quarter, right, rng):
    """Of the worst and best quarter, interval by interval, with what groups of eight differ by; an eleventh fails."""
    stored = load("additive")
    seen = stored["score"].transpose("run", "interval", "trial").to_numpy()
    theta, h = rng.uniform(-5, 5, (2, 1600, 32, 2))
    rows = []
    for _ in range(seen.shape[1]):
        theta = trained(theta, h, 50, 0.01, rng)
        F = 1.2 - np.square(theta).sum(-1)
        rows.append((F.mean(1), np.abs(h[..., 0]).mean(1), np.abs(h[..., 1]).mean(1)))
        order = np.argsort(F, 1)
        parent = np.tile(np.arange(32), (1600, 1))
        best = order[:, -quarter:][np.arange(1600)[:, None], rng.integers(quarter, size=(1600, quarter))]
        np.put_along_axis(parent, order[:, :quarter], best, 1)
        moved = (parent != np.arange(32))[..., None]
        theta, h = follow(theta, parent), follow(h, parent)
        h = h + np.where(moved, 0.1 * rng.standard_normal(h.shape), 0)
    plain = np.moveaxis(np.array(rows), 2, 0).reshape(200, 8, seen.shape[1], 3).mean(1)
    used = np.abs(stored["h"].transpose("run", "interval", "trial", "coordinate").to_numpy()).mean(2)
    ray = np.concatenate([seen.mean(-1)[..., None], used], -1).mean(0)
    far = np.abs(plain - plain.mean(0)) / plain.std(0)
    allowed = 1.3 * far.max((1, 2)).max()
    assert ((np.abs(ray - plain.mean(0)) / plain.std(0)).max() < allowed) == right


# ---------------------------------------------------------------------------------------------- fronts and rules


def test_on_a_slope_a_hundred_times_as_many_agents_move_three_tenths_faster(rng):
    """Speed over updates 40 to 110 of plain populations; two halves of the small ones move alike."""

    def speeds(n, runs):
        h, path = np.zeros((runs, n)), []
        for _ in range(110):
            parent = parents(np.exp(0.3 * (h - h.max(1, keepdims=True))), rng)
            h = np.take_along_axis(h, parent, 1) + 0.1 * rng.standard_normal(h.shape)
            path.append(h.mean(1))
        return (path[-1] - path[39]) / 70

    few, many = speeds(100, 300), speeds(10_000, 5)
    error = np.hypot(few.std(ddof=1) / np.sqrt(300) / few.mean(), many.std(ddof=1) / np.sqrt(5) / many.mean())
    value = many.mean() / few.mean()
    assert value * (1 - 4 * error) > 1.3
    assert few[::2].mean() / few[1::2].mean() < 1.3


LUCK, CAP, Q = 0.5, 3.0, 0.2


@dataclass(frozen=True)
class Hyper:
    h: np.ndarray


def share_of(mass, order):
    """Which part of each atom belongs to the first fifth in this order."""
    before = np.cumsum(mass[order]) - mass[order]
    part = np.empty(mass.size)
    part[order] = np.clip((Q - before) / mass[order], 0, 1)
    return part


def at_rest(rule, tau, sigma, x):
    """Steady law of h: expected gain and loss by integrals over θ ~ N(h, ½), with F = −min(θ², 3)/2."""
    kernel = norm.pdf(x[:, None], x, sigma) * (x[1] - x[0])
    t = np.linspace(-6, 6, 1201)
    given = norm.pdf(t, x[:, None], np.sqrt(LUCK)) * (t[1] - t[0])
    order = np.argsort(np.abs(t))
    law = norm.pdf(x, 0, 0.5) * (x[1] - x[0])
    if not isinstance(rule, Truncation):
        F = -np.minimum(t**2, CAP) / 2
        up, down = given @ np.exp(rule.beta * F), given @ np.exp(-rule.beta * F)
    for _ in range(round(25 / tau)):
        if isinstance(rule, Truncation):
            gain, loss = (given @ share_of(law @ given, o) * law for o in (order, order[::-1]))
        else:
            gain = up * law
            loss = law if isinstance(rule, Gibbs) else down * law / (down @ law)
        law = law + tau * (kernel @ gain * loss.sum() / gain.sum() - loss)
        law /= law.sum()
    return law


@pytest.mark.parametrize(("rule", "tau"), [(Gibbs(5.0), 1.0), (Removal(1.0), 0.25), (Truncation(Q), 1.0)])
def test_the_spread_of_h_at_rest_is_that_of_each_rules_mean_field_and_truncation_beats_the_floor(rule, tau, rng):
    sigma, x = 0.3, np.linspace(-3, 3, 121)
    law = at_rest(rule, tau, sigma, x)
    spread = law @ x**2
    runs, n, seen = 20, 500, []
    h = rng.choice(x, (runs, n), p=law)
    for k in range(round(60 / tau)):
        theta = h + np.sqrt(LUCK) * rng.standard_normal(h.shape)
        jump = Selection(rule, tau=tau)(-np.minimum(theta**2, CAP) / 2, rng)
        moved = GaussianMutation(sigma)(Hyper(np.take_along_axis(h, jump.parent, 1)[..., None]), jump, rng)
        h = moved.h[..., 0]
        if k > 10:
            seen.append(h.var(1))
    each = np.mean(seen, 0)
    error = each.std(ddof=1) / np.sqrt(runs)
    assert abs(each.mean() - spread) < 6 * error + 8 * spread / n
    floor = G.stationary_variance(1 / LUCK, sigma)
    if isinstance(rule, Truncation):
        assert each.mean() + 6 * error < floor
    elif isinstance(rule, Gibbs):
        assert each.mean() - 6 * error > floor
    assert abs(each.mean() - 1.3 * spread) > 6 * error + 8 * spread / n
