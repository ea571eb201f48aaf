"""What the pages say of Himmelblau's four wells: a second generator, exact Gaussian laws, the file counted again."""

from dataclasses import replace

import numpy as np
import pytest
from chapter_code import defined
from scipy import sparse, stats
from scipy.optimize import fsolve
from scipy.sparse.linalg import eigsh

from pbtlib import gaussian as G  # noqa: N812
from pbtlib import results
from pbtlib.problems import Himmelblau
from pbtlib.studies import wells
from pbtlib.training import EulerMaruyama, Particles

PROBLEM, STEP = Himmelblau(), 1e-3
MINIMA, HESSIANS = PROBLEM.minima, PROBLEM.hessian(PROBLEM.minima)
GIBBS = np.linalg.det(HESSIANS) ** -0.5 / (np.linalg.det(HESSIANS) ** -0.5).sum()
STORED = results.load(results.DATA / "one_well.nc")
GATHERING = [name for name in wells.SETTINGS if name not in ("Algorithm 2", "β = 0", "β = 0.01")]
SMALL = [name for name in GATHERING if name not in ("N = 300", "N = 1000")]


def value(x, y):
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


def winners(name):
    """How many populations a well has won."""
    won = STORED["winner"].sel(setting=name).to_numpy()
    return np.bincount(won[won >= 0], minlength=4)


# ---------------------------------------------------------------------------------------------- the stored populations


def test_nearly_all_small_populations_end_in_one_well_and_those_of_algorithm_2_without_selection_or_large_do_not():
    for name in SMALL:
        assert winners(name).sum() > 0.95 * STORED.sizes["replicate"]
    for name in ("Algorithm 2", "N = 1000", "β = 0"):
        assert winners(name).sum() < 0.5 * STORED.sizes["replicate"]


def test_the_flattest_well_wins_less_often_than_its_gibbs_weight_which_it_holds_under_algorithm_2():
    won = sum(winners(name) for name in SMALL)
    error = np.sqrt(0.25 / won.sum())
    assert won[0] / won.sum() < GIBBS[0] - 5 * error
    assert won[0] / won.sum() == pytest.approx(0.24, abs=0.01)
    held = STORED["mean_share"].sel(setting="Algorithm 2").dropna("time").to_numpy()[-1, 0]
    assert held == pytest.approx(GIBBS[0], abs=0.02)


def test_wells_win_as_often_as_their_share_of_the_first_survivors_and_not_by_quarters(rng):
    """Survivors of a large population, trained once and weighted: the factor from their deviations from a quarter."""
    own = ("20 steps", "50 steps", "|h₂| ≤ 1", "β = 0.1")
    fit, size, noise = 0.0, 0.0, 0.0
    for name in ("reference", *own):
        setting = wells.SETTINGS[name]
        theta, h = rng.uniform(-5, 5, (2, 400_000 if name == "reference" else 200_000, 2))
        start = Particles(theta, h * [1.0, setting.box / 5])
        state, trace = EulerMaruyama(PROBLEM, dt=setting.dt, steps=setting.steps)(start, rng)
        gain = np.exp(setting.beta * trace.fitness[:, -1])
        gain /= gain.sum()
        share, worth = wells.shares(wells.basin(state.theta), gain), 1 / np.square(gain).sum()
        alike = [n for n in SMALL if n != "400 steps" and (n if n in own else "reference") == name]
        won = sum(winners(n) for n in alike)
        weight = 1 / (1 / won.sum() + 1 / worth) / share
        off, size = share - 0.25, size + weight @ (share - 0.25) ** 2
        fit += weight @ (off * (won / won.sum() - 0.25))
        noise += weight @ (share * (1 - share)) / worth
    factor, error = fit / (size - noise), np.sqrt(size) / (size - noise)
    assert abs(factor - 1) < 4 * error < 1, "dealt out by quarters the factor would be zero"


