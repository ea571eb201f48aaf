"""The noise of training: what the evidence says of SGD, Adam, rings of minimisers and noise that spares a direction."""

from itertools import permutations

import numpy as np
import pytest
from chapter_code import defined
from plain import parents
from scipy.integrate import solve_ivp
from scipy.linalg import expm, solve_discrete_lyapunov
from scipy.optimize import minimize, minimize_scalar

from pbtlib import gaussian as G  # noqa: N812


def away_from_identity(product):
    """How far a matrix is from a multiple of the identity, relative to its size."""
    rest = product - np.eye(len(product)) * np.trace(product) / len(product)
    return np.linalg.norm(rest) / np.linalg.norm(product)


def over_the_past(M, source, time=40.0, steps=16_000):
    """∫ e^{−Mt} Σ e^{−Mᵀt} dt by the trapezoidal rule."""
    t = time / steps
    turn, now, total = expm(-M * t), np.eye(len(M)), np.zeros_like(source)
    for k in range(steps + 1):
        total += (0.5 if k in (0, steps) else 1.0) * t * now @ source @ now.T
        now = turn @ now
    return total


# ---------------------------------------------------------------------------------------------- minibatches


def least_squares(x, y):
    """Hessian, covariance of one gradient at the minimum, and single gradients' maps of a regression."""
    hessian = x.T @ x / len(x)
    best = np.linalg.solve(hessian, x.T @ y / len(x))
    each = x * (x @ best - y)[:, None]
    return hessian, each.T @ each / len(x), each


def stationary_sgd(x, y, eta):
    """Covariance of the weights under batches of one, drawn with replacement: exact, by a linear system."""
    _, _, each = least_squares(x, y)
    d = x.shape[1]
    moves = [np.eye(d) - eta * np.outer(row, row) for row in x]
    turn = np.mean([np.kron(m, m) for m in moves], 0)
    kick = eta**2 * np.mean([np.outer(g, g) for g in each], 0)
    return np.linalg.solve(np.eye(d * d) - turn, kick.ravel()).reshape(d, d)


def test_the_weights_of_a_regression_under_sgd_are_gibbs_only_where_the_noise_is_isotropic(rng):
    """Exact covariances; times the Hessian they are a multiple of the identity for a built case alone."""
    for _ in range(5):
        x, y = rng.standard_normal((8, 2)) * [1.0, 2.0], rng.standard_normal(8)
        hessian, noise, _ = least_squares(x, y)
        V = stationary_sgd(x, y, 1e-4)
        assert away_from_identity(V @ hessian) > 0.3 * away_from_identity(noise)
        assert away_from_identity(noise) > 0.05
    a, b = 1.0, 3.0  # residuals 1/a and 1/b make every direction as noisy
    x = np.array([[a, 0], [-a, 0], [0, b], [0, -b]])
    hessian, noise, _ = least_squares(x, np.array([1 / a, 1 / a, 1 / b, 1 / b]))
    assert away_from_identity(noise) < 1e-12
    assert away_from_identity(hessian) > 0.3
    assert away_from_identity(stationary_sgd(x, np.array([1 / a, 1 / a, 1 / b, 1 / b]), 1e-5) @ hessian) < 1e-3


def test_shuffled_epochs_leave_less_than_half_of_the_noise_of_the_diffusion(rng):
    """Four examples, all 24 orders of an epoch: the exact mean excess loss in a settled epoch, over that of (1)."""
    x, y, eta = rng.standard_normal((4, 2)), rng.standard_normal(4), 2e-3
    hessian, noise, each = least_squares(x, y)
    moves = [np.eye(2) - eta * np.outer(row, row) for row in x]
    turns, kicks, shifts = [], [], []
    for order in permutations(range(4)):
        turn, shift = np.eye(2), np.zeros(2)
        for i in order:
            turn, shift = moves[i] @ turn, moves[i] @ shift - eta * each[i]
        turns.append(np.kron(turn, turn))
        kicks.append(np.outer(shift, shift).ravel())
        shifts.append((turn, shift))
    # the mean is of the order of eta and moves with the order of the epoch: first and second moments together
    mean = np.linalg.solve(np.eye(2) - np.mean([t for t, _ in shifts], 0), np.mean([s for _, s in shifts], 0))
    cross = np.mean([np.outer(t @ mean, s) + np.outer(s, t @ mean) for t, s in shifts], 0).ravel()
    second = np.linalg.solve(np.eye(4) - np.mean(turns, 0), np.mean(kicks, 0) + cross).reshape(2, 2)
    excess = []
    for order in permutations(range(4)):
        S, m = second, mean
        for i in order:
            S = moves[i] @ S @ moves[i] - eta * (np.outer(moves[i] @ m, each[i]) + np.outer(each[i], moves[i] @ m)) \
                + eta**2 * np.outer(each[i], each[i])  # fmt: skip
            m = moves[i] @ m - eta * each[i]
            excess.append(np.trace(hessian @ S) / 2)
    diffusion = eta / 4 * np.trace(noise)
    assert np.mean(excess) / diffusion < 0.5
    drawn = np.trace(hessian @ stationary_sgd(x, y, eta)) / 2
    assert drawn / diffusion == pytest.approx(1, abs=0.1), "batches drawn anew have the noise of (1)"


