r"""What is optimised: loss :math:`L(\theta,h)`, fitness :math:`F(\theta,h)`, noise, and what is known in closed form.

Agents lie along the axis before the last: parameters θ have shape (..., N, d), hyperparameters h shape (..., N, p),
and losses, fitnesses and noise amplitudes shape (..., N). Leading axes are independent replicates and broadcast.
Training follows :math:`d\theta = -\nabla_\theta L\,dt + s(h)\,\Sigma^{1/2} dB`, equation (1), so the inverse
temperature of the Gibbs measure (10) is :math:`\alpha = 2/s^2`.

The contract is `AnyProblem`: whatever has these four functions can be trained, a class of your own as well as a
`Problem` around four functions. Their arrays are read-only. Compiled code runs for exactly the three classes below; a
subclass is trained by its own methods. `check` tells whether a problem keeps the contract.

In `Quadratic` and `Himmelblau` the second hyperparameter is the noise. Mutation may carry it below zero; the law of
(24) depends on :math:`h_2` through its square only, so the amplitude is :math:`s(h) = |h_2|` everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pbtlib.checks import check_array, check_number

__all__ = [
    "AnyProblem",
    "Himmelblau",
    "LinearGaussian",
    "Problem",
    "ProblemError",
    "Quadratic",
    "check",
    "noise_covariance",
]

Array = NDArray[np.float64]


class AnyProblem(Protocol):
    """The contract: four functions that act on each agent by itself, so on any number of agents, without side effects.

    Two more are used where they are there: ``Sigma``, shape (d, d), the covariance of the noise in (1), the identity
    if missing or None; and ``equilibrium_sample(h, rng)`` -> (..., N, d), an exact draw from μ_h, which Algorithm 2
    needs. Where it is known, ``equilibrium(h)`` returns mean and covariance of μ_h.

    Examples
    --------
    >>> class DoubleWell:
    ...     def loss(self, theta, h):
    ...         return ((theta**2 - 1) ** 2).sum(-1)
    ...     def gradient(self, theta, h):
    ...         return 4 * theta * (theta**2 - 1)
    ...     def fitness(self, theta, h):
    ...         return -((theta - 1) ** 2).sum(-1)
    ...     def noise(self, h):
    ...         return h[..., 0]
    >>> check(DoubleWell(), theta=[[-0.5], [2.0]], h=[[0.1], [0.2]])
    """

    def loss(self, theta: Array, h: Array, /) -> Array:
        """L(θ,h), shape (..., N), minimised by training."""

    def gradient(self, theta: Array, h: Array, /) -> Array:
        """∇_θ L(θ,h), shape (..., N, d)."""

    def fitness(self, theta: Array, h: Array, /) -> Array:
        """F(θ,h), shape (..., N), maximised by evolution."""

    def noise(self, h: Array, /) -> Array:
        """s(h) ≥ 0, shape (..., N), the amplitude of the noise in (1)."""


@dataclass(frozen=True)
class Problem:
    """A problem of your own, as plain NumPy functions that act on each agent by itself.

    They are called with blocks of agents, so they must accept any number of them, and with θ and h whose leading axes
    broadcast. The arrays they get are read-only.

    Attributes
    ----------
    loss, fitness : callable
        ``(theta, h)`` -> (..., N). The loss is minimised by training, the fitness maximised by evolution.
    gradient : callable
        ``(theta, h)`` -> (..., N, d), the gradient of the loss in θ.
    noise : callable
        ``h`` -> (..., N), the amplitude s(h) ≥ 0 of (1).
    Sigma : ndarray, shape (d, d), optional
        Covariance of the noise in (1), symmetric and positive definite; the identity by default.
    equilibrium_sample : callable, optional
        ``(h, rng)`` -> (..., N, d), an exact draw of θ from the Gibbs measure μ_h, for Algorithm 2.

    Raises
    ------
    ValueError
        If Sigma is no covariance matrix.

    Examples
    --------
    >>> import numpy as np
    >>> double_well = Problem(
    ...     loss=lambda theta, h: ((theta**2 - 1) ** 2).sum(-1),
    ...     gradient=lambda theta, h: 4 * theta * (theta**2 - 1),
    ...     fitness=lambda theta, h: -((theta - 1) ** 2).sum(-1),
    ...     noise=lambda h: h[..., 0])
    >>> check(double_well, theta=[[-0.5], [2.0]], h=[[0.1], [0.2]])
    """

    loss: Callable[[Array, Array], Array]
    gradient: Callable[[Array, Array], Array]
    fitness: Callable[[Array, Array], Array]
    noise: Callable[[Array], Array]
    Sigma: Array | None = None
    equilibrium_sample: Callable[[Array, np.random.Generator], Array] | None = None

    def __post_init__(self) -> None:
        if self.Sigma is not None:
            object.__setattr__(self, "Sigma", _symmetric("Sigma", self.Sigma, definite=True))


@dataclass(frozen=True)
class Quadratic:
    r"""The quadratic example of Section 5.1: :math:`F = 1.2 - |\theta|^2`, :math:`L = |\theta - h_1\mathbf 1|^2`.

    Training follows (24): the bias :math:`h_1` moves the loss's minimum, :math:`h_2` is the noise, the optimum is
    (0, 0). The source lost both formulas; they are our choice, after the words around them. p = 2.

    Attributes
    ----------
    d : int
        Dimension of θ, at least 1; the paper has 2.

    Examples
    --------
    >>> problem = Quadratic()
    >>> mean, covariance = problem.equilibrium([[0.5, 2.0]])
    >>> mean.tolist(), covariance.tolist()
    ([[0.5, 0.5]], [[[1.0, 0.0], [0.0, 1.0]]])
    """

    d: int = 2
    Sigma: ClassVar[None] = None

    def __post_init__(self) -> None:
        check_number("d", self.d, integer=True, minimum=1)

    def loss(self, theta: Array, h: Array) -> Array:
        """L(θ,h), shape (..., N)."""
        squares: Array = np.square(theta - self.centre(h)).sum(-1)
        return squares

    def gradient(self, theta: Array, h: Array) -> Array:
        """∇_θ L(θ,h), shape (..., N, d)."""
        return 2.0 * (theta - self.centre(h))

    def fitness(self, theta: Array, h: Array | None = None) -> Array:
        """F(θ), shape (..., N); it does not depend on h."""
        fitness: Array = 1.2 - np.square(theta).sum(-1)
        return fitness

    def noise(self, h: Array) -> Array:
        """s(h) = |h₂|, shape (..., N)."""
        return np.abs(_pair(h)[..., 1])

    def centre(self, h: Array) -> Array:
        """The minimiser h₁𝟏 of the loss, shape (..., N, 1), to be broadcast over θ."""
        return _pair(h)[..., :1]

    def equilibrium(self, h: ArrayLike) -> tuple[Array, Array]:
        """Mean (..., N, d) and covariance (..., N, d, d) of the Gibbs measure (25), N(h₁𝟏, (h₂²/4) I)."""
        h = _finite_pair(h)
        mean = np.repeat(self.centre(h), self.d, axis=-1)
        return mean, (self.noise(h) ** 2 / 4)[..., None, None] * np.eye(self.d)

    def effective_fitness(self, h: ArrayLike, beta: float = 1.0) -> Array:
        r"""Effective fitness (11) under pressure β in closed form; β = 0 is the mean fitness :math:`\int F d\mu_h`.

        With :math:`v = h_2^2/4` it is :math:`1.2 - d h_1^2/(1+2\beta v) - (d/2\beta)\log(1+2\beta v)`.

        Parameters
        ----------
        h : array_like, shape (..., 2)
        beta : float
            Selection pressure β ≥ 0.

        Returns
        -------
        ndarray, shape (...)
        """
        h = _finite_pair(h)
        variance = h[..., 1] ** 2 / 4
        return 1.2 - self.d * _quadratic_cost(h[..., 0] ** 2, variance, beta)

    def equilibrium_sample(self, h: Array, rng: np.random.Generator) -> Array:
        """Draw θ ~ μ_h exactly, the training of Algorithm 2; shape (..., N, d)."""
        h = _finite_pair(h)
        return self.centre(h) + 0.5 * self.noise(h)[..., None] * rng.standard_normal((*np.shape(h)[:-1], self.d))


@dataclass(frozen=True)
class Himmelblau:
    r"""Himmelblau's function, (26) and (27): :math:`F = -H(\theta)`, :math:`L = H(\theta - h_1\mathbf 1)`, d = p = 2.

    :math:`H(\theta) = (\theta_1^2+\theta_2-11)^2 + (\theta_1+\theta_2^2-7)^2` has four minima, all of value 0.

    Examples
    --------
    >>> problem = Himmelblau()
    >>> problem.minima[0].round(6).tolist(), bool((abs(problem.fitness(problem.minima)) < 1e-12).all())
    ([3.0, 2.0], True)
    """

    d: ClassVar[int] = 2
    Sigma: ClassVar[None] = None

    @cached_property
    def minima(self) -> Array:
        """The four minimisers of H, shape (4, 2), by Newton's method from rounded values."""
        x = np.array([[3.0, 2.0], [-2.8, 3.1], [-3.8, -3.3], [3.6, -1.8]])
        for _ in range(8):
            x = x - np.linalg.solve(self.hessian(x), _himmelblau_gradient(x)[..., None])[..., 0]
        return x

    def hessian(self, theta: ArrayLike) -> Array:
        """Hessian of H, shape (..., 2, 2)."""
        theta = check_array("theta", theta, shape=(2,))
        x, y = theta[..., 0], theta[..., 1]
        mixed = 4.0 * (x + y)
        rows = [[12.0 * x**2 + 4.0 * y - 42.0, mixed], [mixed, 12.0 * y**2 + 4.0 * x - 26.0]]
        return np.stack([np.stack(row, -1) for row in rows], -2)

    def loss(self, theta: Array, h: Array) -> Array:
        """L(θ,h), shape (..., N)."""
        return _himmelblau(theta - self.centre(h))

    def gradient(self, theta: Array, h: Array) -> Array:
        """∇_θ L(θ,h), shape (..., N, 2)."""
        return _himmelblau_gradient(theta - self.centre(h))

    def fitness(self, theta: Array, h: Array | None = None) -> Array:
        """F(θ) = −H(θ), shape (..., N); it does not depend on h."""
        return -_himmelblau(theta)

    def noise(self, h: Array) -> Array:
        """s(h) = |h₂|, shape (..., N)."""
        return np.abs(_pair(h)[..., 1])

    def centre(self, h: Array) -> Array:
        """The shift h₁𝟏 of the loss, shape (..., N, 1), to be broadcast over θ."""
        return _pair(h)[..., :1]

    def equilibrium_sample(self, h: Array, rng: np.random.Generator) -> Array:
        r"""Draw θ ~ μ_h exactly, the training of Algorithm 2; shape (..., N, 2).

        Since :math:`e^{-\alpha H} = \int_H^\infty \alpha e^{-\alpha E}dE`, the Gibbs measure is a mixture over levels
        E of uniform laws on {H ≤ E}, with weights :math:`\alpha e^{-\alpha E}` times that set's area. A set B(E) that
        provably contains {H ≤ E} takes its place, and a point of B(E) is accepted if H ≤ E: exact for every noise,
        with an acceptance rate between 0.74 and 0.83 for |h₂| ≤ 10, and of a half as |h₂| → ∞. At h₂ = 0 the draw is
        a minimiser, chosen with the weights :math:`\det(\nabla^2 H)^{-1/2}` of small noise.

        Parameters
        ----------
        h : ndarray, shape (..., N, 2)
        rng : numpy.random.Generator

        Returns
        -------
        ndarray, shape (..., N, 2)

        Raises
        ------
        ValueError
            If h is not finite, or |h₂| > 10¹⁰⁰, where α would underflow.
        """
        h = _finite_pair(h)
        s = self.noise(h)
        if s.max() > 1e100:
            raise ValueError(f"h2 reaches {s.max():g} in size; the exact draw needs at most 1e+100")
        centre, draws = self.centre(h), np.empty((s.size, 2))
        waiting, noise = np.arange(s.size), s.reshape(-1)
        while waiting.size:
            point, accepted = _propose(noise[waiting], rng)
            draws[waiting[accepted]] = point[accepted]
            waiting = waiting[~accepted]
        return centre + draws.reshape(*s.shape, 2)


