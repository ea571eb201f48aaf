r"""The fast operator: how agents train between two slow updates.

Each builder returns ``train(state, rng) -> (state, trace)``. The hyperparameters do not change while it runs. The
duration of training, ``steps`` times ``dt``, is one of the two places where the clock τ of Algorithm 1 appears (the
other is `pbtlib.evolution.select`); in the two-time-scale equation (8) the same duration is τ/ε.

Noise is drawn by a counter: the generator passed in yields one key, and agent i's n-th normal depends on (key, i, n)
alone. So the result has the same bits whatever the number of threads and however the agents are cut into blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pbtlib.checks import check_array, check_number
from pbtlib.normals import COMPILE, draw_key, fill
from pbtlib.parallel import in_blocks, processors
from pbtlib.problems import AnyProblem, Himmelblau, LinearGaussian, Problem, Quadratic

__all__ = ["Particles", "Trace", "UnderdampedParticles", "euler_maruyama", "exact_ou", "gibbs_draw", "underdamped"]

Array = NDArray[np.float64]
S = TypeVar("S")
Train: TypeAlias = Callable[[S, np.random.Generator], "tuple[S, Trace]"]

BLOCK = 4096
"""Agents that one thread trains at a time: their arrays stay in its cache. Results do not depend on it."""
_WIDTH = 256


@dataclass(frozen=True)
class Particles:
    """A population of toy agents.

    Attributes
    ----------
    theta : ndarray, shape (..., N, d)
        Parameters.
    h : ndarray, shape (..., N, p)
        Hyperparameters. Leading axes are independent replicates.

    Raises
    ------
    ValueError
        If there is no agent, or the shapes do not agree.
    """

    theta: Array
    h: Array

    def __post_init__(self) -> None:
        _check_agents(self)


@dataclass(frozen=True)
class UnderdampedParticles:
    """A population whose training has momentum: θ and momentum of shape (..., N, d), h of shape (..., N, p)."""

    theta: Array
    momentum: Array
    h: Array

    def __post_init__(self) -> None:
        _check_agents(self)
        if np.shape(self.momentum) != np.shape(self.theta):
            raise ValueError(f"momentum has shape {np.shape(self.momentum)}; it must be theta's, {self.theta.shape}")


@dataclass(frozen=True)
class Trace:
    """What evaluation may look at: bounded, whatever the number of steps.

    Attributes
    ----------
    fitness : ndarray, shape (..., N, m)
        Fitness after each of the last m steps; the last entry belongs to the state that training returned. The
        time-averaged fitness (23) is its mean over the last axis.
    path : ndarray, shape (..., K, N, d)
        θ after every ``path_every``-th step, oldest first; K = 0 if none was asked for.
    """

    fitness: Array
    path: Array


def euler_maruyama(
    problem: AnyProblem, *, dt: float, steps: int, window: int = 1, path_every: int = 0, threads: int | None = None
) -> Train[Any]:
    r"""Train by the Euler-Maruyama scheme for (1).

    One step is :math:`\theta \leftarrow \theta - \Delta t\,\nabla_\theta L + s(h)\sqrt{\Delta t}\,\Sigma^{1/2}\xi`.

    Weak order 1. For the quadratic example its own invariant variance is :math:`h_2^2/(4(1-\Delta t))`, not the
    :math:`h_2^2/4` of (25). The built-in problems run in one compiled loop; a `Problem` of your own runs block by
    block through its NumPy functions.

    Parameters
    ----------
    problem : Problem, Quadratic, Himmelblau or LinearGaussian
    dt : float
        Time step Δt > 0.
    steps : int
        Number of steps, at least 1.
    window : int
        Number m of last steps whose fitness is recorded, 1 ≤ m ≤ steps.
    path_every : int
        Record θ after every so many steps; 0 for never.
    threads : int, optional
        Number of threads; as many as there are processors by default.

    Returns
    -------
    callable
        ``train(state, rng) -> (state, trace)`` for any state with fields ``theta`` and ``h``.

    Raises
    ------
    ValueError
        If an argument is out of range, a function of the problem returns the wrong shape, its noise is negative or
        not finite, or its Sigma has another size than θ.
    """
    check_number("dt", dt, minimum=0, open_minimum=True)
    Sigma = np.eye(1) if problem.Sigma is None else problem.Sigma
    root = np.sqrt(dt) * np.linalg.cholesky(Sigma)
    if isinstance(problem, Problem):

        def advance(parts: list[Array], h: Array, amplitude: Array, key: np.uint64, agent: int) -> _Segment:
            (theta,) = parts
            noise = _noise(amplitude, root, key, agent, theta.shape[1])

            def segment(start: int, stop: int) -> None:
                for _ in range(start, stop):
                    drift = problem.gradient(theta, h)
                    _check_shape("gradient", drift, theta.shape)
                    np.add(theta, next(noise) - dt * drift, out=theta)

            return segment

        return _trainer(problem, advance, steps, window, path_every, threads)
    matrix = None if isinstance(problem, Himmelblau) else np.eye(problem.d) - dt * _drift_matrix(problem)
    return _compiled(problem, matrix, root, dt, steps, window, path_every, threads)


def exact_ou(
    problem: Quadratic | LinearGaussian,
    *,
    time: float,
    steps: int = 1,
    window: int = 1,
    path_every: int = 0,
    threads: int | None = None,
) -> Train[Any]:
    r"""The exact transition of a linear drift over this time: no discretisation error, whatever the step.

    :math:`\theta(t) = \bar\theta + e^{-At}(\theta(0)-\bar\theta) + s\,C_t^{1/2}\xi` with
    :math:`\bar\theta = Bh+c` and :math:`C_t = \int_0^t e^{-Ar}\Sigma e^{-Ar}dr`.

    Parameters
    ----------
    problem : Quadratic or LinearGaussian
    time : float
        Duration t > 0 of training.
    steps : int
        Number of equal exact steps it is cut into; matters only for what is recorded.
    window, path_every, threads
        As in `euler_maruyama`.

    Returns
    -------
    callable
        ``train(state, rng) -> (state, trace)``.
    """
    check_number("time", time, minimum=0, open_minimum=True)
    check_number("steps", steps, integer=True, minimum=1)
    if not isinstance(problem, (Quadratic, LinearGaussian)):
        raise TypeError(f"problem is {problem!r}; an exact transition needs Quadratic or LinearGaussian")
    step = time / steps
    rates, vectors = np.linalg.eigh(_drift_matrix(problem))
    matrix: Array = (vectors * np.exp(-rates * step)) @ vectors.T
    if isinstance(problem, LinearGaussian):
        covariance = problem.covariance(step)
    else:
        covariance = np.array([[-np.expm1(-4.0 * step) / 4.0]])
    root = np.linalg.cholesky(covariance).astype(np.float64)
    return _compiled(problem, matrix, root, 0.0, steps, window, path_every, threads)


def underdamped(
    problem: AnyProblem,
    *,
    dt: float,
    steps: int,
    friction: float,
    window: int = 1,
    path_every: int = 0,
    threads: int | None = None,
) -> Train[UnderdampedParticles]:
    r"""Gradient descent with momentum, the simplest instance of Remark 1.

    :math:`d\theta = -m\,dt,\quad dm = c(\nabla_\theta L - m)\,dt + s\,c\,dB`: the SDE of Adam with rate
    :math:`c = c_1` once its second moment has settled at the diagonal of Σ = I. With velocity −m it is underdamped
    Langevin dynamics, and its invariant density is proportional to
    :math:`\exp(-\alpha(L + |m|^2/2c))`: the θ-marginal is the Gibbs measure (10), and :math:`m \sim N(0, (cs^2/2) I)`.

    Splitting: half kick, half drift, exact friction and noise, half drift, half kick. Weak order 2; for a quadratic
    loss the invariant law of θ is exact for every stable step.

    Parameters
    ----------
    problem : Problem, Quadratic, Himmelblau or LinearGaussian
        With Σ = I.
    dt, steps, window, path_every, threads
        As in `euler_maruyama`.
    friction : float
        The rate c > 0.

    Returns
    -------
    callable
        ``train(state, rng) -> (state, trace)`` for a state with fields ``theta``, ``momentum`` and ``h``.
    """
    check_number("dt", dt, minimum=0, open_minimum=True)
    check_number("friction", friction, minimum=0, open_minimum=True)
    if problem.Sigma is not None and not np.array_equal(problem.Sigma, np.eye(len(problem.Sigma))):
        raise ValueError(f"problem has Sigma = {problem.Sigma}; momentum needs the identity")
    decay = np.exp(-friction * dt)
    spread = np.sqrt(friction / 2.0 * -np.expm1(-2.0 * friction * dt))

    def advance(parts: list[Array], h: Array, amplitude: Array, key: np.uint64, agent: int) -> _Segment:
        theta, m = parts
        noise = _noise(amplitude, np.array([[spread]]), key, agent, theta.shape[1])

        def segment(start: int, stop: int) -> None:
            drift = problem.gradient(theta, h)
            _check_shape("gradient", drift, theta.shape)
            for _ in range(start, stop):
                m[...] += (0.5 * dt * friction) * drift
                theta[...] -= (0.5 * dt) * m
                m[...] = decay * m + next(noise)
                theta[...] -= (0.5 * dt) * m
                drift = problem.gradient(theta, h)
                m[...] += (0.5 * dt * friction) * drift

        return segment

    return _trainer(problem, advance, steps, window, path_every, threads, ("theta", "momentum"))


def gibbs_draw(problem: Quadratic | Himmelblau | LinearGaussian, *, window: int = 1) -> Train[Any]:
    """Training by the exact draw θ ~ μ_h of Algorithm 2; ``window`` independent draws are recorded, the last is kept.

    Parameters
    ----------
    problem : Quadratic, Himmelblau or LinearGaussian
        Any problem with a method ``equilibrium_sample(h, rng)``.
    window : int
        Number m ≥ 1 of draws.

    Returns
    -------
    callable
        ``train(state, rng) -> (state, trace)``.
    """
    check_number("window", window, integer=True, minimum=1)

    def train(state: S, rng: np.random.Generator) -> tuple[S, Trace]:
        h: Array = state.h  # type: ignore[attr-defined]
        fitness = np.empty((*h.shape[:-1], window))
        for k in range(window):
            theta = problem.equilibrium_sample(h, rng)
            fitness[..., k] = problem.fitness(theta, h)
        return replace(state, theta=theta), Trace(fitness, _no_path(theta))  # type: ignore[type-var]

    return train


# ---------------------------------------------------------------------------------------------- machinery

_Segment: TypeAlias = Callable[[int, int], None]
_Advance: TypeAlias = Callable[[list[Array], Array, Array, np.uint64, int], _Segment]


def _trainer(
    problem: AnyProblem,
    advance: _Advance,
    steps: int,
    window: int,
    path_every: int,
    threads: int | None,
    moving: tuple[str, ...] = ("theta",),
) -> Train[Any]:
    """Cut the agents into blocks, advance each from one recorded step to the next, put the pieces together.

    Within a block the agents are adjacent in memory (component by component), which is what makes NumPy fast.
    """
    check_number("steps", steps, integer=True, minimum=1)
    check_number("window", window, integer=True, minimum=1, maximum=steps)
    check_number("path_every", path_every, integer=True, minimum=0)
    check_number("threads", processors() if threads is None else threads, integer=True, minimum=1)
    snapshots = range(path_every, steps + 1, path_every) if path_every else range(0)
    stops = sorted({*snapshots, *range(steps - window + 1, steps + 1)})

    def train(state: S, rng: np.random.Generator) -> tuple[S, Trace]:
        h: Array = state.h  # type: ignore[attr-defined]
        shape = getattr(state, moving[0]).shape
        lead, d = shape[:-1], shape[-1]
        if getattr(problem, "d", d) != d:
            raise ValueError(f"theta has shape {shape}; it must end in d = {getattr(problem, 'd', d)} for this problem")
        if problem.Sigma is not None and len(problem.Sigma) != d:
            raise ValueError(f"Sigma has shape {np.shape(problem.Sigma)}; theta of shape {shape} needs ({d}, {d})")
        agents = int(np.prod(lead))
        parts = [np.array(getattr(state, name), dtype=np.float64).reshape(agents, d) for name in moving]
        h_flat = np.asarray(h, dtype=np.float64).reshape(agents, h.shape[-1])
        key = draw_key(rng)
        fitness = np.empty((agents, window))
        path = np.empty((len(snapshots), agents, d))

        def work(a: int, b: int) -> None:
            mine, h_mine = [np.asfortranarray(part[a:b]) for part in parts], np.asfortranarray(h_flat[a:b])
            amplitude = problem.noise(h_mine)
            _check_shape("noise", amplitude, (b - a,))
            amplitude = check_array("noise", amplitude, minimum=0)
            run = advance(mine, h_mine, amplitude, key, a)
            now = 0
            for stop in stops:
                run(now, stop)
                now = stop
                if stop in snapshots:
                    path[stop // path_every - 1, a:b] = mine[0]
                if stop > steps - window:
                    values = problem.fitness(mine[0], h_mine)
                    _check_shape("fitness", values, (b - a,))
                    fitness[a:b, stop - steps - 1] = values
            for part, moved in zip(parts, mine, strict=True):
                part[a:b] = moved

        in_blocks(work, agents, BLOCK, threads)
        new = {name: part.reshape(shape) for name, part in zip(moving, parts, strict=True)}
        snapshot = np.moveaxis(path.reshape(len(snapshots), *lead, d), 0, -3)
        return replace(state, **new), Trace(fitness.reshape(*lead, window), snapshot)  # type: ignore[type-var]

    return train


def _compiled(
    problem: Quadratic | Himmelblau | LinearGaussian,
    matrix: Array | None,
    root: Array,
    dt: float,
    steps: int,
    window: int,
    path_every: int,
    threads: int | None,
) -> Train[Any]:
    """Training by the compiled loop: linear with this matrix, or Himmelblau's gradient if there is none."""
    linear = np.zeros((0, 0)) if matrix is None else matrix

    def advance(parts: list[Array], h: Array, amplitude: Array, key: np.uint64, agent: int) -> _Segment:
        (theta,) = parts
        centre = problem.centre(h).T
        deviation = np.ascontiguousarray(theta.T - centre)

        def segment(start: int, stop: int) -> None:
            _advance(deviation, amplitude, linear, root, dt, key, agent, start, stop)
            np.add(centre, deviation, out=theta.T)

        return segment

    return _trainer(problem, advance, steps, window, path_every, threads)


