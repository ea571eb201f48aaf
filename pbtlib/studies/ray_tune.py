"""Ray Tune's own PopulationBasedTraining on the quadratic problem and on the toy of Jaderberg et al. (2017), Figure 2.

The engine is Ray's; training is written here in plain NumPy, so nothing of the theory's code takes part in a run. Ray
is no dependency of this library: make an environment of its own, ``pip install "pbtlib[ray]"``, and use its Python. Its
workers take their noise from the operating system, so a run cannot be made again bit by bit. What can be checked again
is that every update of every run is the one that Ray's rule asks for: `replay`.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pbtlib import results
from pbtlib.checks import check_number
from pbtlib.studies.study import Run, Study

__all__ = ["DATA", "DT", "PLANS", "STEPS", "STUDY", "Design", "load", "replaced", "replay", "timeline"]

Array = NDArray[np.float64]

DATA = results.DATA / "ray.nc"
"""The runs that the book shows."""

BOX, SIGMA = 5.0, 0.1
DT, STEPS = {"quadratic": 0.01, "toy": 0.02}, {"quadratic": 50, "toy": 10}
"""Time step of training, and steps in an interval."""

COLUMNS = ("trial", "interval", "score", "h1", "h2", "before1", "before2", "after1", "after2")
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_MAX_PENDING_TRIALS_PG": "2",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "OMP_NUM_THREADS": "1",
}
"""What keeps Ray quiet, at home and fast; it reads them when it is imported."""


@dataclass(frozen=True)
class Design:
    """One kind of run.

    Attributes
    ----------
    problem : {"quadratic", "toy"}
        The quadratic example, θ and h uniform in [−5, 5]² at the start; or the toy: θ = (0.9, 0.9), h = (1, 0) and
        (0, 1) in turn, fitness 1.2 − |θ|², training descends h₁θ₁² + h₂θ₂².
    explore : {"additive", "default", "none"}
        h + 0.1ξ (of the toy its modulus), through Ray's ``custom_explore_fn``; Ray's default, each hyperparameter
        drawn anew with probability 1/4 and else times 1.2 or 0.8; or copies that keep their parent's.
    trials, intervals : int
        Trials, and intervals of training, between which there are intervals − 1 updates.
    quantile : float
        Ray's ``quantile_fraction``.
    synchronous : bool
        Whether Ray waits for all trials before an update.
    inherit : {"both", "weights", "hyperparameters"}
        What a copy takes from its parent. Ray copies both; otherwise the trial itself keeps its own hyperparameters,
        or its own θ, in a file, and puts them back when Ray restores it.

    Examples
    --------
    >>> Design().trials, replaced(Design())
    (32, 8)
    """

    problem: str = "quadratic"
    explore: str = "additive"
    trials: int = 32
    intervals: int = 10
    quantile: float = 0.25
    synchronous: bool = True
    inherit: str = "both"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("problem", tuple(DT)),
            ("explore", ("additive", "default", "none")),
            ("inherit", ("both", "weights", "hyperparameters")),
        ):
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{name} is {value!r}; allowed are {', '.join(map(repr, allowed))}")
        check_number("trials", self.trials, integer=True, minimum=2)
        check_number("intervals", self.intervals, integer=True, minimum=2)
        check_number("quantile", self.quantile, minimum=0, maximum=0.5)


def replaced(design: Design) -> int:
    """How many trials Ray replaces in an update: ⌈qN⌉ of the product in floating point, at most ⌊N/2⌋.

    Examples
    --------
    >>> replaced(Design(trials=10)), replaced(Design(trials=100, quantile=0.07))      # 0.07·100 exceeds 7 by rounding
    (3, 8)
    """
    return min(int(np.ceil(design.trials * design.quantile)), design.trials // 2)


TOY = Design(problem="toy", trials=2)
PLANS: dict[str, dict[str, tuple[int, Design]]] = {
    "paper": {
        "additive": (8, Design()),
        "default": (12, Design(explore="default")),
        "toy": (6, TOY),
        "toy, hyperparameters only": (6, replace(TOY, inherit="hyperparameters")),
        "toy, weights only": (1, replace(TOY, inherit="weights", explore="none")),
        "ten trials": (3, Design(trials=10)),
        "asynchronous": (3, Design(synchronous=False)),
    },
    "quick": {
        "additive": (1, Design(trials=8, intervals=3)),
        "toy, hyperparameters only": (1, replace(TOY, intervals=4, inherit="hyperparameters")),
        "toy, weights only": (1, replace(TOY, intervals=4, inherit="weights", explore="none")),
    },
}
"""By scale, names of designs with the number of their runs."""


def plan(scale: str) -> list[Run]:
    """Return the planned runs, one of each design, then the next of each."""
    designs = PLANS[scale]
    most = max(count for count, _ in designs.values())
    return [
        Run(f"{name}, run {number}", design, number)
        for number in range(most)
        for name, (count, design) in designs.items()
        if number < count
    ]


def compute(run: Run, needed: xr.Dataset | None, checkpoint: Path) -> xr.Dataset:
    """Let Ray make one run.

    Returns
    -------
    xarray.Dataset
        ``row`` (result, column): what every result of a trial said, in order of arrival, with θ before and after the
        interval. ``copy`` (line, entry): replaced trial, its parent, and their iterations, as Ray logged them. ``ray``:
        its version.
    """
    with tempfile.TemporaryDirectory(prefix="pbt-") as folder:
        rows, lines, version = _ray(run.setting, Path(folder))
    copies = np.array([[int(a.split("_")[0]), int(b.split("_")[0]), k, j] for a, b, k, j, *_ in lines], np.int32)
    return xr.Dataset(
        {
            "row": (("result", "column"), rows),
            "copy": (("line", "entry"), copies.reshape(-1, 4)),
            "ray": ((), version),
        }
    )


def _ray(design: Design, folder: Path) -> tuple[Array, list[Any], str]:
    """Rows of all results, lines of the log of copies, and Ray's version."""
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    try:
        import ray
        from ray import tune
        from ray.tune.schedulers import PopulationBasedTraining
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error}; runs of Ray Tune need an environment of their own with pbtlib and the extra 'ray'",
            name=error.name,
        ) from error

    quadratic, dt, steps = design.problem == "quadratic", DT[design.problem], STEPS[design.problem]
    box, sigma = BOX, SIGMA

    class Trial(tune.Trainable):  # type: ignore[misc,unused-ignore]
        """One step is one interval of training."""

        def setup(self, config: dict[str, float]) -> None:
            self.rng = np.random.default_rng()  # a process that serves another trial must not replay its noise
            self.theta = self.rng.uniform(-box, box, 2) if quadratic else np.array([0.9, 0.9])
            self.h = np.array([config["h1"], config["h2"]])
            self.memory = folder / f"{self.trial_id}.json"
            if design.inherit == "weights" and self.memory.is_file():
                self.h = np.array(json.loads(self.memory.read_text())["h"])

        def reset_config(self, new_config: dict[str, float]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            before = self.theta
            for z in self.rng.standard_normal((steps, 2)):
                if quadratic:
                    drift = -2 * (self.theta - self.h[0])
                    self.theta = self.theta + drift * dt + abs(self.h[1]) * np.sqrt(dt) * z
                else:
                    self.theta = self.theta - 2 * self.h * self.theta * dt
            score = float(1.2 - self.theta @ self.theta)
            row = [score, *self.h.tolist(), *before.tolist(), *self.theta.tolist()]
            self.memory.write_text(json.dumps({"h": self.h.tolist(), "theta": self.theta.tolist()}))
            return {"fitness": score, "row": row}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            Path(checkpoint_dir, "state.json").write_text(json.dumps({"theta": self.theta.tolist()}))

        def load_checkpoint(self, checkpoint: str) -> None:
            source = self.memory if design.inherit == "hyperparameters" else Path(checkpoint, "state.json")
            self.theta = np.array(json.loads(source.read_text())["theta"])

    rows: list[list[float]] = []

    class Recorder(tune.Callback):  # type: ignore[misc,unused-ignore]
        """Keeps every result in order of arrival: Ray's own files lose some."""

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            rows.append([int(trial.trial_id[-5:]), result["training_iteration"], *result["row"]])

    rng = np.random.default_rng()

    def explore(config: dict[str, float]) -> dict[str, float]:
        if design.explore == "none":
            return dict(config)
        moved = {key: float(value + sigma * rng.standard_normal()) for key, value in config.items()}
        return moved if quadratic else {key: abs(value) for key, value in moved.items()}

    space: dict[str, Any] = {key: tune.uniform(-box, box) for key in ("h1", "h2")}
    change: dict[str, Any] = {"custom_explore_fn": explore}
    if design.explore == "default":
        change = {"hyperparam_mutations": space}
    samples = design.trials
    if not quadratic:
        first = tune.grid_search([1.0, 0.0])
        space, samples = {"h1": first, "h2": tune.sample_from(lambda c: 1.0 - c["h1"])}, design.trials // 2
    scheduler = PopulationBasedTraining(
        time_attr="training_iteration",
        metric="fitness",
        mode="max",
        perturbation_interval=1,
        quantile_fraction=design.quantile,
        synch=design.synchronous,
        **change,
    )
    if not ray.is_initialized():
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            logging_level="ERROR",
            log_to_driver=False,
            object_store_memory=80_000_000,
            _node_ip_address="127.0.0.1",
        )
    tune.Tuner(
        # with no more trials than workers Ray would end and start their processes all the time
        tune.with_resources(Trial, {"cpu": 1 if design.trials > 2 else 2}),
        param_space=space,
        tune_config=tune.TuneConfig(
            scheduler=scheduler,
            num_samples=samples,
            reuse_actors=True,
            time_budget_s=600,
            trial_dirname_creator=lambda trial: "trial_" + trial.trial_id[-5:],
        ),
        run_config=tune.RunConfig(
            name="run",
            storage_path=str(folder),
            stop={"training_iteration": design.intervals},
            verbose=0,
            callbacks=[Recorder()],
        ),
    ).fit()
    log = folder / "run" / "pbt_global.txt"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    table = np.array(rows).reshape(-1, len(COLUMNS))
    seen = {tuple(row) for row in table[:, :2].tolist()}
    # who copies a parent that is ahead passes over iterations, but only if nobody waits
    wanted = [(i, k) for i in range(design.trials) for k in range(1, design.intervals + 1)]
    if not seen.issuperset(wanted if design.synchronous else wanted[design.intervals - 1 :: design.intervals]):
        raise RuntimeError(f"Ray ended after {len(table)} results; {design.trials} × {design.intervals} were asked for")
    return table, lines, str(ray.__version__)


