"""A problem of one's own: any class with the four methods is trained by them, and what is wrong is said in words."""

import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from pbtlib import problems
from pbtlib.evolution import stream
from pbtlib.problems import Himmelblau, LinearGaussian, Problem, ProblemError, Quadratic
from pbtlib.training import (
    EulerMaruyama,
    ExactOU,
    GibbsDraw,
    Last,
    LogMeanExp,
    Particles,
    Trace,
    Underdamped,
    UnderdampedParticles,
    WindowMean,
)


class DoubleWell:
    """L = (θ² − 1)², as CONTRIBUTING tells: four methods and nothing else."""

    def loss(self, theta, h):
        return ((theta**2 - 1) ** 2).sum(-1)

    def gradient(self, theta, h):
        return 4 * theta * (theta**2 - 1)

    def fitness(self, theta, h):
        return -((theta - 1) ** 2).sum(-1)

    def noise(self, h):
        return h[..., 0]


class Quartic(Quadratic):
    """A subclass that is not quadratic any more: L = Σ(θ − h₁)⁴."""

    def loss(self, theta, h):
        return ((theta - self.centre(h)) ** 4).sum(-1)

    def gradient(self, theta, h):
        return 4 * (theta - self.centre(h)) ** 3


class Tilted:
    """L = Σ_j (θ_j − h_j)² e^{h_0} in any dimension: the loss depends on every hyperparameter."""

    def loss(self, theta, h):
        return np.exp(h[..., 0]) * np.square(theta - h).sum(-1)

    def gradient(self, theta, h):
        return 2 * np.exp(h[..., :1]) * (theta - h)

    def fitness(self, theta, h):
        return -np.square(theta).sum(-1) - h[..., 0]

    def noise(self, h):
        return np.zeros(h.shape[:-1])


def trained(train, theta, h):
    return train(Particles(theta, h), stream(0, 0, "train"))[0].theta


def test_a_class_of_four_methods_finds_both_wells():
    theta = trained(EulerMaruyama(DoubleWell(), dt=0.01, steps=500), [[0.5], [-0.5]], [[0.0], [0.0]])
    np.testing.assert_allclose(theta, [[1.0], [-1.0]], atol=1e-8)


def test_a_subclass_is_trained_by_its_own_gradient():
    """dy/dt = −4y³ from 2: y(1) = 2/√(1 + 32) = .348; Euler's scheme at this step gives .344 in the limit."""
    fine = trained(EulerMaruyama(Quartic(1), dt=1e-4, steps=10_000), [[2.0]], [[0.0, 0.0]])[0, 0]
    exact = 2 / np.sqrt(1 + 8 * 4)
    coarse = trained(EulerMaruyama(Quartic(1), dt=0.01, steps=100), [[2.0]], [[0.0, 0.0]])[0, 0]
    assert coarse == pytest.approx(0.344, abs=1e-3)
    assert fine == pytest.approx(exact, abs=1e-4)
    assert abs(fine - 2 * np.exp(-2)) > 0.05  # what the parent's gradient would give
    moving = UnderdampedParticles(np.full((1, 1), 2.0), np.zeros((1, 1)), np.zeros((1, 2)))
    state, _ = Underdamped(Quartic(1), dt=1e-3, steps=1000, friction=3.0)(moving, stream(0, 0, "train"))
    rhs = solve_ivp(lambda t, y: [-y[1], 3.0 * (4 * y[0] ** 3 - y[1])], (0, 1), [2.0, 0.0], rtol=1e-10, atol=1e-12)
    assert state.theta[0, 0] == pytest.approx(rhs.y[0, -1], abs=1e-4)


@pytest.mark.parametrize("base", [Quadratic, Himmelblau, LinearGaussian])
def test_a_subclass_that_overrides_the_fitness_or_the_noise_is_heard(base):
    class Mine(base):
        def fitness(self, theta, h=None):
            return h[..., 0]

        def noise(self, h):
            return np.zeros(h.shape[:-1])

        def gradient(self, theta, h):
            return np.ones_like(theta)

    d = 1 if base is LinearGaussian else 2
    state = Particles(np.zeros((3, d)), np.arange(3 * d).reshape(3, d) * 1.0)
    new, trace = EulerMaruyama(Mine(), dt=0.5, steps=2)(state, stream(0, 0, "train"))
    np.testing.assert_allclose(new.theta, -1.0)
    np.testing.assert_allclose(trace.fitness[:, 0], state.h[:, 0])
    with pytest.raises(TypeError, match="exactly a Quadratic or LinearGaussian, no subclass"):
        ExactOU(Mine(), time=1.0)


