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
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from pbtlib.checks import check_array, check_number
from pbtlib.normals import COMPILE, draw_key, fill
from pbtlib.parallel import in_blocks

__all__ = [
    "Jump",
    "Rule",
    "copy",
    "gaussian_mutation",
    "gibbs",
    "project_box",
    "removal",
    "select",
    "stream",
    "truncation",
]

Array = NDArray[np.float64]
S = TypeVar("S")

BLOCK = 16_384
"""Agents that one thread handles at a time. Results do not depend on it."""


Rule: TypeAlias = Callable[..., tuple[Array, Array]]
"""A selection rule: ``rule(fitness, mass, rng=None) -> (gain, loss)``, all arrays of shape (..., N)."""


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
    """
    check_number("seed", seed, integer=True, minimum=0, maximum=2**64 - 1)
    for name, value in (("k", k), *((f"sub[{i}]", s) for i, s in enumerate(sub))):
        check_number(name, value, integer=True, minimum=0, maximum=2**32 - 1)
    # One word for each part, behind a seed that NumPy pads to a fixed length: keys share words through the CRC-32 only.
    key = (int(k), zlib.crc32(role.encode()), *map(int, sub))
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(int(seed), spawn_key=key)))


# ---------------------------------------------------------------------------------------------- selection rules


def gibbs(beta: float = 1.0) -> Rule:
    """Softmax selection, the gain and loss of (5): gain ∝ e^{βF}·mass, loss = mass.

    Parameters
    ----------
    beta : float
        Selection pressure β ≥ 0; the paper has β = 1 before its Section 4.2. β = 0 is neutral drift.

    Returns
    -------
    Rule
        Weights are formed by a shifted exponential, so no finite fitness overflows, not even in βF.
    """
    check_number("beta", beta, minimum=0)

    def rule(fitness: Array, mass: Array, rng: np.random.Generator | None = None) -> tuple[Array, Array]:
        fitness, mass = _check_atoms(fitness, mass)
        return _softmax(beta, fitness, mass), mass

    return rule


def removal(beta: float = 1.0) -> Rule:
    """Fitness-based replacement (Section 2.4): gain as in `gibbs`, loss ∝ e^{−βF}·mass with the total mass kept.

    Parameters
    ----------
    beta : float
        Selection pressure β ≥ 0, in the gain and in the loss.
    """
    check_number("beta", beta, minimum=0)

    def rule(fitness: Array, mass: Array, rng: np.random.Generator | None = None) -> tuple[Array, Array]:
        fitness, mass = _check_atoms(fitness, mass)
        total = mass.sum(-1, keepdims=True)
        return _softmax(beta, fitness, mass), total * _softmax(beta, -fitness, mass)

    return rule


def truncation(q: float) -> Rule:
    """Truncation selection by rank (Section 2.4): the best share q is copied uniformly, the worst share q is lost.

    With a generator (a finite population of equal masses) exactly ⌊qN⌋ agents are lost and ⌊qN⌋ are parents, ties
    broken at random. Without one (a density on a grid) atoms of equal fitness share the quantile's boundary in
    proportion to their mass.

    Parameters
    ----------
    q : float
        The share, 0 < q ≤ 1/2.
    """
    check_number("q", q, minimum=0, maximum=0.5, open_minimum=True)

    def rule(fitness: Array, mass: Array, rng: np.random.Generator | None = None) -> tuple[Array, Array]:
        fitness, mass = _check_atoms(fitness, mass)
        if rng is None:
            total = mass.sum(-1, keepdims=True)
            best, worst = _top_share(fitness, mass, q * total), _top_share(-fitness, mass, q * total)
            return best / best.sum(-1, keepdims=True), worst
        n = fitness.shape[-1]
        chosen = int(np.floor(q * n + 1e-9))
        if chosen < 1:
            raise ValueError(f"truncation replaces ⌊qN⌋ = 0 of N = {n} agents at q = {q}; N must be at least {1 / q:g}")
        order = np.lexsort((rng.random(fitness.shape), fitness), axis=-1)
        gain, loss = np.zeros(fitness.shape), np.zeros(fitness.shape)
        np.put_along_axis(gain, order[..., n - chosen :], 1.0 / chosen, axis=-1)
        lowest = order[..., :chosen]
        np.put_along_axis(loss, lowest, np.take_along_axis(mass, lowest, -1), axis=-1)
        return gain, loss

    return rule


def _check_atoms(fitness: ArrayLike, mass: ArrayLike) -> tuple[Array, Array]:
    values = check_array("fitness", fitness, min_ndim=1)
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
        weight = np.subtract(exponent, top, order="C")
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


def select(
    fitness: ArrayLike, rule: Rule, rng: np.random.Generator, *, tau: float = 1.0, resampling: str = "multinomial"
) -> Jump:
    """Draw one simultaneous update of a population: the clock of Algorithm 1 and the parents of (2).

    Parameters
    ----------
    fitness : array_like, shape (..., N)
        Fitness of each agent; leading axes are independent replicates.
    rule : Rule
        The selection rule; agents carry mass 1/N.
    rng : numpy.random.Generator
        The stream of this update.
    tau : float
        Time since the last update, 0 < τ ≤ 1. An agent jumps with probability τ·loss/mass.
    resampling : {"multinomial", "systematic"}
        Parents drawn independently, or by one systematic comb over all N slots in random order (same expected
        number of copies, less variance).

    Returns
    -------
    Jump

    Raises
    ------
    ValueError
        If a jump probability exceeds 1 (removal of the unfit needs a smaller τ), on NaN, empty or wrong input, or if
        the rule's gain is no law or its loss negative.
    """
    values = check_array("fitness", fitness, min_ndim=1)
    check_number("tau", tau, minimum=0, maximum=1, open_minimum=True)
    n = values.shape[-1]
    gain, loss = (np.asarray(x, dtype=np.float64) for x in rule(values, np.full(values.shape, 1.0 / n), rng))
    check_rule(gain, loss, values.shape)
    probability = tau * loss * n
    if probability.max() > 1 + 1e-9:
        raise ValueError(
            f"an agent would jump with probability {probability.max():.4g} > 1 at tau = {tau}; "
            f"this rule and this population need tau <= {tau / probability.max():.3g}"
        )
    who = rng.random(values.shape) < probability
    parent = _parents(gain.reshape(-1, n), rng, resampling).reshape(values.shape)
    np.copyto(parent, np.arange(n), where=~who)
    return Jump(who, parent)


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
    elif resampling == "systematic":
        u = (np.arange(n) + rng.random((runs, 1))) / n
    else:
        raise ValueError(f"resampling is {resampling!r}; allowed are 'multinomial' and 'systematic'")
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
    """
    n, rows = jump.parent.shape[-1], jump.parent.reshape(-1)
    if rows.size > n:
        rows = (rows.reshape(-1, n) + n * np.arange(rows.size // n)[:, None]).reshape(-1)

    def follow(array: NDArray[Any]) -> NDArray[Any]:
        if array.shape[:-1] != jump.parent.shape:
            raise ValueError(f"an array of shape {array.shape} does not follow jumps of shape {jump.parent.shape}")
        source = np.ascontiguousarray(array).reshape(rows.size, -1)
        taken = np.empty_like(source)
        in_blocks(lambda a, b: np.take(source, rows[a:b], axis=0, out=taken[a:b], mode="clip"), rows.size, BLOCK)
        return taken.reshape(array.shape)

    taken: dict[str, Any] = {f.name: follow(getattr(state, f.name)) for f in fields(state)}  # type: ignore[arg-type]
    return replace(state, **taken)  # type: ignore[type-var]


# ---------------------------------------------------------------------------------------------- mutation


def gaussian_mutation(
    sigma: ArrayLike, project: Callable[[Array], Array] | None = None
) -> Callable[[S, Jump, np.random.Generator], S]:
    r"""Mutation of (2): h ← Π_H(h + σξ) with ξ standard normal, for the agents that jumped.

    Parameters
    ----------
    sigma : array_like, scalar or shape (p,)
        Mutation strength σ ≥ 0, in the units of h.
    project : callable, optional
        The projection Π_H, such as `project_box`; none by default.

    Returns
    -------
    callable
        ``mutate(state, jump, rng)``, a new state whose field ``h`` of shape (..., N, p) has been mutated. It raises
        if the jumps are not of shape (..., N).
    """
    strength = check_array("sigma", sigma, minimum=0)

    def mutate(state: S, jump: Jump, rng: np.random.Generator) -> S:
        h: Array = state.h  # type: ignore[attr-defined]
        if h.shape[:-1] != jump.who.shape:
            raise ValueError(f"h has shape {h.shape}; it does not follow jumps of shape {jump.who.shape}")
        key, p = draw_key(rng), h.shape[-1]
        sigmas = np.array(np.broadcast_to(strength, (p,)))
        moved = np.array(h, dtype=np.float64)
        who, flat = np.ravel(jump.who), moved.reshape(-1, p)
        in_blocks(lambda a, b: _jitter(flat[a:b], who[a:b], sigmas, key, a), len(flat), BLOCK)
        if project is not None:
            moved = np.where(jump.who[..., None], project(moved), h)
        return replace(state, h=moved)  # type: ignore[type-var]

    return mutate


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


def project_box(lower: ArrayLike, upper: ArrayLike) -> Callable[[Array], Array]:
    """Euclidean projection on the box [lower, upper], given as scalars or per coordinate."""
    low, high = check_array("lower", lower), check_array("upper", upper)
    if not (low <= high).all():
        raise ValueError(f"lower = {low} exceeds upper = {high}; a box needs lower <= upper")
    return lambda h: np.clip(h, low, high)
