"""The sweep of CartPole runs: any backend, any interruption give the same files; stored data can be made again."""

import os
import subprocess
import sys
import time
from dataclasses import replace

import joblib
import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster

from pbtlib import results
from pbtlib.cartpole import experiment
from pbtlib.cartpole.experiment import Experiment
from pbtlib.cartpole.setting import Setting
from pbtlib.evolution import stream
from pbtlib.studies import perturbation, sweep
from pbtlib.studies.sweep import STUDY, run_of
from pbtlib.training import Particles

SMALL = Experiment(n_agents=10, n_steps=120, generations=2, m=1)


def tasks(seed):
    """Three runs of which two belong together."""
    quiet = replace(SMALL, mode="no evolution")
    return [run_of("pbt", SMALL, seed), run_of("no evolution", quiet, seed), run_of("best fixed", quiet, seed)]


@pytest.fixture(scope="module")
def here(request, tmp_path_factory):
    """Results made one after another in this process."""
    seed, directory = request.config.getoption("--seed"), tmp_path_factory.mktemp("here")
    for task in tasks(seed):
        STUDY.make(task, directory)
    return seed, directory


def assert_same_results(seed, one, other):
    for task in tasks(seed):
        xr.testing.assert_equal(results.load(task.path(one)), results.load(task.path(other)))


# ---------------------------------------------------------------------------------------------- backends


@pytest.mark.words
def test_two_processes_give_the_same_results(here, tmp_path):
    seed, directory = here
    STUDY.make_all(tasks(seed), tmp_path, n_jobs=2)
    assert_same_results(seed, directory, tmp_path)
    other = results.load(tasks(seed)[0].path(directory))["h"]
    again = STUDY.make(run_of("pbt", SMALL, seed + 1), tmp_path)
    assert (results.load(again)["h"] != other).any()


@pytest.mark.slow
@pytest.mark.words
def test_a_dask_cluster_gives_the_same_results(here, tmp_path):
    """Two worker processes of a local cluster, chosen by joblib's configuration alone."""
    seed, directory = here
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        joblib.parallel_config("dask"),
    ):
        workers = set(client.run(os.getpid).values())
        assert len(workers - {os.getpid()}) == 2
        assert set(joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(8))) <= workers
        STUDY.make_all(tasks(seed), tmp_path)
    assert_same_results(seed, directory, tmp_path)


# ---------------------------------------------------------------------------------------------- interruptions


