"""A study on a Dask cluster: a worker that is killed costs time and nothing else; and what a cluster costs."""

import os
import signal
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import dask
import distributed
import joblib
import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster
from walks import TOY, Setting

from pbtlib import __main__ as command
from pbtlib import results
from pbtlib.studies import cluster
from pbtlib.studies.study import Run

pytestmark = pytest.mark.words
posix = pytest.mark.skipif(os.name != "posix", reason="kills as POSIX systems do")

WALKS = [Run(f"long walk, seed {seed}", Setting(updates=25), seed) for seed in range(4)]
STUDY = replace(TOY, plan=lambda scale: WALKS)


@pytest.fixture
def client(monkeypatch):
    """Two worker processes, each of one thread; one that dies is started again."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where workers find the walks
    shape = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with LocalCluster(**shape) as here, Client(here) as client:
        yield client


@pytest.mark.slow
def test_the_command_makes_a_study_on_a_cluster(client, tmp_path, monkeypatch, capsys):
    """By the address of its scheduler alone; the files are those that this process makes."""
    study = replace(STUDY, plan=lambda scale: [Run("short walk", Setting(updates=2), 1)])
    monkeypatch.setitem(command.STUDIES, "wells", study)
    words = ["make", "wells", "--directory", str(tmp_path / "runs"), "--output", str(tmp_path / "toy.nc")]
    assert command.main([*words, "--dask", client.scheduler_info()["address"]]) == 0
    assert "toy.nc: whole; runs planned 1, made 1, missing 0" in capsys.readouterr().out
    study.make_all(study.runs("quick"), tmp_path / "here")
    there, here = (results.load(tmp_path / where / "short_walk.nc") for where in ("runs", "here"))
    xr.testing.assert_equal(there, here)


def made_while_a_worker_dies(client, directory):
    """Make the walks; kill one of the two workers as soon as both are at work. Return what make_all raised."""
    raised = []

    def work():
        try:
            with joblib.parallel_config("dask"):
                STUDY.make_all(WALKS, directory)
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while len(list(directory.glob("*.checkpoint"))) < 2 and thread.is_alive():
        time.sleep(0.005)
    victim = next(iter(client.run(os.getpid).values()))
    os.kill(victim, signal.SIGKILL)
    thread.join(300)
    assert not thread.is_alive()
    assert victim not in client.run(os.getpid).values()
    return raised


@posix
@pytest.mark.slow
def test_a_killed_worker_costs_no_result(client, tmp_path):
    """Another worker takes its run and goes on from the checkpoint: the same bits, and nothing left over."""
    assert made_while_a_worker_dies(client, tmp_path) == []
    alone = tmp_path / "alone"
    STUDY.make_all(WALKS, alone)
    assert [path.name for path in alone.iterdir()] == [path.name for path in alone.glob("*.nc")]
    assert sorted(path.name for path in alone.iterdir()) == sorted(path.name for path in tmp_path.glob("*.*"))
    for run in WALKS:
        xr.testing.assert_equal(results.load(run.path(tmp_path)), results.load(run.path(alone)))


# ---------------------------------------------------------------------------------------------- what it costs


def test_the_model_is_held_against_sizes_that_it_has_not_seen(tmp_path):
    """Seconds of the model itself are predicted, and its numbers found; the large ones half as long again are not."""
    sizes = cluster.SETTINGS["paper"].sizes
    data = xr.Dataset({k: ("size", np.array([getattr(s, k) for s in sizes])) for k in asdict(sizes[0])})
    exact = cluster.predicted(data, 0.5, 0.03)
    data["taken"] = exact.expand_dims(repeat=3, axis=1)
    np.testing.assert_allclose(cluster.fit(data), (0.5, 0.03), rtol=0.05)
    results.save(tmp_path / "exact.nc", data, {})
    assert cluster.again(tmp_path / "exact.nc") == 1.0
    data["taken"] = data["taken"] * xr.where(data["small"], 1.0, 1.5)
    results.save(tmp_path / "slow.nc", data, {})
    assert cluster.again(tmp_path / "slow.nc") == 0.0


def test_one_worker_is_no_cluster():
    with pytest.raises(ValueError, match="workers is 1"):
        cluster.Size(1, 20)


@pytest.mark.parametrize("small", [[False, False, True], [False] * 3])
def test_two_numbers_are_not_fitted_to_fewer_than_two_sizes(small):
    columns = {"workers": [2, 2, 2], "tasks": [10, 20, 20], "seconds": [0.1, 0.1, 2.0], "small": small}
    data = xr.Dataset({name: ("size", values) for name, values in columns.items()})
    data["taken"] = (("size", "repeat"), [[2.5], [4.5], [20.5]])
    with pytest.raises(ValueError, match=f"data has {sum(small)} small sizes; .* at least two"):
        cluster.fit(data)


@pytest.mark.parametrize(
    ("sizes", "repeats", "message"), [((), 1, "sizes is empty"), (cluster.SMALL, 0, "repeats is 0")]
)
def test_nothing_is_no_setting(sizes, repeats, message):
    with pytest.raises(ValueError, match=message):
        cluster.Setting(sizes, repeats)


# ---------------------------------------------------------------------------------------------- wrong addresses


@pytest.mark.slow
def test_a_cluster_of_one_thread_is_refused_since_nothing_would_be_sent_to_it(tmp_path, capsys):
    """Joblib computes in the client whatever it may do one by one."""
    shape = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with LocalCluster(**shape) as here, Client(here) as client:
        address = client.scheduler_info()["address"]
        assert command.main(["make", "wells", "--directory", str(tmp_path), "--dask", address]) == 1
    assert f"--dask is {address!r}; its workers have 1 threads in all" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "127.0.0.1", "nonsense://here:1"])
def test_an_address_without_a_scheduler_is_named(address, tmp_path, capsys, monkeypatch):
    """Before there is any client: the clean-up of one that failed may block whatever thread it happens in."""
    monkeypatch.setattr(distributed, "Client", None)
    with dask.config.set({"distributed.comm.timeouts.connect": "0.2s"}):
        assert command.main(["make", "wells", "--directory", str(tmp_path), "--dask", address]) == 1
    assert f"--dask is {address!r}; no scheduler answers there" in capsys.readouterr().err