@pytest.mark.parametrize("p", [1, 3])
def test_one_and_three_dimensions_and_a_loss_that_depends_on_h(p, rng):
    theta, h = rng.normal(size=(2, 5000, p)), rng.normal(size=(2, 5000, p)) / 2  # more than one block
    problems.check(Tilted(), theta[0], h[0])
    dt, steps = 0.01, 30
    left = (1 - 2 * dt * np.exp(h[..., :1])) ** steps
    new, trace = EulerMaruyama(Tilted(), dt=dt, steps=steps)(Particles(theta, h), stream(0, 0, "train"))
    np.testing.assert_allclose(new.theta, h + left * (theta - h), atol=1e-12)
    np.testing.assert_allclose(trace.fitness[..., 0], -np.square(new.theta).sum(-1) - h[..., 0], atol=1e-12)


@pytest.mark.parametrize("name", ["gradient", "fitness", "noise", "equilibrium_sample"])
def test_a_function_that_writes_into_its_arguments_is_named(name):
    """It used to be silently wrong: θ = 2 with no gradient and no noise came out as −2."""

    def spoil(*arguments):
        array = arguments[0]
        array -= 1.0
        return array.sum(-1) if name in ("fitness", "noise") else array

    q = Quadratic(2)
    functions = {"loss": q.loss, "gradient": q.gradient, "fitness": q.fitness, "noise": q.noise}
    mine = Problem(**(functions | {name: spoil}))
    train = GibbsDraw(mine) if name == "equilibrium_sample" else EulerMaruyama(mine, dt=0.1, steps=4, window=4)
    state = Particles(np.full((3, 2), 2.0), np.ones((3, 2)))
    with pytest.raises(ValueError, match=f"{name} of the problem writes into its arguments"):
        train(state, stream(0, 0, "train"))
    assert (state.h == 1).all()


def test_the_contract_holds_for_what_keeps_it():
    for problem, d, p in ((DoubleWell(), 1, 1), (Quartic(2), 2, 2), (Himmelblau(), 2, 2), (LinearGaussian(), 1, 1)):
        rng = np.random.default_rng(0)
        problems.check(problem, rng.normal(size=(5, d)), np.abs(rng.normal(size=(5, p))))


def broken(**changes):
    well = DoubleWell()
    functions = {name: getattr(well, name) for name in ("loss", "gradient", "fitness", "noise")}
    return Problem(**(functions | changes))


def writes(theta, h):
    theta *= 2
    return theta


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (broken(gradient=lambda t, h: -4 * t * (t**2 - 1)), r"gradient has the wrong sign"),
        (broken(gradient=lambda t, h: t * (t**2 - 1)), r"gradient is 0.25 times .* a factor is missing"),
        (broken(gradient=lambda t, h: 8 * t * (t**2 - 1)), r"gradient is 2 times .* a factor too much"),
        (broken(gradient=lambda t, h: t), r"gradient is .* finite differences of the loss give"),
        (broken(gradient=lambda t, h: 0 * t), r"gradient is 0 .* finite differences of the loss give"),
        (
            broken(gradient=lambda t, h: (4 * t * (t**2 - 1)).sum(-1)),
            r"gradient returned shape .* return \(6, 1\)",
        ),
        (broken(gradient=writes), "gradient cannot be called: it writes into its arguments"),
        (broken(fitness=lambda t, h: -(t**2)), r"fitness returned shape \(6, 1\)"),
        (broken(fitness=lambda t, h: np.full(len(t), np.nan)), "fitness returned nan"),
        (broken(fitness=lambda t, h: t[..., 0] - t.mean()), "fitness of an agent depends on which others are there"),
        (broken(fitness=lambda t, h: 1 / 0), "fitness cannot be called: it raised ZeroDivisionError"),
        (broken(noise=lambda h: -h[..., 0]), r"noise returned -0\.3; it must be >= 0"),
        (broken(Sigma=np.eye(2)), r"Sigma has shape \(2, 2\)"),
    ],
)
def test_what_is_wrong_is_said_in_words(problem, message):
    with pytest.raises(ProblemError, match=message):
        problems.check(problem, theta=[[0.5], [-0.7], [2.0]], h=[[0.1], [0.2], [0.3]])


