"""Algorithms 1 and 2 of the paper on a problem, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pbtlib import problems
from pbtlib.checks import check_array, check_memory, check_number
from pbtlib.evolution import Box, GaussianMutation, Gibbs, Rule, Selection, stream
from pbtlib.history import History
from pbtlib.loop import Lineage, evolve
from pbtlib.problems import AnyProblem
from pbtlib.training import EulerMaruyama, GibbsDraw, Last, Particles, Trace

__all__ = ["Minus", "Run", "pbt"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Minus:
    """Evaluation of what is to be small: as ``evaluate`` does, with minus the recorded fitness.

    Examples
    --------
    >>> import numpy as np
    >>> trace = Trace(fitness=np.array([[0.5], [2.0]]), path=np.empty((0, 2, 1)))
    >>> Minus()(None, trace).tolist()
    [-0.5, -2.0]
    """

    evaluate: Any = Last()  # noqa: RUF009 (frozen)

    def __call__(self, state: Any, trace: Trace) -> Array:
        """Return the fitness, shape (..., N)."""
        return np.asarray(self.evaluate(state, replace(trace, fitness=-trace.fitness)))


@dataclass(frozen=True)
class Run:
    """What `pbt` returns.

    Attributes
    ----------
    state : Particles
        The population after the last update.
    history : History
        ``history.plot()`` draws it, ``history.dataset()`` is an ``xarray.Dataset``.
    lineage : Lineage or None
        Who descends from whom, if it was asked for.

    Examples
    --------
    >>> from pbtlib.problems import Quadratic
    >>> run = pbt(Quadratic(), h=[[0.5, 0.5]] * 20, sigma=0.1, n_updates=3)
    >>> run.state.theta.shape, run.lineage, sorted(run.history.dataset().data_vars)
    ((20, 2), None, ['diverged', 'fitness', 'h', 'jumped'])
    """

    state: Particles
    history: History
    lineage: Lineage | None


def pbt(
    problem: AnyProblem,
    *,
    n_updates: int,
    sigma: ArrayLike,
    theta: ArrayLike | None = None,
    h: ArrayLike | None = None,
    box: Box | tuple[ArrayLike, ArrayLike] | None = None,
    n_agents: int = 100,
    dt: float | None = None,
    steps: int | None = None,
    rule: Rule = Gibbs(1.0),  # noqa: B008 (frozen)
    tau: float = 1.0,
    window: int = 1,
    evaluate: Any = Last(),  # noqa: B008 (frozen)
    maximise: bool = True,
    diverged: str = "error",
    seed: int = 0,
    keep: Sequence[str] = ("fitness", "h"),
    every: int = 1,
    lineage: bool = False,
    checkpoint: str | Path | None = None,
    progress: bool = False,
) -> Run:
    """Run population-based training: Algorithm 1 if there is a time step, Algorithm 2 if there is none.

    Parameters
    ----------
    problem : AnyProblem
        Whatever has ``loss``, ``gradient``, ``fitness`` and ``noise``; at a few agents of the start it is asked
        whether it keeps the contract, the gradient too (`pbtlib.problems.check`). Algorithm 2 needs
        ``equilibrium_sample`` as well.
    n_updates : int
        Number of updates, simultaneous at τ = 1.
    sigma : float or array_like, shape (p,)
        Mutation strength.
    theta : array_like, shape (d,), (N, d) or (R, N, d)
        Where training starts, everybody or each. Algorithm 2 needs none.
    h : array_like, shape (N, p) or (R, N, p), optional
        Hyperparameters at the start, of R populations side by side; by default ``n_agents`` of them, uniform in the
        box.
    box : Box or pair of array_like, optional
        (lower, upper), each of shape (p,), or numbers, which without ``h`` mean p = 1: where h may go.
    n_agents : int
        Size N of the population, if ``h`` does not say it.
    dt, steps : float, int
        Time step of Euler-Maruyama training, and how many of them make a unit of time: between two updates there are
        τ·steps, which must be whole.
    rule : `pbtlib.evolution.Rule`
        ``Gibbs``, ``Removal``, ``Truncation`` from `pbtlib.evolution`, or one of your own.
    tau : float
        The clock τ of Algorithm 1, from 0 to 1: the duration of training between updates and the jump probability.
    window : int
        How many last steps (Algorithm 2: draws) evaluation sees.
    evaluate : callable
        ``Last``, ``WindowMean``, ``LogMeanExp`` from `pbtlib.training`.
    maximise : bool
        False for a ``fitness`` that is to be small; the history shows it as it is.
    diverged : {"error", "replace"}
        What becomes of agents whose fitness is NaN or −∞ (if minimised: +∞).
    seed : int
        Seed of every random number, that of the start too.
    keep, every
        As in `pbtlib.history.History`.
    lineage : bool
        Keep who descends from whom.
    checkpoint : path-like, optional
        As in `pbtlib.loop.evolve`: killed and called again, the run goes on.
    progress : bool
        Show a bar.

    Returns
    -------
    Run

    Raises
    ------
    ValueError
        If an argument is missing or out of range, the problem breaks its contract, or agents diverged.
    MemoryError
        If so many agents do not fit into the machine.

    Examples
    --------
    >>> from pbtlib.problems import Quadratic
    >>> run = pbt(Quadratic(), theta=[5.0, 5.0], box=(-5, 5), h=[[4.0, 1.0]] * 300, sigma=0.2,
    ...           dt=0.01, steps=100, n_updates=40)
    >>> bool(abs(run.state.h).mean() < 1)
    True
    """
    check_number("n_updates", n_updates, integer=True, minimum=0)
    bounds = box if box is None or isinstance(box, Box) else Box(*box)
    if h is None:
        check_number("n_agents", n_agents, integer=True, minimum=1)
        if bounds is None:
            raise ValueError("h is None and box is None; one of them must say where the hyperparameters start")
        low, high = np.atleast_1d(*np.broadcast_arrays(bounds.lower, bounds.upper))
        least = 8.0 * n_agents * 2 * (len(low) + 1)  # h and a theta, before and after an update
        check_memory(f"n_agents is {n_agents:,}", least)
        h = stream(seed, 0, "start").uniform(low, high, (n_agents, len(low)))
    start = check_array("h", h, min_ndim=2)
    if bounds is not None:
        bounds.check("h", start)
    train: Any
    if dt is None and steps is None:
        train = GibbsDraw(problem, window=window)
        points = train(Particles(start, start), stream(seed, 0, "check"))[0].theta
    else:
        if dt is None or steps is None or theta is None:
            raise ValueError("Algorithm 1 needs theta, dt and steps; Algorithm 2 neither dt nor steps")
        check_number("tau", tau, minimum=0, maximum=1, open_minimum=True)
        check_number("steps", steps, integer=True, minimum=1)
        if abs(steps * tau - round(steps * tau)) > 1e-9 * steps or round(steps * tau) < 1:
            raise ValueError(f"tau times steps is {steps * tau:g}; it must be a whole number of steps, at least 1")
        train = EulerMaruyama(problem, dt=dt, steps=round(steps * tau), window=window)
        points = np.atleast_1d(check_array("theta", theta))
        fits = zip(reversed(points.shape[:-1]), reversed(start.shape[:-1]), strict=False)
        if points.ndim > start.ndim or any(own not in (1, n) for own, n in fits):
            raise ValueError(
                f"theta has shape {points.shape}, h {start.shape}; theta must be (d,), or (N, d) with h's N"
            )
        points = np.array(np.broadcast_to(points, (*start.shape[:-1], points.shape[-1])))
    few = [x.reshape(-1, x.shape[-1])[:4] for x in (points, start)]
    problems.check(problem, *few)
    state = Particles(points, start)
    history = History(keep, every=every, sign=1 if maximise else -1)
    tree = Lineage(start) if lineage else None
    end = evolve(
        state,
        train=train,
        evaluate=evaluate if maximise else Minus(evaluate),
        select=Selection(rule, tau, diverged=diverged),
        mutate=GaussianMutation(sigma, bounds),
        n_updates=n_updates,
        seed=seed,
        observe=[history] if tree is None else [history, tree],
        checkpoint=checkpoint,
        progress=progress,
    )
    return Run(end, history, tree)
