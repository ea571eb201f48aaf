r"""Luck that is inherited: the effective fitness of a population whose training does not forget (Appendix E).

Between two updates training lasts a time t. A lineage that keeps its hyperparameters h grows per update by the factor
:math:`\rho(h,t)`, the largest eigenvalue of :math:`\sqrt w P_t\sqrt w` with :math:`w = e^{\beta F}` and the semigroup
:math:`P_t` of training. The population climbs :math:`\mathcal F_t = \frac1\beta\log\rho`, which lies above the
effective fitness (11) and tends to it as t grows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.optimize import brentq

from pbtlib.checks import check_array, check_number, check_together

__all__ = ["Ladder", "from_series", "gaussian", "lazy", "perron"]

Array = NDArray[np.float64]


def gaussian(offset: ArrayLike, variance: ArrayLike, memory: ArrayLike, beta: float = 1.0) -> Array:
    r"""Return :math:`\mathcal F_t` for the fitness −(θ − θ*)² and Gaussian training, one coordinate: Theorem E5.

    Parameters
    ----------
    offset : array_like
        Equilibrium mean of θ minus the optimum θ*.
    variance : array_like
        Equilibrium variance v ≥ 0 of θ.
    memory : array_like
        Autocorrelation q of θ over one round of training, 0 ≤ q < 1; at 0 the result is the effective fitness (11).
    beta : float
        Selection pressure β > 0.

    Returns
    -------
    ndarray
        In the broadcast shape. Independent coordinates add, and so do constants of F.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> bool(gaussian(0.5, 0.1, memory=0.6) > gaussian(0.5, 0.1, memory=0.0))
    True
    """
    check_number("beta", beta, minimum=0, open_minimum=True)
    delta, v = check_array("offset", offset), check_array("variance", variance, minimum=0)
    q = check_array("memory", memory, minimum=0)
    check_together(offset=delta, variance=v, memory=q)
    if not (q < 1).all():
        raise ValueError(f"memory contains {q.max():g}; every entry must be < 1")
    k = 2.0 * beta
    half = 0.5 * (1 - q**2) * (1 - k * v)
    load = (1 - q**2) * v
    root = np.sqrt(half**2 + k * load)
    # kV² + 2·half·V = load: the form of the positive root that does not cancel
    V = np.where(half >= 0, load / (root + np.abs(half)), (root + np.abs(half)) / k)
    grown = 1 + k * V
    return -np.log(grown) / k - delta**2 * (1 - q) ** 2 * grown / (grown - q) ** 2


def _atoms(law: ArrayLike, fitness: ArrayLike) -> tuple[Array, Array]:
    """Masses, all positive, and fitness of finitely many states."""
    mu, F = check_array("law", law, minimum=0, open_minimum=True), check_array("fitness", fitness)
    if mu.ndim != 1 or F.shape != mu.shape:
        raise ValueError(f"law has shape {mu.shape}, fitness {F.shape}; both must be (n,)")
    return mu, F


def perron(kernel: ArrayLike, law: ArrayLike, fitness: ArrayLike, beta: float = 1.0) -> float:
    r"""Return :math:`\mathcal F_t` of a reversible chain with finitely many states, by its largest eigenvalue (E1).

    Parameters
    ----------
    kernel : array_like, shape (n, n)
        Probability of going from state i (row) to state j in one round of training.
    law : array_like, shape (n,)
        Equilibrium μ of the chain, positive, with μ_i K_ij = μ_j K_ji.
    fitness : array_like, shape (n,)
    beta : float
        Selection pressure β > 0.

    Raises
    ------
    ValueError
        If the kernel is not reversible with respect to the law, or has a row that does not sum to 1.

    Examples
    --------
    >>> fresh = [[0.5, 0.5], [0.5, 0.5]]                      # training forgets all: (11)
    >>> round(perron(fresh, [0.5, 0.5], [0.0, 1.0]), 6) == round(float(np.log((1 + np.e) / 2)), 6)
    True
    """
    check_number("beta", beta, minimum=0, open_minimum=True)
    mu, F = _atoms(law, fitness)
    n = mu.size
    K = check_array("kernel", kernel, minimum=0)
    if K.shape != (n, n):
        raise ValueError(f"kernel has shape {K.shape}, law {mu.shape}; it must be ({n}, {n})")
    if not np.allclose(K.sum(1), 1, atol=1e-9):
        raise ValueError(f"kernel has a row that sums to {K.sum(1)[np.argmax(abs(K.sum(1) - 1))]:g}; it must sum to 1")
    flow = mu[:, None] * K
    if not np.allclose(flow, flow.T, rtol=1e-7, atol=1e-10 * flow.max()):
        raise ValueError("kernel is not reversible with respect to law; law_i K_ij must equal law_j K_ji")
    root = np.exp(0.5 * beta * (F - F.max()))
    M = root[:, None] * flow / np.sqrt(np.outer(mu, mu)) * root
    top = eigh(0.5 * (M + M.T), eigvals_only=True, subset_by_index=[n - 1, n - 1])[0]
    return float(F.max() + np.log(top) / beta)


def lazy(law: ArrayLike, fitness: ArrayLike, memory: float, beta: float = 1.0) -> float:
    r"""Return :math:`\mathcal F_t` of training that keeps its weights with probability q and else draws them anew.

    No reversible training with this equilibrium and memory has a larger one: Theorem E3.

    Parameters
    ----------
    law : array_like, shape (n,)
        Equilibrium, or the weights of a quadrature for it; normalised here.
    fitness : array_like, shape (n,)
    memory : float
        q in [0, 1).
    beta : float
        Selection pressure β > 0.

    Examples
    --------
    >>> lazy([0.5, 0.5], [0.0, 1.0], memory=0.5) > lazy([0.5, 0.5], [0.0, 1.0], memory=0.0)
    True
    """
    check_number("beta", beta, minimum=0, open_minimum=True)
    check_number("memory", memory, minimum=0, maximum=1, open_maximum=True)
    mu, F = _atoms(law, fitness)
    mu, w = mu / mu.sum(), np.exp(beta * (F - F.max()))  # the largest weight is 1

    def excess(rho: float) -> float:
        return float((1 - memory) * np.sum(mu * w / (rho - memory * w)) - 1)

    least = max(memory * (1 + 1e-13), 1e-300)  # the excess is infinite at the memory itself
    return float(F.max() + np.log(brentq(excess, least, 1.0, xtol=1e-15)) / beta)


@dataclass(frozen=True)
class Ladder:
    r"""Estimates that rise from the effective fitness (11), entry 0, towards :math:`\mathcal F_t`: Theorem E9.

    Attributes
    ----------
    value, error : ndarray, shape (K,)
        :math:`\frac1\beta\log(M_{k+1}/M_k)` for k = 0 … K − 1, and standard errors over the agents.

    Examples
    --------
    >>> ladder = from_series(np.random.default_rng(1).normal(size=(100, 4)), steps=3)
    >>> ladder.value.shape, ladder.error.shape
    ((3,), (3,))
    """

    value: Array
    error: Array


def from_series(fitness: ArrayLike, beta: float = 1.0, steps: int = 2) -> Ladder:
    r"""Estimate :math:`\mathcal F_t` from agents that trained at one h in equilibrium, without selection.

    Parameters
    ----------
    fitness : array_like, shape (agents, readings)
        One row per independent agent, readings one round of training apart.
    beta : float
        Selection pressure β > 0.
    steps : int
        Number K of estimates. The variance grows exponentially in K: few memory times are enough.

    Returns
    -------
    Ladder
        In expectation (up to a bias of order one over the number of agents) a lower bound of 𝓕_t at every step.

    Raises
    ------
    ValueError
        If there are fewer than two agents, or fewer readings than steps.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> luck = np.repeat(rng.normal(size=(5000, 1)), 4, axis=1)        # never forgotten
    >>> bool(np.diff(from_series(luck, 0.5, 3).value).min() > 0)
    True
    """
    check_number("beta", beta, minimum=0, open_minimum=True)
    check_number("steps", steps, integer=True, minimum=1)
    F = check_array("fitness", fitness)
    if F.ndim != 2:
        raise ValueError(f"fitness has shape {F.shape}; it must be (agents, readings)")
    agents, readings = F.shape
    if agents < 2 or readings < steps:
        raise ValueError(f"fitness has shape {F.shape}; it needs at least 2 agents and steps = {steps} readings")
    top = F.max()
    sums = np.concatenate([np.zeros((agents, 1, readings)), np.full((agents, steps, readings), np.nan)], axis=1)
    for k in range(1, steps + 1):  # sums of k readings in a row, from every start
        starts = readings - k + 1
        sums[:, k, :starts] = np.lib.stride_tricks.sliding_window_view(F - top, k, axis=1).sum(-1)
    moments = np.nanmean(np.exp(beta * sums), axis=2)  # an agent's own estimate of M_0 … M_K
    mean = moments.mean(0)
    value = top + np.diff(np.log(mean)) / beta
    parts = moments / mean
    error = np.std(np.diff(parts, axis=1), axis=0, ddof=1) / np.sqrt(agents) / beta
    return Ladder(value, error)