class _Cover(NamedTuple):
    """Sets B(E) that contain {H ≤ E}: ellipses below `low`, cells up to `high`, a square beyond.

    With J the Jacobian of (u, v) = (x² + y − 11, x + y² − 7) at a minimiser and δ the distance from it,
    √H = |Jδ + (δ₁², δ₂²)| ≥ r − r²/c where r = |Jδ| and c is the smallest eigenvalue of JᵀJ. Hence, while √E < c/4,
    the component of {H ≤ E} around the minimiser lies in r ≤ 2√E/(1 + √(1 − 4√E/c)); and each component holds a
    minimiser. A cell's least u² + v² is that of the intervals of u and v. Beyond, |u|, |v| ≤ √E bounds |x| and |y|.
    """

    minima: Array  # (4, 2)
    inverse: Array  # (4, 2, 2), J^{-1}
    squeeze: Array  # (4,), c
    density: Array  # (4,), π/|det J|
    corners: Array  # (n, 2), in the order of `bounds`
    bounds: Array  # (n,), least H on each cell
    slope: float  # area of B(E) ≤ slope · E
    root: float  # area of B(E) ≤ root · √E


_LOW, _HIGH, _HALF_WIDTH, _CELLS = 2.0, 361.0, 6.0, 240
_SIDE = 2 * _HALF_WIDTH / _CELLS


