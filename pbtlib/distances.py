r"""Distances between laws: Wasserstein-1 on the line, the bounded-Lipschitz norm (7) in any dimension.

By the duality (31) the bounded-Lipschitz norm (maximum norm: ‖φ‖_∞ ≤ 1, Lip φ ≤ 1) of the difference of two
probability measures is the cost of the best transport when a path costs min(|x − y|, 2).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

from pbtlib.checks import check_array, check_number, check_together

__all__ = ["bounded_lipschitz", "two_sample_floor", "wasserstein_1", "wasserstein_1_grid"]

Array = NDArray[np.float64]


def wasserstein_1(
    x: ArrayLike, y: ArrayLike, x_mass: ArrayLike | None = None, y_mass: ArrayLike | None = None
) -> float:
    """Return W₁ between two laws on the line, given by atoms.

    Parameters
    ----------
    x, y : array_like, shapes (N,) and (M,)
        The atoms.
    x_mass, y_mass : array_like, optional
        Their masses, normalised here; equal by default.

    Examples
    --------
    >>> wasserstein_1([0.0, 1.0], [1.0, 2.0])
    1.0
    """
    a, b = check_array("x", x, min_ndim=1), check_array("y", y, min_ndim=1)
    if a.ndim != 1 or b.ndim != 1:
        raise ValueError(f"x and y have shapes {a.shape} and {b.shape}; they must be (N,) and (M,)")
    return float(wasserstein_distance(a, b, _masses("x_mass", x_mass, len(a)), _masses("y_mass", y_mass, len(b))))


def _masses(name: str, value: ArrayLike | None, n: int) -> Array:
    """Masses of n atoms, normalised; equal where none are given."""
    mass = np.ones(n) if value is None else check_array(name, value, minimum=0)
    if mass.shape != (n,):
        raise ValueError(f"{name} has shape {mass.shape}; it must be ({n},), one per atom of {name[0]}")
    if not 0 < mass.sum() < np.inf:
        raise ValueError(f"{name} sums to {mass.sum():g}; each law needs some mass, and a finite one")
    share: Array = mass / mass.sum()
    return share


def wasserstein_1_grid(first: ArrayLike, second: ArrayLike, step: float) -> Array:
    """Return W₁ between laws on one uniform grid: the grid step times Σ|difference of the distribution functions|.

    Parameters
    ----------
    first, second : array_like, shape (..., n)
        Masses of the cells, normalised here; leading axes are broadcast.
    step : float
        Distance between neighbouring cell centres.

    Raises
    ------
    ValueError
        If a mass is negative, or a law without any.

    Examples
    --------
    >>> float(wasserstein_1_grid([1.0, 0.0, 0.0], [0.0, 0.0, 1.0], step=0.5))
    1.0
    """
    a, b = check_array("first", first, min_ndim=1, minimum=0), check_array("second", second, min_ndim=1, minimum=0)
    check_number("step", step, minimum=0, open_minimum=True)
    check_together(first=a, second=b)
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"first has {a.shape[-1]} cells, second {b.shape[-1]}; they must be as many")
    for name, law in (("first", a), ("second", b)):
        if not ((law.sum(-1) > 0) & np.isfinite(law.sum(-1))).all():
            raise ValueError(f"{name} sums to zero or beyond all numbers; each law needs some mass, and a finite one")
    a, b = a / a.sum(-1, keepdims=True), b / b.sum(-1, keepdims=True)
    distance: Array = step * np.abs(np.cumsum(a - b, axis=-1)).sum(-1)
    return distance


def bounded_lipschitz(
    x: ArrayLike, y: ArrayLike, x_mass: ArrayLike | None = None, y_mass: ArrayLike | None = None
) -> float:
    """Return the bounded-Lipschitz norm (7) of the difference of two laws given by atoms in R^D.

    Parameters
    ----------
    x, y : array_like, shapes (N, D) and (M, D)
        The atoms; the distance is Euclidean.
    x_mass, y_mass : array_like, optional
        Their masses, normalised here; equal by default.

    Returns
    -------
    float
        The exact optimum, between 0 and 2; time grows like N³, memory like N·M. Two samples of one size are assigned
        to each other, atom by atom, which is optimal for equal masses and faster; else the network simplex of POT.

    Raises
    ------
    RuntimeError
        If the solver stops short of an optimum.

    Examples
    --------
    >>> bounded_lipschitz([[0.0]], [[0.5]]), bounded_lipschitz([[0.0]], [[5.0]])
    (0.5, 2.0)
    """
    a, b = check_array("x", x, min_ndim=2), check_array("y", y, min_ndim=2)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"x and y have shapes {a.shape} and {b.shape}; they must be (N, D) and (M, D)")
    u, v = _masses("x_mass", x_mass, len(a)), _masses("y_mass", y_mass, len(b))
    cost = np.minimum(cdist(a, b), 2.0)  # exact zeros; |x|² + |y|² − 2xy would cancel
    if len(a) == len(b) and x_mass is None and y_mass is None:
        return float(cost[linear_sum_assignment(cost)].mean())
    os.environ.setdefault("POT_BACKEND_DISABLE_PYTORCH", "1")  # POT would load torch, seconds that arrays don't need
    import ot

    value, log = ot.emd2(u, v, cost, numItermax=10_000_000, log=True)
    if log["warning"] is not None:
        raise RuntimeError(f"optimal transport did not converge: {log['warning']}")
    return float(value)


def two_sample_floor(
    draw: Callable[[np.random.Generator, int], Any],
    n: int,
    rng: np.random.Generator,
    *,
    distance: Callable[[Any, Any], float] = bounded_lipschitz,
    repeats: int = 20,
) -> Array:
    """Return distances between pairs of independent samples of one law: what a sample of this size cannot resolve.

    Parameters
    ----------
    draw : callable
        ``draw(rng, n)`` returns n independent draws in the form that the distance takes.
    n : int
        Sample size, at least 1.
    rng : numpy.random.Generator
    distance : callable
    repeats : int
        Number of pairs, at least 1.

    Returns
    -------
    ndarray, shape (repeats,)

    Examples
    --------
    >>> import numpy as np
    >>> draw = lambda rng, n: rng.normal(size=(n, 1))
    >>> small, large = (two_sample_floor(draw, n, np.random.default_rng(0), repeats=5).mean() for n in (10, 300))
    >>> bool(large < small)
    True
    """
    check_number("n", n, integer=True, minimum=1)
    check_number("repeats", repeats, integer=True, minimum=1)
    return np.array([distance(draw(rng, n), draw(rng, n)) for _ in range(repeats)])
