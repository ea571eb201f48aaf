"""The moving figures of the built pages: every state of every slider, computed by the library before a page is read.

``python -m tools.frames FOLDER`` writes FOLDER/NAME.json, the data, and FOLDER/NAME.js, the same as a script, since a
page that is read from disk may load scripts but not data. `assets/frames.js` draws them.

A moving figure is a dictionary with the keys

- ``title``, ``alt``;
- ``sliders``: of each a label, the values as text and the position it starts from;
- ``panels``: of each a title and its two axes, with label, limits and whether the axis is logarithmic;
- ``curves``: of each its panel, its label, what it is (line, points, bars, band or mark) and those of its x, y and high
  (the upper edge of a band) that do not move;
- ``frames``: one for each combination of slider positions, the last slider fastest, with the moving part of each curve
  and a sentence that says what is to be seen.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from contourpy import contour_generator
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from pbtlib import bilevel, gaussian, kinetic
from pbtlib.averaged import Grid, cell_masses, mutation_kernel, semigroup
from pbtlib.bilevel import Assumption9
from pbtlib.evolution import GaussianMutation, Gibbs, Selection, stream
from pbtlib.loop import evolve
from pbtlib.problems import LinearGaussian, Quadratic
from pbtlib.training import EulerMaruyama, ExactOU, Last, Particles

Array = NDArray[np.float64]
Figure = dict[str, Any]
SEED = 2026


def main() -> None:
    """Write all moving figures into the folder that the command line names."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in FIGURES.items():
        text = json.dumps(make(), ensure_ascii=False, separators=(",", ":"))
        (folder / f"{name}.json").write_text(text + "\n")
        (folder / f"{name}.js").write_text(f'(window.bookFrames ??= {{}})["{name}"] = {text};\n')


# ---------------------------------------------------------------------------------------------- the parts of a figure