@cache
def _cover() -> _Cover:
    minima = Himmelblau().minima
    x, y = minima.T
    jacobian = np.stack([np.stack([2 * x, np.ones(4)], -1), np.stack([np.ones(4), 2 * y], -1)], -2)
    squeeze = np.linalg.eigvalsh(np.swapaxes(jacobian, -1, -2) @ jacobian)[:, 0]
    density = np.pi / np.abs(np.linalg.det(jacobian))
    left = np.arange(_CELLS) * _SIDE - _HALF_WIDTH
    right = left + _SIDE
    small, large = np.minimum(left**2, right**2), np.maximum(left**2, right**2)
    small = np.where(left * right < 0, 0.0, small)

    def least(low: Any, high: Any) -> Any:  # of the square of what lies between
        return np.square(np.maximum(np.maximum(low, -high), 0.0))

    first = least(small[:, None] + left - 11.0, large[:, None] + right - 11.0)
    H = np.asarray(first + least(left[:, None] + small - 7.0, right[:, None] + large - 7.0))
    order = np.argsort(H, axis=None, kind="stable")
    corners = np.stack(np.meshgrid(left, left, indexing="ij"), -1).reshape(-1, 2)[order]
    bounds = H.reshape(-1)[order]
    # B(E)/E and B(E)/√E are largest where the ellipses end, where a cell joins, or where the square takes over
    E = np.concatenate([[_LOW, _LOW, _HIGH], np.clip(bounds, _LOW, _HIGH)])
    area = np.concatenate([[_LOW * (density * _stretch(np.sqrt(_LOW), squeeze)).sum(),
                            _SIDE**2 * np.searchsorted(bounds, _LOW, "right"), 4 * _reach(np.sqrt(_HIGH)) ** 2],
                           _SIDE**2 * np.arange(1, bounds.size + 1)])  # fmt: skip
    area[3:][bounds > _HIGH] = 0.0
    # beyond _HIGH the square's area over √E falls to 4 from above
    return _Cover(
        minima, np.linalg.inv(jacobian), squeeze, density, corners, bounds, (area / E).max(), (area / np.sqrt(E)).max()
    )