def test_algorithm_2_keeps_all_four_wells_with_their_gibbs_weights(seed):
    """Sixty populations after fifteen updates; a hundred steps of training leave other shares."""
    setting = wells.Setting(agents=300, updates=15, steps=0)
    drawn = wells.run(setting, seed, replicates=60)
    share = drawn["mean_share"].to_numpy()[-1]
    error = np.sqrt(GIBBS * (1 - GIBBS) / (300 * 60))
    assert (np.abs(share - GIBBS) < 12 * error + 0.005).all()  # copies have common parents
    together, chance = float(drawn["same_well"].to_numpy()[-1]), np.square(GIBBS).sum()
    assert abs(together - chance) < 0.02
    trained = wells.run(replace(setting, agents=40, steps=100), seed, replicates=60)
    assert float(trained["same_well"].to_numpy()[-1]) > chance + 0.1


# ---------------------------------------------------------------------------------------------- exact laws of one well


def one_well(k, steps, *, noise=0.3, sigma=0.1, updates=100):
    """Covariance of θ and h₁ around a minimum before and after training and after selection; None: equilibrium."""
    A = HESSIANS[k]
    sde = G.LinearSDE(
        np.block([[-A, (A @ np.ones(2))[:, None]], [np.zeros((1, 3))]]), np.zeros(3), np.diag([noise**2, noise**2, 0])
    )
    kernel = G.chain(sde, STEP, steps) if steps else G.equilibrium(sde, 1)
    fitness = G.QuadraticFitness(np.pad(A, (0, 1)))
    law = G.Gaussian(np.zeros(3), 0.05 * np.eye(3))
    for _ in range(updates):
        trained = G.push(law, kernel)
        chosen = G.select(trained, fitness)
        before, law = law, G.mutate(chosen, sigma, 1)
    return before.cov, trained.cov, chosen.cov


def loss_and_fitness(C, k):
    bias = np.array([[1.0, 0, -1], [0, 1.0, -1]])
    return np.trace(HESSIANS[k] @ bias @ C @ bias.T) / 2, -np.trace(HESSIANS[k] @ C[:2, :2]) / 2


@pytest.mark.parametrize("k", range(4))
def test_late_training_lowers_the_loss_and_costs_fitness_and_without_mutation_neither(k):
    """Near each minimum, exactly, with the noise that late agents have; the mark is three tenths."""
    for sigma, changes in ((0.1, True), (0.0, False)):
        before, after, _ = one_well(k, 100, noise=0.3, sigma=sigma)
        loss, fitness = np.subtract(loss_and_fitness(after, k), loss_and_fitness(before, k))
        assert (loss < -0.3) == changes
        assert (fitness < -0.3) == changes


@pytest.mark.parametrize("k", range(4))
def test_the_law_of_the_bias_after_a_hundred_steps_is_that_of_algorithm_2_within_a_fiftieth_of_its_width(k):
    """Near each minimum, after eight updates; W₁ of two centred normal laws. With three steps it is further."""

    def width(steps, noise):
        return np.sqrt(one_well(k, steps, noise=noise, updates=8)[2][2, 2])

    for noise in (0.3, 2.0, 3.5):
        goal = width(None, noise)
        assert abs(width(100, noise) / goal - 1) * np.sqrt(2 / np.pi) < 0.02
    assert abs(width(3, 0.3) / width(None, 0.3) - 1) * np.sqrt(2 / np.pi) > 0.02