def numbers(values: ArrayLike, digits: int = 4) -> list[Any]:
    """Round to significant digits, as nested lists of plain numbers."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim > 1:
        return [numbers(row, digits) for row in array]
    return [float(f"{value:.{digits}g}") for value in array]


def small(value: float) -> str:
    """Write a distance that may be tiny: 0.03, 5·10⁻⁸, or no measurable distance."""
    if value < 1e-12:
        return "no measurable distance"
    if value >= 1e-3:
        return f"{value:.2g}"
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return f"{mantissa}·10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def axis(label: str, low: float, high: float, *, log: bool = False) -> Figure:
    """An axis with its limits, the same in all frames, so that what moves is the curve."""
    return {"label": label, "lim": [low, high], "log": log}


def curve(panel: int, label: str, kind: str = "line", *, style: int | None = None, **fixed: ArrayLike) -> Figure:
    """A curve; ``style`` is its place in the palette (counted on by default), x, y and high are what does not move."""
    return {"panel": panel, "label": label, "kind": kind, "style": style, **{k: numbers(v) for k, v in fixed.items()}}


def frame(says: str, *moving: dict[str, ArrayLike]) -> Figure:
    """The state of a figure at one combination of slider positions."""
    return {"says": says, "curves": [{k: numbers(v) for k, v in part.items()} for part in moving]}


def slider(label: str, values: Sequence[float], start: int) -> Figure:
    """A slider over these values."""
    return {"label": label, "values": [f"{value:,g}" for value in values], "start": start}


# ---------------------------------------------------------------------------------------------- Section 2.1


def sawtooth(
    steps: Sequence[int] = (5, 10, 20, 50, 100),
    betas: Sequence[float] = (0.0, 0.3, 1.0, 3.0),
    agents: int = 1000,
    updates: int = 12,
) -> Figure:
    """Figure 2 for other numbers of training steps between updates and other selection pressures."""
    problem, points, box = Quadratic(), 10, 5.0
    rng = stream(SEED, 0, "start")
    start = Particles(rng.uniform(-box, box, (agents, 2)), rng.uniform(-box, box, (agents, 2)))
    frames = []
    for n, beta in product(steps, betas):
        every = max(n // points, 1)
        film: list[Any] = []
        train = EulerMaruyama(problem, dt=0.01, steps=n, path_every=every)

        def filmed(state: Particles, rng: np.random.Generator, film: list[Any] = film, train: Any = train) -> Any:
            after, trace = train(state, rng)
            path = np.concatenate([state.theta[None], trace.path])
            film.append(
                [
                    np.quantile(values, [0.25, 0.5, 0.75], axis=-1)
                    for values in (1.2 - problem.fitness(path), problem.loss(path, state.h))
                ]
            )
            return after, trace

        def chosen(fitness: Array, rng: np.random.Generator, beta: float = beta) -> Any:
            return Selection(Gibbs(beta))(fitness, rng)

        evolve(
            start,
            train=filmed,
            evaluate=Last(),
            select=chosen,
            mutate=GaussianMutation(0.1),
            n_updates=updates,
            seed=SEED,
        )
        seen = np.array(film)  # (update, fitness or loss, quartile, time)
        time = np.arange(updates)[:, None] + np.linspace(0, 1, seen.shape[-1])
        (low, middle, high), (low_loss, loss, high_loss) = np.moveaxis(seen, 0, 2).reshape(2, 3, -1)
        drop = 1 - seen[1:, 0, 1, 0] / seen[:-1, 0, 1, -1]
        says = (
            f"With {n} training steps between updates and pressure {beta:g}, the median distance from the optimum ends "
            f"at {middle[-1]:.2g}; "
        )
        says += (
            "without selection updates do not help: what changes is training alone."
            if beta == 0
            else f"an update cuts it by {100 * np.median(drop):.0f}% (median), and training gives part of that back."
        )
        x = {"x": time.ravel()}
        frames.append(
            frame(
                says,
                {**x, "y": low, "high": high},
                {**x, "y": middle},
                {**x, "y": low_loss, "high": high_loss},
                {**x, "y": loss},
            )
        )
    return {
        "title": "The sawtooth of Figure 2, for other settings",
        "alt": "Two panels against updates: the distance of the fitness from its optimum, and the biased loss, as "
        "medians with quartiles.",
        "sliders": [
            slider("training steps between updates", steps, 3),
            slider("selection pressure β", betas, 2),
        ],
        "panels": [
            {
                "title": "how far from the best fitness",
                "x": axis("update", 0, updates),
                "y": axis("1.2 − fitness", 0.003, 60, log=True),
            },
            {
                "title": "what training minimises",
                "x": axis("update", 0, updates),
                "y": axis("biased loss", 0.003, 60, log=True),
            },
        ],
        "curves": [
            curve(0, "half of the agents", "band", style=0),
            curve(0, "median", style=0),
            curve(1, "half of the agents", "band", style=1),
            curve(1, "median", style=1),
        ],
        "frames": frames,
    }


# ---------------------------------------------------------------------------------------------- Section 2.3


def bump(theta: Array, h: Array) -> Array:
    """The bounded fitness of Section 2.3's test bed."""
    return np.asarray(2 / (1 + theta**2) + 0 * h)


