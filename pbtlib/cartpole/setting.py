r"""What the torch agent and the compiled population share: the constants, the box of hyperparameters, the weights.

The values are those of Section 5.2 and Appendix D of the paper; where the text does not state one, it is the value of
the authors' published code [code] or our choice [C].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pbtlib.checks import check_array, check_number, check_together

__all__ = [
    "COORDINATES",
    "LAYERS",
    "TINY",
    "WEIGHTS",
    "Hyperparameters",
    "Setting",
    "decode",
    "exploration",
    "initial_weights",
    "multiply",
]

LAYERS = ((64, 4), (64, 64), (2, 64))
"""(outputs, inputs) of the three affine maps of the Q-network, with ReLU between them."""

WEIGHTS = sum(outputs * (inputs + 1) for outputs, inputs in LAYERS)
"""Length of the vector θ of one agent, 4610 (W₁, b₁, W₂, b₂, W₃, b₃, matrices row by row, as in torch)."""

TINY = 1e-30
"""Size up to which a running mean of Adam counts as zero, so that none decays to a denormal number.

Behind a unit that no input activates any more gradients are zero and Adam's means decay for ever. Below 1.2e-38 they
would be denormal numbers, with which processors calculate many times slower. A mean of this size moves a weight by
less than 1e-24, and its root adds less than 1e-14 to the 1e-8 by which Adam divides.
"""

COORDINATES = ("log10 learning rate", "exploration decay", "batch size")
"""What the three coordinates of h stand for, as data files name them."""

LOWER = np.array([-5.0, 500.0, 32.0])
UPPER = np.array([-2.0, 5000.0, 128.0])


@dataclass(frozen=True)
class Setting:
    """What all agents have in common.

    Attributes
    ----------
    gamma : float
        Discount γ, 0 ≤ γ ≤ 1. [code]
    episode_cap : int
        Steps after which an episode is cut off. [code]
    capacity : int
        Transitions that the replay holds, at least 128 (the largest batch); then the oldest is overwritten. [code]
    target_period : int
        Environment steps between two hard updates of the target network. [code]
    bootstrap : bool
        Whether a state cut off by the cap keeps its value max_a Q. False, as in the authors' code, counts the cut as
        terminal; True is the correct treatment of a time limit.

    Examples
    --------
    >>> Setting(bootstrap=True).episode_cap
    100
    """

    gamma: float = 0.99
    episode_cap: int = 100
    capacity: int = 5000
    target_period: int = 100
    bootstrap: bool = False

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma, minimum=0, maximum=1)
        check_number("episode_cap", self.episode_cap, integer=True, minimum=1)
        check_number("capacity", self.capacity, integer=True, minimum=int(UPPER[2]))
        check_number("target_period", self.target_period, integer=True, minimum=1)


@dataclass(frozen=True)
class Hyperparameters:
    """Hyperparameters in their own units: scalars for one agent, arrays (..., N) for a population.

    Attributes
    ----------
    lr : float or ndarray
        Learning rate of Adam, in [1e-5, 1e-2].
    decay : float or ndarray
        Exploration decay ε_decay of (39) [environment steps], in [500, 5000].
    batch : int or ndarray of int
        Batch size, 32 to 128.

    Examples
    --------
    >>> population = decode([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
    >>> int(population.agent(1).batch)
    128
    """

    lr: NDArray[np.float64]
    decay: NDArray[np.float64]
    batch: NDArray[np.int64]

    def agent(self, i: int) -> Hyperparameters:
        """Return agent i's own hyperparameters."""
        return Hyperparameters(self.lr[i], self.decay[i], self.batch[i])


def decode(h: ArrayLike) -> Hyperparameters:
    """Translate scaled coordinates, in which mutation acts, into hyperparameters.

    Parameters
    ----------
    h : array_like, shape (..., 3)
        Points of [−1, 1]³: logarithm of the learning rate, exploration decay, batch size.

    Returns
    -------
    Hyperparameters
        The batch size is rounded to the nearest integer, here only: mutations act on the unrounded coordinate.

    Raises
    ------
    ValueError
        If a coordinate lies outside [−1, 1].

    Examples
    --------
    >>> h = decode([-1.0, 0.0, 1.0])
    >>> float(h.decay), int(h.batch)
    (2750.0, 128)
    """
    values = _values(h)
    return Hyperparameters(10.0 ** values[..., 0], values[..., 1], np.rint(values[..., 2]).astype(np.int64))


def multiply(h: ArrayLike, factor: ArrayLike) -> NDArray[np.float64]:
    """Multiply hyperparameters by a factor in their own units, and clip to the box.

    Parameters
    ----------
    h : array_like, shape (..., 3)
        Scaled coordinates, as `decode` takes them.
    factor : array_like
        Positive; broadcast against h.

    Returns
    -------
    ndarray, shape (..., 3)
        Scaled coordinates.

    Raises
    ------
    ValueError
        If a coordinate lies outside [−1, 1], or a factor is not positive.

    Examples
    --------
    >>> raised = decode(multiply([0.0, 0.0, 0.0], 1.2))
    >>> float(raised.decay), int(raised.batch)
    (3300.0, 96)
    """
    values = _values(h)
    times = check_array("factor", factor, minimum=0, open_minimum=True)
    check_together(h=values, factor=times)
    logarithmic = np.array([True, False, False])
    moved = np.where(logarithmic, values + np.log10(times), values * times)
    inside: NDArray[np.float64] = np.clip(2 * (moved - LOWER) / (UPPER - LOWER) - 1, -1.0, 1.0)
    return inside


def _values(h: ArrayLike) -> NDArray[np.float64]:
    """Logarithm of the learning rate, exploration decay and unrounded batch size of scaled coordinates."""
    scaled = check_array("h", h, shape=(3,))
    if np.abs(scaled).max() > 1:
        raise ValueError(f"h contains {scaled.flat[np.abs(scaled).argmax()]:g}; every coordinate must be in [-1, 1]")
    values: NDArray[np.float64] = LOWER + (UPPER - LOWER) * (1 + scaled) / 2
    return values


def exploration(t: ArrayLike, decay: ArrayLike) -> NDArray[np.float64]:
    """Probability of a random action after t environment steps: ε(t) = 0.01 + 0.99 e^{−t/ε_decay}, (39).

    Parameters
    ----------
    t : array_like
        Environment steps, at least 0.
    decay : array_like
        ε_decay > 0 in steps, broadcast against t.

    Raises
    ------
    ValueError
        If an entry is out of range, or the shapes do not broadcast.

    Examples
    --------
    >>> exploration([0, 1_000_000], 1000).round(3).tolist()
    [1.0, 0.01]
    """
    steps, scale = check_array("t", t, minimum=0), check_array("decay", decay, minimum=0, open_minimum=True)
    check_together(t=steps, decay=scale)
    epsilon: NDArray[np.float64] = 0.01 + 0.99 * np.exp(-steps / scale)
    return epsilon


def initial_weights(rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw one agent's weights: every weight and bias uniform in ±1/√(inputs), the default of torch's Linear.

    Returns
    -------
    ndarray of float32, shape (4610,)
        W₁, b₁, W₂, b₂, W₃, b₃, matrices row by row.

    Examples
    --------
    >>> import numpy as np
    >>> theta = initial_weights(np.random.default_rng(0))
    >>> theta.shape, bool(abs(theta).max() <= 0.5)
    ((4610,), True)
    """
    bound = np.concatenate([np.full(outputs * (inputs + 1), inputs**-0.5) for outputs, inputs in LAYERS])
    return (bound * rng.uniform(-1.0, 1.0, WEIGHTS)).astype(np.float32)
