"""Training against exact laws: transition, invariant variance, order, and the same bits however the work is cut."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm, solve_continuous_lyapunov
from simulated import GENERAL

from pbtlib import training
from pbtlib.evolution import stream
from pbtlib.normals import draw_key, normals
from pbtlib.problems import Himmelblau, LinearGaussian, Problem, Quadratic
from pbtlib.training import (
    EulerChain,
    EulerMaruyama,
    ExactOU,
    GibbsDraw,
    Particles,
    Underdamped,
    UnderdampedParticles,
)


def own(problem, Sigma=None):
    return Problem(problem.loss, problem.gradient, problem.fitness, problem.noise, Sigma)


PROBLEMS = {
    "quadratic": (Quadratic(), 2, 2),
    "quadratic in 5 dimensions": (Quadratic(5), 5, 2),
    "himmelblau": (Himmelblau(), 2, 2),
    "test case": (LinearGaussian(s=0.6), 1, 1),
    "general": (GENERAL, 3, 2),
    "own": (own(Quadratic()), 2, 2),
    "own, correlated": (own(GENERAL, GENERAL.Sigma), 3, 2),
}
each_problem = pytest.mark.parametrize(("problem", "d", "p"), PROBLEMS.values(), ids=PROBLEMS.keys())


def population(rng, lead, d, p):
    return Particles(rng.uniform(-2, 2, (*lead, d)), rng.uniform(-1, 1, (*lead, p)))


def plain_euler_maruyama(problem, state, rng, dt, steps):
    """The scheme as one writes it down, fed with the same normals; returns θ after every step."""
    lead, d = state.theta.shape[:-1], state.theta.shape[-1]
    xi = normals(draw_key(rng), int(np.prod(lead)), steps * d).reshape(steps, d, *lead)
    root = np.eye(d) if problem.Sigma is None else np.linalg.cholesky(problem.Sigma)
    theta, path = state.theta, []
    for k in range(steps):
        kick = np.moveaxis(xi[k], 0, -1) @ root.T
        theta = theta - dt * problem.gradient(theta, state.h) + np.sqrt(dt) * problem.noise(state.h)[..., None] * kick
        path.append(theta)
    return np.stack(path, -3)


@each_problem
def test_euler_maruyama_is_the_plain_scheme(problem, d, p, rng, seed):
    state, dt, steps = population(rng, (3, 211), d, p), 0.004, 13
    train = EulerMaruyama(problem, dt=dt, steps=steps, window=5, path_every=3)
    new, trace = train(state, stream(seed, 0, "train"))
    path = plain_euler_maruyama(problem, state, stream(seed, 0, "train"), dt, steps)
    np.testing.assert_allclose(new.theta, path[..., -1, :, :], rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(trace.path, path[..., 2::3, :, :], rtol=1e-11, atol=1e-11)
    recorded = np.moveaxis(problem.fitness(path, state.h[..., None, :, :])[..., -5:, :], -2, -1)
    np.testing.assert_allclose(trace.fitness, recorded, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(new.h, state.h)
    np.testing.assert_array_equal(trace.fitness[..., -1], problem.fitness(new.theta, new.h))
    wrong = plain_euler_maruyama(problem, state, stream(seed, 1, "train"), dt, steps)
    assert np.abs(new.theta - wrong[..., -1, :, :]).max() > 1e-3


@each_problem
def test_same_bits_for_any_threads_and_blocks(problem, d, p, rng, seed, monkeypatch):
    state = population(rng, (2, 1500), d, p)
    results = []
    for threads, block in ((1, 2048), (2, 2048), (2, 17), (3, 1000), (1, 5)):
        monkeypatch.setattr(training, "BLOCK", block)
        train = EulerMaruyama(problem, dt=0.004, steps=9, window=4, path_every=2, threads=threads)
        new, trace = train(state, stream(seed, 0, "train"))
        results.append((new.theta.tobytes(), trace.fitness.tobytes(), trace.path.tobytes()))
    assert len(set(results)) == 1


def test_an_agent_does_not_notice_the_others(rng, seed):
    state = population(rng, (300,), 2, 2)
    train = EulerMaruyama(Quadratic(), dt=0.01, steps=7)
    whole = train(state, stream(seed, 0, "train"))[0]
    part = train(Particles(state.theta[:41], state.h[:41]), stream(seed, 0, "train"))[0]
    np.testing.assert_array_equal(part.theta, whole.theta[:41])
    assert len(np.unique(whole.theta)) == whole.theta.size


@settings(deadline=None, max_examples=25)
@given(first=st.integers(1, 12), second=st.integers(1, 12), d=st.integers(1, 6))
def test_recording_does_not_change_the_path(first, second, d):
    state = population(np.random.default_rng(0), (20,), d, 2)
    steps = first + second
    bare = EulerMaruyama(Quadratic(d), dt=0.01, steps=steps)(state, stream(0, 0, "train"))[0]
    told = EulerMaruyama(Quadratic(d), dt=0.01, steps=steps, window=second, path_every=first)
    np.testing.assert_array_equal(told(state, stream(0, 0, "train"))[0].theta, bare.theta)


def chi_square_score(values, variance):
    """(sample variance − variance) in its standard errors, for independent centred Gaussian values."""
    return (np.mean(values**2) / variance - 1) * np.sqrt(values.size / 2)


@pytest.mark.parametrize("dt", [0.02, 0.1, 0.2])
def test_invariant_variance_of_euler_maruyama_and_not_that_of_the_sde(dt, rng, seed):
    h = np.tile([0.5, -0.8], (100_000, 1))
    scheme, sde = 0.8**2 / (4 * (1 - dt)), 0.8**2 / 4
    state = Particles(0.5 + np.sqrt(scheme) * rng.standard_normal((100_000, 2)), h)
    new, _ = EulerMaruyama(Quadratic(), dt=dt, steps=30)(state, stream(seed, 0, "train"))
    assert abs(chi_square_score(new.theta - 0.5, scheme)) < 5.5
    if dt >= 0.1:
        assert abs(chi_square_score(new.theta - 0.5, sde)) > 8


def test_invariant_variance_is_reached_from_a_point(seed):
    """From a fixed start the chain's variance is v(1 − (1 − 2Δt)^{2n}), v its invariant variance."""
    dt, steps = 0.1, 6
    state = Particles(np.zeros((100_000, 2)), np.tile([0.0, 1.0], (100_000, 1)))
    new, _ = EulerMaruyama(Quadratic(), dt=dt, steps=steps)(state, stream(seed, 0, "train"))
    variance = (1 - (1 - 2 * dt) ** (2 * steps)) / (4 * (1 - dt))
    assert abs(chi_square_score(new.theta, variance)) < 5.5
    assert abs(chi_square_score(new.theta, variance * 1.06)) > 5.5