def many_agents(
    sizes: Sequence[int] = (10, 30, 100, 300, 1000, 3000, 10_000),
    times: Sequence[int] = (0, 1, 2, 4, 8),
    tau: float = 0.5,
    runs: int = 30,
) -> Figure:
    """The hyperparameters of N agents beside their law for infinitely many, on the test bed of Section 2.3."""
    theta, h = Grid(-4.5, 4.5, 120), Grid(-4.5, 4.5, 120)
    model = kinetic.model(theta, h, loss=lambda t, h: (t - h) ** 2, fitness=bump, noise=0.6, sigma=0.3, rule=Gibbs(1.0))
    begin = cell_masses(lambda t, h: np.exp(-2 * (t - 1.5) ** 2 - 2 * (h + 1) ** 2), theta, h)
    every = round(1 / tau)
    laws = kinetic.algorithm_1(begin, model, max(times) * every, tau=tau)[::every, :, :].sum(1)
    edges, fine = np.linspace(-3, 3, 41), np.linspace(-4.5, 4.5, 1801)
    ends = np.linspace(h.lower, h.upper, h.n + 1)
    below = np.array([np.interp(fine, ends, np.append(0, np.cumsum(laws[t]))) for t in times])
    bars, apart = np.zeros((len(sizes), len(times), 40)), np.zeros((len(sizes), len(times)))
    problem = LinearGaussian(s=0.6)
    for i, n in enumerate(sizes):
        z = stream(SEED, i, "cloud").standard_normal((2, runs, n, 1)) / 2
        states = [Particles(1.5 + z[0], -1 + z[1])]
        evolve(
            states[0],
            train=ExactOU(problem, time=tau),
            evaluate=lambda state, trace: bump(state.theta[..., 0], state.h[..., 0]),
            select=Selection(Gibbs(1.0), tau=tau),
            mutate=GaussianMutation(0.3),
            n_updates=max(times) * every,
            seed=SEED + i,
            observe=lambda k, state, f, jump, states=states: states.append(state),  # type: ignore[misc]
        )
        for j, t in enumerate(times):
            values = np.sort(states[t * every].h[..., 0], -1)
            share = np.array([np.searchsorted(row, fine, side="right") for row in values]) / n
            apart[i, j] = np.abs(share - below[j]).mean() * (fine[-1] - fine[0])
            bars[i, j] = np.histogram(values[0], edges, density=False)[0] / (n * np.diff(edges))
    frames = []
    for (i, n), (j, t) in product(enumerate(sizes), enumerate(times)):
        says = (
            f"{n:,} agents at time {t}: on average over {runs} populations they are {apart[i, j]:.2g} away from the "
            f"density (distance W₁). Ten times the agents would be about √10 ≈ 3.2 times closer."
        )
        guide = apart[-1, j] * np.sqrt(sizes[-1] / np.array(sizes))
        frames.append(
            frame(
                says,
                {"y": bars[i, j]},
                {"y": laws[t] / h.step},
                {"y": guide},
                {"y": apart[:, j]},
                {"x": [n], "y": [apart[i, j]]},
            )
        )
    return {
        "title": "From a handful of agents to a density",
        "alt": "Left, a histogram of the agents' hyperparameters beside a smooth density. Right, their distance "
        "against the number of agents, on a line of slope minus one half.",
        "sliders": [slider("number of agents N", sizes, 2), slider("time", times, 2)],
        "panels": [
            {
                "title": "where the agents are",
                "x": axis("hyperparameter h", -3, 3),
                "y": axis("density", 0, 1.25),
            },
            {
                "title": "how far from the density",
                "x": axis("number of agents N", 8, 13_000, log=True),
                "y": axis("distance W₁", 0.002, 0.5, log=True),
            },
        ],
        "curves": [
            curve(0, "one population", "bars", style=0, x=edges),
            curve(0, "infinitely many agents", style=1, x=h.points),
            curve(1, "slope −1/2", style=-1, x=sizes),
            curve(1, f"mean over {runs} populations", "points", style=0, x=sizes),
            curve(1, "this N", "mark", style=1),
        ],
        "frames": frames,
    }


# ---------------------------------------------------------------------------------------------- Section 3


