r"""The slow operator: who is replaced, by whom, and how a copy mutates.

Equations (2), (5) and (29) of the paper and the variants of its Section 2.4. One selection rule serves the
particles, the kinetic equation and the averaged equation: ``rule(fitness, mass) -> gain, loss`` turns the fitness of
the atoms or grid cells and the mass they carry into the probability with which each is chosen as a parent (``gain``,
sums to one) and the mass that each loses per unit time (``loss``). The operator is then
:math:`E[f] = K_\sigma * (\mathrm{gain}\cdot\int\mathrm{loss}) - \mathrm{loss}`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from pbtlib.checks import check_array, check_number
from pbtlib.normals import COMPILE, draw_key, fill
from pbtlib.parallel import in_blocks
from pbtlib.values import ASIDE

__all__ = [
    "Box",
    "Explore",
    "GaussianMutation",
    "Gibbs",
    "Jump",
    "Removal",
    "Rule",
    "Selection",
    "Threshold",
    "Truncation",
    "copy",
    "diverged",
    "stream",
]

Array = NDArray[np.float64]
S = TypeVar("S")

BLOCK = 16_384
"""Agents that one thread handles at a time. Results do not depend on it."""


Rule: TypeAlias = Callable[..., tuple[Array, Array]]
"""A selection rule is called ``rule(fitness, mass, rng=None) -> (gain, loss)``, all arrays of shape (..., N)."""


def stream(seed: int, k: int, role: str, *sub: int) -> np.random.Generator:
    """Return the random generator that belongs to a key, and to nothing else.

    The generator is derived from the key alone, never from the state of another one, so a run resumes without saving
    any generator state, and neither order nor threads nor chunks can change a result.

    Of a role only its CRC-32 enters: two roles share their generators if they share that sum, as "plumless" and
    "buckeroo" do; else different keys never share one: (1, 2, "a") and (1, 2, "a", 0) are two keys.

    Parameters
    ----------
    seed : int
        Seed of the run, from 0 to 2⁶⁴ − 1.
    k : int
        Index of the slow update, from 0 to 2³² − 1.
    role : str
        What the numbers are for, such as ``"train"``, ``"select"``, ``"mutate"``.
    *sub : int
        Further indices, in the same range as k: replicate, agent, chunk.

    Returns
    -------
    numpy.random.Generator
        An SFC64 generator, seeded by NumPy's ``SeedSequence`` of the seed with the spawn key (k, CRC-32 of the role,
        sub...).

    Raises
    ------
    ValueError
        If an index is out of range.

    Examples
    --------
    >>> stream(0, 3, "train").random() == stream(0, 3, "train").random()
    True
    >>> stream(0, 3, "train").random() == stream(0, 4, "train").random()
    False
    """
    check_number("seed", seed, integer=True, minimum=0, maximum=2**64 - 1)
    for name, value in (("k", k), *((f"sub[{i}]", s) for i, s in enumerate(sub))):
        check_number(name, value, integer=True, minimum=0, maximum=2**32 - 1)
    # One word for each part, behind a seed that NumPy pads to a fixed length: keys share words through the CRC-32 only.
    key = (int(k), zlib.crc32(role.encode()), *map(int, sub))
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(int(seed), spawn_key=key)))


# ---------------------------------------------------------------------------------------------- selection rules


@dataclass(frozen=True)
class Gibbs:
    """Softmax selection, the gain and loss of (5): gain ∝ e^{βF}·mass, loss = mass.

    Weights are formed by a shifted exponential, so no finite fitness overflows, not even in βF.

    Attributes
    ----------
    beta : float
        Selection pressure β ≥ 0; the paper has β = 1 before its Section 4.2. β = 0 is neutral drift.

    Examples
    --------
    >>> import numpy as np
    >>> gain, loss = Gibbs(np.log(3.0))(np.array([0.0, 1.0]), np.array([0.5, 0.5]))
    >>> gain.round(6).tolist(), loss.tolist()
    ([0.25, 0.75], [0.5, 0.5])
    """

    beta: float = 1.0

    def __post_init__(self) -> None:
        check_number("beta", self.beta, minimum=0)

    def __call__(self, fitness: Array, mass: Array, rng: np.random.Generator | None = None) -> tuple[Array, Array]:
        """Return gain and loss."""
        fitness, mass = _check_atoms(fitness, mass)
        return _softmax(self.beta, fitness, mass), mass


@dataclass(frozen=True)
class Removal:
    """Fitness-based replacement (Section 2.4): gain as in `Gibbs`, loss ∝ e^{−βF}·mass with the total mass kept.

    Attributes
    ----------
    beta : float
        Selection pressure β ≥ 0, in the gain and in the loss.

    Examples
    --------
    >>> import numpy as np
    >>> gain, loss = Removal(np.log(3.0))(np.array([0.0, 1.0]), np.array([0.5, 0.5]))
    >>> gain.round(6).tolist(), loss.round(6).tolist()
    ([0.25, 0.75], [0.75, 0.25])
    """

    beta: float = 1.0

    def __post_init__(self) -> None:
        check_number("beta", self.beta, minimum=0)

    def __call__(self, fitness: Array, mass: Array, rng: np.random.Generator | None = None) -> tuple[Array, Array]:
        """Return gain and loss."""
        fitness, mass = _check_atoms(fitness, mass)
        total = mass.sum(-1, keepdims=True)
        return _softmax(self.beta, fitness, mass), total * _softmax(self.beta, -fitness, mass)


@dataclass(frozen=True)
class Truncation:
    """Truncation selection by rank (Section 2.4): the best share q is copied uniformly, the worst share q is lost.

    With a generator (a finite population of equal masses) exactly ⌊qN⌋ agents are lost and ⌊qN⌋ are parents, ties
    broken at random; agents without mass rank last and are no parents. Without one (a density on a grid) atoms of
    equal fitness share the quantile's boundary in proportion to their mass.

    Attributes
    ----------
    q : float
        The share, 0 < q ≤ 1/2.

    Examples
    --------
    >>> import numpy as np
    >>> gain, loss = Truncation(0.25)(np.array([1.0, 2.0, 3.0, 4.0]), np.full(4, 0.25))
    >>> gain.tolist(), loss.tolist()
    ([0.0, 0.0, 0.0, 1.0], [0.25, 0.0, 0.0, 0.0])
    """

    q: float

    def __post_init__(self) -> None:
        check_number("q", self.q, minimum=0, maximum=0.5, open_minimum=True)

    def __call__(self, fitness: Array, mass: Array, rng: np.random.Generator | None = None) -> tuple[Array, Array]:
        """Return gain and loss."""
        fitness, mass = _check_atoms(fitness, mass)
        q = self.q
        if rng is None:
            total = mass.sum(-1, keepdims=True)
            best, worst = _top_share(fitness, mass, q * total), _top_share(-fitness, mass, q * total)
            return best / best.sum(-1, keepdims=True), worst
        n = fitness.shape[-1]
        chosen = int(np.floor(q * n + 1e-9))
        if chosen < 1:
            raise ValueError(f"truncation replaces ⌊qN⌋ = 0 of N = {n} agents at q = {q}; N must be at least {1 / q:g}")
        order = np.lexsort((rng.random(fitness.shape), fitness, mass > 0), axis=-1)
        gain, loss = np.zeros(fitness.shape), np.zeros(fitness.shape)
        highest, lowest = order[..., n - chosen :], order[..., :chosen]
        there = np.take_along_axis(mass, highest, -1) > 0
        np.put_along_axis(gain, highest, there / there.sum(-1, keepdims=True), axis=-1)
        np.put_along_axis(loss, lowest, np.take_along_axis(mass, lowest, -1), axis=-1)
        return gain, loss


@dataclass(frozen=True)
class Threshold:
    r"""Leaders and laggards beyond mean ± k standard deviations: Isaac Lab's rule (its ``threshold_std``).

    Of the fitness, :math:`m` is the mean and s the standard deviation over the population (of all agents, divided by
    N). Whoever exceeds m + max(ks, gap) is a leader, whoever falls short of m − max(ks, gap) is lost; leaders are
    copied uniformly. On a normal fitness that is `Truncation` with :math:`q = \Phi(-k)`, and an update raises the mean
    by :math:`2\varphi(k)s`; on a skewed one as many are lost as lie in the lower tail, however few lead.

    Where nobody leads, Isaac Lab lets each laggard mutate itself; here laggards are copied from laggards, which for
    one laggard and for infinitely many agents is the same.

    Attributes
    ----------
    k : float
        Standard deviations, at least 0.
    gap : float
        Least distance to the mean, in units of the fitness, at least 0 (``threshold_abs``).

    Examples
    --------
    >>> import numpy as np
    >>> gain, loss = Threshold(1.0)(np.array([0.0, 4.0, 5.0, 5.0, 10.0]), np.full(5, 0.2))
    >>> gain.tolist(), loss.tolist()
    ([0.0, 0.0, 0.0, 0.0, 1.0], [0.2, 0.0, 0.0, 0.0, 0.0])
    """

    k: float
    gap: float = 0.0

    def __post_init__(self) -> None:
        check_number("k", self.k, minimum=0)
        check_number("gap", self.gap, minimum=0)

    def __call__(self, fitness: Array, mass: Array, rng: np.random.Generator | None = None) -> tuple[Array, Array]:
        """Return gain and loss."""
        fitness, mass = _check_atoms(fitness, mass)
        share = mass / mass.sum(-1, keepdims=True)
        there = np.where(mass > 0, fitness, 0.0)
        _, scale = np.frexp(np.abs(there).max(-1, keepdims=True))  # a power of two: no square overflows, no digit goes
        there = np.ldexp(there, -scale)
        away = there - (share * there).sum(-1, keepdims=True)
        with np.errstate(over="ignore"):  # a gap far beyond all fitness: nobody is beyond it
            gap = np.ldexp(self.gap, -scale)
        cut = np.maximum(self.k * np.sqrt((share * away**2).sum(-1, keepdims=True)), gap)
        lead, lag = np.where(away > cut, share, 0.0), np.where(away < -cut, mass, 0.0)
        for instead in (lag, share):  # nobody leads; nobody lags either, and the gain matters to none
            lead = np.where(lead.sum(-1, keepdims=True) > 0, lead, instead)
        return lead / lead.sum(-1, keepdims=True), lag


def _check_atoms(fitness: ArrayLike, mass: ArrayLike) -> tuple[Array, Array]:
    values = check_array("fitness", fitness, min_ndim=1, largest=np.inf)
    weights = np.broadcast_to(check_array("mass", mass, minimum=0), values.shape)
    if not (weights.sum(-1) > 0).all():
        raise ValueError("mass sums to zero: selection needs some positive mass")
    return values, weights


def _softmax(beta: float, fitness: Array, mass: Array) -> Array:
    # in place: at a million agents fresh memory costs more than arithmetic
    with np.errstate(over="ignore"):  # downwards, to −∞: the weight is zero
        exponent = beta * fitness
        present = exponent if mass.min() > 0 else np.where(mass > 0, exponent, -np.inf)
        top = present.max(-1, keepdims=True)
        if not np.isfinite(top).all():  # βF overflows: differences first, which elsewhere would cost digits of old runs
            exponent, top = beta * (fitness - np.where(mass > 0, fitness, -np.inf).max(-1, keepdims=True)), 0.0
        weight: Array = np.subtract(exponent, top, order="C")
    flat = weight.reshape(-1)
    in_blocks(lambda a, b: np.exp(np.minimum(flat[a:b], 0.0, out=flat[a:b]), out=flat[a:b]), flat.size, BLOCK)
    weight *= mass
    weight /= weight.sum(-1, keepdims=True)
    return weight


def _top_share(fitness: Array, mass: Array, share: Array) -> Array:
    """Mass of each atom that lies in the top ``share`` of the population; equal fitness is cut proportionally."""
    rows = zip(fitness.reshape(-1, fitness.shape[-1]), mass.reshape(-1, mass.shape[-1]), share.reshape(-1), strict=True)
    taken = []
    for values, weights, quota in rows:
        _, level = np.unique(-values, return_inverse=True)
        per_level = np.bincount(level, weights)
        above = np.cumsum(per_level) - per_level
        fraction = np.clip(quota - above, 0.0, per_level) / np.where(per_level > 0, per_level, 1.0)
        taken.append(weights * fraction[level])
    return np.array(taken).reshape(fitness.shape)


# ---------------------------------------------------------------------------------------------- jumps and copies


@dataclass(frozen=True)
class Jump:
    """One slow update: which agents are replaced and by which parents.

    Attributes
    ----------
    who : ndarray of bool, shape (..., N)
        The agents that jump.
    parent : ndarray of int, shape (..., N)
        Index of the agent copied; an agent that does not jump is its own parent.

    Raises
    ------
    TypeError
        If ``who`` is not of bool or ``parent`` not of int.
    ValueError
        If their shapes differ, there is no agent, or a parent is none of 0, …, N − 1.

    Examples
    --------
    >>> import numpy as np
    >>> jump = Jump(who=np.array([True, False]), parent=np.array([1, 1]))      # agent 0 copies agent 1
    >>> Jump(who=jump.who, parent=np.array([2, 1]))
    Traceback (most recent call last):
    ValueError: parent goes from 1 to 2; with N = 2 agents it must stay in 0 to 1
    """

    who: NDArray[np.bool_]
    parent: NDArray[np.intp]

    def __post_init__(self) -> None:
        if self.who.dtype != np.bool_ or not np.issubdtype(self.parent.dtype, np.integer):
            raise TypeError(f"who is of {self.who.dtype} and parent of {self.parent.dtype}; they must be bool and int")
        if self.who.shape != self.parent.shape or self.parent.size == 0:
            raise ValueError(
                f"who has shape {self.who.shape} and parent {self.parent.shape}; both must be the same (..., N), N >= 1"
            )
        least, most, n = self.parent.min(), self.parent.max(), self.parent.shape[-1]
        if least < 0 or most >= n:
            raise ValueError(f"parent goes from {least} to {most}; with N = {n} agents it must stay in 0 to {n - 1}")


@dataclass(frozen=True)
class Selection:
    """One simultaneous update of a population: the clock of Algorithm 1 and the parents of (2).

    Attributes
    ----------
    rule : `pbtlib.evolution.Rule`
        The selection rule; agents carry mass 1/N.
    tau : float
        Time since the last update, 0 < τ ≤ 1. An agent jumps with probability τ·loss/mass.
    resampling : {"multinomial", "systematic"}
        Parents drawn independently, or by one systematic comb over all N slots in random order (same expected
        number of copies, less variance).
    diverged : {"error", "replace"}
        What becomes of agents whose fitness is NaN or −∞: an error, or they carry no mass, so that nobody copies them
        (a rule of your own must keep to that), and jump with certainty to a parent of finite fitness. This does not
        belong to a run's identity: a run stopped by the error goes on from its checkpoint under the other policy.

    Examples
    --------
    >>> import numpy as np
    >>> jump = Selection(Truncation(0.25))(np.array([1.0, 2.0, 3.0, 4.0]), stream(0, 0, "select"))
    >>> jump.who.tolist(), jump.parent.tolist()
    ([True, False, False, False], [3, 1, 2, 3])
    """

    rule: Rule
    tau: float = 1.0
    resampling: str = "multinomial"
    diverged: str = field(default="error", metadata=ASIDE)

    def __post_init__(self) -> None:
        if not callable(self.rule):
            raise TypeError(f"rule is {self.rule!r}; it must be a selection rule, such as Gibbs(1.0)")
        check_number("tau", self.tau, minimum=0, maximum=1, open_minimum=True)
        _check_word("resampling", self.resampling, ("multinomial", "systematic"))
        _check_word("diverged", self.diverged, ("error", "replace"))

    def __call__(self, fitness: ArrayLike, rng: np.random.Generator) -> Jump:
        """Draw who jumps and to which parents.

        Parameters
        ----------
        fitness : array_like, shape (..., N)
            Fitness of each agent; leading axes are independent replicates.
        rng : numpy.random.Generator
            The stream of this update.

        Returns
        -------
        Jump

        Raises
        ------
        ValueError
            If a jump probability exceeds 1 (removal of the unfit needs a smaller τ), on +∞, empty or wrong input, on
            NaN or −∞ unless they are replaced, if a whole population diverged, or if the rule's gain is no law or its
            loss negative.
        """
        values, dead = check_fitness(fitness, self.diverged)
        n = values.shape[-1]
        mass = np.full(values.shape, 1.0 / n)
        if dead is not None:
            mass[dead] = 0.0
        gain, loss = (np.asarray(x, dtype=np.float64) for x in self.rule(values, mass, rng))
        check_rule(gain, loss, values.shape)
        if dead is not None and gain[dead].any():
            raise ValueError(f"rule {self.rule!r} makes parents of agents without mass; their gain must be 0")
        probability = self.tau * loss * n
        if probability.max() > 1 + 1e-9:
            raise ValueError(
                f"an agent would jump with probability {probability.max():.4g} > 1 at tau = {self.tau}; "
                f"this rule and this population need tau <= {self.tau / probability.max():.3g}"
            )
        who = rng.random(values.shape) < probability
        if dead is not None:
            who |= dead
        parent = _parents(gain.reshape(-1, n), rng, self.resampling).reshape(values.shape)
        np.copyto(parent, np.arange(n), where=~who)
        return Jump(who, parent)


def diverged(fitness: Array) -> NDArray[np.bool_]:
    """Tell the agents that diverged, whose fitness is NaN or −∞; shape (..., N).

    Examples
    --------
    >>> import numpy as np
    >>> diverged(np.array([1.0, np.nan, -np.inf])).tolist()
    [False, True, True]
    """
    return np.isnan(fitness) | np.isneginf(fitness)


def check_fitness(fitness: ArrayLike, policy: str = "error") -> tuple[Array, NDArray[np.bool_] | None]:
    """Return a finite fitness and who diverged (None: nobody), or raise where that is an error."""
    raw = np.asarray(fitness)
    suspect = raw.dtype.kind == "f" and raw.ndim > 0 and not np.isfinite(raw).all()
    if not suspect or not (dead := diverged(raw)).any():
        return check_array("fitness", fitness, min_ndim=1, largest=np.inf), None
    first = tuple(map(int, np.argwhere(dead)[0]))
    where = f"agent {first[-1]}" + (f" of replicate {first[:-1]}" if first[:-1] else "")
    said = f"{dead.sum()} of {dead.size} agents diverged, the first is {where}: fitness contains {raw[first]}"
    if policy == "error":
        raise ValueError(f'{said}; Selection(..., diverged="replace") lets others take their places')
    if dead.all(-1).any():
        raise ValueError(f"{said}; there is a population with nobody left to take their places")
    least = np.where(dead, np.inf, raw).min(-1, keepdims=True)
    return check_array("fitness", np.where(dead, least, raw), largest=np.inf), dead


def _check_word(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; allowed are {' and '.join(map(repr, allowed))}")


def check_rule(gain: Array, loss: Array, shape: tuple[int, ...]) -> None:
    """Raise unless gain is a law and loss not negative; three passes, NaN and infinity fall through one of them."""
    for name, value in (("gain", gain), ("loss", loss)):
        if value.shape != shape:
            raise ValueError(f"{name} of the rule has shape {value.shape}; it must be that of the fitness, {shape}")
        if not value.min() >= 0:
            raise ValueError(f"{name} of the rule contains {value.min():g}; every entry must be finite and >= 0")
    total = gain.sum(-1)
    if not np.abs(total - 1).max() <= 1e-6:  # single precision will do: the parents are drawn from gain over its sum
        raise ValueError(f"gain of the rule sums to {total.flat[np.abs(total - 1).argmax()]:g}; it must sum to 1")


def _parents(gain: Array, rng: np.random.Generator, resampling: str) -> NDArray[np.intp]:
    runs, n = gain.shape
    cumulative = _sum_up(gain.copy())
    if resampling == "multinomial":
        # N sorted uniform numbers, without sorting: partial sums of N + 1 exponential ones over the whole sum
        u = _sum_up(rng.standard_exponential((runs, n + 1)))
    else:
        u = (np.arange(n) + rng.random((runs, 1))) / n
    parent = np.empty((runs, n), dtype=np.int32 if n <= 2**31 else np.intp)  # half the memory to shuffle in
    in_blocks(lambda a, b: _invert(cumulative, u, parent, a, b), parent.size, BLOCK)
    _shuffle(parent, rng.random(out=u.reshape(-1)[: parent.size]).reshape(runs, n))  # u has served
    return parent.astype(np.intp)


@njit(**COMPILE)
def _sum_up(rows):  # type: ignore[no-untyped-def]
    """Replace each row by its partial sums, divided by the whole sum: the last entry is 1."""
    for row in rows:
        total = 0.0
        for j in range(row.size):
            total += row[j]
            row[j] = total
        for j in range(row.size):
            row[j] /= total
    return rows


@njit(**COMPILE)
def _invert(cumulative, u, parent, first, stop):  # type: ignore[no-untyped-def]
    """Find for slots first … stop − 1, counted through all rows, the first index i with cumulative[i] > u.

    Rows of ``cumulative`` and of u are sorted, the former end in 1: one merge, without a branch that depends on the
    numbers, which a processor could not predict.
    """
    n = cumulative.shape[1]
    for r in range(first // n, (stop - 1) // n + 1):
        steps, comb, row = cumulative[r], u[r], parent[r]
        j, end = max(first - r * n, 0), min(stop - r * n, n)
        last = np.searchsorted(steps, 1.0)
        i = np.searchsorted(steps[:last], comb[j], side="right")
        while j < end and i < last:
            row[j] = i
            passed = np.intp(steps[i] <= comb[j])
            i += passed
            j += 1 - passed
        row[j:end] = last


@njit(**COMPILE)
def _shuffle(parent, v):  # type: ignore[no-untyped-def]
    """Shuffle each row (Fisher and Yates), by uniform numbers v of the same shape."""
    runs, n = parent.shape
    for r in range(runs):
        for j in range(n - 1, 0, -1):
            k = int(v[r, j] * (j + 1))
            parent[r, j], parent[r, k] = parent[r, k], parent[r, j]


def copy(state: S, jump: Jump) -> S:
    """Replace every agent that jumps by its parent: all array fields are taken along the agent axis.

    Parameters
    ----------
    state : dataclass of arrays
        Each field of shape (..., N, components), the leading axes those of ``jump``.
    jump : Jump

    Returns
    -------
    dataclass of arrays
        A new state of the same type. The snapshot before the jumps is the source of every copy (Algorithm 1).

    Examples
    --------
    >>> import numpy as np
    >>> from pbtlib.training import Particles
    >>> state = Particles(theta=np.array([[1.0], [2.0]]), h=np.array([[10.0], [20.0]]))
    >>> copy(state, Jump(who=np.array([True, False]), parent=np.array([1, 1]))).h.tolist()
    [[20.0], [20.0]]
    """
    n, rows = jump.parent.shape[-1], jump.parent.reshape(-1)
    if rows.size > n:
        rows = (rows.reshape(-1, n) + n * np.arange(rows.size // n)[:, None]).reshape(-1)

    def follow(name: str) -> NDArray[Any]:
        array: NDArray[Any] = getattr(state, name)
        if array.shape[:-1] != jump.parent.shape:
            wanted = ", ".join(map(str, jump.parent.shape))
            raise ValueError(f"{name} of the state has shape {array.shape}; jumps need ({wanted}, components)")
        source = np.ascontiguousarray(array).reshape(rows.size, -1)
        taken = np.empty_like(source)
        in_blocks(lambda a, b: np.take(source, rows[a:b], axis=0, out=taken[a:b], mode="clip"), rows.size, BLOCK)
        return taken.reshape(array.shape)

    taken: dict[str, Any] = {f.name: follow(f.name) for f in fields(state)}  # type: ignore[arg-type]
    return replace(state, **taken)  # type: ignore[type-var]


# ---------------------------------------------------------------------------------------------- mutation


@dataclass(frozen=True)
class Box:
    """The box [lower, upper] as a set of hyperparameters; calling it is the Euclidean projection Π_H on it.

    Attributes
    ----------
    lower, upper : float or tuple of floats, shape (p,)
        Its ends, for all coordinates or for each.

    Examples
    --------
    >>> Box(-1.0, (1.0, 2.0))([[-3.0, 1.5], [1.5, 3.0]]).tolist()
    [[-1.0, 1.5], [1.0, 2.0]]
    """

    lower: Any
    upper: Any

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            object.__setattr__(self, name, _vector(name, getattr(self, name)))
        if np.shape(self.lower) != np.shape(self.upper) and () not in (np.shape(self.lower), np.shape(self.upper)):
            raise ValueError(f"lower = {self.lower} and upper = {self.upper}; they must be as long, or numbers")
        if not np.all(np.less_equal(self.lower, self.upper)):
            raise ValueError(f"lower = {self.lower} exceeds upper = {self.upper}; a box needs lower <= upper")

    def __call__(self, h: ArrayLike) -> Array:
        """Project h, shape (..., p)."""
        values = np.asarray(h)
        self.check_size(values.shape[-1])
        inside: Array = np.clip(values, self.lower, self.upper)
        return inside

    def check_size(self, p: int) -> None:
        """Raise unless it is a box of p coordinates."""
        for name in ("lower", "upper"):
            _check_length(f"{name} of the box", getattr(self, name), p)

    def check(self, name: str, h: ArrayLike) -> None:
        """Raise unless h, shape (..., p), is finite and lies in the box."""
        values = check_array(name, h, min_ndim=1)
        self.check_size(values.shape[-1])
        if (out := (values < self.lower) | (values > self.upper)).any():
            raise ValueError(f"{name} contains {values[out][0]:g}, outside the box from {self.lower} to {self.upper}")


@dataclass(frozen=True)
class GaussianMutation:
    r"""Mutation of (2): h ← Π_H(h + σξ) with ξ standard normal, for the agents that jumped.

    Attributes
    ----------
    sigma : float or tuple of floats, shape (p,)
        Mutation strength σ ≥ 0, in the units of h.
    project : callable, optional
        The projection Π_H, such as a `Box`; none by default.

    Examples
    --------
    >>> import numpy as np
    >>> from pbtlib.training import Particles
    >>> state = Particles(theta=np.zeros((2, 1)), h=np.array([[0.9], [0.9]]))
    >>> jump = Jump(who=np.array([True, False]), parent=np.array([1, 1]))
    >>> h = GaussianMutation(0.5, Box(0.0, 1.0))(state, jump, stream(0, 0, "mutate")).h
    >>> bool(h[0, 0] != 0.9 and 0 <= h[0, 0] <= 1), h[1].tolist()
    (True, [0.9])
    """

    sigma: Any
    project: Callable[[Array], Array] | None = None

    def __post_init__(self) -> None:
        check_array("sigma", self.sigma, minimum=0)
        object.__setattr__(self, "sigma", _vector("sigma", self.sigma))

    def __call__(self, state: S, jump: Jump, rng: np.random.Generator) -> S:
        """Return a new state whose field ``h``, shape (..., N, p), has been mutated where ``jump.who``.

        Raises
        ------
        ValueError
            If the jumps are not of shape (..., N), or σ or the box of another length than p.
        """
        h: Array = state.h  # type: ignore[attr-defined]
        if h.shape[:-1] != jump.who.shape:
            raise ValueError(f"h has shape {h.shape}; it does not follow jumps of shape {jump.who.shape}")
        key, p = draw_key(rng), h.shape[-1]
        _check_length("sigma", self.sigma, p)
        sigmas = np.array(np.broadcast_to(self.sigma, (p,)), dtype=np.float64)
        moved = np.array(h, dtype=np.float64)
        who, flat = np.ravel(jump.who), moved.reshape(-1, p)
        in_blocks(lambda a, b: _jitter(flat[a:b], who[a:b], sigmas, key, a), len(flat), BLOCK)
        if self.project is not None:
            moved = np.where(jump.who[..., None], self.project(moved), h)
        return replace(state, h=moved)  # type: ignore[type-var]

    def check(self, state: Any) -> None:
        """Raise unless σ and the box are of the length of h, and h lies in the box: asked at the start of a run."""
        _check_length("sigma", self.sigma, np.shape(state.h)[-1])
        if isinstance(self.project, Box):
            self.project.check("h", state.h)


@dataclass(frozen=True)
class Explore:
    """Perturb or resample, the default of Ray Tune: each hyperparameter of a copy by itself is drawn anew or scaled.

    Scaled values may leave the box, as they may in Ray.

    Attributes
    ----------
    box : Box
        Fresh values are uniform in it.
    resample : float
        Probability of a fresh value, from 0 to 1.
    factors : tuple of floats
        Else the parent's value is multiplied by one of these, with equal probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> from pbtlib.training import Particles
    >>> state = Particles(theta=np.zeros((2, 1)), h=np.array([[10.0], [10.0]]))
    >>> jump = Jump(who=np.array([True, False]), parent=np.array([1, 1]))
    >>> h = Explore(Box(0.0, 1.0), resample=0.0)(state, jump, stream(0, 0, "mutate")).h
    >>> bool(h[0, 0] in (8.0, 12.0)), h[1].tolist()
    (True, [10.0])
    """

    box: Box
    resample: float = 0.25
    factors: tuple[float, ...] = (0.8, 1.2)

    def __post_init__(self) -> None:
        check_number("resample", self.resample, minimum=0, maximum=1)
        check_array("factors", self.factors, min_ndim=1)

    def __call__(self, state: S, jump: Jump, rng: np.random.Generator) -> S:
        """Return a new state whose field ``h``, shape (..., N, p), has been changed where ``jump.who``."""
        h: Array = state.h  # type: ignore[attr-defined]
        if h.shape[:-1] != jump.who.shape:
            raise ValueError(f"h has shape {h.shape}; it does not follow jumps of shape {jump.who.shape}")
        self.box.check_size(h.shape[-1])
        fresh = rng.uniform(self.box.lower, self.box.upper, h.shape)
        scaled = h * rng.choice(self.factors, h.shape)
        changed = np.where(rng.random(h.shape) < self.resample, fresh, scaled)
        return replace(state, h=np.where(jump.who[..., None], changed, h))  # type: ignore[type-var]


def _vector(name: str, value: ArrayLike) -> float | tuple[float, ...]:
    array = check_array(name, value)
    if array.ndim > 1:
        raise ValueError(f"{name} has shape {array.shape}; it must be a number or one number per coordinate of h")
    return tuple(array.tolist()) if array.ndim else float(array)


def _check_length(name: str, value: float | tuple[float, ...], p: int) -> None:
    if isinstance(value, tuple) and len(value) not in (1, p):
        raise ValueError(f"{name} has {len(value)} entries; h has p = {p} coordinates")


@njit(**COMPILE)
def _jitter(h, who, sigma, key, agent):  # type: ignore[no-untyped-def]
    """Add σξ to the rows of h, shape (n, p), that jumped; ξ are the first p normals of agents agent, agent + 1, …."""
    n, p = h.shape
    z = np.empty((6, 256))
    for a in range(0, n, 256):
        for c in range(p):
            if c % 4 == 0:
                fill(z, key, agent + a, c // 4)
            for j in range(a, min(a + 256, n)):
                if who[j]:
                    h[j, c] += sigma[c] * z[c % 4, j - a]