def _stretch(level: Any, squeeze: Array) -> Array:
    """(r/√E)² of the ellipses at the level √E."""
    root: Array = np.square(2.0 / (1.0 + np.sqrt(1.0 - 4.0 * level / squeeze)))
    return root


def _reach(level: Any) -> Any:
    """Half the side of the square that holds {H ≤ E}, at the level √E: r² ≤ 11 + r + √E."""
    return 0.5 + np.sqrt(11.25 + level)


def _propose(s: Array, rng: np.random.Generator) -> tuple[Array, NDArray[np.bool_]]:
    """One proposal for each noise s, shape (n,): points (n, 2) of the unshifted problem, and which are accepted."""
    cover, n = _cover(), s.size
    # levels from a density proportional to e^{−αE} E or to e^{−αE} √E, whichever wastes less
    linear = cover.slope * s <= cover.root * np.sqrt(np.pi / 2)
    E = rng.standard_gamma(np.where(linear, 2.0, 1.5)) * s**2 / 2
    level = np.sqrt(E)
    share = rng.random(n) * np.where(linear, cover.slope, cover.root / np.maximum(level, 1e-300))  # of an area over E
    u, w = rng.random(n), rng.random(n)
    point, ratio = np.empty((n, 2)), np.full(n, np.inf)  # ratio = H/E, infinite where E itself was refused

    i = np.flatnonzero(E < _LOW)
    stretch = _stretch(level[i, None], cover.squeeze)
    well = (share[i, None] > np.cumsum(cover.density * stretch, -1)).sum(-1)
    i, stretch, well = i[well < 4], stretch[well < 4], well[well < 4]
    radius = np.sqrt(w[i] * stretch[np.arange(well.size), well])
    disc = radius[:, None] * np.stack([np.cos(2 * np.pi * u[i]), np.sin(2 * np.pi * u[i])], -1)
    offset = (cover.inverse[well] @ disc[..., None])[..., 0]  # from the minimiser, over √E: no small noise loses digits
    point[i] = cover.minima[well] + level[i, None] * offset
    ratio[i] = np.square(disc + level[i, None] * offset**2).sum(-1)

    i = np.flatnonzero((E >= _LOW) & (E < _HIGH))
    cell = (share[i] * E[i] / _SIDE**2).astype(np.int64)
    inside = cell < np.searchsorted(cover.bounds, E[i], "right")
    i, cell = i[inside], cell[inside]
    point[i] = cover.corners[cell] + _SIDE * np.stack([u[i], w[i]], -1)
    ratio[i] = _himmelblau(point[i]) / E[i]

    i = np.flatnonzero(E >= _HIGH)
    half = _reach(level[i])
    i, half = i[share[i] * E[i] < 4 * half**2], half[share[i] * E[i] < 4 * half**2]
    point[i] = half[:, None] * (2 * np.stack([u[i], w[i]], -1) - 1)
    ratio[i] = _himmelblau(point[i]) / E[i]
    return point, ratio <= 1.0