def two_time_scales(
    epsilons: Sequence[float] = (2, 1, 0.5, 0.25, 0.125, 0.0625, 0.03125), times: Sequence[int] = (1, 2, 3, 4)
) -> Figure:
    """Kinetic equation (8) against its limit (13), and the two clocks, on the test bed of Section 3."""
    grid, noise, sigma, dt = Grid(-5.0, 5.0, 101), 0.6, 0.3, 0.02
    model = kinetic.model(
        grid,
        grid,
        loss=lambda t, h: (t - h) ** 2,
        fitness=lambda t, h: -(t**2) + 0 * h,
        noise=noise,
        sigma=sigma,
        rule=Gibbs(1.0),
    )
    start = cell_masses(lambda t, h: np.exp(-2 * (t - 1.5) ** 2 - 2 * (h + 1) ** 2), grid, grid)
    limit = semigroup(start.sum(0), kinetic.effective_fitness(model), [model.kernel], times)
    laws = np.array(
        [
            2 * kinetic.solve(start, model, times, dt=dt / 2, epsilon=e).sum(1)
            - kinetic.solve(start, model, times, dt=dt, epsilon=e).sum(1)
            for e in epsilons
        ]
    )
    own_clock = grid.step * np.abs(np.cumsum(laws - limit, -1)).sum(-1)

    def simultaneous(kernel: gaussian.Kernel) -> list[gaussian.Gaussian]:
        begin, score = (
            gaussian.Gaussian(np.array([1.5, -1.0]), np.eye(2) / 4),
            gaussian.QuadraticFitness(np.diag([2.0, 0.0])),
        )
        return gaussian.mean_field_law(begin, kernel, score, sigma=sigma, p=1, n_updates=max(times))

    sde, z = gaussian.langevin([[2.0]], [[1.0]], noise), stats.norm.ppf((np.arange(4000) + 0.5) / 4000)
    there, together = simultaneous(gaussian.equilibrium(sde, 1)), np.zeros_like(own_clock)
    for i, e in enumerate(epsilons):
        here = simultaneous(gaussian.flow(sde, 1 / e))
        for j, t in enumerate(times):
            m = here[t].mean[1] - there[t].mean[1]
            delta = np.sqrt(here[t].cov[1, 1]) - np.sqrt(there[t].cov[1, 1])
            together[i, j] = np.abs(m + delta * z).mean()
    shown = np.maximum(together, 1e-16)
    frames = []
    for (i, e), (j, t) in product(enumerate(epsilons), enumerate(times)):
        says = (
            f"ε = {e:g}, that is {1 / e:g} {'unit' if e == 1 else 'units'} of training per jump, at time {t}: the law "
            f"of h is {own_clock[i, j]:.2g} away from the averaged equation (distance W₁). Had all agents jumped "
            f"together, it would be {small(together[i, j])} away from its own limit."
        )
        frames.append(
            frame(
                says,
                {"y": np.maximum(laws[i, j], 0) / grid.step},
                {"y": limit[j] / grid.step},
                {"y": own_clock[:, j]},
                {"y": shown[:, j]},
                {"x": [e, e], "y": [own_clock[i, j], shown[i, j]]},
            )
        )
    return {
        "title": "How much training is enough?",
        "alt": "Left, the density of the hyperparameter under the kinetic equation and under the averaged one. Right, "
        "the distance to the limit against epsilon: a straight line for clocks of their own, a plunge for "
        "simultaneous jumps.",
        "sliders": [slider("ε (smaller: more training per jump)", epsilons, 1), slider("slow time", times, 1)],
        "panels": [
            {"title": "law of the hyperparameter", "x": axis("h", -3, 2), "y": axis("density", 0, 1.1)},
            {
                "title": "distance to the limit",
                "x": axis("ε", 0.025, 2.5, log=True),
                "y": axis("W₁", 1e-9, 1, log=True),
            },
        ],
        "curves": [
            curve(0, "kinetic equation (8)", style=0, x=grid.points),
            curve(0, "averaged equation (13)", style=1, x=grid.points),
            curve(1, "each agent its own clock", style=0, x=epsilons),
            curve(1, "simultaneous jumps", style=2, x=epsilons),
            curve(1, "this ε", "mark", style=1),
        ],
        "frames": frames,
    }


# ---------------------------------------------------------------------------------------------- Section 3.1


