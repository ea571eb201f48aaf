"""Inherited luck: closed form, eigenvalue, bounds and series agree, and each check fails on the wrong model."""

import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermegauss

from pbtlib import inheritance
from pbtlib.bilevel import log_mean_exp
from pbtlib.problems import Quadratic


def ornstein(memory, variance, offset, n=401, reach=9.0):
    """An Ornstein-Uhlenbeck round on a grid of midpoints, with its equilibrium and the fitness −(θ − θ*)²."""
    x = np.linspace(-reach, reach, n) * np.sqrt(variance)
    spread = variance * (1 - memory**2)
    joint = np.exp(-0.5 * (x[None] - memory * x[:, None]) ** 2 / spread - 0.5 * x[:, None] ** 2 / variance)
    law = joint.sum(1)
    return joint / law[:, None], law / law.sum(), -((x + offset) ** 2)


@pytest.mark.parametrize(
    ("memory", "variance", "offset", "beta"),
    [(0.9, 0.4, 0.75, 1.0), (0.3, 0.4, 0.5, 1.0), (0.6, 2.0, 1.5, 0.7), (0.5, 0.8, 0.0, 3.0)],
)
def test_the_closed_form_is_the_largest_eigenvalue(memory, variance, offset, beta):
    kernel, law, fitness = ornstein(memory, variance, offset)
    root = inheritance.perron(kernel, law, fitness, beta)
    assert inheritance.gaussian(offset, variance, memory, beta) == pytest.approx(root, abs=1e-7)
    assert abs(inheritance.gaussian(offset, variance, 0.0, beta) - root) > 1e-3, "forgetting all is another answer"


def test_hand_computed_values():
    """v = 1, q² = 1/2, β = 1/2: V² = 1/2; and two states that never change: the better one wins."""
    V = np.sqrt(0.5)
    q = np.sqrt(0.5)
    expected = -np.log(1 + V) - (1 - q) ** 2 * (1 + V) / (1 + V - q) ** 2
    assert inheritance.gaussian(1.0, 1.0, q, 0.5) == pytest.approx(expected, rel=1e-12)
    assert inheritance.perron(np.eye(2), [0.3, 0.7], [-1.0, -3.0], 2.0) == pytest.approx(-1.0)


def test_without_memory_it_is_the_effective_fitness():
    h = np.array([[0.3, 0.5], [1.0, 2.0]])
    two = 2 * inheritance.gaussian(h[:, 0], h[:, 1] ** 2 / 4, 0.0, 0.8)
    assert np.allclose(1.2 + two, Quadratic().effective_fitness(h, 0.8), rtol=1e-13)


def test_no_noise_no_luck():
    assert inheritance.gaussian(0.7, 0.0, 0.9, 1.0) == pytest.approx(-(0.7**2))


@pytest.mark.parametrize("t", [0.05, 0.25, 1.0])
def test_noise_pays_from_the_threshold_of_theorem_e5_on(t):
    def slope(offset):
        q = np.exp(-2 * t)
        return (inheritance.gaussian(offset, 1e-7, q) - inheritance.gaussian(offset, 0.0, q)) / 1e-7

    threshold = np.tanh(t) / 2
    assert slope(np.sqrt(1.02 * threshold)) > 0 > slope(np.sqrt(0.98 * threshold))


def test_longer_training_means_less_luck():
    q = np.exp(-2 * np.linspace(0.05, 6, 200))
    rate = inheritance.gaussian(0.8, 0.5, q)
    assert (np.diff(rate) < 0).all()
    assert (np.diff(rate, 2) > 0).all(), "convex"
    assert rate[-1] == pytest.approx(inheritance.gaussian(0.8, 0.5, 0.0), abs=1e-4)
    assert inheritance.gaussian(0.8, 0.5, 1 - 1e-9) == pytest.approx(0.0, abs=1e-3), "the supremum of F"


@pytest.mark.parametrize("memory", [0.05, 0.4, 0.9])
def test_lazy_training_inherits_most(memory):
    nodes, weights = hermegauss(60)
    fitness = -((np.sqrt(0.4) * nodes + 0.6) ** 2)
    bound = inheritance.lazy(weights, fitness, memory)
    assert inheritance.gaussian(0.6, 0.4, memory) < bound
    few = np.array([0.2, 0.5, 0.3])
    kernel = memory * np.eye(3) + (1 - memory) * few
    assert inheritance.lazy(few, [-1.0, 0.0, 2.0], memory) == pytest.approx(
        inheritance.perron(kernel, few, [-1.0, 0.0, 2.0]), abs=1e-10
    )


def test_covariance_of_weights_brackets_the_premium():
    """(E5), and a premium that ignores the memory fails it."""
    kernel, law, fitness = ornstein(0.05, 0.3, 0.4)
    w = np.exp(fitness)
    a = law @ w
    C = law @ (w * (kernel @ w)) - a**2
    excess = np.exp(inheritance.perron(kernel, law, fitness)) - a
    assert C / a <= excess <= C / a / (1 - 0.05 * w.max() / a)
    assert not C / a <= 0.0


def test_series_climb_from_the_effective_fitness_to_the_growth_rate(rng):
    q, v, agents = 0.6, 0.4, 40_000
    theta = np.empty((agents, 6))
    theta[:, 0] = np.sqrt(v) * rng.standard_normal(agents)
    for k in range(1, 6):
        theta[:, k] = q * theta[:, k - 1] + np.sqrt(v * (1 - q**2)) * rng.standard_normal(agents)
    fitness = -((theta + 0.5) ** 2)
    ladder = inheritance.from_series(fitness, 1.0, 4)
    first, last = inheritance.gaussian(0.5, v, 0.0), inheritance.gaussian(0.5, v, q)
    assert abs(ladder.value[0] - first) < 6 * ladder.error[0]
    assert abs(ladder.value[3] - last) < 6 * ladder.error[3] + 0.01
    assert ladder.value[3] - first > 20 * ladder.error[3], "no inheritance is rejected"
    shuffled = np.stack([rng.permutation(column) for column in fitness.T], 1)
    flat = inheritance.from_series(shuffled, 1.0, 4)
    assert abs(flat.value[3] - first) < 6 * flat.error[3] + 0.005, "readings without memory show none"


def test_the_error_of_a_series_is_its_spread(rng):
    """Over 300 repetitions the values spread as the errors say, within 6 standard errors of a spread."""
    found = [inheritance.from_series(rng.normal(size=(50, 5)), 0.5, 2) for _ in range(300)]
    values, errors = (np.array([getattr(one, name) for one in found]) for name in ("value", "error"))
    ratio = values.std(0) / errors.mean(0)
    assert (abs(ratio - 1) < 6 / np.sqrt(600) + 0.05).all()
    assert abs(values[:, 0].mean() - log_mean_exp(rng.normal(size=200_000), 0.5)) < 0.05


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: inheritance.gaussian(0, -1, 0.5), "variance"),
        (lambda: inheritance.gaussian(0, 1, 1.0), "memory"),
        (lambda: inheritance.gaussian(0, 1, 0.5, beta=0), "beta"),
        (lambda: inheritance.perron([[0.5, 0.5], [0.1, 0.9]], [0.5, 0.5], [0, 1]), "reversible"),
        (lambda: inheritance.perron([[0.5, 0.4], [0.5, 0.5]], [0.5, 0.5], [0, 1]), "sums to"),
        (lambda: inheritance.lazy([0.5, 0.5], [0, 1], 1.0), "memory"),
        (lambda: inheritance.from_series(np.zeros((1, 4))), "agents"),
        (lambda: inheritance.from_series(np.zeros((4, 1)), steps=2), "readings"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