def _pair(h: ArrayLike) -> Array:
    values = np.asarray(h, dtype=np.float64)
    if values.ndim < 1 or values.shape[-1] != 2:
        raise ValueError(f"h has shape {values.shape}; this problem has h = (h1, h2), so it must end in 2")
    return values


def _finite_pair(h: ArrayLike) -> Array:
    """The same where h leads straight to a law: gradients, called at every step, are spared this pass."""
    return check_array("h", _pair(h))


def _himmelblau(theta: Array) -> Array:
    x, y = theta[..., 0], theta[..., 1]
    return (x * x + y - 11.0) ** 2 + (x + y * y - 7.0) ** 2


def _himmelblau_gradient(theta: Array) -> Array:
    x, y = theta[..., 0], theta[..., 1]
    u, v = x * x + y - 11.0, x + y * y - 7.0
    return np.stack([4.0 * x * u + 2.0 * v, 2.0 * u + 4.0 * y * v], -1)


def _quadratic_cost(offset_squared: Array, variance: Array, beta: float) -> Array:
    """−(1/β) log E exp(−β x²) for x ~ N(offset, variance), and its limit E x² at β = 0."""
    check_number("beta", beta, minimum=0)
    spread = 2.0 * beta * variance
    # log(1+z)/z is 1 at z = 0; the smallest denominator keeps the quotient defined there
    ratio = np.where(spread > 0, np.log1p(spread) / np.maximum(spread, 1e-300), 1.0)
    return offset_squared / (1.0 + spread) + variance * ratio