# ---------------------------------------------------------------------------------------------- RMSprop and Adam


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rmsprop_and_adam_leave_the_temperature_half_of_the_rate_times_the_size_of_the_gradient_noise(momentum, rng):
    """Four thousand chains on a parabola of curvature 1; the reading with the square of the size is rejected."""
    eta, size, Sigma, A = 0.02, 2.0, 1.5, 1.0
    std = size * np.sqrt(Sigma)
    lag = int(np.ceil(std / (eta * A)))
    theta, m, v, seen = np.zeros(4000), np.zeros(4000), np.full(4000, std**2), []
    for k in range(8 * lag):
        gradient = A * theta + std * rng.standard_normal(4000)
        v = 0.999 * v + 0.001 * gradient**2
        m = momentum * m + (1 - momentum) * gradient
        theta = theta - eta * m / np.sqrt(v)
        if k > 4 * lag and k % lag == 0:
            seen.append(A * theta**2)
    each = np.mean(seen, 0)
    error, limit = each.std() / np.sqrt(4000), eta * std / 2
    assert abs(each.mean() - limit) < 5.5 * error + limit * 2 * eta / std
    assert abs(each.mean() - limit * size) > 5.5 * error + limit * 2 * eta / std


def adam_chain(A, Sigma, eta=2e-4, c=1.3):
    """Exact covariance of θ of the discrete Adam with v at rest at Σ and a momentum of 1 − cη."""
    d, keep = len(A), c * eta
    precondition = np.diag(np.diag(Sigma) ** -0.5)
    m_part = np.hstack([(1 - keep) * np.eye(d), keep * A])
    theta_part = np.hstack([-eta * precondition @ ((1 - keep) * np.eye(d)), np.eye(d) - eta * keep * precondition @ A])
    noise = np.vstack([keep * np.eye(d), -eta * keep * precondition])
    return solve_discrete_lyapunov(np.vstack([m_part, theta_part]), noise @ Sigma @ noise.T / eta)[d:, d:]


def test_adams_weights_are_no_gibbs_measure_if_coordinates_are_coupled_and_unlike():
    """Of the discrete chain, exactly; with equal noise, or without the coupling, it would be one or nearly."""
    A = np.array([[1.5, 0.7], [0.7, 1.0]])
    assert away_from_identity(adam_chain(A, np.diag([4.0, 0.25])) @ A) > 0.1
    assert away_from_identity(adam_chain(A, np.eye(2)) @ A) < 0.01
    (found,) = defined("e2_limit", "adam_covariance")
    ours, theirs = adam_chain(A, np.diag([4.0, 0.25])), found(A, np.diag([4.0, 0.25]), s=1.0, c=1.3)
    assert np.allclose(ours / ours[0, 0], theirs / theirs[0, 0], rtol=0.01)


# ---------------------------------------------------------------------------------------------- a schedule of mutation


def test_the_schedule_designed_from_the_state_equation_halves_the_cost_of_the_best_constant_strength(rng):
    """The chapter's equation is the exact Gaussian law, populations follow it; the reverse order is no better."""
    (cost,) = defined("e2_limit", "state_equation")

    def exact(strengths):
        law = G.Gaussian([4.0], [[0.05]])
        for strength in strengths:
            law = G.mutate(G.select(law, G.QuadraticFitness(np.eye(1))), strength, 1)
        return law.mean[0] ** 2 + law.cov[0, 0]

    some = rng.uniform(0, 1, 8)
    assert cost(some) == pytest.approx(exact(some), rel=1e-9)
    constant = minimize_scalar(lambda s: exact([s] * 8), bounds=(0, 1), method="bounded")
    best = min((minimize(cost, rng.uniform(0, 1, 8), bounds=[(0, 1)] * 8) for _ in range(6)), key=lambda r: r.fun)
    assert exact(best.x) < 0.5 * constant.fun
    assert exact(best.x[::-1]) > 0.5 * constant.fun

    def population(strengths, runs=20, n=2000):
        h = 4 + np.sqrt(0.05) * rng.standard_normal((runs, n))
        for strength in strengths:
            h = np.take_along_axis(h, parents(np.exp(-(h**2 - h.min(1, keepdims=True) ** 2) / 2), rng), 1)
            h = h + strength * rng.standard_normal(h.shape)
        return (h**2).mean()

    assert population(best.x) < 0.6 * population([constant.x] * 8)