@pytest.mark.words
def test_killed_and_resumed_is_uninterrupted(seed, tmp_path):
    """A population of Q-networks with its replays; `tests/test_studies.py` kills whole studies at any moment."""
    long = run_of("pbt", replace(SMALL, generations=30), seed)
    program = "from pbtlib.studies.sweep import *; from pbtlib.studies.sweep import Experiment, Setting, run_of; "
    program += f"STUDY.make(run_of('pbt', {long.setting!r}, {seed}), {str(tmp_path)!r})"
    checkpoint = long.path(tmp_path).with_suffix(".checkpoint")
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        while not checkpoint.exists() and process.poll() is None:
            time.sleep(0.01)
        process.kill()
    assert checkpoint.exists()
    assert not long.path(tmp_path).exists()
    made = results.load(STUDY.make(long, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [long.path("").name]
    _, whole = experiment.run(long.setting, seed)
    xr.testing.assert_equal(made, whole)


def test_a_checkpoint_of_another_experiment_is_refused(seed, tmp_path):
    task = run_of("pbt", replace(SMALL, sigma=0.2), seed)
    experiment.run(SMALL, seed, checkpoint=task.path(tmp_path).with_suffix(".checkpoint"))
    with pytest.raises(ValueError, match=r"belongs to another run; mutate\.sigma: 0.1 there, 0.2 here"):
        STUDY.make(task, tmp_path)


# ---------------------------------------------------------------------------------------------- plan and packed data


def test_the_plan_is_the_papers():
    """The grid holds every window that fits into a generation, at the paper's size, seed by seed."""
    plan = sweep.plan("paper")
    assert [task.seed for task in plan] == sorted(task.seed for task in plan)
    assert {(task.setting.n_agents, task.setting.generations) for task in plan} == {(500, 10)}
    pbt = {name: e for name, e in sweep.experiments().items() if e == replace(Experiment(), n_steps=e.n_steps, m=e.m)}
    assert sorted((e.n_steps, e.m) for e in pbt.values()) == [
        *[(200, 1), (200, 2)],
        *[(500, 1), (500, 2), (500, 5)],
        *[(1000, 1), (1000, 2), (1000, 5), (1000, 10)],
    ]


def test_best_fixed_tries_the_best_of_no_evolution(here):
    """Its agents have the five configurations that did best, and luck of their own."""
    seed, directory = here
    no_evolution, best = (results.load(task.path(directory)) for task in tasks(seed)[1:])
    score = no_evolution["fitness"][1:].mean("update")
    chosen = no_evolution["h"][0, np.argsort(-score.to_numpy(), kind="stable")[:5]]
    np.testing.assert_array_equal(best["h"][0], np.tile(chosen, (2, 1)))
    assert (best["window_sum"].to_numpy() != no_evolution["window_sum"].to_numpy()).any()
    start = tuple(map(tuple, chosen.to_numpy().tolist()))
    _, record = experiment.run(replace(SMALL, mode="no evolution", start=start), seed + sweep.FRESH)
    xr.testing.assert_equal(record, best)
    worst = no_evolution["h"][0, np.argsort(score.to_numpy(), kind="stable")[:5]]
    assert (best["h"][0] != np.tile(worst, (2, 1))).any()


def packed(seed, directory, path):
    """Pack the three runs and one that was not made, and read them again."""
    results.save(path, *STUDY.collect([*tasks(seed), *tasks(seed + 5)], directory))
    return sweep.load(path)


def test_packed_data_are_what_the_runs_recorded(here, tmp_path):
    seed, directory = here
    data = packed(seed, directory, tmp_path / "data.nc")
    for task in tasks(seed):
        record = results.load(task.path(directory))
        mine = data.sel(run=sweep.label(task), seed=seed)
        for name in ("fitness", "parent", "episodes"):
            np.testing.assert_array_equal(mine[name], record[name], err_msg=name)
        np.testing.assert_allclose(mine["h"], record["h"], atol=0.51 / 32767)
        np.testing.assert_array_equal(mine["score"].sel(window=1), record["fitness"])
        assert np.isnan(mine["score"].sel(window=[2, 5, 10])).all(), "only one episode fits into 120 steps"
        assert mine["mode"] == task.setting.mode


def test_missing_runs_are_listed_and_empty(here, tmp_path):
    seed, directory = here
    data = packed(seed, directory, tmp_path / "data.nc")
    assert data.attrs["runs"] == {"planned": 6, "made": 3, "missing": 3}
    assert data.attrs["missing"] == [task.name for task in tasks(seed + 5)]
    assert data["made"].sel(seed=seed).all()
    assert not data["made"].sel(seed=seed + 5).any()
    nothing = data.sel(seed=seed + 5)
    assert all(np.isnan(nothing[name]).all() for name in ("score", "fitness", "episodes", "h"))
    assert (nothing["parent"] == -1).all()


def test_other_data_are_refused(here, tmp_path):
    seed, directory = here
    path = tmp_path / "data.nc"
    packed(seed, directory, path)
    altered = bytearray(path.read_bytes())
    altered[len(altered) // 2] ^= 0xFF
    path.write_bytes(altered)
    with pytest.raises(ValueError, match=r"damaged|altered"):
        sweep.load(path)
    with pytest.raises(ValueError, match="holds no CartPole sweep"):
        sweep.load(sweep.DATA.with_name("cartpole_equivalence.nc"))
    with pytest.raises(FileNotFoundError, match="no such data file"):
        sweep.load(tmp_path / "nothing.nc")


# ---------------------------------------------------------------------------------------------- the stored data


@pytest.fixture(scope="module")
def stored():
    return sweep.load()


def test_stored_runs_are_complete(stored):
    runs = stored.attrs["runs"]
    assert runs["made"] == runs["planned"] == stored["made"].size
    assert stored["made"].all()
    assert stored.sizes["seed"] >= 5
    assert list(stored["run"].to_numpy()) == list(sweep.experiments())


def test_the_first_generation_is_its_own_seeds(stored):
    """Agents are independent within a generation: the first ten of five hundred, from the file's own parameters.

    The same bits where BLAS has the same kernels. Elsewhere the last digits of a sum differ, which now and then turns
    a greedy action and from there on the episodes; three of ten agents may differ. Another seed's agents agree in the
    number of episodes and their last return with probability below 0.05 each: in seven of ten below 1e-6.
    """
    assert sweep.remade(stored, "200 steps m=2", 3).sum() >= 7
    wrong = stored.assign_coords(seed=np.roll(stored["seed"], 1))
    assert sweep.remade(wrong, "200 steps m=2", 3).sum() < 7


def updates(stored, name, shift=0):
    """Which agents the rule of a run copies and where mutation puts them, given what is stored: whether that is stored.

    Of every seed and update; a shift takes the random numbers of another seed.
    """
    parameters = dict(stored.attrs["parameters"]["experiments"][name])
    plan = Experiment(**parameters | {"setting": Setting(**parameters["setting"]), "start": ()})
    parts, run = experiment.operators(plan), stored.sel(run=name)
    for seed in run["seed"].to_numpy():
        fitness, parent, h = (run[what].sel(seed=seed).to_numpy() for what in ("fitness", "parent", "h"))
        for k in range(len(parent)):
            draws = [stream(int(seed) + shift, k, purpose) for purpose in ("select", "mutate")]
            jump = parts["select"](fitness[k], draws[0])
            copied = h[k] if plan.mode == "weights only" else h[k][jump.parent]
            moved = parts["mutate"](Particles(copied, copied), jump, draws[1]).h
            yield (jump.parent == parent[k]).all(), (np.abs(moved - h[k + 1]) * sweep.STEPS <= 1.25).all()


@pytest.mark.parametrize("path", [sweep.DATA, perturbation.DATA], ids=["sweep", "perturbation"])
def test_every_stored_update_is_the_one_that_its_rule_makes_of_the_stored_scores(path):
    """Of every generation, where nothing that a processor decides comes between; h is stored in whole steps."""
    data = sweep.load(path)
    for name in data["run"].to_numpy():
        assert np.all([*updates(data, name)]), name
    assert not np.any([*updates(data, data["run"][data["mode"] == "pbt"].to_numpy()[0], shift=1)])


def test_packing_the_runs_of_the_stored_file_gives_that_file():
    """Bit for bit, with what it records of its parameters."""
    data, runs = results.load(sweep.DATA), sweep.plan("paper")
    made = {}
    for run in runs:
        one = data.sel(run=sweep.label(run), seed=run.seed, drop=True)
        windows = [m for m in data["window"].to_numpy() if m * run.setting.setting.episode_cap <= run.setting.n_steps]
        made[run] = one.sel(window=windows).assign(h=one["h"] / sweep.STEPS)
    packed = sweep.pack(runs, made)
    assert packed.equals(data)
    assert {name: v.dtype for name, v in packed.items()} == {name: v.dtype for name, v in data.items()}
    assert results.as_json(sweep.describe(runs)) == data.attrs["parameters"]


def test_runs_of_a_seed_share_their_first_generation(stored):
    """So differences between them can be paired: everything that does not act before the first update is the same."""
    first = stored.isel(update=0)
    of_500 = ["no evolution", "500 steps m=1", "500 steps m=2", "sigma=0.05", "sigma=0.2", "weights only", "random"]
    for name in of_500:
        for quantity in ("score", "episodes"):
            xr.testing.assert_equal(
                first[quantity].sel(run=name, drop=True), first[quantity].sel(run="500 steps m=5", drop=True)
            )
    start = stored["h"].isel(generation=0)
    for name in ("200 steps m=1", "1000 steps m=10", "bootstrap", "carry"):
        np.testing.assert_array_equal(start.sel(run=name), start.sel(run="no evolution"))
    assert (start.sel(run="best fixed") != start.sel(run="no evolution")).any()