def _one_by_one(value: float) -> Callable[[], Array]:
    return lambda: np.array([[value]])


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    r"""Linear drift, Gaussian equilibrium, quadratic fitness: every law of this problem is known exactly.

    Training: :math:`d\theta = -A(\theta - Bh - c)\,dt + s\,\Sigma^{1/2} dB`, the gradient flow of
    :math:`L = \tfrac12 (\theta-Bh-c)^T A(\theta-Bh-c)`. Fitness:
    :math:`F = F^* - (\theta-\theta^*)^T Q\,(\theta-\theta^*)`.
    With the default values (d = p = 1) it is the test case :math:`L = (\theta-h)^2`, :math:`F = -\theta^2` with
    fixed noise. If Σ is not a multiple of the identity, the equilibrium is still Gaussian but no Gibbs measure of L.

    Attributes
    ----------
    A : ndarray, shape (d, d)
        Symmetric, positive definite.
    B : ndarray, shape (d, p)
    c : ndarray, shape (d,)
    s : float or callable
        Noise amplitude: a constant, or a function of h returning shape (..., N), such as ``lambda h: h[..., 1]``.
        Its sign is immaterial; `noise` returns the absolute value.
    Sigma : ndarray, shape (d, d)
        Symmetric, positive definite.
    Q : ndarray, shape (d, d)
        Symmetric, positive semi-definite.
    target : ndarray, shape (d,)
        θ*, where the fitness is largest.
    best : float
        F*, the largest fitness.

    Examples
    --------
    >>> mean, covariance = LinearGaussian(s=0.6).equilibrium([[0.5]])
    >>> mean.tolist(), covariance.round(6).tolist()
    ([[0.5]], [[[0.09]]])
    """

    A: Array = field(default_factory=_one_by_one(2.0))
    B: Array = field(default_factory=_one_by_one(1.0))
    c: Any = 0.0
    s: float | Callable[[Array], Array] = 1.0
    Sigma: Any = None
    Q: Any = None
    target: Any = 0.0
    best: float = 0.0

    def __post_init__(self) -> None:
        A = _symmetric("A", self.A, definite=True)
        d = len(A)
        eye = np.eye(d)
        values = {
            "A": A,
            "B": check_array("B", self.B, shape=(d, None)),
            "c": np.broadcast_to(check_array("c", self.c), (d,)),
            "Sigma": _symmetric("Sigma", eye if self.Sigma is None else self.Sigma, size=d, definite=True),
            "Q": _symmetric("Q", eye if self.Q is None else self.Q, size=d),
            "target": np.broadcast_to(check_array("target", self.target), (d,)),
        }
        if not callable(self.s):
            check_number("s", self.s, minimum=0)
        check_number("best", self.best)
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(
            np.array_equal(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)
        )

    def __hash__(self) -> int:
        return hash((type(self), self.A.tobytes(), self.B.tobytes()))

    @property
    def d(self) -> int:
        """Dimension of θ."""
        return len(self.A)

    def loss(self, theta: Array, h: Array) -> Array:
        """L(θ,h), shape (..., N)."""
        offset = theta - self.centre(h)
        loss: Array = 0.5 * ((offset @ self.A) * offset).sum(-1)
        return loss

    def gradient(self, theta: Array, h: Array) -> Array:
        """∇_θ L(θ,h), shape (..., N, d)."""
        return (theta - self.centre(h)) @ self.A

    def fitness(self, theta: Array, h: Array | None = None) -> Array:
        """F(θ), shape (..., N); it does not depend on h."""
        offset = theta - self.target
        fitness: Array = self.best - ((offset @ self.Q) * offset).sum(-1)
        return fitness

    def noise(self, h: Array) -> Array:
        """|s(h)|, shape (..., N)."""
        return np.abs(self.s(h)) if callable(self.s) else np.full(np.shape(h)[:-1], float(self.s))

    def centre(self, h: ArrayLike) -> Array:
        """Bh + c, the minimiser of the loss, shape (..., N, d)."""
        h = np.asarray(h, dtype=np.float64)
        if h.ndim < 1 or h.shape[-1] != self.B.shape[1]:
            raise ValueError(f"h has shape {h.shape}; it must end in p = {self.B.shape[1]}, the columns of B")
        best: Array = h @ self.B.T + self.c
        return best

    def covariance(self, time: float = np.inf) -> Array:
        r"""Covariance of θ after this time from a fixed start, for s = 1: :math:`\int_0^t e^{-Ar}\Sigma e^{-Ar}dr`.

        In the eigenvectors of A its entries are :math:`\Sigma_{ij}(1-e^{-(a_i+a_j)t})/(a_i+a_j)`; at infinity it
        solves :math:`AC + CA = \Sigma`.
        """
        rates, vectors = np.linalg.eigh(self.A)
        pair = rates[:, None] + rates
        inner = (vectors.T @ self.Sigma @ vectors) * -np.expm1(-pair * time) / pair
        covariance: Array = vectors @ inner @ vectors.T
        return covariance

    def equilibrium(self, h: ArrayLike) -> tuple[Array, Array]:
        """Mean (..., N, d) and covariance (..., N, d, d) of the invariant law N(Bh + c, s(h)²C), AC + CA = Σ."""
        h = check_array("h", h)
        return self.centre(h), (self.noise(h) ** 2)[..., None, None] * self.covariance()

    def effective_fitness(self, h: ArrayLike, beta: float = 1.0) -> Array:
        r"""Effective fitness (11) under pressure β in closed form; β = 0 is the mean fitness.

        With :math:`R R^T = C` and :math:`R^T Q R = U\,\mathrm{diag}(\kappa)\,U^T` the coordinates
        :math:`y = U^T R^{-1}(\theta-\theta^*)` are independent under :math:`\mu_h`, and the fitness is
        :math:`F^* - \sum_i \kappa_i y_i^2`.

        Parameters
        ----------
        h : array_like, shape (..., p)
        beta : float
            Selection pressure β ≥ 0.

        Returns
        -------
        ndarray, shape (...)
        """
        h = check_array("h", h)
        root = np.linalg.cholesky(self.covariance())
        kappa, U = np.linalg.eigh(root.T @ self.Q @ root)
        kappa = np.maximum(kappa, 0.0)
        offset = (self.centre(h) - self.target) @ np.linalg.solve(root.T, U)
        variance = self.noise(h)[..., None] ** 2
        effective: Array = self.best - _quadratic_cost(kappa * offset**2, kappa * variance, beta).sum(-1)
        return effective

    def equilibrium_sample(self, h: Array, rng: np.random.Generator) -> Array:
        """Draw θ ~ μ_h exactly, the training of Algorithm 2; shape (..., N, d)."""
        root = np.linalg.cholesky(self.covariance())
        centre = self.centre(check_array("h", h))
        return centre + self.noise(h)[..., None] * (rng.standard_normal(centre.shape) @ root.T)