# ---------------------------------------------------------------------------------------------- rings of minimisers

TILT = 0.8


def around(rng, s, time, agents, across, along, dt=0.05):
    """Angles after a time in the plane, L = (1 + 0.8 cos φ)(r − 1)²/2, by the gradient in x and y."""
    p = np.tile(np.array([[np.cos(1.0)], [np.sin(1.0)]]), agents)
    for _ in range(round(time / dt)):
        r = np.hypot(*p)
        n = p / r
        t = np.array([-n[1], n[0]])
        steep = 1 + TILT * n[0]
        gradient = steep * (r - 1) * n - TILT * n[1] * (r - 1) ** 2 / (2 * r) * t
        kick = across(steep) * rng.standard_normal(agents) * n
        if along:
            kick = kick + rng.standard_normal(agents) * t
        p = p - dt * gradient + s * np.sqrt(dt) * kick
    return np.arctan2(p[1], p[0])


def test_noise_like_the_curvature_drives_weights_along_a_ring_to_its_flattest_point_at_a_quarter_of_its_slope(rng):
    """dφ/dt = −s²c′/4 integrated exactly to s²t = 2; even noise drives them at another speed."""
    s, slow, dt = 0.1, 2.0, 0.05
    angle = 1.0
    for _ in range(2000):
        angle += slow / 2000 * TILT * np.sin(angle) / (4 - 2 * dt * (1 + TILT * np.cos(angle)))
    limit = 2 * np.arctan(np.exp(TILT * slow / 4) * np.tan(0.5))
    assert abs(angle - limit) < 0.03, "a time step of 0.05 changes little"
    found = around(rng, s, slow / s**2, 300, np.sqrt, False)
    assert abs(found.mean() - angle) < 5.5 * found.std() / np.sqrt(300) + 2 * s**2
    even = around(rng, s, slow / s**2, 300, np.ones_like, False)
    assert abs(even.mean() - angle) > 5.5 * even.std() / np.sqrt(300) + 2 * s**2


def test_along_a_ring_training_forgets_as_a_slow_diffusion_and_is_not_at_equilibrium_however_small_the_noise(rng):
    """Mean of cos φ after s²t = 1 against a generator of finite differences."""
    phi = np.linspace(-np.pi, np.pi, 200, endpoint=False)
    d, turn = phi[1] - phi[0], np.roll(np.eye(200), 1, 1)
    first, second = (turn - turn.T) / (2 * d), (turn + turn.T - 2 * np.eye(200)) / d**2
    push = TILT * np.sin(phi) / (1 + TILT * np.cos(phi)) / 4
    kept = np.interp(1.0, phi, expm(second / 2 + push[:, None] * first) @ np.cos(phi))
    forgotten = np.average(np.cos(phi), weights=(1 + TILT * np.cos(phi)) ** -0.5)
    for s in (0.25, 0.15):
        cosine = np.cos(around(rng, s, 1 / s**2, 1500, np.ones_like, True))
        allowed = 5.5 * cosine.std() / np.sqrt(1500) + s**2
        assert abs(cosine.mean() - kept) < allowed
        assert abs(cosine.mean() - forgotten) > allowed


# ---------------------------------------------------------------------------------------------- degenerate noise


def test_means_of_theta_times_slope_are_the_noise_direction_by_direction_so_one_without_noise_has_no_temperature(rng):
    """E θᵢ∂ᵢL = s²Σᵢᵢ/2 for two wells coupled to a coordinate without noise; a Gibbs measure would have equal ones."""
    n, dt = 4000, 0.02

    def slope(x):
        pull = 1.5 * (x[1] - x[0])
        return np.array([2 * x[0] * (x[0] ** 2 - 1) - pull, pull])

    def virial(noise):
        x, rows = np.ones((2, n)), []
        for k in range(1000):
            kick = np.sqrt(dt * noise)[:, None] * rng.standard_normal((2, n))
            here = slope(x)
            x = x - dt / 2 * (here + slope(x - dt * here + kick)) + kick
            if k > 300 and k % 20 == 0:
                rows.append(x * slope(x))
        each = np.mean(rows, 0)
        return each.mean(1), each.std(1) / np.sqrt(n)

    found, error = virial(np.array([1.0, 0.0]))
    assert (np.abs(found - [0.5, 0.0]) < 5.5 * error + 0.02).all()
    assert found[0] - found[1] > 0.3
    found, error = virial(np.ones(2))
    assert (np.abs(found - 0.5) < 5.5 * error + 0.02).all(), "with noise everywhere both are T"