def test_training_cut_short_explains_what_later_selection_does_to_a_thousand_agents():
    """Advantages from exact Gaussian laws at a hundred steps, times what the families leave, against the file."""
    rates = []
    for k in range(4):
        _, trained, _ = one_well(k, 100)
        fitness = np.pad(HESSIANS[k], ((0, 1), (0, 1)))
        rates.append(-np.linalg.slogdet(np.eye(3) + trained @ fitness)[1] / 2)
    (short_growth,) = defined("e5_himmelblau", "short_growth")
    assert short_growth(3, 100) == pytest.approx(rates[3], abs=1e-6)
    row = STORED.sel(setting="N = 1000").dropna("time")
    account = row["account"].to_numpy()
    share = row["initial"].to_numpy() + account[0].sum(0)
    apart = 1 - np.interp(np.arange(1, row["time"][-1]), row["time"], row["same_founder"])
    pull = share * (rates - share @ rates) * apart.sum()
    mean, square = account[1, 1], row["account_square"].to_numpy()[1, 1]
    error = np.sqrt((square - mean**2) / STORED.sizes["replicate"])
    fit = pull / (pull @ pull)
    assert abs(fit @ mean - 1) < 5 * np.abs(fit) @ error
    small = STORED["account"].sel(setting="reference").to_numpy()[1, 1]
    assert abs(fit @ small - 1) > 5 * np.abs(fit) @ error, "populations of a hundred move otherwise"


def test_inside_the_wells_selection_is_nearly_neutral_and_with_a_fitness_of_another_shape_it_is_not():
    """Power iteration over bias and noise with sums over the cells below the lowest saddle, at σ = 0.1 and β = 1."""
    h1, h2 = np.linspace(-0.5, 0.5, 21), (np.arange(24) + 0.5) * 1.2 / 24
    K1 = stats.norm.pdf(h1[:, None], h1, 0.1) * (h1[1] - h1[0])
    K2 = (stats.norm.pdf(h2[:, None], h2, 0.1) + stats.norm.pdf(-h2[:, None], h2, 0.1)) * (h2[1] - h2[0])

    def growth(k, judged):
        table = np.empty((h1.size, h2.size))
        turn = np.linalg.cholesky(np.linalg.inv(HESSIANS[k]))
        square = np.linspace(-5, 5, 61)
        grid = np.stack(np.meshgrid(square, square), -1).reshape(-1, 2) / np.sqrt(2) @ turn.T
        for j, noise in enumerate(h2):
            y = MINIMA[k] + noise * grid
            H = value(*y.T)
            weight = np.exp(-2 * H / noise**2) * ((H < 13.3) & (wells.basin(y) == k))
            table[:, j] = [np.exp(judged(y + bias)) @ weight / weight.sum() for bias in h1]
        law = np.ones_like(table)
        for _ in range(150):
            law = K1 @ (table * law) @ K2
            rate, law = law.sum(), law / law.sum()
        return np.log(rate)

    def harmonic(k):
        return lambda y: -74 * np.square(y - MINIMA[k]).sum(-1) / 2

    rates = [growth(k, lambda y: -value(*y.T)) for k in range(4)]
    assert np.ptp(rates) < 0.002
    assert np.ptp([growth(k, harmonic(k)) for k in (0, 2)]) > 0.002


# ---------------------------------------------------------------------------------------------- rates


def eigenvalues(noise, spacing, count, top, box=(-9, 9, -9, 9)):
    """Smallest rates of a jump process on a square lattice that keeps the Gibbs measure: √ of the ratio of weights."""
    T = noise**2 / 2
    axes = [np.arange(a, b, spacing) for a, b in (box[:2], box[2:])]
    H = value(*np.meshgrid(*axes, indexing="ij"))
    inside = top > H
    index = np.where(inside, np.cumsum(inside).reshape(H.shape) - 1, -1)
    rows, columns, drops = [], [], []
    for axis in (0, 1):
        a, b = [np.take(index, range(s, H.shape[axis] - 1 + s), axis) for s in (0, 1)]
        low, high = [np.take(H, range(s, H.shape[axis] - 1 + s), axis) for s in (0, 1)]
        both = (a >= 0) & (b >= 0)
        rows.append(a[both])
        columns.append(b[both])
        drops.append((high - low)[both] / (2 * T))
    i, j, drop = (np.concatenate(x) for x in (rows, columns, drops))
    n = int(inside.sum())
    out = np.bincount(i, np.exp(-drop), n) + np.bincount(j, np.exp(drop), n)
    ones = sparse.coo_matrix((np.ones(i.size), (i, j)), (n, n))
    matrix = (sparse.diags(out) - ones - ones.T).tocsc() * (T / spacing**2)
    return np.sort(eigsh(matrix, k=count, sigma=-1e-2, return_eigenvectors=False))