@njit(inline="always", **COMPILE)
def _add_noise(y, s, root, z, key, agent, number):  # type: ignore[no-untyped-def]
    """Add s·root·ξ to y, shape (d, width), where ξ are the agents' next d normals; a 1×1 root is a factor."""
    d = y.shape[0]
    for e in range(d):
        row = (number + e) % 4
        if row == 0:
            fill(z, key, agent, (number + e) // 4)
        for c in range(d):
            factor = (root[0, 0] if c == e else 0.0) if root.size == 1 else root[c, e]
            if factor != 0.0:
                for j in range(s.size):
                    y[c, j] += factor * s[j] * z[row, j]


@njit(**COMPILE)
def _advance(deviation, amplitude, matrix, root, dt, key, agent, start, stop):  # type: ignore[no-untyped-def]
    """Advance the deviation y = θ − centre, shape (d, n), in place from step ``start`` to step ``stop``.

    It follows y ← matrix·y + amplitude·root·ξ, or y ← y − dt ∇H(y) + amplitude·root·ξ if the
    matrix is empty. A fixed number of agents moves together, component by component, so that the inner loops are
    vector instructions.
    """
    d, n = deviation.shape
    z = np.empty((6, _WIDTH))
    y, new, s = np.zeros((d, _WIDTH)), np.zeros((d, _WIDTH)), np.zeros(_WIDTH)
    for a in range(0, n, _WIDTH):
        w = min(_WIDTH, n - a)
        s[:w] = amplitude[a : a + w]
        for c in range(d):
            for j in range(w):
                y[c, j] = deviation[c, a + j]
        if start * d % 4:
            fill(z, key, agent + a, start * d // 4)
        for step in range(start, stop):
            if matrix.size == 0:
                for j in range(_WIDTH):
                    p, q = y[0, j], y[1, j]
                    u, v = p * p + q - 11.0, p + q * q - 7.0
                    new[0, j] = p - dt * (4.0 * p * u + 2.0 * v)
                    new[1, j] = q - dt * (2.0 * u + 4.0 * q * v)
            else:
                for c in range(d):
                    new[c, :] = 0.0
                    for e in range(d):
                        factor = matrix[c, e]
                        if factor != 0.0:
                            for j in range(_WIDTH):
                                new[c, j] += factor * y[e, j]
            _add_noise(new, s, root, z, key, agent + a, step * d)
            y, new = new, y
        for c in range(d):
            for j in range(w):
                deviation[c, a + j] = y[c, j]


@njit(**COMPILE)
def _noise_steps(out, amplitude, root, key, agent, start):  # type: ignore[no-untyped-def]
    """Write amplitude·root·ξ of the steps start … start + k − 1 into out, shape (k, d, n); 4 divides start."""
    k, d, n = out.shape
    z, y, s = np.empty((6, _WIDTH)), np.empty((d, _WIDTH)), np.zeros(_WIDTH)
    for a in range(0, n, _WIDTH):
        w = min(_WIDTH, n - a)
        s[:w] = amplitude[a : a + w]
        for step in range(k):
            y[:] = 0.0
            _add_noise(y, s, root, z, key, agent + a, (start + step) * d)
            out[step, :, a : a + w] = y[:, :w]


def _noise(amplitude: Array, root: Array, key: np.uint64, agent: int, d: int) -> Iterator[Array]:
    """Yield s(h)·R·ξ of one step after the other, shape (n, d), made four steps at a time."""
    out, start = np.empty((4, d, len(amplitude))), 0
    while True:
        _noise_steps(out, amplitude, root, key, agent, start)
        yield from out.transpose(0, 2, 1)
        start += 4


def _drift_matrix(problem: Quadratic | LinearGaussian) -> Array:
    return problem.A if isinstance(problem, LinearGaussian) else 2.0 * np.eye(problem.d)


def _no_path(theta: Array) -> Array:
    return np.empty((*theta.shape[:-2], 0, *theta.shape[-2:]))


def _check_shape(name: str, value: Any, wanted: tuple[int, ...]) -> None:
    if np.shape(value) != wanted:
        raise ValueError(f"{name} of the problem returned shape {np.shape(value)}; it must return {wanted}")


def _check_agents(state: Any) -> None:
    theta, h = np.shape(state.theta), np.shape(state.h)
    if len(theta) < 2 or len(h) < 2 or theta[:-1] != h[:-1]:
        raise ValueError(f"theta has shape {theta} and h {h}; they must be (..., N, d) and (..., N, p)")
    if 0 in theta or 0 in h:
        raise ValueError(f"theta has shape {theta} and h {h}; there must be at least one agent and one replicate")
