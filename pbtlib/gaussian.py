r"""Exact solutions: the mean-field law of Algorithm 1 for linear-Gaussian problems, and what follows from it.

With a quadratic loss, a quadratic fitness and fixed noise, each of the three moves of Algorithm 1 maps Gaussian laws of
x = (θ, h) to Gaussian laws: training is an affine map plus Gaussian noise (`Kernel`), selection multiplies by an
exponential quadratic (`select`), mutation adds an independent Gaussian (`mutate`). When all agents jump at once (τ = 1)
the law of the infinite population is therefore a mean and a covariance, exactly, for the stochastic differential
equation as well as for its Euler-Maruyama chain. None of this is in the paper.

At τ < 1 a share of the agents does not jump, the law becomes a mixture, and so does the solution of (6) and of (13):
`mean_field_law` refuses, `averaged_mixture` gives (13) as the countable mixture that it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import expm, solve_continuous_lyapunov, solve_discrete_lyapunov
from scipy.optimize import brentq
from scipy.special import gammaln

from pbtlib.checks import check_array, check_number, check_together

__all__ = [
    "Gaussian",
    "Kernel",
    "LinearSDE",
    "Mixture",
    "QuadraticFitness",
    "averaged_mixture",
    "chain",
    "contraction",
    "effective_curvature",
    "equilibrium",
    "flow",
    "generation_weights",
    "langevin",
    "log_growth",
    "mean_field_law",
    "mutate",
    "push",
    "replicator_mutator",
    "select",
    "stationary_variance",
]

Array = NDArray[np.float64]

MOST_GENERATIONS = 10**6
"""Longest time of `averaged_mixture`: beyond, an input is wrong rather than long."""


def _square(name: str, value: ArrayLike, n: int | None = None) -> Array:
    array = check_array(name, value)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or n not in (None, array.shape[0]):
        raise ValueError(
            f"{name} has shape {array.shape}; it must be a {'square' if n is None else f'{n} × {n}'} matrix"
        )
    return array


def _spread(name: str, value: ArrayLike, n: int) -> Array:
    array = check_array(name, value)
    if array.shape not in ((), (1,), (n,)):
        raise ValueError(f"{name} has shape {array.shape}; it must be a number or a vector of {n}")
    return np.broadcast_to(array, (n,))


def _covariance(name: str, value: ArrayLike, n: int) -> Array:
    array = _square(name, value, n)
    scale = max(1e-300, float(np.abs(array).max()))
    if np.abs(array - array.T).max() > 1e-9 * scale:
        raise ValueError(f"{name} is not symmetric; it must be a covariance matrix")
    smallest = np.linalg.eigvalsh(array)[0]
    if smallest < -1e-9 * scale:
        raise ValueError(f"{name} has eigenvalue {smallest:.3g}; a covariance matrix has none below 0")
    return (array + array.T) / 2


def _vector(name: str, value: ArrayLike) -> Array:
    array = check_array(name, value)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}; it must be a vector")
    return array


def _check_affine(own: Kernel | LinearSDE) -> None:
    """Check and store matrix and shift, which kernels and equations share."""
    matrix, shift = _square("matrix", own.matrix), _vector("shift", own.shift)
    if shift.shape != matrix.shape[:1]:
        raise ValueError(
            f"shift has shape {shift.shape}, matrix {matrix.shape}; the shift must be a vector of {len(matrix)}"
        )
    object.__setattr__(own, "matrix", matrix)
    object.__setattr__(own, "shift", shift)


@dataclass(frozen=True)
class Gaussian:
    """The law N(mean, cov) of x = (θ, h), or of h alone.

    Attributes
    ----------
    mean : ndarray, shape (n,)
    cov : ndarray, shape (n, n)
        Symmetric, no negative eigenvalue; a deterministic coordinate has variance 0.

    Examples
    --------
    >>> Gaussian(mean=[0.0], cov=[[-1.0]])
    Traceback (most recent call last):
    ValueError: cov has eigenvalue -1; a covariance matrix has none below 0
    """

    mean: Array
    cov: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", _vector("mean", self.mean))
        if (cov := check_array("cov", self.cov)).shape != 2 * self.mean.shape:
            raise ValueError(f"mean has shape {self.mean.shape}, cov {cov.shape}; they must be (n,) and (n, n)")
        object.__setattr__(self, "cov", _covariance("cov", cov, self.mean.size))


@dataclass(frozen=True)
class Kernel:
    """The Gaussian transition x ↦ matrix·x + shift + N(0, cov).

    Attributes
    ----------
    matrix, cov : ndarray, shape (n, n)
    shift : ndarray, shape (n,)

    Examples
    --------
    >>> import numpy as np
    >>> halve = Kernel(matrix=np.array([[0.5]]), shift=np.zeros(1), cov=np.eye(1))
    >>> push(Gaussian([4.0], [[1.0]]), halve)
    Gaussian(mean=array([2.]), cov=array([[1.25]]))
    """

    matrix: Array
    shift: Array
    cov: Array

    def __post_init__(self) -> None:
        _check_affine(self)
        object.__setattr__(self, "cov", _square("cov", self.cov, self.matrix.shape[0]))


@dataclass(frozen=True)
class LinearSDE:
    """Training (1) for a quadratic loss, written on x = (θ, h): dx = (matrix·x + shift) dt + diffusion^{1/2} dB.

    Any linear equation is allowed, such as underdamped Langevin on (θ, velocity, h). The hyperparameters come last;
    their rows are zero, since training leaves them alone.

    Attributes
    ----------
    matrix : ndarray, shape (n, n)
    shift : ndarray, shape (n,)
    diffusion : ndarray, shape (n, n)
        Covariance per unit time, s²Σ in the block of θ.

    Examples
    --------
    >>> sde = LinearSDE(matrix=[[-2.0]], shift=[0.0], diffusion=[[1.0]])
    >>> flow(sde, 50.0).cov.round(6).tolist()      # in equilibrium
    [[0.25]]
    """

    matrix: Array
    shift: Array
    diffusion: Array

    def __post_init__(self) -> None:
        _check_affine(self)
        object.__setattr__(self, "diffusion", _covariance("diffusion", self.diffusion, self.matrix.shape[0]))


@dataclass(frozen=True)
class QuadraticFitness:
    """The fitness F(x) = slope·x − ½ (x − centre)ᵀ curvature (x − centre), up to a constant that selection ignores.

    Attributes
    ----------
    curvature : ndarray, shape (n, n)
        Symmetric; it need not be positive (a valley has negative curvature).
    centre, slope : ndarray, shape (n,)
        Scalars are broadcast.

    Examples
    --------
    >>> fitness = QuadraticFitness(curvature=[[1.0]], centre=0.0)
    >>> select(Gaussian([1.0], [[1.0]]), fitness).mean.round(6).tolist()
    [0.5]
    """

    curvature: Array
    centre: Array | float = 0.0
    slope: Array | float = 0.0

    def __post_init__(self) -> None:
        curvature = _square("curvature", self.curvature)
        if not np.allclose(curvature, curvature.T):
            raise ValueError("curvature is not symmetric; it must be a symmetric matrix")
        object.__setattr__(self, "curvature", curvature)
        n = curvature.shape[0]
        for name in ("centre", "slope"):
            object.__setattr__(self, name, _spread(name, getattr(self, name), n))


# ---------------------------------------------------------------------------------------------------- training


def langevin(
    hessian: ArrayLike,
    coupling: ArrayLike,
    noise: float,
    *,
    offset: ArrayLike = 0.0,
    covariance: ArrayLike | None = None,
) -> LinearSDE:
    """Return (1) on x = (θ, h) for L(θ,h) = ½ (θ − Bh − c)ᵀ A (θ − Bh − c).

    Parameters
    ----------
    hessian : array_like, shape (d, d)
        A, symmetric. L = |θ − h|² has A = 2I.
    coupling : array_like, shape (d, p)
        B: where the minimiser goes when h moves.
    noise : float
        The amplitude s ≥ 0.
    offset : array_like, scalar or shape (d,)
        c.
    covariance : array_like, shape (d, d), optional
        Σ, the identity by default.

    Returns
    -------
    LinearSDE
        On n = d + p coordinates.

    Examples
    --------
    >>> langevin(hessian=[[2.0]], coupling=[[1.0]], noise=0.6).matrix[0].tolist()      # L = (θ − h)²
    [-2.0, 2.0]
    """
    A, B = _square("hessian", hessian), check_array("coupling", coupling)
    if not np.allclose(A, A.T):
        raise ValueError("hessian is not symmetric; it must be a symmetric matrix")
    if B.ndim != 2 or B.shape[0] != A.shape[0]:
        raise ValueError(f"coupling has shape {B.shape}; it must be ({A.shape[0]}, p), one row per parameter")
    check_number("noise", noise, minimum=0)
    c = _spread("offset", offset, A.shape[0])
    d, p = B.shape
    matrix, shift, diffusion = np.zeros((d + p, d + p)), np.zeros(d + p), np.zeros((d + p, d + p))
    matrix[:d] = np.hstack([-A, A @ B])
    shift[:d] = A @ c
    diffusion[:d, :d] = noise**2 * (np.eye(d) if covariance is None else _covariance("covariance", covariance, d))
    return LinearSDE(matrix, shift, diffusion)


def _then(first: Kernel, second: Kernel) -> Kernel:
    M = second.matrix
    return Kernel(M @ first.matrix, M @ first.shift + second.shift, M @ first.cov @ M.T + second.cov)


def _power(kernel: Kernel, n: int) -> Kernel:
    size = kernel.shift.size
    result = Kernel(np.eye(size), np.zeros(size), np.zeros((size, size)))
    while n:
        if n & 1:
            result = _then(result, kernel)
        kernel, n = _then(kernel, kernel), n >> 1
    return result


def flow(sde: LinearSDE, time: float) -> Kernel:
    """Return the exact transition of the equation over a time span.

    Parameters
    ----------
    sde : LinearSDE
    time : float
        At least 0, in units of inner (training) time.

    Returns
    -------
    Kernel
        By Van Loan's block exponential over a short span and repeated composition, stable for any span.

    Examples
    --------
    >>> import numpy as np
    >>> half = flow(langevin([[2.0]], [[1.0]], 0.6), np.log(2.0) / 2)
    >>> half.matrix[0].round(6).tolist()      # θ has gone half of the way to h
    [0.5, 0.5]
    """
    check_number("time", time, minimum=0)
    n = sde.shift.size
    doublings = max(0, int(np.ceil(np.log2(max(1.0, float(np.abs(sde.matrix).sum(1).max()) * time)))))
    t = time / 2**doublings
    affine = expm(t * np.block([[sde.matrix, sde.shift[:, None]], [np.zeros((1, n + 1))]]))
    blocks = expm(t * np.block([[-sde.matrix, sde.diffusion], [np.zeros((n, n)), sde.matrix.T]]))
    cov = blocks[n:, n:].T @ blocks[:n, n:]
    return _power(Kernel(affine[:n, :n], affine[:n, n], (cov + cov.T) / 2), 2**doublings)


def chain(sde: LinearSDE, dt: float, steps: int) -> Kernel:
    """Return the exact transition of the Euler-Maruyama chain after some steps (a chain, not an approximation here).

    Parameters
    ----------
    sde : LinearSDE
    dt : float
        Step Δt > 0.
    steps : int
        At least 0.

    Examples
    --------
    >>> chain(langevin([[2.0]], [[1.0]], 0.6), dt=0.1, steps=2).matrix[0].round(6).tolist()
    [0.64, 0.36]
    """
    check_number("dt", dt, minimum=0, open_minimum=True)
    check_number("steps", steps, integer=True, minimum=0)
    step = Kernel(np.eye(sde.shift.size) + dt * sde.matrix, dt * sde.shift, dt * sde.diffusion)
    return _power(step, int(steps))


def equilibrium(sde: LinearSDE, p: int, *, dt: float = 0.0) -> Kernel:
    """Return the kernel that draws θ from its equilibrium given h and keeps h: the training of Algorithm 2.

    Parameters
    ----------
    sde : LinearSDE
    p : int
        Number of hyperparameters, the last coordinates.
    dt : float
        0 for the Gibbs measure (10); Δt > 0 for the invariant law of the Euler-Maruyama chain, slightly wider.

    Raises
    ------
    ValueError
        If training has no equilibrium (an unstable drift, or Δt beyond the stability limit).

    Examples
    --------
    >>> equilibrium(langevin([[2.0]], [[1.0]], 0.6), p=1).cov[0].round(6).tolist()      # s²/4 for θ
    [0.09, 0.0]
    """
    check_number("dt", dt, minimum=0)
    check_number("p", p, integer=True, minimum=0, maximum=sde.shift.size - 1)
    n, d = sde.shift.size, sde.shift.size - int(p)
    M, Q = sde.matrix[:d, :d], sde.diffusion[:d, :d]
    rate = np.linalg.eigvals(M)
    if rate.real.max() >= 0 or (dt > 0 and np.abs(1 + dt * rate).max() >= 1):
        raise ValueError(
            f"training has no equilibrium at dt = {dt} and p = {p}: the rates of the first {d} coordinates are "
            f"{np.round(rate, 6)}"
        )
    matrix, shift, cov = np.zeros((n, n)), np.zeros(n), np.zeros((n, n))
    matrix[d:, d:] = np.eye(n - d)
    matrix[:d, d:] = -np.linalg.solve(M, sde.matrix[:d, d:])
    shift[:d] = -np.linalg.solve(M, sde.shift[:d])
    cov[:d, :d] = solve_discrete_lyapunov(np.eye(d) + dt * M, dt * Q) if dt > 0 else solve_continuous_lyapunov(M, -Q)
    return Kernel(matrix, shift, cov)


# ---------------------------------------------------------------------------------------------------- one update


def push(law: Gaussian, kernel: Kernel) -> Gaussian:
    """Return the law after a Gaussian transition.

    Examples
    --------
    >>> import numpy as np
    >>> push(Gaussian([4.0], [[1.0]]), Kernel(np.array([[0.5]]), np.zeros(1), np.eye(1)))
    Gaussian(mean=array([2.]), cov=array([[1.25]]))
    """
    M = kernel.matrix
    return Gaussian(M @ law.mean + kernel.shift, M @ law.cov @ M.T + kernel.cov)


def _tilt(law: Gaussian, fitness: QuadraticFitness, beta: float) -> tuple[Gaussian, float]:
    """The law e^{βF} f/∫e^{βF} f and log ∫e^{βF} f."""
    check_number("beta", beta)
    n = law.mean.size
    if fitness.curvature.shape[0] != n:
        raise ValueError(f"fitness has {fitness.curvature.shape[0]} coordinates; the law has {n}")
    value, vector = np.linalg.eigh(law.cov)
    root = vector * np.sqrt(np.maximum(value, 0.0))
    stretch, turn = np.linalg.eigh(np.eye(n) + beta * root.T @ fitness.curvature @ root)
    if stretch[0] <= 1e-12:
        raise ValueError(
            f"e^(βF) is not integrable at beta = {beta}: the weight grows faster than the law decays "
            f"(smallest eigenvalue of I + βV^(1/2) C V^(1/2) is {stretch[0]:.3g}; it must be positive)"
        )
    half = root @ turn / np.sqrt(stretch)
    cov = half @ half.T
    offset, slope = law.mean - fitness.centre, np.asarray(fitness.slope)
    pull = beta * (slope - fitness.curvature @ offset)
    level = beta * (slope @ law.mean - offset @ fitness.curvature @ offset / 2)
    log_mass = level + pull @ cov @ pull / 2 - np.log(stretch).sum() / 2
    return Gaussian(law.mean + cov @ pull, cov), float(log_mass)


def select(law: Gaussian, fitness: QuadraticFitness, beta: float = 1.0) -> Gaussian:
    """Return the law of the parents, e^{βF} f/∫e^{βF} f; a negative β gives the law of those removed (Section 2.4).

    Raises
    ------
    ValueError
        If ∫e^{βF} f = ∞, so that no mean field exists.

    Examples
    --------
    >>> parents = select(Gaussian([1.0], [[1.0]]), QuadraticFitness([[1.0]]), beta=3.0)
    >>> parents.mean.round(6).tolist(), parents.cov.round(6).tolist()
    ([0.25], [[0.25]])
    """
    return _tilt(law, fitness, beta)[0]


def mutate(law: Gaussian, sigma: float, p: int) -> Gaussian:
    """Return the law after h ← h + σξ on the last p coordinates.

    Examples
    --------
    >>> mutate(Gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]]), sigma=0.5, p=1).cov.tolist()
    [[1.0, 0.0], [0.0, 1.25]]
    """
    check_number("sigma", sigma, minimum=0)
    check_number("p", p, integer=True, minimum=1, maximum=law.mean.size)
    cov = law.cov.copy()
    last = np.arange(law.mean.size - int(p), law.mean.size)
    cov[last, last] += sigma**2
    return Gaussian(law.mean, cov)


def mean_field_law(
    law: Gaussian,
    training: Kernel,
    fitness: QuadraticFitness,
    *,
    sigma: float,
    p: int,
    n_updates: int,
    beta: float = 1.0,
    tau: float = 1.0,
) -> list[Gaussian]:
    """Return the law of Algorithm 1 with infinitely many agents, exactly, after 0, 1, …, n updates.

    Parameters
    ----------
    law : Gaussian
        Of x = (θ, h), before the first training.
    training : Kernel
        From `flow` (Algorithm 1), `chain` (its Euler-Maruyama version) or `equilibrium` (Algorithm 2).
    fitness : QuadraticFitness
        On the same coordinates.
    sigma : float
        Mutation strength σ ≥ 0.
    p : int
        Number of hyperparameters, the last coordinates.
    n_updates : int
        At least 0.
    beta : float
        Selection pressure β ≥ 0.
    tau : float
        Only 1.

    Returns
    -------
    list of Gaussian
        n_updates + 1 laws; each is the law just after an update.

    Raises
    ------
    ValueError
        If τ ≠ 1, where the law is not Gaussian; if selection is not integrable.

    Examples
    --------
    >>> training = equilibrium(langevin([[2.0]], [[1.0]], 0.6), p=1)
    >>> start, fitness = Gaussian([2.0, 2.0], [[0.0, 0.0], [0.0, 1.0]]), QuadraticFitness([[2.0, 0.0], [0.0, 0.0]])
    >>> laws = mean_field_law(start, training, fitness, sigma=0.3, p=1, n_updates=20)
    >>> len(laws), bool(abs(laws[-1].mean[1]) < 0.1)
    (21, True)
    """
    check_number("n_updates", n_updates, integer=True, minimum=0)
    check_number("tau", tau, minimum=0, maximum=1, open_minimum=True)
    check_number("beta", beta, minimum=0)
    if tau != 1:
        raise ValueError(
            f"tau is {tau}; only tau = 1 keeps the law Gaussian. At tau < 1, and in continuous time in (6) and (13), "
            "those who jumped and those who did not form a mixture: use kinetic.algorithm_1, averaged.solve or "
            "averaged_mixture"
        )
    laws = [law]
    for _ in range(int(n_updates)):
        laws.append(mutate(select(push(laws[-1], training), fitness, beta), sigma, p))
    return laws


# ---------------------------------------------------------------------------------------------------- (13), exactly


@dataclass(frozen=True)
class Mixture:
    """A countable mixture of Gaussian laws, cut where its weights are below rounding.

    Attributes
    ----------
    weights : ndarray, shape (K,)
        Sum to 1.
    means : ndarray, shape (K, n)
    covs : ndarray, shape (K, n, n)

    Raises
    ------
    ValueError
        If the shapes do not agree, a weight is negative, or they do not sum to 1 within 10⁻⁹.

    Examples
    --------
    >>> import numpy as np
    >>> both = Mixture(np.array([0.5, 0.5]), np.array([[-1.0], [1.0]]), np.zeros((2, 1, 1)))
    >>> both.mean.tolist(), both.cov.tolist()
    ([0.0], [[1.0]])
    """

    weights: Array
    means: Array
    covs: Array

    def __post_init__(self) -> None:
        weights, means = check_array("weights", self.weights, minimum=0), check_array("means", self.means, min_ndim=2)
        k, n = means.shape[-2:]
        if weights.shape != (k,) or means.ndim != 2:
            raise ValueError(f"weights has shape {weights.shape}, means {means.shape}; they must be (K,) and (K, n)")
        if not abs(weights.sum() - 1) <= 1e-9:
            raise ValueError(f"weights sum to {weights.sum():g}; those of a mixture sum to 1")
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "means", means)
        covs = check_array("covs", self.covs)
        if covs.shape != (k, n, n):
            raise ValueError(f"means has shape {means.shape}, covs {covs.shape}; they must be (K, n) and (K, n, n)")
        object.__setattr__(self, "covs", covs)

    @property
    def mean(self) -> Array:
        """Mean of the mixture, shape (n,)."""
        return self.weights @ self.means

    @property
    def cov(self) -> Array:
        """Covariance of the mixture, shape (n, n)."""
        offset = self.means - self.mean
        within = np.einsum("k,kij->ij", self.weights, self.covs)
        total: Array = within + np.einsum("k,ki,kj->ij", self.weights, offset, offset)
        return total


def averaged_mixture(
    law: Gaussian, fitness: QuadraticFitness, *, sigma: float, time: float, beta: float = 1.0
) -> Mixture:
    r"""Return the exact solution of (13) for a quadratic effective fitness and a Gaussian start.

    With A = K_σ e^{β𝓕}, the solution is ρ(t) = exp(sA)ρ₀ normalised, and ∫exp(sA)ρ₀ = e^t fixes s. The exponential
    series is a mixture over generations: ρ(t) = Σ_n p_n ρ_n, where ρ_n is the law after n simultaneous updates and
    p_n = e^{−t} (s^n/n!) z_0⋯z_{n−1} with z_k = ∫e^{β𝓕}ρ_k. The paper does not have it.

    Parameters
    ----------
    law : Gaussian
        ρ₀, on h alone.
    fitness : QuadraticFitness
        The effective fitness on h.
    sigma, time, beta : float
        Each at least 0; time at most 10⁶, for it takes more than so many generations.

    Returns
    -------
    Mixture

    Raises
    ------
    ValueError
        If a number is out of range, or selection is not integrable: see `select`.

    Examples
    --------
    >>> law = averaged_mixture(Gaussian([2.0], [[1.0]]), QuadraticFitness([[1.0]]), sigma=0.5, time=1.0)
    >>> bool(abs(law.weights.sum() - 1) < 1e-12), bool(0 < law.mean[0] < 2)
    (True, True)
    """
    check_number("time", time, minimum=0, maximum=MOST_GENERATIONS)
    check_number("beta", beta, minimum=0)
    laws, log_z = [law], list[float]()
    while (weights := generation_weights(log_z, time)) is None:
        for _ in range(len(log_z) + 64):
            parents, log_mass = _tilt(laws[-1], fitness, beta)
            laws.append(mutate(parents, sigma, law.mean.size))
            log_z.append(log_mass)
    return Mixture(weights, np.array([g.mean for g in laws]), np.array([g.cov for g in laws]))


def generation_weights(log_z: list[float], time: float) -> Array | None:
    """Return p_n = e^{−t} (s^n/n!) z_0⋯z_{n−1} for n = 0, …, K, with s such that they sum to 1.

    Parameters
    ----------
    log_z : list of float, length K
        log z_n = log ∫e^{β𝓕}ρ_n of the first K generations; a constant added to all of them changes nothing.
    time : float
        t ≥ 0.

    Returns
    -------
    ndarray, shape (K + 1,), or None
        None if generations beyond K still carry weight, so that more are needed.

    Examples
    --------
    >>> generation_weights([0.0] * 40, 1.0)[:2].round(4).tolist()      # Poisson's where nothing is selected
    [0.3679, 0.3679]
    """
    check_number("time", time, minimum=0)
    if not isinstance(log_z, list):
        raise TypeError(f"log_z is {log_z!r}; it must be a list of numbers")
    if log_z:
        check_array("log_z", log_z, shape=(len(log_z),))
    n = np.arange(len(log_z) + 1)
    if time == 0:
        return np.where(n == 0, 1.0, 0.0)
    if len(log_z) < time + 8:
        return None
    base = np.cumsum([0.0, *log_z]) - gammaln(n + 1)

    def excess(log_s: float) -> float:
        return float(np.logaddexp.reduce(n * log_s + base)) - time

    low, high = -1.0, 1.0
    while excess(low) > 0:
        low *= 2
    while excess(high) < 0:
        high *= 2
    log_p = n * float(brentq(excess, low, high, xtol=1e-14)) + base - time
    if log_p[-1] > -40 or log_p[-1] > log_p[-2]:
        return None
    weights = np.exp(np.maximum(log_p, -700.0))
    normalised: Array = weights / weights.sum()
    return normalised


# ---------------------------------------------------------------------------------------------------- closed forms


def _positive(name: str, value: ArrayLike) -> Array:
    return check_array(name, value, minimum=0, open_minimum=True)


def stationary_variance(curvature: ArrayLike, sigma: ArrayLike) -> Array:
    """Return v = σ²/2 + √(σ⁴/4 + σ²/c), the variance per coordinate at which selection and mutation balance.

    It is the steady state of (13), and of simultaneous updates, for 𝓕 = −(c/2)|h − h*|²: v/(1 + cv) + σ² = v.

    Parameters
    ----------
    curvature : array_like
        c > 0 of the (effective) fitness, selection pressure included.
    sigma : array_like
        σ > 0.

    Examples
    --------
    >>> round(float(stationary_variance(curvature=2.0, sigma=0.5)), 6)
    0.5
    """
    c, s = _positive("curvature", curvature), _positive("sigma", sigma)
    check_together(curvature=c, sigma=s)
    s2 = s**2
    return s2 / 2 + np.sqrt(s2**2 / 4 + s2 / c)


def contraction(curvature: ArrayLike, sigma: ArrayLike) -> Array:
    """Return r = 1/(1 + cv): the eigenvalues of K_σ e^𝓕 are λ₀ rⁿ, the mean contracts by r per update.

    The relaxation rate of (13) is 1 − r. Parameters as in `stationary_variance`.

    Examples
    --------
    >>> round(float(contraction(curvature=2.0, sigma=0.5)), 6)
    0.5
    """
    return 1 / (1 + check_array("curvature", curvature) * stationary_variance(curvature, sigma))


def log_growth(curvature: ArrayLike, sigma: ArrayLike, height: float = 0.0) -> Array:
    """Return log λ₀ = height + ½ Σ_i log r_i, what decides between two peaks (height is the peak's fitness).

    Parameters
    ----------
    curvature : array_like, shape (..., p)
        Curvature in each direction.
    sigma : array_like
        σ > 0, broadcast against the curvature.

    Examples
    --------
    >>> bool(log_growth([2.0, 2.0], 0.5) > log_growth([8.0, 8.0], 0.5))      # the broader of two peaks of one height
    True
    """
    check_number("height", height)
    rate: Array = height + np.log(contraction(curvature, sigma)).sum(-1) / 2
    return rate


def effective_curvature(beta: ArrayLike, variance: ArrayLike, *, window: ArrayLike = 1.0) -> Array:
    """Return a = β/(1 + βs²/m), the curvature of β𝓕_β for F = −|θ − θ*|²/2 and θ|h of variance s² about h.

    It saturates at m/s² however large β is.

    Parameters
    ----------
    beta : array_like
        Selection pressure β ≥ 0 on particles.
    variance : array_like
        s² ≥ 0, the equilibrium variance of a parameter.
    window : array_like
        m ≥ 1, the number of independent equilibrium draws that (23) averages; 1 is Algorithm 1.

    Examples
    --------
    >>> float(effective_curvature(2.0, 0.5)), float(effective_curvature(2.0, 0.5, window=4))
    (1.0, 1.6)
    """
    b, v = check_array("beta", beta, minimum=0), check_array("variance", variance, minimum=0)
    m = check_array("window", window, minimum=1)
    check_together(beta=b, variance=v, window=m)
    return b / (1 + b * v / m)


def replicator_mutator(
    mean: ArrayLike, variance: ArrayLike, *, curvature: float, centre: float, sigma: float, time: ArrayLike
) -> tuple[Array, Array]:
    """Return mean and variance of the solution of (16), per coordinate, for 𝓕 = −(c/2)|h − h*|² and Gaussian data.

    v′ = σ² − cv² and m′ = −cv(m − h*): with a = v₀√c/σ and x = σ√c·t,
    v = (σ/√c)(a + tanh x)/(1 + a tanh x) and m − h* = (m₀ − h*)/(cosh x + a sinh x).

    Parameters
    ----------
    mean, variance : array_like
        m₀ and v₀ ≥ 0, broadcast against each other and the times.
    curvature, sigma : float
        c > 0, σ ≥ 10⁻¹⁵⁰.
    centre : float
        h*.
    time : array_like
        t ≥ 0.

    Returns
    -------
    mean, variance : ndarray
        Of the shape that mean, variance and time broadcast to.

    Raises
    ------
    ValueError
        If a number is out of range, or the shapes do not broadcast.

    Examples
    --------
    >>> mean, variance = replicator_mutator(2.0, 1.0, curvature=4.0, centre=0.0, sigma=1.0, time=[0.0, 50.0])
    >>> mean.round(6).tolist(), variance.round(6).tolist()
    ([2.0, 0.0], [1.0, 0.5])
    """
    m0, v0 = check_array("mean", mean), check_array("variance", variance, minimum=0)
    t = check_array("time", time, minimum=0)
    check_together(mean=m0, variance=v0, time=t)
    check_number("curvature", curvature, minimum=0, open_minimum=True)
    check_number("sigma", sigma, minimum=1e-150)
    check_number("centre", centre)
    limit, x = sigma / np.sqrt(curvature), sigma * np.sqrt(curvature) * t
    a, tanh, decay = v0 / limit, np.tanh(x), np.exp(-np.minimum(x, 350.0))
    shrink = 2 * decay / ((1 + a) + (1 - a) * decay**2)
    return centre + (m0 - centre) * shrink, limit * (a + tanh) / (1 + a * tanh)