RIGHT = {"count": 2, "top": 60, "box": (0.0, 6.0, -5.0, 5.0)}
"""The two wells on the right alone."""


def slope(p):
    x, y = p
    return 4 * x * (x**2 + y - 11) + 2 * (x + y**2 - 7), 2 * (x**2 + y - 11) + 4 * y * (x + y**2 - 7)


def second(p):
    x, y = p
    return np.array([[12 * x**2 + 4 * y - 42, 4 * x + 4 * y], [4 * x + 4 * y, 4 * x + 12 * y**2 - 26]])


def test_the_right_pair_mixes_at_the_rate_of_eyring_and_kramers_as_the_noise_vanishes():
    """A second lattice, extrapolated; saddle and curvatures by derivatives of their own; without the curvatures not."""
    saddle = fsolve(slope, [3.4, 0.1])
    values = np.linalg.eigvalsh(second(saddle))
    assert values[0] < 0 < values[1]
    ends = [fsolve(slope, p) for p in ([3.0, 2.0], [3.6, -1.8])]
    T = np.array([1.3, 1.6, 2.0]) ** 2 / 2
    rate = np.array([eigenvalues(np.sqrt(2 * t), 0.05, **RIGHT)[1] for t in T])
    ratio = sum(np.sqrt(np.linalg.det(second(end)) / abs(np.prod(values))) for end in ends)
    formula = abs(values[0]) / (2 * np.pi) * ratio * np.exp(-value(*saddle) / T)
    limit = np.polyfit(T, rate / formula, 2)[-1]
    assert limit == pytest.approx(1, abs=0.05)
    flat = 2 * abs(values[0]) / (2 * np.pi) * np.exp(-value(*saddle) / T)
    assert abs(np.polyfit(T, rate / flat, 2)[-1] - 1) > 0.2


def test_particles_mix_between_the_right_wells_at_the_eigenvalues_rate(rng):
    """Share that has crossed by two times, from the Gibbs measure of one well; at a fifth more noise it is not."""
    noise, times, agents = 2.5, (0.3, 0.9), 40_000

    def measured(noise):
        h = np.tile([0.0, noise], (2 * agents, 1))
        theta = PROBLEM.equilibrium_sample(h, rng)
        state = Particles(theta[wells.basin(theta) == 0], h[wells.basin(theta) == 0])
        weights = np.linalg.det(HESSIANS[[0, 3]]) ** -0.5
        final, left, spread = weights[1] / weights.sum(), [], []
        for span in np.diff((0.0, *times)):
            state, _ = EulerMaruyama(PROBLEM, dt=2 * STEP, steps=round(span / STEP / 2))(state, rng)
            crossed = (wells.basin(state.theta) == 3).mean()
            left.append(1 - crossed / final)
            spread.append(np.sqrt(crossed / len(state.h)) / final / left[-1])
        return np.log(left[0] / left[1]) / (times[1] - times[0]), np.hypot(*spread) / (times[1] - times[0])

    rate = eigenvalues(noise, 0.06, **RIGHT)[1]
    found, error = measured(noise)
    assert abs(found - rate) < 5 * error + 0.08 * rate
    other = eigenvalues(1.2 * noise, 0.06, **RIGHT)[1]
    assert abs(found - other) > 5 * error + 0.08 * rate


def test_a_hundred_steps_remove_less_than_a_thousandth_of_the_imbalance_between_all_wells():
    """At the largest noise of the initial box; at more than three times that noise they do not."""
    assert eigenvalues(5.0, 0.15, 2, 320)[1] * STEP * 100 < 1e-3
    assert eigenvalues(17.0, 0.25, 2, 3000, (-11, 11, -11, 11))[1] * STEP * 100 > 1e-3
    assert eigenvalues(4.0, 0.15, 2, 320)[1] < eigenvalues(5.0, 0.15, 2, 320)[1], "less noise mixes less"