def bias_noise(
    biases: Sequence[float] = (0, 0.4, 0.8, 1.2, 1.6, 2, 2.4),
    betas: Sequence[float] = (0.05, 0.1, 0.2, 0.5, 1, 2, 5),
) -> Figure:
    """Effective fitness of the quadratic example against noise, at a fixed bias and pressure."""
    problem, h2, every = Quadratic(), np.linspace(0, 5, 101), np.linspace(0, 2.5, 51)
    frames = []
    for h1, beta in product(biases, betas):
        along = np.stack(np.broadcast_arrays(h1, h2), -1)
        best = 2 * np.sqrt(max(h1**2 - 1 / (2 * beta), 0.0))
        height = problem.effective_fitness(np.array([h1, best]), beta)
        silent = problem.effective_fitness(np.array([h1, 0.0]), beta)
        if best > 0:
            says = (
                f"At bias {h1:g} and pressure {beta:g} noise pays: the best noise is {best:.2f}, with effective "
                f"fitness {height:.2f} against {silent:.2f} without noise.".replace("-", "−")
            )
        else:
            says = (
                f"At bias {h1:g} and pressure {beta:g} noise only harms: it would pay from bias "
                f"{np.sqrt(1 / (2 * beta)):.2f} on."
            )
        frames.append(
            frame(
                says,
                {"y": problem.effective_fitness(along, 0.0)},
                {"y": problem.effective_fitness(along, beta)},
                {"x": [best], "y": [height]},
                {"y": 2 * np.sqrt(np.maximum(every**2 - 1 / (2 * beta), 0))},
                {"x": [h1], "y": [best]},
            )
        )
    return {
        "title": "When does noise pay?",
        "alt": "Left, effective fitness against noise, with its maximum marked, above the mean fitness. Right, the "
        "best noise against bias: zero up to a threshold, then rising.",
        "sliders": [slider("bias h₁", biases, 4), slider("selection pressure β", betas, 3)],
        "panels": [
            {"title": "at this bias", "x": axis("noise h₂", 0, 5), "y": axis("fitness", -14, 2)},
            {"title": "at every bias", "x": axis("bias h₁", 0, 2.5), "y": axis("best noise h₂", 0, 5)},
        ],
        "curves": [
            curve(0, "mean fitness", style=1, x=h2),
            curve(0, "effective fitness", style=0, x=h2),
            curve(0, "best noise", "mark", style=2),
            curve(1, "best noise", style=0, x=every),
            curve(1, "this bias", "mark", style=2),
        ],
        "frames": frames,
    }


# ---------------------------------------------------------------------------------------------- Section 4


def theorem_10(
    betas: Sequence[float] = (0.3, 1, 2, 3, 5, 10, 30, 100, 1000),
    sigmas: Sequence[float] = (0.1, 0.2, 0.3, 0.5, 0.8),
    delta: float = 0.2,
) -> Figure:
    """Distance of the mean from the fittest solution against the bound of Theorem 10, for the lopsided parabola."""
    a, b, best = 1.0, 2.0, 0.5
    start, grid = stats.norm(2.0, 0.5), Grid(-5.0, 7.0, 480)
    x, rho_0 = grid.points, cell_masses(start.pdf, grid)
    gap = np.where(x < best, a, b) / 2 * (x - best) ** 2
    shift = start.mean() - best
    horizon = float(np.log(shift / delta))
    times = np.linspace(0, 1.5 * horizon, 61)
    bound = np.exp(-times) * shift + delta
    constants = Assumption9(
        centre=best, eta=np.sqrt(a / 2), nu=0.5, F_inf=2 * a, c_u=b / 2 * (1 + best**2), c_l=a / 8, M=2 * best
    )
    frames = []
    for beta, sigma in product(betas, sigmas):
        laws = semigroup(rho_0, -beta * gap, [mutation_kernel(grid, sigma)], times)
        distance = np.abs(laws @ x - best)
        enough = bilevel.pressure_without_growth(
            constants,
            delta=delta,
            horizon=horizon,
            distance=float(rho_0 @ np.abs(x - best)),
            sigma=sigma,
            p=1,
            radius=lambda q: np.sqrt(2 * q / b),
            ball_mass=lambda r: float(start.cdf(best + r) - start.cdf(best - r)),
        )
        until = times <= horizon + 1e-9
        holds = (distance <= bound + 1e-9)[until].all()
        says = (
            f"At pressure {beta:g} and mutation strength {sigma:g} the bound "
            f"{'holds' if holds else 'is broken'} up to T* = {horizon:.2f}; the mean ends at distance "
            f"{distance[-1]:.2f}. The proof is sure only from β = {enough:,.0f} on."
        )
        frames.append(frame(says, {"y": distance}))
    return {
        "title": "The bound of Theorem 10, for other pressures and mutations",
        "alt": "Distance of the mean from the fittest solution against time, beside the bound of Theorem 10.",
        "sliders": [slider("selection pressure β", betas, 3), slider("mutation strength σ", sigmas, 2)],
        "panels": [
            {
                "title": "distance from the fittest solution",
                "x": axis("time t", 0, float(times[-1])),
                "y": axis("|m(t) − h*|", 0, 1.8),
            }
        ],
        "curves": [
            curve(0, "bound of Theorem 10, δ = 0.2", style=-1, x=times, y=bound),
            curve(0, "exact solution of (13)", style=0, x=times),
            curve(0, "T*", style=2, x=[horizon, horizon], y=[0.0, 1.8]),
        ],
        "frames": frames,
    }


