r"""Effective and penalised fitness, how they are estimated, and the constants of Lemma 8 and Theorem 10.

The effective fitness (11) under pressure β is :math:`\mathcal F_\beta(h) = \frac1\beta\log\int e^{\beta F}d\mu_h`. All
its estimates end in `log_mean_exp`: over the nodes of a quadrature, over draws from :math:`\mu_h`, over a window of
training. At β = 0 it is the mean :math:`\int F\,d\mu_h`, which is what the time window (23) estimates.

The second half holds Assumption 9 and the right-hand sides of (21), (22), (35), Lemma 16 and Theorem 10, with the
explicit constants of Appendix C. Chapters 3.1 and 4 use all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.special import gammaln, logsumexp, roots_hermitenorm

from pbtlib.checks import check_array, check_number, check_together

__all__ = [
    "Assumption9",
    "Estimate",
    "donsker_varadhan",
    "effective_fitness",
    "energy_bound",
    "energy_constants",
    "estimate",
    "gauss_hermite",
    "laplace_bound",
    "log_mean_exp",
    "mass_bound",
    "penalised_fitness",
    "pressure",
    "pressure_without_growth",
    "soft_minimum",
]

Array = NDArray[np.float64]
Function = Callable[[Array], ArrayLike]


# ---------------------------------------------------------------------------------------------- effective fitness


def log_mean_exp(values: ArrayLike, beta: float = 1.0, weights: ArrayLike | None = None) -> Array:
    r"""Return :math:`\frac1\beta\log\sum_i w_i e^{\beta F_i}` over the last axis; at β = 0 the mean.

    Parameters
    ----------
    values : array_like, shape (..., n)
        Fitness at the nodes of a quadrature or at draws from the equilibrium.
    beta : float
        Selection pressure β ≥ 0.
    weights : array_like, shape (..., n), optional
        Not negative; normalised to sum 1 here. Equal by default.

    Returns
    -------
    ndarray, shape (...)

    Raises
    ------
    ValueError
        If β or a weight is negative, or all weights of a row are zero.

    Examples
    --------
    >>> import numpy as np
    >>> values = [0.0, np.log(3.0)]
    >>> bool(abs(log_mean_exp(values) - np.log(2.0)) < 1e-12), float(log_mean_exp([1.0, 2.0], beta=0.0))
    (True, 1.5)
    """
    check_number("beta", beta, minimum=0)
    F = check_array("values", values, min_ndim=1)
    w = np.ones(F.shape[-1]) if weights is None else check_array("weights", weights, min_ndim=1, minimum=0)
    check_together(values=F, weights=w)
    if not (w.sum(-1) > 0).all():
        raise ValueError("weights sum to zero; some weight must be positive")
    w = w / w.sum(-1, keepdims=True)
    if beta == 0:
        return np.asarray((w * F).sum(-1))
    top = F.max(-1)
    small = (w * np.expm1(beta * (F - top[..., None]))).sum(-1)  # keeps its digits where βF hardly varies
    log_mean = np.where(small > -0.5, np.log1p(np.maximum(small, -0.5)), logsumexp(beta * F, axis=-1, b=w) - beta * top)
    return np.asarray(top + log_mean / beta)


def gauss_hermite(mean: ArrayLike, covariance: ArrayLike, n: int = 20) -> tuple[Array, Array]:
    """Return nodes and weights of the product Gauss-Hermite rule for normal laws, exact for polynomials below 2n.

    Parameters
    ----------
    mean : array_like, shape (..., d)
    covariance : array_like, shape (..., d, d)
        Symmetric, positive definite.
    n : int
        Nodes per coordinate.

    Returns
    -------
    nodes : ndarray, shape (..., n^d, d)
    weights : ndarray, shape (n^d,)
        Sum to 1.

    Examples
    --------
    >>> nodes, weights = gauss_hermite(mean=[0.0], covariance=[[4.0]], n=3)
    >>> nodes.shape, round(float(weights @ nodes[:, 0] ** 2), 6)
    ((3, 1), 4.0)
    """
    check_number("n", n, integer=True, minimum=1)
    mu = check_array("mean", mean, min_ndim=1)
    d = mu.shape[-1]
    C = check_array("covariance", covariance)
    if C.ndim < 2 or C.shape[-2:] != (d, d):
        raise ValueError(f"covariance has shape {C.shape}, mean {mu.shape}; it must end in ({d}, {d})")
    if not np.allclose(C, np.swapaxes(C, -1, -2), rtol=1e-9, atol=1e-12 * np.abs(C).max()):
        raise ValueError("covariance is not symmetric; it must be a covariance matrix")
    try:
        root = np.linalg.cholesky(C)
    except np.linalg.LinAlgError as error:
        raise ValueError("covariance is not positive definite; it must be the covariance of a density") from error
    x, w = roots_hermitenorm(n)
    points = np.stack([axis.ravel() for axis in np.meshgrid(*[x] * d, indexing="ij")], -1)
    weights = np.prod([axis.ravel() for axis in np.meshgrid(*[w / w.sum()] * d, indexing="ij")], axis=0)
    return mu[..., None, :] + points @ np.swapaxes(root, -1, -2), weights


def _log_integral(exponent: Callable[[float], float], scale: float, limit: float) -> float:
    """Log of the integral of exp(exponent(y)) over |y| < limit, by adaptive quadrature on geometric pieces about 0.

    A peak between two edges, however narrow, is found first and fenced in: beyond the fence it has fallen by e⁻⁴⁰.
    """
    check_number("limit", limit, minimum=0, open_minimum=True)
    side = np.concatenate([[0.0], scale * 4.0 ** np.arange(-4, 40)])
    side = np.append(side[side < limit], limit)
    edges = np.concatenate([-side[:0:-1], side])
    inner = [
        minimize_scalar(lambda y: -exponent(y), bounds=piece, method="bounded", options={"xatol": 1e-8 * limit}).x
        for piece in pairwise(edges)
    ]
    height = {float(y): exponent(float(y)) for y in (*edges, *inner)}
    peak = max(height, key=lambda y: height[y])
    top = height[peak]
    cuts, widths = [peak], []
    for sign in (-1.0, 1.0):
        if height[sign * limit] > top - 40:
            raise ValueError(
                f"limit is {limit:g}, where the integrand is e^{height[sign * limit] - top:.3g} of its maximum; "
                "it must have fallen to e^-40 there: take a larger limit, or a larger alpha"
            )
        width = abs(sign * limit - peak)
        while width > 1e-12 * limit and exponent(peak + sign * width) < top - 40:
            width /= 4
        widths.append(width)
        cuts += [peak + sign * width, peak + sign * 4 * width]
    edges = np.unique(np.concatenate([edges, np.clip(cuts, -limit, limit)]))
    negligible = 1e-16 * max(widths)  # the whole is at least 1/40 of the width if the exponent is concave
    pieces = [
        quad(lambda y: np.exp(max(exponent(y) - top, -700.0)), left, right, epsabs=negligible, epsrel=1e-10)[0]
        for left, right in pairwise(edges)
    ]
    return float(top + np.log(sum(pieces)))


def _least(loss: Function, centre: float) -> float:
    """The loss at its minimiser, which both must be finite."""
    check_number("centre", centre)
    least = float(np.asarray(loss(np.asarray(centre))))
    check_number("loss at the centre", least)
    return least


def effective_fitness(
    fitness: Function, loss: Function, alpha: float, centre: float, *, beta: float = 1.0, limit: float = 50.0
) -> float:
    r"""Return :math:`\mathcal F_\beta` for one parameter (d = 1) and any loss, by adaptive quadrature.

    Parameters
    ----------
    fitness, loss : callable
        F and L at one hyperparameter, as functions of θ.
    alpha : float
        Inverse temperature α = 2/s² > 0 of the Gibbs measure (10).
    centre : float
        Minimiser θ* of the loss. The integrals are cut there, so a kink of F at θ* costs no accuracy.
    beta : float
        Selection pressure β > 0.
    limit : float
        Integration over |θ − θ*| < limit.

    Raises
    ------
    ValueError
        If α, β or the limit is not positive, or if an integrand has not fallen to e⁻⁴⁰ of its maximum at the limit.

    Examples
    --------
    >>> value = effective_fitness(lambda θ: -(θ**2), lambda θ: θ**2, alpha=2.0, centre=0.0)
    >>> round(value, 4)      # −½ log(1 + 1/2)
    -0.2027
    """
    check_number("alpha", alpha, minimum=0, open_minimum=True)
    check_number("beta", beta, minimum=0, open_minimum=True)
    best = _least(loss, centre)

    def exponent(pressure: float) -> Callable[[float], float]:
        def value(y: float) -> float:
            theta = np.asarray(centre + y)
            gain = pressure * float(np.asarray(fitness(theta))) if pressure else 0.0
            return gain - alpha * (float(np.asarray(loss(theta))) - best)

        return value

    scale = alpha**-0.5
    return (_log_integral(exponent(beta), scale, limit) - _log_integral(exponent(0.0), scale, limit)) / beta


def soft_minimum(loss: Function, alpha: float, centre: float, *, limit: float = 50.0) -> float:
    r"""Return :math:`\underline L_\alpha = -\frac1\alpha\log\int e^{-\alpha L}d\theta`, which tends to min L (d = 1).

    Parameters and errors as in `effective_fitness`. The Laplace principle, with
    :math:`\frac1{2\alpha}\log(\alpha L''/2\pi)` to leading order for the difference.

    Examples
    --------
    >>> import math
    >>> round(soft_minimum(lambda θ: θ**2 + 3.0, alpha=math.pi, centre=0.0), 6)
    3.0
    """
    check_number("alpha", alpha, minimum=0, open_minimum=True)
    best = _least(loss, centre)

    def exponent(y: float) -> float:
        return -alpha * (float(np.asarray(loss(np.asarray(centre + y)))) - best)

    return best - _log_integral(exponent, alpha**-0.5, limit) / alpha


def penalised_fitness(fitness: Function, loss: Function, alpha: float, centre: float, *, limit: float = 10.0) -> float:
    r"""Return :math:`F^{pen}_\alpha = \sup_\theta\{F - \alpha(L - \min L)\}` of Section 3.1 for one parameter.

    Parameters
    ----------
    fitness, loss, alpha, centre
        As in `effective_fitness`, vectorised.
    limit : float
        The supremum is searched in |θ − θ*| ≤ limit: on a grid that is geometric about θ*, then by Brent's method.

    Examples
    --------
    >>> round(penalised_fitness(lambda θ: θ, lambda θ: θ**2, alpha=1.0, centre=0.0), 6)
    0.25
    """
    check_number("alpha", alpha, minimum=0, open_minimum=True)
    check_number("limit", limit, minimum=0, open_minimum=True)
    best = _least(loss, centre)

    def objective(y: Array) -> Array:
        theta = centre + np.asarray(y)
        return np.asarray(np.asarray(fitness(theta)) - alpha * (np.asarray(loss(theta)) - best), dtype=np.float64)

    side = np.geomspace(1e-8 * limit, limit, 600)
    y = np.concatenate([-side[::-1], [0.0], side])
    values = objective(y)
    i = int(np.argmax(values))
    bounds = (y[max(i - 1, 0)], y[min(i + 1, y.size - 1)])
    found = minimize_scalar(lambda x: -float(objective(x)), bounds=bounds, method="bounded", options={"xatol": 1e-12})
    return float(max(values[i], -found.fun))


def donsker_varadhan(fitness: ArrayLike, prior: ArrayLike, nu: ArrayLike) -> Array:
    r"""Return :math:`\int F\,d\nu - KL(\nu|\mu)` for laws on finitely many atoms; its supremum over ν is (11).

    Parameters
    ----------
    fitness : array_like, shape (..., n)
        F at the atoms.
    prior, nu : array_like, shape (..., n)
        Masses of μ and ν, each of sum 1; ν = 0 wherever μ = 0.

    Returns
    -------
    ndarray, shape (...)

    Examples
    --------
    >>> import numpy as np
    >>> fitness, prior = np.array([0.0, np.log(3.0)]), np.array([0.5, 0.5])
    >>> best = donsker_varadhan(fitness, prior, [0.25, 0.75])      # at the law that selection makes of the prior
    >>> bool(abs(best - log_mean_exp(fitness)) < 1e-12)
    True
    """
    F, mu, q = (check_array(n, v, min_ndim=1) for n, v in (("fitness", fitness), ("prior", prior), ("nu", nu)))
    check_together(fitness=F, prior=mu, nu=q)
    if not F.shape[-1] == mu.shape[-1] == q.shape[-1] or mu.ndim > q.ndim:
        raise ValueError(f"fitness has shape {F.shape}, prior {mu.shape}, nu {q.shape}; they must be of the same atoms")
    for name, law in (("prior", mu), ("nu", q)):
        if law.min() < 0 or not np.allclose(law.sum(-1), 1.0, atol=1e-9):
            raise ValueError(f"{name} sums to {law.sum(-1)}; it must be a probability, not negative and of sum 1")
    if ((q > 0) & (mu == 0)).any():
        raise ValueError("nu has mass where prior has none; the divergence is infinite")
    ratio = np.log(np.where(q > 0, q, 1.0)) - np.log(np.where(q > 0, np.broadcast_to(mu, q.shape), 1.0))
    return np.asarray((q * (F - ratio)).sum(-1))


# ---------------------------------------------------------------------------------------------- estimates from draws


@dataclass(frozen=True)
class Estimate:
    """An estimate from a sample.

    Attributes
    ----------
    value : ndarray
        The estimate, not corrected for its bias.
    error : ndarray
        Standard error, from the sample (delta method).
    bias : ndarray
        Leading term of its bias, from the sample.

    Examples
    --------
    >>> found = estimate([1.0, 3.0], beta=0.0)
    >>> float(found.value), float(found.bias)
    (2.0, 0.0)
    """

    value: Array
    error: Array
    bias: Array


def estimate(values: ArrayLike, beta: float = 1.0, *, effective: float | None = None) -> Estimate:
    r"""Estimate :math:`\mathcal F_\beta` from draws, with error bar and bias; β = 0 is the window mean (23).

    With :math:`w = e^{\beta F}` and n independent draws the error is :math:`sd(w)/(\beta\bar w\sqrt n)`, and the
    logarithm of a mean is biased by :math:`-Var(w)/(2\beta\bar w^2n)` to leading order.

    Parameters
    ----------
    values : array_like, shape (..., n)
        Fitness at draws from the equilibrium.
    beta : float
        Selection pressure β ≥ 0.
    effective : float, optional
        Number of independent draws that these are worth; n by default. It is the
        `pbtlib.estimates.effective_sample_size` of the weights, or of F at β = 0.

    Returns
    -------
    Estimate
        Entries of shape (...).

    Examples
    --------
    >>> found = estimate([1.0, 3.0], beta=1.0)
    >>> bool(found.value > 2), bool(found.error > 0), bool(found.bias < 0)
    (True, True, True)
    """
    F = check_array("values", values, min_ndim=1)
    n = F.shape[-1]
    if n < 2:
        raise ValueError(f"values has {n} entry on its last axis; an error bar needs at least 2")
    size = n if effective is None else effective
    check_number("effective", size, minimum=0, open_minimum=True)
    value = log_mean_exp(F, beta)
    if beta == 0:
        spread = F.std(-1, ddof=1)
        return Estimate(value, spread / np.sqrt(size), np.zeros_like(value))
    relative = np.exp(beta * (F - value[..., None])).std(-1, ddof=1)
    return Estimate(value, relative / (beta * np.sqrt(size)), -(relative**2) / (2 * beta * size))


# ---------------------------------------------------------------------------------------------- Theorem 10


@dataclass(frozen=True)
class Assumption9:
    r"""The constants of Assumption 9 for the gap :math:`g = \mathcal F^* - \mathcal F \ge 0` of an effective fitness.

    (ii) :math:`g \le c_u(1+|h|^2)`, and :math:`g \ge c_l|h|^2` for |h| > M;
    (iii) :math:`|h-h^*| \le g^\nu/\eta` for |h − h*| < R₀, and :math:`g > F_\infty` beyond (or ≥, at the boundary).

    Attributes
    ----------
    centre : float
        |h*|, the distance of the maximiser from the origin.
    eta, nu, F_inf : float
        Of (iii), positive.
    c_u, c_l, M : float
        Of (ii), positive, :math:`c_l \le c_u`; infinite, zero and zero where no growth is known.

    Examples
    --------
    >>> square = Assumption9(centre=0.0, eta=1.0, nu=0.5, F_inf=1.0, c_u=1.0, c_l=1.0, M=1.0)      # the gap |h|²
    >>> round(square.resolution(0.2), 6)
    0.005
    """

    centre: float
    eta: float
    nu: float
    F_inf: float
    c_u: float = np.inf
    c_l: float = 0.0
    M: float = 0.0

    def __post_init__(self) -> None:
        check_number("centre", self.centre, minimum=0)
        for name in ("eta", "nu", "F_inf"):
            check_number(name, getattr(self, name), minimum=0, open_minimum=True)
        if self.c_u != np.inf:
            check_number("c_u", self.c_u)
        check_number("c_l", self.c_l, minimum=0)
        check_number("M", self.M, minimum=0)
        if not self.c_u >= self.c_l:
            raise ValueError(f"c_u is {self.c_u:g}; it must be at least c_l = {self.c_l:g}")

    def resolution(self, delta: float) -> float:
        r"""Return :math:`q = \frac12\min\{F_\infty, (\eta\delta/2)^{1/\nu}\}`: the first term of (22) is then δ/2."""
        check_number("delta", delta, minimum=0, open_minimum=True)
        tolerance: float = 0.5 * min(self.F_inf, (self.eta * delta / 2) ** (1 / self.nu))
        return tolerance


def energy_constants(assumption: Assumption9, beta: float | None = None) -> tuple[float, float]:
    r"""Return b₁ and b₂ of (21): :math:`b_2 = c_u/c_l`, or the paper's at a pressure β; :math:`b_1 = M^2 + b_2`.

    Parameters
    ----------
    assumption : Assumption9
        With growth constants; M > 0 for the paper's.
    beta : float, optional
        If given, :math:`b_2 = 2\frac{c_u}{c_l}(1 + \frac1{\beta c_l M^2})`, which is at least twice ours.

    Raises
    ------
    ValueError
        If no growth is known.

    Examples
    --------
    >>> energy_constants(Assumption9(centre=0.0, eta=1.0, nu=0.5, F_inf=1.0, c_u=1.0, c_l=1.0, M=1.0))
    (2.0, 1.0)
    """
    a = assumption
    if not (a.c_l > 0 and np.isfinite(a.c_u)):
        raise ValueError(f"c_l is {a.c_l:g} and c_u is {a.c_u:g}; (21) needs both positive and finite")
    b2 = a.c_u / a.c_l
    if beta is not None:
        check_number("beta", beta, minimum=0, open_minimum=True)
        check_number("M", a.M, minimum=0, open_minimum=True)
        b2 *= 2 * (1 + 1 / (beta * a.c_l * a.M**2))
    return a.M**2 + b2, b2


def laplace_bound(
    assumption: Assumption9, beta: ArrayLike, *, q: float, F_r: ArrayLike, ball_mass: ArrayLike, distance: ArrayLike
) -> Array:
    r"""Return the right-hand side of (22), :math:`(q+F_r)^\nu/\eta + e^{-\beta q}\int|h-h^*|d\rho\,/\rho(B_r)`.

    Parameters
    ----------
    assumption : Assumption9
    beta : array_like
        Selection pressure β ≥ 0; this, F_r, ball_mass and distance broadcast.
    q : float
        q > 0 with q + F_r ≤ F_∞.
    F_r : array_like
        Largest gap in the ball of radius r about h*.
    ball_mass : array_like
        ρ(B_r(h*)) > 0.
    distance : array_like
        Mean distance of ρ from h*.

    Examples
    --------
    >>> square = Assumption9(centre=0.0, eta=1.0, nu=0.5, F_inf=1.0)
    >>> far, near = laplace_bound(square, [10.0, 1e5], q=0.01, F_r=0.0, ball_mass=0.1, distance=1.0)
    >>> bool(far > 1), round(float(near), 6)
    (True, 0.1)
    """
    betas, away = check_array("beta", beta, minimum=0), check_array("distance", distance, minimum=0)
    check_number("q", q, minimum=0, open_minimum=True)
    gap, mass = check_array("F_r", F_r, minimum=0), check_array("ball_mass", ball_mass, minimum=0, open_minimum=True)
    if (q + gap > assumption.F_inf * (1 + 1e-12)).any():
        raise ValueError(f"q + F_r is {np.max(q + gap):g}; it must be at most F_inf = {assumption.F_inf:g}")
    check_together(beta=betas, F_r=gap, ball_mass=mass, distance=away)
    far = np.exp(-betas * q) / mass * away
    return np.asarray((q + gap) ** assumption.nu / assumption.eta + far)


def energy_bound(assumption: Assumption9, *, energy: float, sigma: float, p: int, horizon: float) -> float:
    r"""Return C(T*) of (35), :math:`e^{(b_2-1)T^*}(e(0) + (b_1 + p\sigma^2)T^*)`: it does not depend on β.

    Parameters
    ----------
    assumption : Assumption9
    energy : float
        e(0) = ∫|h|²dρ₀.
    sigma, p : float, int
        Mutation strength and dimension.
    horizon : float
        T*.

    Examples
    --------
    >>> square = Assumption9(centre=0.0, eta=1.0, nu=0.5, F_inf=1.0, c_u=1.0, c_l=1.0, M=1.0)
    >>> energy_bound(square, energy=1.0, sigma=0.0, p=1, horizon=1.0)
    3.0
    """
    for name, value in (("energy", energy), ("sigma", sigma), ("horizon", horizon)):
        check_number(name, value, minimum=0)
    check_number("p", p, integer=True, minimum=1)
    b1, b2 = energy_constants(assumption)
    return float(np.exp((b2 - 1) * horizon) * (energy + (b1 + p * sigma**2) * horizon))


def mass_bound(assumption: Assumption9, *, r: float, energy: float, sigma: float, p: int) -> float:
    r"""Return the logarithm of c(r, C, σ) of Lemma 16, the least mass near h* after one selection and mutation.

    Parameters
    ----------
    assumption : Assumption9
    r : float
        Radius of the ball about h*.
    energy : float
        A bound C on ∫|h|²dρ.
    sigma, p : float, int
        Mutation strength σ > 0 and dimension.

    Examples
    --------
    >>> square = Assumption9(centre=0.0, eta=1.0, nu=0.5, F_inf=1.0, c_u=1.0, c_l=1.0, M=1.0)
    >>> small, large = (mass_bound(square, r=0.1, energy=1.0, sigma=sigma, p=1) for sigma in (0.1, 1.0))
    >>> small < large < 0
    True
    """
    for name, value in (("r", r), ("sigma", sigma)):
        check_number(name, value, minimum=0, open_minimum=True)
    check_number("energy", energy, minimum=0)
    check_number("p", p, integer=True, minimum=1)
    b1, b2 = energy_constants(assumption)
    reach = np.sqrt(2 * (b1 + b2 * energy)) + assumption.centre + r
    log_volume = p / 2 * np.log(np.pi) - gammaln(p / 2 + 1) + p * np.log(r)
    with np.errstate(over="ignore"):  # a mass of 0 where the ball is out of reach
        return float(log_volume - np.log(2) - p / 2 * np.log(2 * np.pi) - p * np.log(sigma) - (reach / sigma) ** 2 / 2)


def pressure(
    assumption: Assumption9,
    *,
    delta: float,
    horizon: float,
    energy: float,
    sigma: float,
    p: int,
    radius: Callable[[float], float],
    ball_mass: Callable[[float], float],
) -> float:
    r"""Return β₀(δ, T*, ρ₀, σ) of Theorem 10, formula (C5) of Appendix C.

    Parameters
    ----------
    assumption : Assumption9
        With growth constants.
    delta, horizon : float
        Accuracy δ > 0 and horizon T* ≥ 0.
    energy, sigma, p
        As in `energy_bound`.
    radius : callable
        ``radius(q)``, a radius r with F_r ≤ q.
    ball_mass : callable
        ``ball_mass(r)`` = ρ₀(B_r(h*)), which must be positive.

    Examples
    --------
    >>> square = Assumption9(centre=0.0, eta=1.0, nu=0.5, F_inf=1.0, c_u=1.0, c_l=1.0, M=1.0)
    >>> rough, fine = (pressure(square, delta=delta, horizon=1.0, energy=1.0, sigma=0.1, p=1, radius=lambda q: q**0.5,
    ...                         ball_mass=lambda r: r / 4)
    ...                for delta in (0.2, 0.1))
    >>> 0 < rough < fine
    True
    """
    q = assumption.resolution(delta)
    r = radius(q)
    start = ball_mass(r)
    check_number("ball_mass", start, minimum=0, maximum=1, open_minimum=True)
    C = energy_bound(assumption, energy=energy, sigma=sigma, p=p, horizon=horizon)
    log_c = np.log(start)
    if sigma > 0:
        log_c = max(log_c - horizon, min(log_c, mass_bound(assumption, r=r, energy=C, sigma=sigma, p=p)))
    else:
        log_c -= horizon
    return float(max(np.log(2 * (np.sqrt(C) + assumption.centre) / delta) - log_c, 0.0) / q)


def pressure_without_growth(
    assumption: Assumption9,
    *,
    delta: float,
    horizon: float,
    distance: float,
    sigma: float,
    p: int,
    radius: Callable[[float], float],
    ball_mass: Callable[[float], float],
) -> float:
    r"""Return a β₀ for Theorem 10 that needs no growth condition (ii), only (i) and (iii); see Section 4.

    With :math:`c = e^{-T^*}\rho_0(B_r)` and :math:`Y = \max\{\int|h-h^*|d\rho_0, \delta + 2\sigma\sqrt p\}` it is
    :math:`\frac1q\log\max\{2/c,\,2Y/(c\delta)\}`.

    Parameters
    ----------
    distance : float
        Mean distance of ρ₀ from h*.
    assumption, delta, horizon, sigma, p, radius, ball_mass
        As in `pressure`.

    Examples
    --------
    >>> square = Assumption9(centre=0.0, eta=1.0, nu=0.5, F_inf=1.0)
    >>> rough, fine = (pressure_without_growth(square, delta=delta, horizon=1.0, distance=1.0, sigma=0.1, p=1,
    ...                                        radius=lambda q: q**0.5, ball_mass=lambda r: r / 4)
    ...                for delta in (0.2, 0.1))
    >>> 0 < rough < fine
    True
    """
    for name, value in (("distance", distance), ("sigma", sigma), ("horizon", horizon)):
        check_number(name, value, minimum=0)
    check_number("p", p, integer=True, minimum=1)
    q = assumption.resolution(delta)
    start = ball_mass(radius(q))
    check_number("ball_mass", start, minimum=0, maximum=1, open_minimum=True)
    Y = max(distance, delta + 2 * sigma * np.sqrt(p))
    return float((horizon - np.log(start) + np.log(2 * max(1.0, Y / delta))) / q)
