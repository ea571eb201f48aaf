r"""The averaged equation (13) and its weak-selection limit (16) on a grid, in one and two dimensions.

A law is an array of cell masses (density times cell volume, sum 1) on the centres of a uniform `Grid` per axis.
Mutation is a matrix per axis (`mutation_kernel`): a Gaussian sampled on the lattice and normalised. Its entries are not
negative, mass is kept to rounding, and its variance is σ² to better than 10⁻⁶ as soon as σ is at least one cell, so
that smooth laws are convolved to spectral accuracy; in contrast to a Fourier transform, far tails keep their relative
precision, which strong selection needs. At the ends of the grid mutants are reflected (the kernel stays symmetric) or
projected, as Π_H in (2) does.

`slow_operator` is E in (5) and Ē in (12) alike: it acts on the trailing axes that have a kernel, whatever stands in
front of them. The rules are those of the particles (`pbtlib.evolution`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import LinearOperator, eigsh

from pbtlib.checks import check_array, check_number
from pbtlib.evolution import Rule, check_rule
from pbtlib.gaussian import generation_weights

__all__ = [
    "Grid",
    "SteadyState",
    "cell_masses",
    "jump",
    "log_rayleigh",
    "march",
    "mutation_kernel",
    "replicator_mutator",
    "semigroup",
    "slow_operator",
    "solve",
    "steady_state",
    "tabulate",
]

Array = NDArray[np.float64]

MOST_STEPS = 10**7
"""Steps of `march` and generations of `semigroup` at most: beyond, an input is wrong rather than long."""


@dataclass(frozen=True)
class Grid:
    """A uniform grid of n cells on [lower, upper].

    Attributes
    ----------
    lower, upper : float
        The ends of the interval, edges of the outermost cells.
    n : int
        Number of cells, at least 2.

    Examples
    --------
    >>> Grid(0.0, 1.0, 4).points.tolist()
    [0.125, 0.375, 0.625, 0.875]
    """

    lower: float
    upper: float
    n: int

    def __post_init__(self) -> None:
        check_number("lower", self.lower)
        check_number("upper", self.upper)
        if not self.lower < self.upper:
            raise ValueError(f"lower is {self.lower} and upper {self.upper}; lower must be below upper")
        check_number("n", self.n, integer=True, minimum=2)

    @property
    def step(self) -> float:
        """Width of a cell."""
        return (self.upper - self.lower) / self.n

    @property
    def points(self) -> Array:
        """Centres of the cells, shape (n,)."""
        return np.asarray(self.lower + self.step * (np.arange(self.n) + 0.5), dtype=np.float64)


def tabulate(function: Callable[..., ArrayLike], *grids: Grid) -> Array:
    """Return the values of a function at the cell centres of a product of grids.

    Parameters
    ----------
    function : callable
        Of as many arrays as there are grids, vectorised.
    *grids : Grid

    Returns
    -------
    ndarray, shape (n_1, …)

    Examples
    --------
    >>> tabulate(lambda x, y: x * y, Grid(0.0, 1.0, 2), Grid(0.0, 2.0, 2)).tolist()
    [[0.125, 0.375], [0.375, 1.125]]
    """
    mesh = np.meshgrid(*(g.points for g in grids), indexing="ij")
    return np.array(np.broadcast_to(check_array("function", function(*mesh)), mesh[0].shape))


def cell_masses(density: Callable[..., ArrayLike], *grids: Grid) -> Array:
    """Return the cell masses of a density known up to a factor: its values at the centres, normalised to sum 1.

    Examples
    --------
    >>> import numpy as np
    >>> cell_masses(lambda h: np.where(h > 0, 3.0, 1.0), Grid(-1.0, 1.0, 2)).tolist()
    [0.25, 0.75]
    """
    values = check_array("density", tabulate(density, *grids), minimum=0)
    if not values.sum() > 0:
        raise ValueError("density is zero on the whole grid; it must have some mass there")
    probabilities: Array = values / values.sum()
    return probabilities


def mutation_kernel(grid: Grid, sigma: float, *, boundary: str = "reflect") -> Array:
    """Return the matrix of K_σ on a grid: entry (i, j) is the probability that a mutant of cell j lands in cell i.

    Parameters
    ----------
    grid : Grid
    sigma : float
        0 (no mutation) or at least one grid step: a narrower Gaussian is not seen by the grid; at most 10⁶ times the
        grid's length.
    boundary : {"reflect", "project"}
        Mutants beyond an end are reflected, or put into the last cell as the projection Π_H does.

    Returns
    -------
    ndarray, shape (n, n)
        Not negative, columns sum to 1; symmetric if reflected. Steps beyond 30σ have probability 0.

    Raises
    ------
    ValueError
        If σ is negative, between 0 and the grid step, or too large, or the boundary has another name.

    Examples
    --------
    >>> kernel = mutation_kernel(Grid(-1.0, 1.0, 20), 0.2)
    >>> kernel.shape, bool(abs(kernel.sum(0) - 1).max() < 1e-12)
    ((20, 20), True)
    """
    check_number("sigma", sigma, minimum=0, maximum=1e6 * (grid.upper - grid.lower))
    if 0 < sigma < grid.step * (1 - 1e-12):
        raise ValueError(
            f"sigma is {sigma:g}, less than the grid step {grid.step:g}; the grid needs at least "
            f"{np.ceil((grid.upper - grid.lower) / sigma):.0f} cells, or sigma = 0"
        )
    if boundary not in ("reflect", "project"):
        raise ValueError(f"boundary is {boundary!r}; allowed are 'reflect' and 'project'")
    reach = int(np.ceil(30 * sigma / grid.step))
    move = np.arange(-reach, reach + 1)
    probability = np.exp(-((move * grid.step / sigma) ** 2) / 2) if reach else np.ones(1)
    probability /= probability.sum()
    start = np.arange(grid.n)
    target = move[:, None] + start
    if boundary == "reflect":
        target = np.mod(target, 2 * grid.n)
        target = np.minimum(target, 2 * grid.n - 1 - target)
    else:
        target = np.clip(target, 0, grid.n - 1)
    kernel = np.zeros((grid.n, grid.n))
    np.add.at(kernel, (target, start), probability[:, None])
    return kernel


def _convolve(mass: Array, kernels: Sequence[Array]) -> Array:
    mass = mass @ kernels[-1].T
    return mass if len(kernels) == 1 else kernels[0] @ mass


def _check_kernels(kernels: Iterable[Array], law: Array, name: str = "mass") -> list[Array]:
    if not np.iterable(kernels):
        raise TypeError(f"kernels is {kernels!r:.80}; it must be a sequence of one or two matrices")
    if not 1 <= len(given := list(kernels)) <= min(2, law.ndim):
        raise ValueError(
            f"kernels has {len(given)} entries; it must be one or two matrices, for the last axes of {name}, whose "
            f"shape is {law.shape}"
        )
    checked = [check_array("kernels", kernel) for kernel in given]
    for axis, kernel in zip((-1, -2), reversed(checked), strict=False):
        if kernel.shape != (law.shape[axis],) * 2:
            raise ValueError(
                f"kernels has one of shape {kernel.shape}; axis {axis} of {name} has {law.shape[axis]} cells"
            )
    return checked


def slow_operator(mass: Array, fitness: Array, rule: Rule, kernels: Sequence[Array]) -> tuple[Array, Array]:
    """Return gain and loss per unit time of E in (5) or Ē in (12), so that E[f] = gain − loss.

    Parameters
    ----------
    mass : ndarray, shape (..., n_1[, n_2])
        Cell masses.
    fitness : ndarray, same shape
        F(θ,h) for (5), effective fitness 𝓕(h) for (12).
    rule : `pbtlib.evolution.Rule`
        From `pbtlib.evolution`; it sees all cells as one population.
    kernels : sequence of ndarray
        Mutation matrices of the last one or two axes.

    Returns
    -------
    gain, loss : ndarray
        Both sum to the total rate of jumps.

    Raises
    ------
    ValueError
        If the shapes do not agree, or the rule's gain is no law or its loss negative.

    Examples
    --------
    >>> import numpy as np
    >>> from pbtlib.evolution import Gibbs
    >>> law, fitness = np.array([0.5, 0.5]), np.array([0.0, np.log(3.0)])
    >>> gain, loss = slow_operator(law, fitness, Gibbs(1.0), [np.eye(2)])
    >>> gain.round(6).tolist(), loss.tolist()
    ([0.25, 0.75], [0.5, 0.5])
    """
    mass, fitness, kernels = check_operator(mass, fitness, kernels)
    return _slow_operator(mass, fitness, rule, kernels)


def check_operator(mass: Array, fitness: Array, kernels: Iterable[Array]) -> tuple[Array, Array, list[Array]]:
    """Return what `slow_operator` acts on, checked: once for all steps of a march."""
    mass, fitness = check_array("mass", mass), check_array("fitness", fitness)
    checked = _check_kernels(kernels, mass)
    if fitness.shape != mass.shape:
        raise ValueError(f"fitness has shape {fitness.shape}, mass {mass.shape}; they must be the same")
    return mass, fitness, checked


def _slow_operator(mass: Array, fitness: Array, rule: Rule, kernels: Sequence[Array]) -> tuple[Array, Array]:
    parents, loss = rule(fitness.ravel(), mass.ravel())
    check_rule(parents, loss, (mass.size,))
    return _convolve((parents * loss.sum()).reshape(mass.shape), kernels), loss.reshape(mass.shape)


def jump(mass: Array, fitness: Array, rule: Rule, kernels: Sequence[Array], tau: float) -> Array:
    """Return the law after one simultaneous update of Algorithm 1 or 2: f + τE[f].

    Parameters
    ----------
    mass, fitness, rule, kernels
        As in `slow_operator`.
    tau : float
        0 < τ ≤ 1. It is also an explicit Euler step of (13).

    Raises
    ------
    ValueError
        If some agents would jump with probability above 1, as removal of the unfit can ask for.

    Examples
    --------
    >>> import numpy as np
    >>> from pbtlib.evolution import Gibbs
    >>> blur = np.array([[0.9, 0.1], [0.1, 0.9]])
    >>> jump(np.array([1.0, 0.0]), np.zeros(2), Gibbs(1.0), [blur], tau=0.5).round(6).tolist()
    [0.95, 0.05]
    """
    check_number("tau", tau, minimum=0, maximum=1, open_minimum=True)
    mass, fitness, kernels = check_operator(mass, fitness, kernels)
    return unchecked_jump(mass, fitness, rule, kernels, tau)


def unchecked_jump(mass: Array, fitness: Array, rule: Rule, kernels: Sequence[Array], tau: float) -> Array:
    """Return what `jump` returns, from arguments that `check_operator` has seen."""
    gain, loss = _slow_operator(mass, fitness, rule, kernels)
    if (tau * loss > mass * (1 + 1e-9)).any():
        largest = (loss[mass > 0] / mass[mass > 0]).max()
        raise ValueError(
            f"agents in some cell would jump with probability {tau * largest:.4g} > 1 in a step of {tau:g}; "
            f"this rule and this law need steps of at most {1 / largest:.3g}"
        )
    return np.maximum(mass - tau * loss, 0.0) + tau * gain


def march(mass: Array, times: ArrayLike, dt: float, step: Callable[[Array, float], Array]) -> Array:
    """Return the laws at increasing times, stacked; each interval is cut into equal steps of at most dt.

    Parameters
    ----------
    mass : ndarray
        The law at time 0.
    times : array_like
        Increasing, or one number.
    dt : float
        Largest step.
    step : callable
        ``step(law, length)`` returns the next law.

    Returns
    -------
    ndarray, shape times.shape + mass.shape

    Raises
    ------
    ValueError
        If times decrease or are negative, dt is not positive, or more than 10⁷ steps would be needed.

    Examples
    --------
    >>> import numpy as np
    >>> march(np.array([1.0]), [1.0, 2.0], 0.5, lambda law, step: law * (1 - step)).tolist()
    [[0.25], [0.0625]]
    """
    mass, moments = check_array("mass", mass), check_array("times", times, minimum=0)
    check_number("dt", dt, minimum=0, open_minimum=True)
    if not moments.max() / dt <= MOST_STEPS:
        raise ValueError(
            f"times go to {moments.max():g} in steps of dt = {dt:g}; at most {MOST_STEPS:g} steps are taken"
        )
    flat = np.atleast_1d(moments).ravel()
    if (np.diff(flat) < 0).any():
        raise ValueError(f"times = {flat} decrease; they must increase")
    law, now, laws = np.array(mass), 0.0, list[Array]()
    for moment in flat:
        steps = int(np.ceil((moment - now) / dt - 1e-9))
        for _ in range(steps):
            law = step(law, float(moment - now) / steps)
        now = float(moment)
        laws.append(law)
    return np.array(laws).reshape(*moments.shape, *mass.shape)


def solve(
    mass: Array, fitness: Array, rule: Rule, kernels: Sequence[Array], times: ArrayLike, *, dt: float = 0.02
) -> Array:
    """Solve (13) by Heun's method: second order, mass to rounding, no negative mass, exact steady states.

    Written as the mean of the law and of two Euler steps, each of which is a `jump`, hence the properties.

    Parameters
    ----------
    mass, fitness, rule, kernels
        As in `slow_operator`, at time 0.
    times : array_like
        Increasing, or one number.
    dt : float
        Largest step; at most 1 (for removal of the unfit less, an error says how much).

    Returns
    -------
    ndarray, shape times.shape + mass.shape

    Raises
    ------
    ValueError
        If times decrease or a step is too long for the rule: see `jump`.
    TypeError
        If dt is no number.

    Examples
    --------
    >>> import numpy as np
    >>> from pbtlib.evolution import Gibbs
    >>> grid = Grid(-4.0, 4.0, 80)
    >>> start = cell_masses(lambda h: np.exp(-((h + 2) ** 2)), grid)
    >>> end = solve(start, -(grid.points**2), Gibbs(1.0), [mutation_kernel(grid, 0.3)], 20.0, dt=0.1)
    >>> bool(abs(end.sum() - 1) < 1e-12), bool(abs(end @ grid.points) < 0.1)      # the optimum is at zero
    (True, True)
    """
    check_number("dt", dt, minimum=0, maximum=1, open_minimum=True)
    mass, fitness, kernels = check_operator(mass, fitness, kernels)

    def heun(law: Array, step: float) -> Array:
        predictor = unchecked_jump(law, fitness, rule, kernels, step)
        return (law + unchecked_jump(predictor, fitness, rule, kernels, step)) / 2

    return march(mass, times, dt, heun)


def _check_law(mass: ArrayLike, name: str, values: ArrayLike) -> tuple[Array, Array]:
    law, values = check_array("mass", mass, minimum=0), check_array(name, values)
    if values.shape != law.shape:
        raise ValueError(f"{name} has shape {values.shape}, mass {law.shape}; they must be the same")
    if not 0 < law.sum() < np.inf:
        raise ValueError(f"mass sums to {law.sum():g}; a law needs some mass, and a finite one")
    return law, values


def semigroup(mass: Array, exponent: Array, kernels: Sequence[Array], times: ArrayLike) -> Array:
    """Solve (13) for Gibbs selection as a time-changed linear semigroup: exact in time.

    With A = K_σ e^𝓕, ρ(t) = exp(sA)ρ₀ normalised and ∫exp(sA)ρ₀ = e^t. The exponential series, whose terms are all
    positive, averages over generations: ρ(t) = Σ_n p_n ρ_n, ρ_n the law after n simultaneous updates.

    Parameters
    ----------
    mass, kernels
        As in `slow_operator`.
    exponent : ndarray
        Exponent β𝓕 of the weights, where `solve` and `jump` take 𝓕 and the rule its β.
    times : array_like
        In any order, or one number, up to 10⁷; the cost grows with the longest.

    Returns
    -------
    ndarray, shape times.shape + mass.shape

    Raises
    ------
    ValueError
        If mass and exponent have different shapes, are not finite, there is no mass, a kernel has another size, or a
        time is negative or beyond 10⁷, which so many generations would have to be summed for.

    Examples
    --------
    >>> import numpy as np
    >>> from pbtlib.evolution import Gibbs
    >>> law, fitness, still = np.array([0.5, 0.5]), np.array([0.0, 1.0]), [np.eye(2)]
    >>> exact, close = semigroup(law, fitness, still, 1.0), solve(law, fitness, Gibbs(1.0), still, 1.0, dt=0.01)
    >>> bool(abs(exact - close).max() < 1e-5)
    True
    """
    mass, exponent = _check_law(mass, "exponent", exponent)
    kernels, moments = _check_kernels(kernels, mass), check_array("times", times, minimum=0)
    if moments.max() > MOST_STEPS:
        raise ValueError(f"times go to {moments.max():g}; at most {MOST_STEPS:g} generations are summed")
    weight = np.exp(np.maximum(exponent - exponent.max(), -700.0))
    laws, log_z, result = [mass / mass.sum()], list[float](), list[Array]()
    for moment in np.atleast_1d(moments).ravel():
        while (share := generation_weights(log_z, float(moment))) is None:
            for _ in range(len(log_z) + 64):
                selected = weight * laws[-1]
                log_z.append(float(np.log(selected.sum())))
                laws.append(_convolve(selected / selected.sum(), kernels))
        result.append(np.tensordot(share, np.array(laws), 1))
    return np.array(result).reshape(*moments.shape, *mass.shape)


@dataclass(frozen=True)
class SteadyState:
    """Steady state of (13) and the top of the spectrum of A = K_σ e^𝓕.

    Attributes
    ----------
    mass : ndarray
        Cell masses of the Perron eigenfunction.
    log_growth : float
        log λ₀.
    ratios : ndarray, shape (k,)
        λ_n/λ₀, decreasing from 1; the second is the factor by which simultaneous updates approach the steady state.

    Examples
    --------
    >>> grid = Grid(-4.0, 4.0, 80)
    >>> state = steady_state(-(grid.points**2), [mutation_kernel(grid, 0.5)])
    >>> state.mass.shape, round(state.rate, 3)      # λ₁/λ₀ = 1/2 for this curvature and σ
    ((80,), 0.5)
    """

    mass: Array
    log_growth: float
    ratios: Array

    @property
    def rate(self) -> float:
        """Relaxation rate 1 − λ₁/λ₀ of (13), per unit time."""
        return float(1 - self.ratios[1])


def steady_state(exponent: Array, kernels: Sequence[Array], *, k: int = 2) -> SteadyState:
    """Return the steady state of (13) for Gibbs selection, as the Perron eigenfunction of A = K_σ e^𝓕.

    A is self-adjoint in L²(e^𝓕); Lanczos iteration runs on the symmetric operator e^{𝓕/2} K_σ e^{𝓕/2}.

    Parameters
    ----------
    exponent : ndarray, shape (n_1[, n_2])
        Exponent β𝓕 of the weights, where `solve` and `jump` take 𝓕 and the rule its β.
    kernels : sequence of ndarray
        Symmetric (reflecting) mutation matrices.
    k : int
        How many eigenvalues, at least 2.

    Raises
    ------
    ValueError
        If a kernel is not symmetric, or the exponent not finite.

    Examples
    --------
    >>> from pbtlib.gaussian import log_growth
    >>> grid = Grid(-4.0, 4.0, 80)
    >>> state = steady_state(-(grid.points**2), [mutation_kernel(grid, 0.5)])
    >>> bool(abs(state.log_growth - log_growth([2.0], 0.5)) < 1e-3)
    True
    """
    exponent = check_array("exponent", exponent, min_ndim=1)
    check_number("k", k, integer=True, minimum=2, maximum=exponent.size - 1)
    kernels = _check_symmetric(kernels, exponent)
    top = float(exponent.max())
    root = np.exp(np.maximum(exponent - top, -700.0) / 2)

    def apply(vector: Array) -> Array:
        return (root * _convolve(root * vector.reshape(exponent.shape), kernels)).ravel()

    operator = LinearOperator((exponent.size,) * 2, matvec=apply, dtype=np.float64)
    value, vector = eigsh(operator, k=int(k), which="LA", v0=root.ravel())
    order = np.argsort(value)[::-1]
    mass = _convolve(root * np.abs(vector[:, order[0]]).reshape(exponent.shape), kernels)
    leading = value[order[0]]
    return SteadyState(mass / mass.sum(), float(top + np.log(leading)), value[order] / leading)


def _check_symmetric(kernels: Iterable[Array], law: Array) -> list[Array]:
    checked = _check_kernels(kernels, law, "exponent")
    if not all(np.allclose(kernel, kernel.T, atol=1e-12) for kernel in checked):
        raise ValueError("kernels has one that is not symmetric; the self-adjoint theory needs boundary='reflect'")
    return checked


def log_rayleigh(mass: Array, exponent: Array, kernels: Sequence[Array]) -> float:
    """Return log R[ρ], R = ⟨wρ, K_σ(wρ)⟩/∫wρ² with w = e^𝓕: it never decreases along (13) and tends to log λ₀.

    The paper has no such functional (Remark 11 leaves it open). Parameters as in `steady_state`.

    Examples
    --------
    >>> import numpy as np
    >>> grid = Grid(-4.0, 4.0, 80)
    >>> exponent, kernels = -(grid.points**2), [mutation_kernel(grid, 0.5)]
    >>> start = cell_masses(lambda h: np.exp(-((h + 2) ** 2)), grid)
    >>> log_rayleigh(start, exponent, kernels) < steady_state(exponent, kernels).log_growth
    True
    """
    mass, exponent = _check_law(mass, "exponent", exponent)
    kernels = _check_symmetric(kernels, exponent)
    top = float(exponent.max())
    weight = np.exp(np.maximum(exponent - top, -700.0))
    selected = weight * mass
    return float(top + np.log((selected * _convolve(selected, kernels)).sum() / (selected * mass).sum()))


def replicator_mutator(
    mass: Array, fitness: Array, grids: Sequence[Grid], sigma: float, times: ArrayLike, *, dt: float
) -> Array:
    """Solve (16) by Strang splitting: half a step of selection, diffusion, half a step of selection, each exact.

    Second order in dt, mass to rounding, no negative mass. One step is a symmetrised simultaneous update with fitness
    dt·𝓕 and mutation σ√dt, the scaling (15).

    Parameters
    ----------
    mass, fitness : ndarray, shape (n_1[, n_2])
    grids : sequence of Grid
        One per axis.
    sigma : float
        σ > 0.
    times : array_like
        Increasing, or one number.
    dt : float
        Largest step; σ√dt must be at least the grid step.

    Returns
    -------
    ndarray, shape times.shape + mass.shape

    Raises
    ------
    ValueError
        If mass, fitness and grids are of different sizes, there is no mass, σ√dt is below a grid step, or times
        decrease.

    Examples
    --------
    >>> import numpy as np
    >>> grid = Grid(-4.0, 4.0, 80)
    >>> start = cell_masses(lambda h: np.exp(-((h + 2) ** 2)), grid)
    >>> end = replicator_mutator(start, -(grid.points**2), [grid], 0.5, 10.0, dt=0.1)
    >>> bool(abs(end.sum() - 1) < 1e-12), bool(abs(end @ grid.points) < 0.1)
    (True, True)
    """
    check_number("sigma", sigma, minimum=0, open_minimum=True)
    mass, fitness = _check_law(mass, "fitness", fitness)
    if (cells := tuple(grid.n for grid in grids)) != mass.shape:
        raise ValueError(f"grids have {cells} cells, mass has shape {mass.shape}; they must be the same, one per axis")
    kernels: dict[float, list[Array]] = {}

    def strang(law: Array, step: float) -> Array:
        if step not in kernels:
            kernels[step] = [mutation_kernel(g, sigma * np.sqrt(step)) for g in grids]
        half = np.exp(np.maximum((fitness - fitness.max()) * step / 2, -700.0))
        law = half * _convolve(half * law, kernels[step])
        normalised: Array = law / law.sum()
        return normalised

    return march(mass, times, dt, strang)
