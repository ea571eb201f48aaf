r"""The fast operator: how agents train between two slow updates.

Each is a frozen dataclass that is called as ``train(state, rng) -> (state, trace)``. The hyperparameters do not change
while it runs. The duration of training, ``steps`` times ``dt``, is one of the two places where the clock τ of
Algorithm 1 appears (the other is `pbtlib.evolution.Selection`); in the two-time-scale equation (8) the same duration
is τ/ε.

Noise is drawn by a counter: the generator passed in yields one key, and agent i's n-th normal depends on (key, i, n)
alone. So the result has the same bits whatever the number of threads and however the agents are cut into blocks.

What evaluation makes of the recorded fitness is a value too: `Last`, `WindowMean`, `LogMeanExp`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pbtlib.bilevel import log_mean_exp
from pbtlib.checks import as_real, check_array, check_number
from pbtlib.normals import COMPILE, draw_key, fill
from pbtlib.parallel import in_blocks, processors
from pbtlib.problems import AnyProblem, Himmelblau, LinearGaussian, Quadratic, noise_covariance, read_only
from pbtlib.values import ASIDE

__all__ = [
    "EulerChain",
    "EulerMaruyama",
    "ExactOU",
    "GibbsDraw",
    "Last",
    "LogMeanExp",
    "Particles",
    "Trace",
    "Underdamped",
    "UnderdampedParticles",
    "WindowMean",
]

Array = NDArray[np.float64]
S = TypeVar("S")

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

    Examples
    --------
    >>> import numpy as np
    >>> Particles(theta=np.zeros((3, 2)), h=np.ones((4, 1)))
    Traceback (most recent call last):
    ValueError: theta has shape (3, 2) and h (4, 1); they must be (..., N, d) and (..., N, p)
    """

    theta: Array
    h: Array

    def __post_init__(self) -> None:
        _check_agents(self)