def test_order_one_of_the_mean():
    """Without noise a run is the mean of a linear scheme; against another problem's exact mean it has no order."""
    h, duration, errors = np.array([[0.4, 0.0]]), 1.0, []
    start = Particles(np.array([[1.5, -2.0, 0.5]]), h)
    exact = GENERAL.centre(h) + (start.theta - GENERAL.centre(h)) @ expm(-GENERAL.A * duration)
    wrong = GENERAL.centre(h) + (start.theta - GENERAL.centre(h)) @ expm(-1.05 * GENERAL.A * duration)
    for steps in (20, 40, 80, 160):
        new, _ = EulerMaruyama(GENERAL, dt=duration / steps, steps=steps)(start, stream(0, 0, "train"))
        errors.append([np.abs(new.theta - mean).max() for mean in (exact, wrong)])
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(orders[:, 0], 1, atol=0.05)
    assert orders[-1, 1] < 0.5
    exact_step, _ = ExactOU(GENERAL, time=duration)(start, stream(0, 0, "train"))
    np.testing.assert_allclose(exact_step.theta, exact, atol=1e-13)


def covariance_score(sample, mean, covariance):
    """Largest deviation of the sample's mean and second moments in their standard errors (Gaussian sample)."""
    n, spread = len(sample), np.sqrt(np.diag(covariance))
    first = np.abs(sample.mean(0) - mean) / (spread / np.sqrt(n))
    centred = sample - mean
    error = np.sqrt((covariance**2 + np.outer(spread**2, spread**2)) / n)
    return max(first.max(), (np.abs(centred.T @ centred / n - covariance) / error).max())