def _symmetric(name: str, value: ArrayLike, size: int | None = None, definite: bool = False) -> Array:
    matrix = check_array(name, value, shape=(size, size))
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name} has shape {matrix.shape}; it must be a square matrix")
    if not np.allclose(matrix, matrix.T, rtol=1e-12, atol=1e-14 * np.abs(matrix).max()):
        raise ValueError(f"{name} is not symmetric")
    smallest = np.linalg.eigvalsh(matrix)[0]
    if smallest < -1e-12 * np.abs(matrix).max() or (definite and smallest <= 0):
        kind = "positive definite" if definite else "positive semi-definite"
        raise ValueError(f"{name} has the eigenvalue {smallest:.3g}; it must be {kind}")
    return matrix


# ---------------------------------------------------------------------------------------------- is the contract kept?


class ProblemError(ValueError):
    """A problem breaks its contract; the message says in words how.

    Examples
    --------
    >>> class Uphill(Quadratic):
    ...     def gradient(self, theta, h):
    ...         return 2 * (self.centre(h) - theta)
    >>> try:
    ...     check(Uphill(), theta=[[1.0, 2.0]], h=[[0.5, 1.0]])
    ... except ProblemError as error:
    ...     print(error)
    gradient has the wrong sign: it is minus the gradient of the loss (by differences)
    """


def noise_covariance(problem: AnyProblem) -> Array | None:
    """Return Σ of a problem, checked, or None where it is the identity.

    Examples
    --------
    >>> noise_covariance(Quadratic()) is None, noise_covariance(LinearGaussian(Sigma=[[4.0]])).tolist()
    (True, [[4.0]])
    """
    Sigma = getattr(problem, "Sigma", None)
    return None if Sigma is None else _symmetric("Sigma", Sigma, definite=True)


