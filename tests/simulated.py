"""A problem without symmetries, and runs whose truth is known, as the tables that a reader would bring."""

from dataclasses import replace

import numpy as np
import pandas as pd

from pbtlib import runs
from pbtlib.evolution import GaussianMutation, Gibbs, Selection, Truncation
from pbtlib.loop import evolve
from pbtlib.problems import LinearGaussian
from pbtlib.training import ExactOU, Particles

GENERAL = LinearGaussian(
    A=np.array([[2.0, 0.4, 0.0], [0.4, 1.0, -0.2], [0.0, -0.2, 0.7]]),
    B=np.array([[1.0, 0.0], [0.5, 0.3], [0.0, -1.0]]),
    c=np.array([0.1, -0.2, 0.3]),
    s=lambda h: h[..., 1],
    Sigma=np.array([[1.0, 0.3, 0.1], [0.3, 0.8, 0.0], [0.1, 0.0, 1.5]]),
    Q=np.array([[1.0, 0.2, 0.0], [0.2, 0.5, 0.1], [0.0, 0.1, 0.3]]),
    target=np.array([0.5, 0.0, -0.5]),
    best=1.2,
)


def record(truth, seed, *, trials=64, updates=20, time=3.0, sigma=0.2, readings=1, noise=0.0, spread=0.5):
    """Columns of a run: trial, time, score, h and parent, in order of time.

    Truths: "merit" (the score is −(θ − 2)² and θ follows h), "luck" (the score is θ, and training knows no h), "lot"
    (merit, but parents and losers are drawn by lot). The relaxation rate is 2, so time 3 forgets and 0.1 does not;
    `spread` is the standard deviation of θ in equilibrium.
    """
    problem, rng, rows = LinearGaussian(s=2 * spread), np.random.default_rng([seed, 77]), []
    inner = ExactOU(problem, time=time / readings)
    past = {"h": rng.uniform(-1, 1, (trials, 1))}

    def score(theta):
        return theta[:, 0] if truth == "luck" else -((theta[:, 0] - 2.0) ** 2)

    def train(state, stream):
        seen = []
        for _ in range(readings):
            pulled = replace(state, h=0 * state.h) if truth == "luck" else state
            state = replace(state, theta=inner(pulled, stream)[0].theta)
            seen.append(score(state.theta) + noise * stream.standard_normal(trials))
        return state, seen

    def observe(k, state, fitness, jump):
        for r, values in enumerate(past["seen"]):
            after = jump.parent if r == readings - 1 else np.arange(trials)
            frame = {"trial": np.arange(trials), "time": k * readings + r + 1, "score": values}
            rows.append(pd.DataFrame({**frame, "h": past["h"][:, 0], "parent": after}))
        past["h"] = state.h

    def evaluate(state, trace):
        past["seen"] = trace
        return trace[-1]

    start = (0.0 if truth == "luck" else past["h"]) + spread * rng.standard_normal((trials, 1))
    rule, tau = (Gibbs(0.0), 0.25) if truth == "lot" else (Truncation(0.25), 1.0)
    evolve(
        Particles(start, past["h"]),
        train=train,
        evaluate=evaluate,
        select=Selection(rule, tau=tau),
        mutate=GaussianMutation(sigma),
        n_updates=updates,
        seed=seed,
        observe=observe,
    )
    return pd.concat(rows, ignore_index=True)


def run(*args, **kwargs):
    """The same, read."""
    return runs.read(record(*args, **kwargs))