DRIFTS = {
    "loss": (np.array([[2.0, 0.8], [0.8, 1.0]]), np.diag([1.0, 0.0])),
    "shear": (np.array([[1.0, 1.5], [0.0, 1.0]]), np.diag([0.0, 1.0])),
}


def long_trained(M, source):
    """Library's law of θ given h = (0, 0) after very long, for dθ = −M(θ − h)dt + √Σ dB."""
    idle = np.zeros((2, 4))
    sde = G.LinearSDE(np.vstack([np.hstack([-M, M]), idle]), np.zeros(4), np.pad(source, (0, 2)))  # θ in front of h
    return G.flow(sde, 60.0)


@pytest.mark.parametrize("name", DRIFTS)
def test_with_degenerate_noise_training_ends_at_lyapunovs_covariance_and_not_at_gibbs(name):
    M, source = DRIFTS[name]
    kernel = long_trained(M, source)
    V = over_the_past(M, source)
    np.testing.assert_allclose(M @ V + V @ M.T, source, atol=1e-4)
    np.testing.assert_allclose(kernel.cov[:2, :2], V, atol=1e-4)
    (found,) = defined("e3_two_time_scales", "stationary")
    np.testing.assert_allclose(found(M, source), V, atol=1e-4)
    assert np.abs(V - np.linalg.inv(M + M.T)).max() > 0.1


@pytest.mark.parametrize("name", DRIFTS)
def test_one_update_moves_the_mean_as_lyapunovs_covariance_says(name):
    """The exact joint law of weights and h, selected by e^{−|θ|²}; a Gibbs guess moves it elsewhere."""
    M, source = DRIFTS[name]
    m = np.array([1.0, -0.5])
    start = G.Gaussian(np.concatenate([m, m]), np.kron(np.ones((2, 2)), np.eye(2)) + np.diag([1e-9, 1e-9, 0, 0]))
    trained = G.push(start, long_trained(M, source))
    after = G.select(trained, G.QuadraticFitness(np.diag([2.0, 2.0, 0, 0]))).mean[2:]
    (updated,) = defined("e3_two_time_scales", "updated")
    np.testing.assert_allclose(after, updated(over_the_past(M, source)), atol=1e-4)
    assert np.abs(after - updated(np.linalg.inv(M + M.T))).max() > 0.02


# ---------------------------------------------------------------------------------------------- gradient flows


def test_the_free_energy_of_a_gaussian_falls_by_what_is_dissipated_with_drift_and_climbs_without():
    """On a parabola the flow keeps Gaussians: mean, variance, energy and dissipation in closed form."""
    c, D, m0, v0 = 1.5, 0.3, 0.4, 0.3
    names = ("gradient_flow", "free_energy", "dissipation")
    flow, energy, spent = defined("e3_two_time_scales", *names)
    x, dx = np.linspace(-4, 4, 200, retstep=True)
    F = -c / 2 * x**2

    def normal(m, v):
        return np.exp(-((x - m) ** 2) / (2 * v)) / np.sqrt(2 * np.pi * v)

    def exact_energy(m, v):
        return c * (m**2 + v) / 2 - D / 2 * np.log(2 * np.pi * np.e * v)

    def exact(drift, m, v):
        def rate(_, y):
            A = c - drift * D / y[1]
            return [-drift * c * y[0] - y[1] * c * y[0], 2 * D - 2 * drift * c * y[1] - A * y[1] ** 2]

        return solve_ivp(rate, (0, 1), [m, v], rtol=1e-10, atol=1e-12).y[:, -1]

    laws = flow(normal(m0, v0), F, D, dx)
    m, v = exact(1.0, m0, v0)
    fall = exact_energy(m0, v0) - exact_energy(m, v)
    assert energy(laws[[0, -1]], F, D, dx) @ [1, -1] == pytest.approx(fall, rel=3e-3)
    assert np.trapezoid(spent(laws, F, D, dx), dx=1 / (len(laws) - 1)) == pytest.approx(fall, rel=5e-3)
    A = c - D / v0
    assert spent(normal(m0, v0), F, D, dx) == pytest.approx(
        c**2 * m0**2 * (1 + v0) + A**2 * v0 * (1 + v0 / 2), rel=3e-3
    )
    still = normal(0.0, D / c)
    laws = flow(still, F, D, dx, drift=0.0)
    climb = exact_energy(*exact(0.0, 0.0, D / c)) - exact_energy(0.0, D / c)
    assert climb > 0.05
    assert energy(laws[[-1, 0]], F, D, dx) @ [1, -1] == pytest.approx(climb, rel=0.01)
    calm = flow(still, F, D, dx)
    assert abs(energy(calm[[0, -1]], F, D, dx) @ [1, -1]) < 1e-4 * climb + 1e-4