@pytest.mark.parametrize("steps", [1, 3])
def test_exact_ou_has_the_transition_law(steps, seed):
    n, time, h = 60_000, 0.7, np.array([0.4, -0.9])
    start = np.array([1.0, -1.0, 2.0])
    state = Particles(np.tile(start, (n, 1)), np.tile(h, (n, 1)))
    new, _ = ExactOU(GENERAL, time=time, steps=steps)(state, stream(seed, 0, "train"))
    decay, stationary = expm(-GENERAL.A * time), solve_continuous_lyapunov(GENERAL.A, GENERAL.Sigma)
    mean = GENERAL.centre(h) + decay @ (start - GENERAL.centre(h))
    covariance = 0.9**2 * (stationary - decay @ stationary @ decay.T)
    assert covariance_score(new.theta, mean, covariance) < 6
    coarse, _ = EulerMaruyama(GENERAL, dt=time / 4, steps=4)(state, stream(seed, 0, "train"))
    assert covariance_score(coarse.theta, mean, covariance) > 8
    fine, _ = EulerMaruyama(GENERAL, dt=time / 700, steps=700)(
        Particles(state.theta[:5000], state.h[:5000]), stream(seed, 0, "train")
    )
    assert covariance_score(fine.theta, mean, covariance) < 6  # bias 5e-4, below a tenth of a standard error


@pytest.mark.parametrize("problem", [Quadratic(3), GENERAL])
@pytest.mark.parametrize("steps", [1, 6, 13])
def test_a_chain_of_steps_has_the_law_of_its_steps(problem, steps, seed):
    """Mean and covariance of the scheme, step by step; the exact flow has others."""
    n, dt, s = 60_000, 0.08, 0.9
    start, h = np.array([1.0, -1.0, 2.0]), np.array([0.4, -s])
    chain = EulerChain(problem, dt=dt, steps=steps)
    A, Sigma = (2 * np.eye(3), np.eye(3)) if problem is not GENERAL else (GENERAL.A, GENERAL.Sigma)
    mean, covariance, centre = start, np.zeros((3, 3)), problem.centre(h)
    for _ in range(steps):
        mean = mean - dt * A @ (mean - centre)
        covariance = (np.eye(3) - dt * A) @ covariance @ (np.eye(3) - dt * A) + s**2 * dt * Sigma
    state = Particles(np.tile(start, (n, 1)), np.tile(h, (n, 1)))
    new, trace = chain(state, stream(seed, 0, "train"))
    assert covariance_score(new.theta, mean, covariance) < 6
    np.testing.assert_array_equal(trace.fitness[:, -1], problem.fitness(new.theta, new.h))
    flow, _ = ExactOU(problem, time=steps * dt)(state, stream(seed, 0, "train"))
    assert covariance_score(flow.theta, mean, covariance) > 6


@pytest.mark.parametrize("problem", [Quadratic(3), GENERAL])
def test_exact_ou_leaves_the_equilibrium_alone(problem, rng, seed):
    n = 60_000
    h = np.tile([0.3, 0.8], (n, 1))
    state = Particles(problem.equilibrium_sample(h, rng), h)
    new, _ = ExactOU(problem, time=0.4)(state, stream(seed, 0, "train"))
    mean, covariance = (x[0] for x in problem.equilibrium(h[:1]))
    assert covariance_score(new.theta, mean, covariance) < 6
    assert covariance_score(new.theta, mean, 1.1 * covariance) > 6


def test_momentum_keeps_the_gibbs_measure_at_any_stable_step(rng, seed):
    n, c, s = 100_000, 3.0, 0.7
    h = np.tile([0.5, s], (n, 1))
    problem = Quadratic()
    theta = problem.equilibrium_sample(h, rng)
    # Invariant law of the splitting for L = |θ − h₁𝟏|²: exact in θ, momentum variance (c s²/2)(1 − (Δt/2)² 2c)
    dt = 0.3
    momentum = np.sqrt(c * s**2 / 2 * (1 - dt**2 / 4 * 2 * c)) * rng.standard_normal((n, 2))
    train = Underdamped(problem, dt=dt, steps=12, friction=c)
    new, trace = train(UnderdampedParticles(theta, momentum, h), stream(seed, 0, "train"))
    assert abs(chi_square_score(new.theta - 0.5, s**2 / 4)) < 5.5
    assert abs(chi_square_score(new.momentum, c * s**2 / 2 * (1 - dt**2 / 4 * 2 * c))) < 5.5
    np.testing.assert_array_equal(trace.fitness[..., -1], problem.fitness(new.theta))
    euler = EulerMaruyama(problem, dt=dt, steps=12)(Particles(theta, h), stream(seed, 0, "train"))[0]
    assert abs(chi_square_score(euler.theta - 0.5, s**2 / 4)) > 8