@dataclass(frozen=True)
class UnderdampedParticles:
    """A population whose training has momentum: θ and momentum of shape (..., N, d), h of shape (..., N, p).

    Examples
    --------
    >>> import numpy as np
    >>> UnderdampedParticles(theta=np.zeros((3, 2)), momentum=np.zeros((3, 2)), h=np.ones((3, 1))).momentum.shape
    (3, 2)
    """

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

    Examples
    --------
    >>> from pbtlib.evolution import stream
    >>> from pbtlib.problems import Quadratic
    >>> train = EulerMaruyama(Quadratic(1), dt=0.01, steps=100, window=3, path_every=50)
    >>> _, trace = train(Particles([[3.0]], [[0.0, 0.1]]), stream(0, 0, "train"))
    >>> trace.fitness.shape, trace.path.shape
    ((1, 3), (2, 1, 1))
    """

    fitness: Array
    path: Array


# ---------------------------------------------------------------------------------------------- evaluation


@dataclass(frozen=True)
class Last:
    """Evaluation by the fitness now, after the last step of training.

    Examples
    --------
    >>> import numpy as np
    >>> Last()(None, Trace(fitness=np.array([[1.0, 2.0, 6.0]]), path=np.empty((0, 1, 1)))).tolist()
    [6.0]
    """

    def __call__(self, state: Any, trace: Trace) -> Array:
        """Return the fitness, shape (..., N)."""
        return trace.fitness[..., -1]


@dataclass(frozen=True)
class WindowMean:
    """Evaluation by the time average (23), over the ``window`` that training recorded.

    Examples
    --------
    >>> import numpy as np
    >>> WindowMean()(None, Trace(fitness=np.array([[1.0, 2.0, 6.0]]), path=np.empty((0, 1, 1)))).tolist()
    [3.0]
    """

    def __call__(self, state: Any, trace: Trace) -> Array:
        """Return the fitness, shape (..., N)."""
        return np.asarray(trace.fitness.mean(-1))


@dataclass(frozen=True)
class LogMeanExp:
    r"""Evaluation by :math:`\frac1\beta\log` of the time average of :math:`e^{\beta F}`, over the recorded ``window``.

    Attributes
    ----------
    beta : float
        β ≥ 0; at 0 it is the mean.

    Examples
    --------
    >>> import numpy as np
    >>> trace = Trace(fitness=np.array([[0.0, np.log(3.0)]]), path=np.empty((0, 1, 1)))
    >>> bool(abs(LogMeanExp(1.0)(None, trace)[0] - np.log(2.0)) < 1e-12)
    True
    """

    beta: float = 1.0

    def __post_init__(self) -> None:
        check_number("beta", self.beta, minimum=0)

    def __call__(self, state: Any, trace: Trace) -> Array:
        """Return the fitness, shape (..., N); NaN where an agent diverged."""
        finite = np.asarray(np.isfinite(trace.fitness).all(-1))
        value = log_mean_exp(np.where(finite[..., None], trace.fitness, 0.0), self.beta)
        return np.where(finite, value, np.nan)


# ---------------------------------------------------------------------------------------------- training


@dataclass(frozen=True)
class EulerMaruyama:
    r"""Training by the Euler-Maruyama scheme for (1).

    One step is :math:`\theta \leftarrow \theta - \Delta t\,\nabla_\theta L + s(h)\sqrt{\Delta t}\,\Sigma^{1/2}\xi`.

    Weak order 1. For the quadratic example its own invariant variance is :math:`h_2^2/(4(1-\Delta t))`, not the
    :math:`h_2^2/4` of (25). ``Quadratic``, ``Himmelblau`` and ``LinearGaussian`` themselves run in one compiled loop;
    any other problem, a subclass of them too, runs block by block through its own functions, which get read-only
    arrays.

    Attributes
    ----------
    problem : AnyProblem
        Whatever has ``loss``, ``gradient``, ``fitness`` and ``noise``.
    dt : float
        Time step Δt > 0.
    steps : int
        Number of steps, at least 1.
    window : int
        Number m of last steps whose fitness is recorded, 1 ≤ m ≤ steps.
    path_every : int
        Record θ after every so many steps; 0 for never.
    threads : int, optional
        Number of threads; as many as there are processors by default. Results do not depend on it.

    Raises
    ------
    ValueError
        If an argument is out of range. When called: if a function of the problem returns the wrong shape or writes
        into its arguments, its noise is negative or not finite, or its Sigma has another size than θ.

    Examples
    --------
    >>> import numpy as np
    >>> from pbtlib.evolution import stream
    >>> from pbtlib.problems import Quadratic
    >>> train = EulerMaruyama(Quadratic(1), dt=0.01, steps=100)
    >>> state, trace = train(Particles([[3.0], [3.0]], [[0.0, 0.0], [1.0, 0.0]]), stream(0, 0, "train"))
    >>> state.theta.round(3).tolist()      # (1 - 0.02)^100 of the way is left
    [[0.398], [1.265]]
    """

    problem: AnyProblem
    _: KW_ONLY
    dt: float
    steps: int
    window: int = 1
    path_every: int = 0
    threads: int | None = field(default=None, compare=False, metadata=ASIDE)

    def __post_init__(self) -> None:
        _check_training(self, "dt")

    def __call__(self, state: S, rng: np.random.Generator) -> tuple[S, Trace]:
        """Train each agent, ``(state, rng) -> (state, trace)``, for any state with fields ``theta`` and ``h``."""
        problem, dt, Sigma = self.problem, self.dt, noise_covariance(self.problem)
        root = np.sqrt(dt) * np.linalg.cholesky(np.eye(1) if Sigma is None else Sigma)
        if type(problem) is Himmelblau:
            return _run(self, _compiled(problem, np.zeros((0, 0)), root, dt), state, rng)
        if type(problem) in (Quadratic, LinearGaussian):
            linear: Any = problem
            matrix = np.eye(linear.d) - dt * _drift_matrix(linear)
            return _run(self, _compiled(linear, matrix, root, dt), state, rng)

        def advance(parts: list[Array], h: Array, amplitude: Array, key: np.uint64, agent: int) -> _Segment:
            (theta,) = parts
            (seen,) = read_only(theta)
            noise = _noise(amplitude, root, key, agent, theta.shape[1])

            def segment(start: int, stop: int) -> None:
                for _ in range(start, stop):
                    drift = _call(problem, "gradient", theta.shape, seen, h)
                    np.add(theta, next(noise) - dt * drift, out=theta)

            return segment

        return _run(self, advance, state, rng)


@dataclass(frozen=True)
class EulerChain:
    r"""The n steps of `EulerMaruyama` under a linear drift, drawn as the one Gaussian step that they compose to.

    :math:`\theta \leftarrow \bar\theta + M^n(\theta - \bar\theta) + s\,C^{1/2}\xi` with :math:`M = I - A\,\Delta t`
    and :math:`C = \Delta t\sum_{k<n} M^k\Sigma M^k`: to the letter the law of the last state, the bias of the steps
    included, at the price of one step. What lies between is not made, so the fitness is recorded at the end alone.

    Attributes
    ----------
    problem : Quadratic or LinearGaussian
        Exactly, as for `ExactOU`.
    dt : float
        Time step Δt > 0 of the scheme.
    steps : int
        Number n of its steps, at least 1.
    threads : int, optional
        As in `EulerMaruyama`.

    Raises
    ------
    ValueError
        If an argument is out of range. When called: if the steps are so long that they grow beyond all numbers.

    Examples
    --------
    >>> from pbtlib.evolution import stream
    >>> from pbtlib.problems import Quadratic
    >>> train = EulerChain(Quadratic(1), dt=0.01, steps=100)
    >>> state, _ = train(Particles([[3.0], [3.0]], [[0.0, 0.0], [1.0, 0.0]]), stream(0, 0, "train"))
    >>> state.theta.round(3).tolist()      # (1 - 0.02)^100 of the way is left
    [[0.398], [1.265]]
    """

    problem: Quadratic | LinearGaussian
    _: KW_ONLY
    dt: float
    steps: int
    threads: int | None = field(default=None, compare=False, metadata=ASIDE)

    def __post_init__(self) -> None:
        EulerMaruyama(self.problem, dt=self.dt, steps=self.steps, threads=self.threads)
        _check_linear(self.problem)

    def _composed(self) -> tuple[Array, Array]:
        """The matrix of the composed step and its covariance, by repeated squaring."""
        d, n = self.problem.d, int(self.steps)
        Sigma = np.eye(d) if isinstance(self.problem, Quadratic) else self.problem.Sigma
        matrix, covariance = np.eye(d), np.zeros((d, d))
        step, spread = np.eye(d) - self.dt * _drift_matrix(self.problem), self.dt * Sigma
        with np.errstate(over="ignore", invalid="ignore"):
            while n:
                if n % 2:
                    matrix, covariance = step @ matrix, step @ covariance @ step.T + spread
                step, spread, n = step @ step, step @ spread @ step.T + spread, n // 2
        if not np.isfinite([matrix, covariance]).all():
            raise ValueError(f"dt is {self.dt}; {self.steps} steps of this length grow beyond all numbers")
        return matrix, covariance

    def __call__(self, state: S, rng: np.random.Generator) -> tuple[S, Trace]:
        """Train each agent, ``(state, rng) -> (state, trace)``."""
        matrix, covariance = self._composed()
        isotropic = isinstance(self.problem, Quadratic)
        root = np.linalg.cholesky(covariance[:1, :1] if isotropic else covariance).astype(np.float64)
        one = EulerMaruyama(self.problem, dt=self.dt, steps=1, threads=self.threads)
        return _run(one, _compiled(self.problem, matrix, root, 0.0), state, rng)


@dataclass(frozen=True)
class ExactOU:
    r"""The exact transition of a linear drift over this time: no discretisation error, whatever the step.

    :math:`\theta(t) = \bar\theta + e^{-At}(\theta(0)-\bar\theta) + s\,C_t^{1/2}\xi` with
    :math:`\bar\theta = Bh+c` and :math:`C_t = \int_0^t e^{-Ar}\Sigma e^{-Ar}dr`.

    Attributes
    ----------
    problem : Quadratic or LinearGaussian
        Exactly: of a subclass nobody knows whether its gradient is linear still.
    time : float
        Duration t > 0 of training.
    steps : int
        Number of equal exact steps it is cut into; matters only for what is recorded.
    window, path_every, threads
        As in `EulerMaruyama`.

    Examples
    --------
    >>> import numpy as np
    >>> from pbtlib.evolution import stream
    >>> from pbtlib.problems import Quadratic
    >>> train = ExactOU(Quadratic(1), time=np.log(2.0) / 2)
    >>> state, _ = train(Particles([[3.0]], [[1.0, 0.0]]), stream(0, 0, "train"))
    >>> state.theta.round(6).tolist()      # half of the way to 1
    [[2.0]]
    """

    problem: Quadratic | LinearGaussian
    _: KW_ONLY
    time: float
    steps: int = 1
    window: int = 1
    path_every: int = 0
    threads: int | None = field(default=None, compare=False, metadata=ASIDE)

    def __post_init__(self) -> None:
        _check_training(self, "time")
        _check_linear(self.problem)

    def __call__(self, state: S, rng: np.random.Generator) -> tuple[S, Trace]:
        """Train each agent, ``(state, rng) -> (state, trace)``."""
        problem, step = self.problem, self.time / self.steps
        rates, vectors = np.linalg.eigh(_drift_matrix(problem))
        matrix: Array = (vectors * np.exp(-rates * step)) @ vectors.T
        if isinstance(problem, LinearGaussian):
            covariance = problem.covariance(step)
        else:
            covariance = np.array([[-np.expm1(-4.0 * step) / 4.0]])
        root = np.linalg.cholesky(covariance).astype(np.float64)
        return _run(self, _compiled(problem, matrix, root, 0.0), state, rng)


@dataclass(frozen=True)
class Underdamped:
    r"""Gradient descent with momentum, the simplest instance of Remark 1.

    :math:`d\theta = -m\,dt,\quad dm = c(\nabla_\theta L - m)\,dt + s\,c\,dB`: the SDE of Adam with rate
    :math:`c = c_1` once its second moment has settled at the diagonal of Σ = I. With velocity −m it is underdamped
    Langevin dynamics, and its invariant density is proportional to
    :math:`\exp(-\alpha(L + |m|^2/2c))`: the θ-marginal is the Gibbs measure (10), and :math:`m \sim N(0, (cs^2/2) I)`.

    Splitting: half kick, half drift, exact friction and noise, half drift, half kick. Weak order 2; for a quadratic
    loss the invariant law of θ is exact for every stable step.

    Attributes
    ----------
    problem : AnyProblem
        With Σ = I.
    dt, steps, window, path_every, threads
        As in `EulerMaruyama`.
    friction : float
        The rate c > 0.

    Examples
    --------
    >>> from pbtlib.evolution import stream
    >>> from pbtlib.problems import Quadratic
    >>> train = Underdamped(Quadratic(1), dt=0.05, steps=400, friction=4.0)
    >>> state, _ = train(UnderdampedParticles([[3.0]], [[0.0]], [[1.0, 0.0]]), stream(0, 0, "train"))
    >>> state.theta.round(3).tolist()
    [[1.0]]
    """

    problem: AnyProblem
    _: KW_ONLY
    dt: float
    steps: int
    friction: float
    window: int = 1
    path_every: int = 0
    threads: int | None = field(default=None, compare=False, metadata=ASIDE)

    def __post_init__(self) -> None:
        _check_training(self, "dt", "friction")
        Sigma = noise_covariance(self.problem)
        if Sigma is not None and not np.array_equal(Sigma, np.eye(len(Sigma))):
            raise ValueError(f"problem has Sigma = {Sigma}; momentum needs the identity")

    def __call__(self, state: S, rng: np.random.Generator) -> tuple[S, Trace]:
        """Train each agent, for a state with fields ``theta``, ``momentum`` and ``h``."""
        problem, dt, friction = self.problem, self.dt, self.friction
        decay = np.exp(-friction * dt)
        spread = np.sqrt(friction / 2.0 * -np.expm1(-2.0 * friction * dt))

        def advance(parts: list[Array], h: Array, amplitude: Array, key: np.uint64, agent: int) -> _Segment:
            theta, m = parts
            (seen,) = read_only(theta)
            noise = _noise(amplitude, np.array([[spread]]), key, agent, theta.shape[1])

            def segment(start: int, stop: int) -> None:
                drift = _call(problem, "gradient", theta.shape, seen, h)
                for _ in range(start, stop):
                    m[...] += (0.5 * dt * friction) * drift
                    theta[...] -= (0.5 * dt) * m
                    m[...] = decay * m + next(noise)
                    theta[...] -= (0.5 * dt) * m
                    drift = _call(problem, "gradient", theta.shape, seen, h)
                    m[...] += (0.5 * dt * friction) * drift

            return segment

        return _run(self, advance, state, rng, ("theta", "momentum"))


@dataclass(frozen=True)
class GibbsDraw:
    """Training by the exact draw θ ~ μ_h of Algorithm 2; ``window`` independent draws are recorded, the last is kept.

    Attributes
    ----------
    problem : AnyProblem
        With a method ``equilibrium_sample(h, rng)``, as the built-in ones have.
    window : int
        Number m ≥ 1 of draws.

    Raises
    ------
    TypeError
        If the problem has no such method.

    Examples
    --------
    >>> from pbtlib.evolution import stream
    >>> from pbtlib.problems import Quadratic
    >>> state, trace = GibbsDraw(Quadratic(), window=3)(Particles([[9.0, 9.0]], [[1.0, 0.0]]), stream(0, 0, "train"))
    >>> state.theta.tolist(), trace.fitness.shape      # without noise at the minimum of the loss
    ([[1.0, 1.0]], (1, 3))
    """

    problem: Any
    window: int = 1

    def __post_init__(self) -> None:
        check_number("window", self.window, integer=True, minimum=1)
        if not callable(getattr(self.problem, "equilibrium_sample", None)):
            raise TypeError(
                f"problem is {self.problem!r}; an exact draw from its equilibrium needs a function "
                "equilibrium_sample(h, rng), which it has not; EulerMaruyama trains any problem"
            )

    def __call__(self, state: S, rng: np.random.Generator) -> tuple[S, Trace]:
        """Draw θ of each agent, ``(state, rng) -> (state, trace)``."""
        (h,) = read_only(state.h)  # type: ignore[attr-defined]
        fitness = np.empty((*h.shape[:-1], self.window))
        for k in range(self.window):
            theta = np.array(_call(self.problem, "equilibrium_sample", (*h.shape[:-1], None), h, rng))
            fitness[..., k] = _call(self.problem, "fitness", h.shape[:-1], *read_only(theta), h)
        no_path = np.empty((*theta.shape[:-2], 0, *theta.shape[-2:]))
        return replace(state, theta=theta), Trace(fitness, no_path)  # type: ignore[type-var]


# ---------------------------------------------------------------------------------------------- machinery

_Segment: TypeAlias = Callable[[int, int], None]
_Advance: TypeAlias = Callable[[list[Array], Array, Array, np.uint64, int], _Segment]


class _Recording(Protocol):
    """What the dynamics have in common."""

    @property
    def problem(self) -> AnyProblem: ...
    @property
    def steps(self) -> int: ...
    @property
    def window(self) -> int: ...
    @property
    def path_every(self) -> int: ...
    @property
    def threads(self) -> int | None: ...


def _check_training(self: _Recording, *positive: str) -> None:
    """Check the problem, these numbers, and what is recorded."""
    missing = [name for name in ("gradient", "fitness", "noise") if not callable(getattr(self.problem, name, None))]
    if missing:
        plural = "s" * (len(missing) > 1)
        raise TypeError(f"problem is {self.problem!r}; it needs the method{plural} {', '.join(missing)}")
    for name in positive:
        check_number(name, getattr(self, name), minimum=0, open_minimum=True)
    check_number("steps", self.steps, integer=True, minimum=1)
    check_number("window", self.window, integer=True, minimum=1, maximum=self.steps)
    check_number("path_every", self.path_every, integer=True, minimum=0)
    check_number("threads", processors() if self.threads is None else self.threads, integer=True, minimum=1)


def _call(problem: Any, name: str, shape: tuple[int | None, ...], *arguments: Any) -> Any:
    """Call a function of the problem; its arguments cannot be written to, its result must be of this shape."""
    try:
        value = getattr(problem, name)(*arguments)
    except ValueError as error:
        if "read-only" in str(error):
            raise ValueError(f"{name} of the problem writes into its arguments; it must work on copies") from error
        raise
    have = np.shape(value)
    if len(have) != len(shape) or any(want not in (None, n) for want, n in zip(shape, have, strict=True)):
        wanted = "(" + ", ".join("d" if n is None else str(n) for n in shape) + ("," if len(shape) == 1 else "") + ")"
        raise ValueError(f"{name} of the problem returned shape {have}; it must return {wanted}")
    return value


def _run(
    self: _Recording, advance: _Advance, state: S, rng: np.random.Generator, moving: tuple[str, ...] = ("theta",)
) -> tuple[S, Trace]:
    """Cut the agents into blocks, advance each from one recorded step to the next, put the pieces together.

    Within a block the agents are adjacent in memory (component by component), which is what makes NumPy fast.
    """
    problem, steps, window, path_every = self.problem, self.steps, self.window, self.path_every
    snapshots = range(path_every, steps + 1, path_every) if path_every else range(0)
    stops = sorted({*snapshots, *range(steps - window + 1, steps + 1)})
    h: Array = state.h  # type: ignore[attr-defined]
    shape = getattr(state, moving[0]).shape
    lead, d = shape[:-1], shape[-1]
    if isinstance(problem, (Quadratic, Himmelblau, LinearGaussian)) and problem.d != d:
        raise ValueError(f"theta has shape {shape}; it must end in d = {problem.d} for this problem")
    Sigma = noise_covariance(problem)
    if Sigma is not None and len(Sigma) != d:
        raise ValueError(f"Sigma has shape {np.shape(Sigma)}; theta of shape {shape} needs ({d}, {d})")
    agents = int(np.prod(lead))
    parts = [np.array(getattr(state, name), dtype=np.float64).reshape(agents, d) for name in moving]
    h_flat = np.asarray(h, dtype=np.float64).reshape(agents, h.shape[-1])
    key = draw_key(rng)
    fitness = np.empty((agents, window))
    path = np.empty((len(snapshots), agents, d))

    def work(a: int, b: int) -> None:
        mine = [np.asfortranarray(part[a:b]) for part in parts]
        seen, h_mine = read_only(mine[0], np.asfortranarray(h_flat[a:b]))
        amplitude = check_array("noise", _call(problem, "noise", (b - a,), h_mine), minimum=0)
        run = advance(mine, h_mine, amplitude, key, a)
        now = 0
        for stop in stops:
            run(now, stop)
            now = stop
            if stop in snapshots:
                path[stop // path_every - 1, a:b] = mine[0]
            if stop > steps - window:
                fitness[a:b, stop - steps - 1] = _call(problem, "fitness", (b - a,), seen, h_mine)
        for part, moved in zip(parts, mine, strict=True):
            part[a:b] = moved

    in_blocks(work, agents, BLOCK, self.threads)
    new = {name: part.reshape(shape) for name, part in zip(moving, parts, strict=True)}
    snapshot = np.moveaxis(path.reshape(len(snapshots), *lead, d), 0, -3)
    return replace(state, **new), Trace(fitness.reshape(*lead, window), snapshot)  # type: ignore[type-var]


def _compiled(problem: Quadratic | Himmelblau | LinearGaussian, matrix: Array, root: Array, dt: float) -> _Advance:
    """Advance in the compiled loop: linear with this matrix, or by Himmelblau's gradient if it is empty."""

    def advance(parts: list[Array], h: Array, amplitude: Array, key: np.uint64, agent: int) -> _Segment:
        (theta,) = parts
        centre = problem.centre(h).T
        deviation = np.ascontiguousarray(theta.T - centre)

        def segment(start: int, stop: int) -> None:
            _advance(deviation, amplitude, matrix, root, dt, key, agent, start, stop)
            np.add(centre, deviation, out=theta.T)

        return segment

    return advance


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


def _check_linear(problem: Any) -> None:
    if type(problem) not in (Quadratic, LinearGaussian):
        raise TypeError(
            f"problem is {problem!r}; an exact transition needs a gradient known to be linear, so exactly a "
            "Quadratic or LinearGaussian, no subclass; EulerMaruyama trains any problem"
        )


def _drift_matrix(problem: Quadratic | LinearGaussian) -> Array:
    return problem.A if isinstance(problem, LinearGaussian) else 2.0 * np.eye(problem.d)


def _check_agents(state: Any) -> None:
    for f in fields(state):
        value = getattr(state, f.name)
        if not isinstance(value, np.ndarray):
            object.__setattr__(state, f.name, as_real(f.name, value))
        elif value.dtype.kind not in "fiu":
            raise TypeError(f"{f.name} is an array of {value.dtype}; it must hold real numbers")
    theta, h = np.shape(state.theta), np.shape(state.h)
    if len(theta) < 2 or len(h) < 2 or theta[:-1] != h[:-1]:
        raise ValueError(f"theta has shape {theta} and h {h}; they must be (..., N, d) and (..., N, p)")
    if 0 in theta or 0 in h:
        raise ValueError(f"theta has shape {theta} and h {h}; there must be at least one agent and one replicate")