@pytest.mark.parametrize(
    ("problem", "theta", "h"),
    [
        (Quadratic(), np.ones((3, 2)), np.ones((3, 2))),
        (Quadratic(), np.full((3, 2), 1e6), np.full((3, 2), 1e6)),
        (Quadratic(), np.full((3, 2), 1e-9), np.full((3, 2), 1e-9)),
        (Himmelblau(), Himmelblau().minima, np.zeros((4, 2))),
        (LinearGaussian(), [[0.7]], [[0.7]]),
    ],
)
def test_a_start_at_the_minimum_of_the_loss_is_a_good_one(problem, theta, h):
    """There the loss is 0, and differences of it hold nothing but rounding; a wrong gradient is seen all the same."""
    problems.check(problem, theta, h)
    off = 1e-6 * max(1.0, np.max(h))
    wrong = Problem(problem.loss, lambda t, g: problem.gradient(t, g) + off, problem.fitness, problem.noise)
    with pytest.raises(ProblemError, match="gradient"):
        problems.check(wrong, theta, h)


def test_a_missing_method_is_named():
    class Half:
        def fitness(self, theta, h):
            return theta[..., 0]

    with pytest.raises(ProblemError, match=r"loss is missing.*gradient is missing.*noise is missing"):
        problems.check(Half(), [[1.0]], [[1.0]])
    with pytest.raises(TypeError, match="it needs the methods gradient, noise"):
        EulerMaruyama(Half(), dt=0.1, steps=1)
    with pytest.raises(TypeError, match=r"needs a function equilibrium_sample\(h, rng\)"):
        GibbsDraw(broken())


def test_a_draw_of_your_own_serves_algorithm_2():
    mine = broken(equilibrium_sample=lambda h, rng: h + rng.standard_normal(h.shape))
    state = Particles(np.zeros((4, 1)), np.full((4, 1), 2.0))
    new, _ = GibbsDraw(mine)(state, stream(0, 0, "train"))
    np.testing.assert_allclose(new.theta, 2 + stream(0, 0, "train").standard_normal((4, 1)))
    with pytest.raises(ValueError, match=r"equilibrium_sample of the problem returned shape \(4,\)"):
        GibbsDraw(replace(mine, equilibrium_sample=lambda h, rng: h[..., 0]))(state, stream(0, 0, "train"))


def test_lists_are_arrays_and_words_are_not():
    assert Particles([[1], [2]], [[0.5], [1.5]]).theta.shape == (2, 1)
    with pytest.raises(TypeError, match="theta is"):
        Particles([["a"]], [[1.0]])
    with pytest.raises(TypeError, match="h is an array of bool"):
        Particles(np.zeros((2, 1)), np.zeros((2, 1), bool))


@dataclass(frozen=True)
class Scaled:
    """A problem of one's own as a value."""

    a: float = 1.0

    def gradient(self, theta, h):
        return self.a * theta

    def fitness(self, theta, h):
        return theta[..., 0]

    def noise(self, h):
        return h[..., 0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: EulerMaruyama(Quadratic(3), dt=0.1, steps=2, window=2),
        lambda: EulerMaruyama(Scaled(2.0), dt=0.1, steps=2),
        lambda: ExactOU(LinearGaussian(Q=[[2.0]]), time=0.5),
        lambda: Underdamped(Himmelblau(), dt=0.1, steps=2, friction=1.0),
        lambda: GibbsDraw(Himmelblau(), window=2),
        Last,
        WindowMean,
        lambda: LogMeanExp(2.0),
    ],
)
def test_training_and_evaluation_are_values(make):
    value = make()
    assert value == make() == pickle.loads(pickle.dumps(value))
    assert hash(value) == hash(make())
    assert type(value).__name__ + "(" in repr(value)
    assert value != EulerMaruyama(Quadratic(3), dt=0.2, steps=2)


def test_windows_are_evaluated_as_named():
    trace = Trace(np.array([[0.0, np.log(3.0)], [1.0, np.nan]]), np.empty((0, 2, 1)))
    np.testing.assert_allclose(Last()(None, trace), [np.log(3.0), np.nan])
    np.testing.assert_allclose(WindowMean()(None, trace), [np.log(3.0) / 2, np.nan])
    np.testing.assert_allclose(LogMeanExp(1.0)(None, trace), [np.log(2.0), np.nan])