def describe(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the parameters of every design, and how many runs it has."""
    names = [run.name.rpartition(", run ")[0] for run in runs]
    return {name: {**asdict(run.setting), "runs": names.count(name)} for name, run in zip(names, runs, strict=True)}


def pack(runs: Sequence[Run], made: Mapping[Run, xr.Dataset]) -> xr.Dataset:
    """String the results of all runs together; ``result_run`` and ``line_run`` say which run each belongs to."""
    found = {number: made[run] for number, run in enumerate(runs) if run in made}
    sizes = {dim: np.repeat([*found], [each.sizes[dim] for each in found.values()]) for dim in ("result", "line")}
    data = {
        "row": (("result", "column"), np.concatenate([each["row"].to_numpy() for each in found.values()])),
        "copy": (("line", "entry"), np.concatenate([each["copy"].to_numpy() for each in found.values()])),
        "result_run": ("result", sizes["result"].astype(np.int16)),
        "line_run": ("line", sizes["line"].astype(np.int16)),
        "ray": ("run", [made[run]["ray"].item() if run in made else "" for run in runs]),
    }
    return xr.Dataset(data, coords={"run": [run.name for run in runs], "column": list(COLUMNS)})


def timeline(stored: xr.Dataset, name: str, number: int = 0) -> tuple[Array, NDArray[np.int32]]:
    """All results of one run in order of arrival, and all copies, as Ray wrote them.

    Parameters
    ----------
    stored : xarray.Dataset
        As `pbtlib.results.load` returns the file.
    name : str
        Name of a design.
    number : int
        Which of its runs.

    Returns
    -------
    rows : ndarray, shape (results, 9)
        Trial, interval, score, h (2), θ before (2) and after the interval (2).
    copies : ndarray of int, shape (copies, 4)
        Replaced trial, its parent, their iterations.

    Examples
    --------
    >>> rows, copies = timeline(results.load(DATA), "additive")
    >>> rows.shape, copies.shape
    ((320, 9), (72, 4))
    """
    wanted = f"{name}, run {number}"
    if wanted not in (names := stored["run"].to_numpy().tolist()):
        raise ValueError(f"name and number are {name!r} and {number}; the file has {', '.join(names)}")
    at = names.index(wanted)
    return (
        stored["row"].to_numpy()[stored["result_run"].to_numpy() == at],
        stored["copy"].to_numpy()[stored["line_run"].to_numpy() == at],
    )


def load(name: str, path: str | Path = DATA) -> xr.Dataset:
    """Read the synchronous runs of one design as labelled arrays.

    Parameters
    ----------
    name : str
        Name of a design: ``"additive"``, ``"default"``, ``"ten trials"``, ``"toy"``, or this one with
        ``", weights only"`` or ``", hyperparameters only"``.
    path : path-like

    Returns
    -------
    xarray.Dataset
        Dimensions ``run``, ``interval`` (from 1), ``trial``, ``coordinate``: ``score``, ``h``, ``before`` and ``after``
        (θ), and ``parent`` (run, update, trial): whom a trial was copied from after the interval; itself if it stayed.
        ``attrs["ray"]`` is the version of Ray.

    Raises
    ------
    FileNotFoundError, ValueError
        As `pbtlib.results.load`; if the file has no design of that name, or it is asynchronous, for then an interval is
        no cross-section of the population.

    Examples
    --------
    >>> runs = load("additive")
    >>> runs.sizes["trial"], runs.sizes["interval"], runs.sizes["update"]
    (32, 10, 9)
    """
    stored = results.load(path)
    if name not in (designs := stored.attrs["parameters"]):
        raise ValueError(f"name is {name!r}; the file holds {', '.join(designs)}")
    design = Design(**{key: value for key, value in designs[name].items() if key != "runs"})
    if not design.synchronous:
        raise ValueError(f"name is {name!r}; of asynchronous runs there is no cross-section, only their timeline")
    made = [k for k in range(designs[name]["runs"]) if f"{name}, run {k}" not in stored.attrs.get("missing", [])]
    table = np.empty((len(made), design.intervals, design.trials, len(COLUMNS)))
    parent = np.tile(np.arange(design.trials), (len(made), design.intervals - 1, 1))
    for place, number in enumerate(made):
        rows, copies = timeline(stored, name, number)
        table[place, rows[:, 1].astype(int) - 1, rows[:, 0].astype(int)] = rows
        update = np.arange(len(copies)) // replaced(design)
        parent[place, update, copies[:, 0]] = copies[:, 1]
    dims = ("run", "interval", "trial")
    return xr.Dataset(
        {
            "score": (dims, table[..., 2]),
            "h": ((*dims, "coordinate"), table[..., 3:5]),
            "before": ((*dims, "coordinate"), table[..., 5:7]),
            "after": ((*dims, "coordinate"), table[..., 7:9]),
            "parent": (("run", "update", "trial"), parent),
        },
        coords={"interval": np.arange(1, design.intervals + 1)},
        attrs={"ray": ", ".join(sorted({*stored["ray"].to_numpy().tolist()} - {""})), "design": asdict(design)},
    )


def replay(runs: xr.Dataset, quantile: float | None = None) -> xr.Dataset:
    """Hold every update of synchronous runs against the rule: worst m replaced, parents from the best m, θ copied.

    Parameters
    ----------
    runs : xarray.Dataset
        As `load` returns.
    quantile : float, optional
        The share to hold against them; by default Ray's own.

    Returns
    -------
    xarray.Dataset
        (run, update): ``wrong``, how many trials were replaced that should not have been or the reverse; ``outside``,
        parents that are not among the best m; ``altered``, trials that do not start the next interval from the θ that
        their parent ended with, bit by bit; if only hyperparameters are inherited, from their own.

    Examples
    --------
    >>> breaches = replay(load("additive"))
    >>> [int(breaches[name].sum()) for name in ("wrong", "outside", "altered")]
    [0, 0, 0]
    """
    design = Design(**runs.attrs["design"])
    m = replaced(design if quantile is None else Design(**{**asdict(design), "quantile": quantile}))
    score, parent = runs["score"].to_numpy()[:, :-1], runs["parent"].to_numpy()
    order = np.argsort(score, -1, kind="stable")
    rank = np.argsort(order, -1)
    copied = parent != np.arange(parent.shape[-1])
    source = np.take_along_axis(rank, parent, -1)
    after, before = runs["after"].to_numpy()[:, :-1], runs["before"].to_numpy()[:, 1:]
    if design.inherit != "hyperparameters":
        after = np.take_along_axis(after, parent[..., None], -2)
    same = (after == before).all(-1)
    return xr.Dataset(
        {
            "wrong": (("run", "update"), (copied != (rank < m)).sum(-1)),
            "outside": (("run", "update"), (copied & (source < score.shape[-1] - m)).sum(-1)),
            "altered": (("run", "update"), (~same).sum(-1)),
        }
    )


def again(path: str | Path) -> float:
    """Hold every synchronous update in a data file against Ray's rule; return the share that is as it asks for."""
    designs = results.load(path).attrs["parameters"]
    names = [name for name, design in designs.items() if design["synchronous"]]
    right = [(replay(load(name, path)).to_array().sum("variable") == 0).to_numpy().ravel() for name in names]
    return float(np.concatenate(right).mean())


STUDY = Study(
    name="ray",
    title="Ray Tune: its own population-based training",
    file=DATA.name,
    page="ray_tune",
    seconds={"quick": 70, "paper": 1500},
    plan=plan,
    compute=compute,
    pack=pack,
    describe=describe,
    again=again,
)
