"""Additive noise in scaled coordinates against a factor of 0.8 or 1.2: what the rule of mutation matters.

The paper adds noise; the original method multiplies. Both runs of a seed share their initial population, weights
included, so that they can be paired. Runs, data and the way to read them are those of the sweep, at a smaller size.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pbtlib import results
from pbtlib.cartpole.experiment import Experiment
from pbtlib.studies import sweep
from pbtlib.studies.study import Run, Study

__all__ = ["DATA", "SIZES", "STUDY"]

SIZES = {
    "paper": {"seeds": 10, "n_agents": 100, "generations": 10},
    "quick": {"seeds": 2, "n_agents": 10, "generations": 2},
}
"""Seeds, agents and generations of the study that the book shows, and of one that takes some seconds."""

DATA = results.DATA / "cartpole_perturbation.nc"
"""The study that the book shows; `pbtlib.studies.sweep.load` reads it."""


def plan(scale: str) -> list[Run]:
    """Return the planned runs, seed by seed."""
    size = SIZES[scale]
    added = Experiment(n_agents=size["n_agents"], generations=size["generations"])
    experiments = {"added": added, "multiplied": replace(added, mode="multiplied")}
    return [Run(f"{name}, seed {k}", one, k) for k in range(size["seeds"]) for name, one in experiments.items()]


def again(path: str | Path) -> float:
    """Make the first generation of ten agents of the first and the last seed again; return the share that agrees."""
    stored = sweep.load(path)
    if not stored["made"].all():
        raise ValueError(f"path is {str(path)!r}; the file lacks runs of which a slice is made again")
    return float(np.mean([sweep.remade(stored, "added", int(stored["seed"][k])).mean() for k in (0, -1)]))


STUDY = Study(
    name="perturbation", title="CartPole: mutation that adds against mutation that multiplies", file=DATA.name,
    page="cartpole_open", seconds={"quick": 10, "paper": 5000},
    plan=plan, compute=sweep.compute, pack=sweep.pack, describe=sweep.describe, again=again, agreement=0.7,
)  # fmt: skip
