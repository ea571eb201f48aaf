"""Particles: training and the slow update against NumPy written straightforwardly, in float64."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from functools import partial

import numpy as np

from benchmarks import Row, seconds
from pbtlib.evolution import GaussianMutation, Gibbs, Selection, copy, stream
from pbtlib.problems import Himmelblau, LinearGaussian, Problem, Quadratic
from pbtlib.training import EulerMaruyama, Particles

DT = 0.001
STEPS = 20
UPDATE_EVERY = (20, 50, 100)  # training steps per slow update in the paper; the book mostly takes 50


def plain_training(problem, state, steps, rng):
    """Euler-Maruyama as one writes it down: the baseline."""
    theta, amplitude = state.theta, problem.noise(state.h)[..., None]
    for _ in range(steps):
        noise = rng.standard_normal(theta.shape)
        theta = theta - DT * problem.gradient(theta, state.h) + amplitude * np.sqrt(DT) * noise
    return theta, problem.fitness(theta, state.h)


def plain_update(state, fitness, rng):
    """Selection, copy and mutation as one writes them down: the baseline."""
    weight = np.exp(fitness - fitness.max())
    parent = rng.choice(fitness.size, size=fitness.size, p=weight / weight.sum())
    h = state.h[parent]
    return Particles(state.theta[parent], h + 0.1 * rng.standard_normal(h.shape))


def update(state, fitness, rule, mutate):
    jump = Selection(rule)(fitness, stream(1, 0, "select"))
    return mutate(copy(state, jump), jump, stream(1, 0, "mutate"))


def population(n):
    rng = np.random.default_rng(1)
    return Particles(rng.uniform(-2, 2, (n, 2)), rng.uniform(-0.5, 0.5, (n, 2)))


def compare_training(name, problem, state, bar):
    n = len(state.theta)
    steps, repeats, rng = (100, 11, np.random.default_rng(2)) if n < 10**5 else (STEPS, 3, np.random.default_rng(2))
    train, single = (EulerMaruyama(problem, dt=DT, steps=steps, threads=threads) for threads in (None, 1))
    times = seconds(
        partial(plain_training, problem, state, steps, rng),
        lambda: train(state, stream(1, 0, "train")),
        lambda: single(state, stream(1, 0, "train")),
        repeats=repeats,
    )
    (plain, plain_cpu), (ours, ours_cpu), (one, _) = times
    per_step = [1e9 * t / n / steps for t in (plain, ours, one)]
    detail = "{:.1f} / {:.1f} ns per agent and step, {:.1f} on one thread; ".format(*per_step)
    detail += f"x{plain_cpu / ours_cpu:.1f} per processor second"
    return Row(f"training, {name}, N = {n:,}: times plain NumPy", plain / ours, bar, detail=detail)


def compare_update(problem, state):
    """One slow update against the training between two updates, for the numbers of steps that the paper uses."""
    n, fitness, rng = len(state.theta), problem.fitness(state.theta), np.random.default_rng(2)
    trains = [EulerMaruyama(problem, dt=DT, steps=steps) for steps in UPDATE_EVERY]
    (plain, _), (slow, slow_cpu), *fast = seconds(
        partial(plain_update, state, fitness, rng),
        partial(update, state, fitness, Gibbs(), GaussianMutation(0.1)),
        *(partial(train, state, stream(1, 0, "train")) for train in trains),
        repeats=21 if n < 10**5 else 5,
    )
    for steps, (wall, processor) in zip(UPDATE_EVERY, fast, strict=True):
        detail = f"{1e9 * slow / n:.0f} / {1e9 * wall / n:.0f} ns per agent (plain update {1e9 * plain / n:.0f}); "
        detail += f"x{slow_cpu / processor:.2f} in processor seconds"
        yield Row(f"slow update / {steps} training steps, N = {n:,}", slow / wall, 1.0, at_most=True, detail=detail)


def per_agent(problem, n):
    """Time [s] and peak memory [bytes] of one training phase, per agent."""
    state, train = population(n), EulerMaruyama(problem, dt=DT, steps=STEPS)
    ((time, _),) = seconds(lambda: train(state, stream(1, 0, "train")), repeats=5)
    tracemalloc.start()
    train(state, stream(1, 0, "train"))
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return time / n, memory / n


def rows() -> Iterator[Row]:
    """Yield the rows of the table."""
    quadratic = Quadratic()
    linear = LinearGaussian(A=2 * np.eye(2), B=np.array([[1.0, 0], [1, 0]]), s=lambda h: h[..., 1])
    own = Problem(quadratic.loss, quadratic.gradient, quadratic.fitness, quadratic.noise)
    for n in (10_000, 1_000_000):
        state = population(n)
        yield compare_training("quadratic", quadratic, state, 10.0)
        yield compare_training("Himmelblau", Himmelblau(), state, 10.0)
        yield compare_training("linear Gaussian", linear, state, 10.0)
        yield compare_training("a reader's NumPy functions", own, state, 2.5)
        yield from compare_update(quadratic, state)
    time, memory = np.transpose([per_agent(quadratic, n) for n in (1_000, 10_000, 100_000, 1_000_000)])
    detail = "N = 10^3 … 10^6: " + ", ".join(f"{1e9 * t:.0f}" for t in time) + " ns"
    yield Row("time per agent, N = 10^6 / N = 10^4", time[-1] / time[1], 2.0, at_most=True, detail=detail)
    detail = "N = 10^3 … 10^6: " + ", ".join(f"{m:.0f}" for m in memory) + " bytes"
    yield Row("memory per agent, N = 10^6 / N = 10^4", memory[-1] / memory[1], 1.5, at_most=True, detail=detail)