# ---------------------------------------------------------------------------------------------- two time scales


def test_the_next_order_makes_the_averaged_equation_of_a_finite_model_accurate_to_second_order(rng):
    """Four weights, three hyperparameters: the exact fast equation against both, from equilibrium, as ε halves."""
    fast = rng.uniform(0.3, 1.5, (3, 4, 4))
    for Q in fast:
        np.fill_diagonal(Q, 0)
        Q -= np.diag(Q.sum(0))
    at_rest = np.stack([np.abs(np.linalg.svd(Q)[2][-1]) for Q in fast], 1)
    at_rest /= at_rest.sum(0)
    weight = np.exp(rng.normal(0, 1, (4, 3)))
    mutation = np.full((3, 3), 0.1) + 0.7 * np.eye(3)

    def train(f):
        return np.stack([fast[k] @ f[:, k] for k in range(3)], 1)

    def evolve(f):
        chosen = weight * f
        return chosen / chosen.sum() @ mutation.T - f

    def reduced(rho, epsilon):
        source = evolve(at_rest * rho)
        source -= at_rest * source.sum(0)
        g = np.stack([-np.linalg.pinv(fast[k]) @ source[:, k] for k in range(3)], 1)
        g -= at_rest * g.sum(0)
        return evolve(at_rest * rho + epsilon * g).sum(0)

    rho = np.array([0.7, 0.2, 0.1])

    def last(rate, y):
        return solve_ivp(lambda _, z: rate(z), (0, 2), y, method="LSODA", rtol=1e-9, atol=1e-12).y[:, -1]

    scales, with_it, without = np.array([0.08, 0.04, 0.02]), [], []
    for epsilon in scales:
        full = last(lambda z: (train(z.reshape(4, 3)) / epsilon + evolve(z.reshape(4, 3))).ravel(),  # noqa: B023
                    (at_rest * rho).ravel()).reshape(4, 3).sum(0)  # fmt: skip
        with_it.append(np.abs(full - last(lambda z: reduced(z, epsilon), rho)).sum())  # noqa: B023
        without.append(np.abs(full - last(lambda z: reduced(z, 0.0), rho)).sum())
    assert np.log2(with_it[1] / with_it[2]) == pytest.approx(2, abs=0.25)
    assert np.log2(without[1] / without[2]) == pytest.approx(1, abs=0.25)


def test_errors_of_means_grow_below_the_explicit_bound_and_above_it_if_agents_share_their_noise(rng):
    """√N times the spread over populations of plain agents at times 1 to 6; drift rate 0.2, F = 0.2/(1 + θ²), τ = ¼."""
    n, runs, tau = 1000, 60, 0.25
    x = np.linspace(-9, 9, 4001)
    w = np.exp(0.2 / (1 + x**2))
    Gamma = 0.2 * np.sqrt(2) + w.max() + 2 * np.abs(np.gradient(w, x)).max() - 1
    clock = np.arange(1, 7)
    bound = np.exp(Gamma * clock) * np.sqrt(1 + (4 + 0.36) * clock)

    def growth(shared):
        theta, h = np.array([1.5, -1.0])[:, None, None] + rng.standard_normal((2, runs, n)) / 2
        keep, rows = np.exp(-0.2 * tau), []
        for k in range(24):
            z = rng.standard_normal((runs, 1 if shared else n))
            theta = h + keep * (theta - h) + 0.6 * np.sqrt((1 - keep**2) / 0.4) * z
            parent = parents(np.exp(0.2 / (1 + theta**2)), rng)
            parent = np.where(rng.random((runs, n)) < tau, parent, -1)
            moved = np.take_along_axis(h, parent, 1) + 0.3 * rng.standard_normal(h.shape)
            theta = np.where(parent < 0, theta, np.take_along_axis(theta, parent, 1))
            h = np.where(parent < 0, h, moved)
            if k % 4 == 3:
                rows.append([np.sin(theta).mean(1).std(ddof=1), np.sin(h).mean(1).std(ddof=1)])
        return np.sqrt(n) * np.array(rows).max(1)

    assert (growth(False) * (1 + 5 / np.sqrt(2 * runs)) < bound).all()
    assert (growth(True) > bound).any()
