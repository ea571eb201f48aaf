"""A small study whose runs walk slowly and write a checkpoint after every step, for `test_studies.py`."""

import time
from dataclasses import dataclass

import numpy as np
import xarray as xr

from pbtlib.evolution import Jump
from pbtlib.loop import evolve
from pbtlib.studies.study import Run, Study


@dataclass(frozen=True)
class Cloud:
    """Agents that diffuse."""

    h: np.ndarray


@dataclass(frozen=True)
class Setting:
    agents: int = 6
    updates: int = 8


def compute(run, needed, checkpoint, pause=0.01):
    """A slow walk that writes a checkpoint after every update, from zero or from where the needed run ended."""

    def train(state, rng):
        time.sleep(pause)
        return Cloud(state.h + rng.standard_normal(state.h.shape)), None

    start = np.zeros((run.setting.agents, 1)) if needed is None else needed["h"].to_numpy()
    state = evolve(
        Cloud(start),
        train=train,
        evaluate=lambda state, trace: state.h[:, 0],
        select=lambda fitness, rng: Jump(np.zeros(len(fitness), bool), np.arange(len(fitness))),
        mutate=lambda state, jump, rng: state,
        n_updates=run.setting.updates,
        seed=run.seed,
        checkpoint=checkpoint,
        identity={},
    )
    return xr.Dataset({"h": (("agent", "coordinate"), state.h)})


def plan(scale):
    first = [Run(f"walk, seed {seed}", Setting(), seed) for seed in range(4 if scale == "quick" else 8)]
    apart = Run("start", Setting(updates=3), 99)
    return [Run("from walk 1", Setting(), 11, first[1]), *first, Run("from elsewhere", Setting(), 12, apart)]


def pack(runs, made):
    return xr.concat([made[run] for run in runs if run in made], "run")


TOY = Study(
    name="toy",
    title="Walks",
    file="toy.nc",
    page="none",
    seconds={"quick": 1, "paper": 2},
    plan=plan,
    compute=compute,
    pack=pack,
    describe=lambda runs: {"names": [run.name for run in runs]},
    again=lambda path: 1.0,
)