# ---------------------------------------------------------------------------------------------- the landing page


def landing(agents: int = 48, updates: int = 12, steps: int = 50, every: int = 5) -> Figure:
    """One population of the quadratic example: θ moves all the time, h only at updates.

    Positions are whole hundredths. ``theta`` has shape (frames, agents, 2), ``h`` (updates + 1, agents, 2) and
    ``family`` (updates + 1, agents) holds the sixth of the initial biases to which an agent's ancestor belonged.
    """
    problem, beta, reach = Quadratic(), 1.0, 3.0
    rng = stream(SEED, 1, "start")
    h = np.stack([np.sort(rng.uniform(-reach, reach, agents)), rng.uniform(0.1, 2.5, agents)], -1)
    start = Particles(rng.uniform(-reach, reach, (agents, 2)), h)
    paths, hyper = [start.theta[None]], [h]
    family = [np.arange(agents) * 6 // agents]
    train = EulerMaruyama(problem, dt=0.01, steps=steps, path_every=every)

    def filmed(state: Particles, rng: np.random.Generator) -> Any:
        after, trace = train(state, rng)
        paths.append(trace.path)
        return after, trace

    def observe(k: int, state: Particles, fitness: Array, jump: Any) -> None:
        paths.append(state.theta[None])
        hyper.append(state.h)
        family.append(family[-1][jump.parent])

    evolve(
        start,
        train=filmed,
        evaluate=Last(),
        select=Selection(Gibbs(beta)),
        mutate=GaussianMutation(0.1),
        n_updates=updates,
        seed=SEED,
        observe=observe,
    )
    theta, seen = np.concatenate(paths), np.array(hyper)
    seen[..., 1] = np.abs(seen[..., 1])  # the noise is |h₂|
    median = 1.2 - np.median(np.asarray(problem.fitness(theta)), -1)
    axes = np.linspace(-reach, reach, 61), np.linspace(0, 2.6, 53)
    plane = np.stack(np.meshgrid(axes[0], axes[0]), -1)
    landscape = np.stack(np.meshgrid(*axes), -1)

    def contours(x: Array, y: Array, values: Array, levels: Sequence[float]) -> list[Any]:
        found: Any = contour_generator(x, y, values)
        return [np.rint(100 * line).astype(int).tolist() for level in levels for line in found.lines(level)]

    return {
        "title": "A population trains fast and evolves slowly",
        "alt": "Left, 48 dots drift and tremble towards a diagonal line while they train; right, the same 48 dots "
        "stand still and jump closer to a peak at each update.",
        "per_update": steps // every + 1,
        "updates": updates,
        "theta": np.rint(100 * theta).astype(int).tolist(),
        "h": np.rint(100 * seen).astype(int).tolist(),
        "family": [row.tolist() for row in family],
        "median": numbers(median, 3),
        "fitness_contours": contours(axes[0], axes[0], problem.fitness(plane), (-12, -6, -2.8, -0.5, 0.8)),
        "effective_contours": contours(
            *axes, problem.effective_fitness(landscape, beta), (-6, -4.5, -3, -1.5, -0.5, 0.4, 0.9)
        ),
    }


FIGURES: dict[str, Callable[[], Figure]] = {
    "landing": landing,
    "sawtooth": sawtooth,
    "many_agents": many_agents,
    "two_time_scales": two_time_scales,
    "bias_noise": bias_noise,
    "theorem_10": theorem_10,
}

if __name__ == "__main__":
    main()