def check(problem: AnyProblem, theta: ArrayLike, h: ArrayLike) -> None:
    """Check that a problem keeps the contract of `AnyProblem`, at a few agents.

    Shapes, finite values, a noise that is not negative, functions that neither write into their arguments nor look at
    other agents, and a gradient that agrees with finite differences of the loss.

    Parameters
    ----------
    problem : AnyProblem
    theta : array_like, shape (N, d)
        Parameters of the agents to check at, away from kinks of the loss.
    h : array_like, shape (N, p)
        Their hyperparameters.

    Raises
    ------
    ProblemError
        Which names everything that is wrong.

    Examples
    --------
    >>> class Wrong(Quadratic):
    ...     def gradient(self, theta, h):
    ...         return theta - self.centre(h)
    >>> check(Wrong(), theta=[[1.0, 2.0]], h=[[0.5, 1.0]])
    Traceback (most recent call last):
    pbtlib.problems.ProblemError: gradient is 0.5 times the gradient of the loss (by differences): a factor is missing
    """
    points, hypers = check_array("theta", theta, min_ndim=2), check_array("h", h, min_ndim=2)
    if points.ndim != 2 or hypers.ndim != 2 or len(points) != len(hypers):
        raise ValueError(f"theta has shape {points.shape} and h {hypers.shape}; they must be (N, d) and (N, p)")
    # at least two agents, so that a function of the whole population is told from one of each agent
    points, hypers = (np.concatenate([x, x[::-1]]) for x in (points, hypers))
    n, d = points.shape
    wrong, values = [], dict[str, Array]()
    for name, shape in (("loss", (n,)), ("gradient", (n, d)), ("fitness", (n,)), ("noise", (n,))):
        function = getattr(problem, name, None)
        if not callable(function):
            wrong.append(f"{name} is missing: the problem needs a method of this name")
            continue
        arguments = (hypers,) if name == "noise" else (points, hypers)
        try:
            value = np.array(function(*read_only(*arguments)), dtype=np.float64)
            alone = np.concatenate([function(*read_only(*(x[i : i + 1] for x in arguments))) for i in range(n)])
        except Exception as error:
            writes = "read-only" in str(error)
            reason = "it writes into its arguments, which other agents share" if writes else f"it raised {error!r}"
            wrong.append(f"{name} cannot be called: {reason}")
            continue
        if value.shape != shape:
            wrong.append(f"{name} returned shape {value.shape}; for {n} agents it must return {shape}")
        elif not np.isfinite(value).all():
            wrong.append(f"{name} returned {value[~np.isfinite(value)][0]}; it must be finite at these agents")
        elif alone.shape != shape or not np.allclose(alone, value, rtol=1e-9, atol=1e-9 * np.abs(value).max()):
            wrong.append(f"{name} of an agent depends on which others are there; it must act on each by itself")
        else:
            values[name] = value
    if (values.get("noise", np.zeros(1)) < 0).any():
        wrong.append(f"noise returned {values['noise'].min():g}; it must be >= 0")
    if "loss" in values and "gradient" in values:
        wrong += _compare_gradient(problem, points, hypers, values["gradient"])
    Sigma = noise_covariance(problem)
    if Sigma is not None and len(Sigma) != d:
        wrong.append(f"Sigma has shape {Sigma.shape}; theta needs ({d}, {d})")
    if wrong:
        raise ProblemError("; ".join(wrong))


def read_only(*arrays: Array) -> tuple[Array, ...]:
    """Return views that nobody can write through."""
    views = tuple(array.view() for array in arrays)
    for view in views:
        view.flags.writeable = False
    return views


def _compare_gradient(problem: AnyProblem, theta: Array, h: Array, gradient: Array) -> list[str]:
    """What is wrong with a gradient: central differences of two widths, and their difference as the error."""
    largest = max(1.0, np.abs(theta).max(), np.abs(h).max())
    step = 1e-4 * np.maximum(1.0, np.abs(theta))
    here, rounding = np.asarray(problem.loss(*read_only(theta, h))), np.zeros_like(theta)

    def differences(width: Array) -> Array:
        slope = np.empty_like(theta)
        for j in range(theta.shape[1]):
            shift = np.zeros_like(theta)
            shift[:, j] = width[:, j]
            ends = [np.asarray(problem.loss(*read_only(theta + sign * shift, h))) for sign in (1, -1)]
            slope[:, j] = (ends[0] - ends[1]) / (2 * width[:, j])
            # of the loss, and of what it is a function of: a loss that is 0 at a minimum has no digits of its own
            steep = np.abs(ends - here).max(0) / width[:, j]
            rounding[:, j] = 1e-15 * (np.abs(ends).max() + largest * steep) / width[:, j]
        return slope

    wide, narrow = differences(step), differences(step / 2)
    slope = narrow + (narrow - wide) / 3
    size = max(np.abs(slope).max(), np.abs(gradient).max())
    tolerance = 1e-6 * size + np.abs(narrow - wide) + 100 * rounding
    if (np.abs(gradient - slope) <= tolerance).all():
        return []
    factor = (gradient * slope).sum() / np.square(slope).sum() if slope.any() else np.nan
    if (np.abs(gradient - factor * slope) <= max(1.0, abs(factor)) * tolerance).all() and abs(factor) > 1e-3:
        if abs(factor + 1) < 1e-4:
            return ["gradient has the wrong sign: it is minus the gradient of the loss (by differences)"]
        known = f"gradient is {factor:.4g} times the gradient of the loss (by differences)"
        return [f"{known}: a factor is missing" if abs(factor) < 1 else f"{known}: there is a factor too much"]
    i, j = np.unravel_index(np.argmax(np.abs(gradient - slope) - tolerance), theta.shape)
    return [
        f"gradient is {gradient[i, j]:.6g} for coordinate {j} at theta = {theta[i]}, h = {h[i]}; "
        f"finite differences of the loss give {slope[i, j]:.6g}"
    ]