def test_momentum_has_order_two_towards_its_ode():
    c, h = 2.0, np.array([[0.5, 0.0]])
    start = UnderdampedParticles(np.array([[1.0, -1.0]]), np.array([[0.3, 0.0]]), h)
    matrix = expm(np.array([[0.0, -1.0], [2 * c, -c]]))
    exact = 0.5 + np.stack([matrix[0, 0] * (start.theta - 0.5) + matrix[0, 1] * start.momentum])[0]
    errors = []
    for steps in (20, 40, 80, 160):
        train = Underdamped(Quadratic(), dt=1 / steps, steps=steps, friction=c)
        errors.append(np.abs(train(start, stream(0, 0, "train"))[0].theta - exact).max())
    np.testing.assert_allclose(np.log2(np.array(errors[:-1]) / errors[1:]), 2, atol=0.05)


def test_momentum_keeps_the_virial_identity_on_himmelblau(rng, seed):
    """Under the Gibbs measure E[θ·∇L] = d/α = d s²/2; L = H is quartic, so this sees more than a Gaussian.

    The start is the invariant law, of density exp(−α(L + |m|²/2c)) with α = 2/s²: θ ~ μ_h and m ~ N(0, (cs²/2) I).
    Training of 0.2 time units is several relaxation times inside a well. In this problem h₂ is the noise and nothing
    else, so the control is a momentum noise off by a tenth; its virial tends to 1.21 s², some twelve standard errors
    away. A false alarm has probability 4e-8; the scheme's bias, of order Δt² ‖∇²L‖ c/4 = 6e-4, is below a quarter of
    a standard error.
    """
    n, s, c, problem = 160_000, 4.0, 30.0, Himmelblau()
    h = np.tile([0.0, s], (n, 1))
    momentum = np.sqrt(c * s**2 / 2) * rng.standard_normal((n, 2))
    start = UnderdampedParticles(problem.equilibrium_sample(h, rng), momentum, h)
    train = Underdamped(problem, dt=0.001, steps=200, friction=c)

    def virial_score(state):
        new, _ = train(state, stream(seed, 0, "train"))
        virial = (new.theta * problem.gradient(new.theta, new.h)).sum(-1)
        return (virial.mean() - s**2) / (virial.std() / np.sqrt(n)), chi_square_score(new.momentum, c * s**2 / 2)

    assert np.abs(virial_score(start)).max() < 5.5
    assert min(virial_score(replace(start, h=1.1 * h))) > 5.5
    assert max(virial_score(replace(start, h=0.9 * h))) < -5.5


@pytest.mark.parametrize("problem", [Quadratic(), GENERAL])
def test_gibbs_draw_forgets_the_past(problem, rng, seed):
    n = 40_000
    h = np.tile([0.3, -0.8], (n, 1))
    state = Particles(np.full((n, len(problem.equilibrium(h[0])[0])), 50.0), h)
    new, trace = GibbsDraw(problem, window=3)(state, stream(seed, 0, "train"))
    mean, covariance = (x[0] for x in problem.equilibrium(h[:1]))
    assert covariance_score(new.theta, mean, covariance) < 6
    assert trace.fitness.shape == (n, 3)
    np.testing.assert_array_equal(trace.fitness[..., -1], problem.fitness(new.theta))
    assert trace.path.shape == (0, *new.theta.shape)
    assert np.abs(np.corrcoef(trace.fitness.T)[np.triu_indices(3, 1)]).max() < 6 / np.sqrt(n)


