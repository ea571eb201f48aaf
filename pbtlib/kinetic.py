r"""The kinetic equation (6), (8) on a grid of θ and h, and the law of Algorithm 1 with infinitely many agents.

A law is an array of cell masses of shape (n_θ, n_h), sum 1. The problem is given by functions of θ and h.

Training T is discretised in θ by the Scharfetter-Gummel flux: the rate from a cell to its neighbour is (D/Δ²) B(αΔL),
B(x) = x/(e^x − 1), D = s²/2, α = 2/s², ΔL the difference of the losses. It is a reversible Markov chain with exactly
the Gibbs weights e^{−αL} as equilibrium, of second order in Δθ, and mass cannot turn negative (central differences
lose that). In time, `solve` takes E explicitly and T implicitly, f ← (1 − Δt T/ε)⁻¹ (f + Δt E[f]): one tridiagonal
solve per step for any ε, and in the limit ε → 0 it becomes the explicit Euler step of the averaged equation on the
same grid. It is of first order in Δt on purpose: no one-step method built from rational functions of T and
unconditionally positive is of higher order. Twice the result at Δt/2 minus that at Δt (a difference of two positive
laws, so for marginals, moments and distances, not as a start) is of second order once Δt is well below ε or far above
it; in between the order is lower and the constant small.

Between the jumps of `algorithm_1` training is exact in time, by the matrix exponential of the discrete T.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from pbtlib.averaged import Grid, check_operator, march, mutation_kernel, tabulate, unchecked_jump
from pbtlib.checks import check_array, check_memory, check_number
from pbtlib.evolution import Rule
from pbtlib.normals import COMPILE

__all__ = ["Model", "algorithm_1", "effective_fitness", "model", "propagator", "relax", "solve"]

Array = NDArray[np.float64]

TOGETHER = 8
"""Columns of h for which `propagator` computes at once: what it holds beside its result is a few of them."""


@dataclass(frozen=True)
class Model:
    """A problem tabulated on a grid; made by `model`.

    Attributes
    ----------
    theta, h : Grid
    up, down : ndarray, shape (n_θ − 1, n_h)
        Rates per unit of inner time from θ-cell i to i + 1, and from i + 1 to i.
    equilibrium : ndarray, shape (n_θ, n_h)
        The Gibbs measure (10): masses of θ given h, each column sums to 1.
    fitness : ndarray, shape (n_θ, n_h)
    kernel : ndarray, shape (n_h, n_h)
        Mutation of h.
    rule : `pbtlib.evolution.Rule`

    Examples
    --------
    >>> from pbtlib.averaged import Grid
    >>> from pbtlib.evolution import Gibbs
    >>> θ, h = Grid(-3.0, 3.0, 40), Grid(-2.0, 2.0, 30)
    >>> m = model(θ, h, loss=lambda θ, h: (θ - h) ** 2, fitness=lambda θ, h: -(θ**2), noise=1.0, sigma=0.3,
    ...           rule=Gibbs(1.0))
    >>> m.equilibrium.shape, bool(abs(m.equilibrium.sum(0) - 1).max() < 1e-12)
    ((40, 30), True)
    """

    theta: Grid
    h: Grid
    up: Array
    down: Array
    equilibrium: Array
    fitness: Array
    kernel: Array
    rule: Rule


def _bernoulli(x: Array) -> Array:
    small = np.abs(x) < 1e-8
    safe = np.where(small, 1.0, np.minimum(x, 690.0))
    return np.where(small, 1 - x / 2, safe / np.expm1(safe))


def model(
    theta: Grid,
    h: Grid,
    *,
    loss: Callable[[Array, Array], ArrayLike],
    fitness: Callable[[Array, Array], ArrayLike],
    noise: float | Callable[[Array], ArrayLike],
    sigma: float,
    rule: Rule,
    boundary: str = "reflect",
) -> Model:
    """Tabulate a problem with one parameter and one hyperparameter.

    Parameters
    ----------
    theta, h : Grid
        Wide enough that no mass is lost sight of: nothing leaves the grid, trajectories end at its walls.
    loss, fitness : callable
        L(θ,h) and F(θ,h), vectorised.
    noise : float or callable
        The amplitude s > 0, or s(h).
    sigma : float
        Mutation strength σ, 0 or at least h.step.
    rule : `pbtlib.evolution.Rule`
        Selection rule of `pbtlib.evolution`, such as ``Gibbs(beta)``.
    boundary : {"reflect", "project"}
        What mutation does at the ends of the h grid.

    Returns
    -------
    Model

    Examples
    --------
    >>> import numpy as np
    >>> from pbtlib.averaged import Grid, cell_masses
    >>> from pbtlib.evolution import Gibbs
    >>> grid = Grid(-4.0, 4.0, 81)
    >>> m = model(grid, grid, loss=lambda θ, h: (θ - h) ** 2, fitness=lambda θ, h: -(θ**2), noise=0.6, sigma=0.3,
    ...           rule=Gibbs(1.0))
    >>> start = cell_masses(lambda θ, h: np.exp(-2 * (θ - 1.5) ** 2 - 2 * (h + 1) ** 2), grid, grid)
    >>> end = solve(start, m, 2.0, dt=0.05)
    >>> bool(abs(end.sum() - 1) < 1e-12 and end.min() >= 0)
    True
    """
    level = tabulate(loss, theta, h)
    amplitude = tabulate((lambda x: np.full(x.shape, noise)) if isinstance(noise, (int, float)) else noise, h)
    if not (amplitude > 0).all():
        raise ValueError(f"noise contains {amplitude.min():g}; the amplitude must be positive for every h on the grid")
    alpha = 2 / amplitude**2
    difference = alpha * np.diff(level, axis=0)
    rate = amplitude**2 / 2 / theta.step**2
    exponent = -alpha * level
    equilibrium = np.exp(np.maximum(exponent - logsumexp(exponent, axis=0), -745.0))
    kernel = mutation_kernel(h, sigma, boundary=boundary)
    up, down = rate * _bernoulli(difference), rate * _bernoulli(-difference)
    return Model(theta, h, up, down, equilibrium, tabulate(fitness, theta, h), kernel, rule)


def effective_fitness(model: Model, beta: float = 1.0) -> Array:
    """Return 𝓕_β(h) = (1/β) log ∫e^{βF} dμ_h, (11), with the Gibbs measure of the grid; shape (n_h,).

    Examples
    --------
    >>> from pbtlib import Gibbs, averaged
    >>> g = averaged.Grid(-3.0, 3.0, 41)
    >>> m = model(g, g, loss=lambda θ, h: (θ - h) ** 2, fitness=lambda θ, h: -(θ**2), noise=1, sigma=0.3, rule=Gibbs())
    >>> int(effective_fitness(m).argmax())      # h = 0, in the middle
    20
    """
    check_number("beta", beta, minimum=0, open_minimum=True)
    effective: Array = logsumexp(beta * model.fitness, axis=0, b=model.equilibrium) / beta
    return effective


# ---------------------------------------------------------------------------------------------------- training


@dataclass(frozen=True)
class _Resolvent:
    """Elimination factors of 1 − zT, computed without a subtraction, so that mass stays exact for any z."""

    lower: Array
    upper: Array
    inverse: Array


def _factor(model: Model, z: float) -> _Resolvent:
    up, down = z * model.up, z * model.down
    n = model.theta.n
    lower, inverse = np.empty_like(up), np.empty((n, model.h.n))
    own = np.ones(model.h.n)
    for i in range(n - 1):
        pivot = own + up[i]
        inverse[i] = 1 / pivot
        lower[i] = up[i] * inverse[i]
        own = 1 + down[i] * (own * inverse[i])
    inverse[n - 1] = 1 / own
    return _Resolvent(lower, down * inverse[:-1], inverse)


def _resolve(factors: _Resolvent, mass: Array) -> Array:
    """Return (1 − zT)⁻¹ mass: every operation adds or multiplies positive numbers."""
    x = np.array(mass, order="C")
    _substitute(x, factors.lower, factors.upper, factors.inverse)
    return x


@njit(nogil=True, cache=COMPILE["cache"], error_model="numpy")
def _substitute(x, lower, upper, inverse):  # type: ignore[no-untyped-def]
    """Eliminate downwards, then upwards, all columns of x, shape (n_θ, n_h), side by side."""
    for i in range(1, len(x)):
        for j in range(x.shape[1]):
            x[i, j] += lower[i - 1, j] * x[i - 1, j]
    for j in range(x.shape[1]):
        x[-1, j] *= inverse[-1, j]
    for i in range(len(x) - 2, -1, -1):
        for j in range(x.shape[1]):
            x[i, j] = x[i, j] * inverse[i, j] + upper[i, j] * x[i + 1, j]


def relax(mass: Array, model: Model, time: float, *, steps: int = 1) -> Array:
    """Train without selection: the law after an inner time, by implicit Euler steps.

    Parameters
    ----------
    mass : ndarray, shape (n_θ, n_h)
        Training is linear: a difference of two laws, of either sign, is trained as well.
    model : Model
    time : float
        At least 0. A single step of very long time leads to the Gibbs measure.
    steps : int
        First order in time/steps.

    Examples
    --------
    >>> from pbtlib import Gibbs, averaged
    >>> g = averaged.Grid(-3.0, 3.0, 41)
    >>> m = model(g, g, loss=lambda θ, h: (θ - h) ** 2, fitness=lambda θ, h: -(θ**2), noise=1, sigma=0.3, rule=Gibbs())
    >>> law = relax(m.equilibrium[::-1] / 41, m, 1e9)
    >>> bool(abs(41 * law - m.equilibrium).max() < 1e-6)
    True
    """
    check_number("time", time, minimum=0)
    check_number("steps", steps, integer=True, minimum=1)
    law, factors = _check_law(mass, model, minimum=-np.inf), _factor(model, time / steps)
    for _ in range(int(steps)):
        law = _resolve(factors, law)
    return law


def propagator(model: Model, time: float) -> Array:
    """Return exp(time·T) for the discrete T, exactly in time and without negative entries.

    Parameters
    ----------
    model : Model
    time : float
        At least 0.

    Returns
    -------
    ndarray, shape (n_h, n_θ, n_θ)
        Acts on columns of masses. Memory n_h n_θ², 65 MB at 201 × 201.

    Examples
    --------
    >>> from pbtlib import Gibbs, averaged
    >>> g = averaged.Grid(-3.0, 3.0, 41)
    >>> m = model(g, g, loss=lambda θ, h: (θ - h) ** 2, fitness=lambda θ, h: -(θ**2), noise=1, sigma=0.3, rule=Gibbs())
    >>> P = propagator(m, 0.5)
    >>> P.shape, bool(P.min() >= 0)
    ((41, 41, 41), True)
    """
    check_number("time", time, minimum=0)
    n = model.theta.n
    out = np.zeros((n, model.h.n))
    out[:-1] += model.up
    out[1:] += model.down
    fastest = out.max()
    doublings = max(0, int(np.ceil(np.log2(max(8 * time * fastest, 1.0)))))
    short = time / 2**doublings
    check_memory(f"the grid is {n} x {model.h.n}, and exp(time T)", 8.0 * n * n * (model.h.n + 5 * TOGETHER))
    stay = (1 - out / fastest).T[:, :, None]
    up, down = (model.up / fastest).T[:, :, None], (model.down / fastest).T[:, :, None]
    whole = np.empty((model.h.n, n, n))
    for start in range(0, model.h.n, TOGETHER):  # the columns of h have nothing to do with each other
        some = slice(start, start + TOGETHER)
        term = np.broadcast_to(np.eye(n), whole[some].shape).copy()
        result = np.zeros_like(term)
        weight = np.exp(-short * fastest)
        for k in range(1, 12):
            result += weight * term
            moved = stay[some] * term
            moved[:, 1:] += up[some] * term[:, :-1]
            moved[:, :-1] += down[some] * term[:, 1:]
            term, weight = moved, weight * short * fastest / k
        for _ in range(doublings):
            result = result @ result
        whole[some] = result / result.sum(1, keepdims=True)
    return whole


def _check_law(mass: Array, model: Model, minimum: float = 0.0) -> Array:
    law, shape = check_array("mass", mass, minimum=minimum), (model.theta.n, model.h.n)
    if law.shape != shape:
        raise ValueError(f"mass has shape {law.shape}; the model's grid is {shape}")
    return law


# ---------------------------------------------------------------------------------------------------- the limits


def solve(mass: Array, model: Model, times: ArrayLike, *, dt: float = 0.01, epsilon: float = 1.0) -> Array:
    """Solve (8), ∂_t f = T[f]/ε + E[f]; (6) is ε = 1.

    Parameters
    ----------
    mass : ndarray, shape (n_θ, n_h)
        Cell masses at time 0, such as ``averaged.cell_masses(density, theta, h)``.
    model : Model
    times : array_like
        Increasing, or one number; in units of slow time (one expected jump per agent).
    dt : float
        Largest step, of first order; at most 1 (for removal of the unfit less, an error says how much).
    epsilon : float
        ε > 0; the cost does not depend on it.

    Returns
    -------
    ndarray, shape times.shape + (n_θ, n_h)
        Mass 1 to rounding, no entry negative, steady states those of the discrete T/ε + E.

    Examples
    --------
    >>> from pbtlib import Gibbs, averaged
    >>> g = averaged.Grid(-3.0, 3.0, 41)
    >>> m = model(g, g, loss=lambda θ, h: (θ - h) ** 2, fitness=lambda θ, h: -(θ**2), noise=1, sigma=0.3, rule=Gibbs())
    >>> laws = solve(m.equilibrium / 41, m, [1.0, 2.0], dt=0.1, epsilon=0.1)
    >>> laws.shape, bool(abs(laws.sum((1, 2)) - 1).max() < 1e-12)
    ((2, 41, 41), True)
    """
    check_number("epsilon", epsilon, minimum=0, open_minimum=True)
    check_number("dt", dt, minimum=0, maximum=1, open_minimum=True)
    start, fitness, kernels = check_operator(_check_law(mass, model), model.fitness, [model.kernel])
    factors: dict[float, _Resolvent] = {}

    def step(law: Array, length: float) -> Array:
        if length not in factors:
            factors[length] = _factor(model, length / epsilon)
        return _resolve(factors[length], unchecked_jump(law, fitness, model.rule, kernels, length))

    return march(start, times, dt, step)


def algorithm_1(
    mass: Array, model: Model, n_updates: int, *, tau: float = 1.0, inner_time: float | None = None
) -> Array:
    """Return the law of Algorithm 1 with infinitely many agents after 0, 1, …, n updates.

    Parameters
    ----------
    mass : ndarray, shape (n_θ, n_h)
    model : Model
    n_updates : int
        At least 0.
    tau : float
        0 < τ ≤ 1: the share of agents that jump at each update, and the slow time between updates.
    inner_time : float, optional
        Training time between updates; τ by default, as in Algorithm 1, τ/ε with two time scales.

    Returns
    -------
    ndarray, shape (n_updates + 1, n_θ, n_h)
        The laws just after each update. Training is exact in time.

    Examples
    --------
    >>> from pbtlib import Gibbs, averaged
    >>> g = averaged.Grid(-3.0, 3.0, 41)
    >>> m = model(g, g, loss=lambda θ, h: (θ - h) ** 2, fitness=lambda θ, h: -(θ**2), noise=1, sigma=0.3, rule=Gibbs())
    >>> laws = algorithm_1(m.equilibrium / 41, m, 3, tau=0.5)
    >>> laws.shape, bool(abs(laws.sum((1, 2)) - 1).max() < 1e-12)
    ((4, 41, 41), True)
    """
    check_number("n_updates", n_updates, integer=True, minimum=0)
    if inner_time is not None:
        check_number("inner_time", inner_time, minimum=0)
    check_number("tau", tau, minimum=0, maximum=1, open_minimum=True)
    start, fitness, kernels = check_operator(_check_law(mass, model), model.fitness, [model.kernel])
    train, laws = propagator(model, tau if inner_time is None else inner_time), [start]
    for _ in range(int(n_updates)):
        trained = np.matmul(train, laws[-1].T[:, :, None])[:, :, 0].T
        laws.append(unchecked_jump(trained, fitness, model.rule, kernels, tau))
    return np.array(laws)