@pytest.mark.slow
def test_compiled_code_gives_the_same_bits_fresh_and_from_its_cache(tmp_path):
    code = (
        "import numpy as np, hashlib\n"
        "from pbtlib import evolution as e, problems as p, training as t\n"
        "x = np.linspace(-2, 2, 1800).reshape(300, 6)\n"
        "s = t.Particles(x[:, :2], x[:, 2:4])\n"
        "for problem in (p.Quadratic(), p.Himmelblau()):\n"
        "    s, trace = t.EulerMaruyama(problem, dt=.003, steps=11)(s, e.stream(1, 0, 'train'))\n"
        "jump = e.Selection(e.Gibbs(.1))(trace.fitness[:, -1], e.stream(1, 0, 'select'))\n"
        "s = e.GaussianMutation(.1)(e.copy(s, jump), jump, e.stream(1, 0, 'mutate'))\n"
        "print(hashlib.sha256(s.theta.tobytes() + s.h.tobytes()).hexdigest())\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    runs = [subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)]
    assert list(tmp_path.rglob("*.nbc")), "nothing was kept on disk"
    runs += [subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)]
    assert runs[0].stdout == runs[1].stdout


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: EulerMaruyama(Quadratic(), dt=0.0, steps=1), "dt is 0.0"),
        (lambda: EulerMaruyama(Quadratic(), dt=np.nan, steps=1), "dt is nan"),
        (lambda: EulerMaruyama(Quadratic(), dt=0.1, steps=0), "steps is 0"),
        (lambda: EulerMaruyama(Quadratic(), dt=0.1, steps=3, window=4), "window is 4"),
        (lambda: EulerMaruyama(Quadratic(), dt=0.1, steps=3, path_every=-1), "path_every is -1"),
        (lambda: EulerMaruyama(Quadratic(), dt=0.1, steps=3, threads=0), "threads is 0"),
        (lambda: ExactOU(Quadratic(), time=-1.0), "time is -1.0"),
        (lambda: EulerChain(Quadratic(), dt=0.0, steps=2), "dt is 0.0"),
        (lambda: EulerChain(Quadratic(), dt=0.1, steps=0), "steps is 0"),
        (
            lambda: EulerChain(Quadratic(), dt=3.0, steps=9**4)(
                Particles([[0.0, 0.0]], [[0.0, 1.0]]), stream(0, 0, "t")
            ),
            "dt is 3.0; 6561 steps .* beyond all numbers",
        ),
        (lambda: ExactOU(Quadratic(), time=1.0, steps=0), "steps is 0"),
        (lambda: Underdamped(Quadratic(), dt=0.1, steps=1, friction=0.0), "friction is 0.0"),
        (lambda: Underdamped(GENERAL, dt=0.1, steps=1, friction=1.0), "momentum needs the identity"),
        (lambda: GibbsDraw(Quadratic(), window=0), "window is 0"),
        (lambda: Particles(np.zeros((0, 2)), np.zeros((0, 2))), "at least one agent"),
        (lambda: Particles(np.zeros((0, 5, 2)), np.zeros((0, 5, 2))), "one replicate"),
        (lambda: Particles(np.zeros((3, 2)), np.zeros((4, 2))), "theta has shape"),
        (lambda: UnderdampedParticles(np.zeros((3, 2)), np.zeros((3, 1)), np.zeros((3, 2))), "momentum has shape"),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_covariance_of_another_size_is_named(size):
    """No bound is checked in compiled code: what stood beyond the matrix in memory would have become noise."""
    state = Particles(np.zeros((3, 3)), np.zeros((3, 2)))
    train = EulerMaruyama(own(Quadratic(3), np.eye(size)), dt=0.1, steps=1)
    with pytest.raises(ValueError, match=rf"Sigma has shape \({size}, {size}\).*needs \(3, 3\)"):
        train(state, stream(0, 0, "train"))
    moving = UnderdampedParticles(state.theta, state.theta, state.h)
    with pytest.raises(ValueError, match=r"Sigma has shape"):
        Underdamped(own(Quadratic(3), np.eye(size)), dt=0.1, steps=1, friction=1.0)(moving, stream(0, 0, "train"))


def test_lists_hold_what_arrays_do():
    """Agents that diverged as well: whether that is an error is for selection to say."""
    lost = [[1e200, -np.inf], [np.nan, 0.0]]
    state = Particles(lost, [[1e200], [2]])
    np.testing.assert_array_equal(state.theta, Particles(np.array(lost), state.h).theta)
    with pytest.raises(TypeError, match=r"theta is .*real numbers"):
        Particles([["a"]], [[1.0]])


def test_wrong_problems_are_named():
    with pytest.raises(TypeError, match="exact transition"):
        ExactOU(Himmelblau(), time=1.0)
    with pytest.raises(TypeError, match="problem is Himmelblau"):
        EulerChain(Himmelblau(), dt=0.1, steps=2)
    state, q = Particles(np.zeros((3, 2)), np.zeros((3, 2))), Quadratic()
    with pytest.raises(ValueError, match="must end in d = 5"):
        EulerMaruyama(Quadratic(5), dt=0.1, steps=1)(state, stream(0, 0, "train"))
    for spoilt, message in (
        (Problem(q.loss, lambda t, h: t.sum(-1), q.fitness, q.noise), "gradient of the problem"),
        (Problem(q.loss, q.gradient, lambda t, h: t, q.noise), "fitness of the problem"),
        (Problem(q.loss, q.gradient, q.fitness, lambda h: h), "noise of the problem"),
        (Problem(q.loss, q.gradient, q.fitness, lambda h: h[:, 0] - 1), "noise contains -1"),
        (Problem(q.loss, q.gradient, q.fitness, lambda h: np.full(len(h), np.nan)), "noise contains nan"),
    ):
        with pytest.raises(ValueError, match=message):
            EulerMaruyama(spoilt, dt=0.1, steps=1)(state, stream(0, 0, "train"))
