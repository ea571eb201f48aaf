"""The experiment as an instance of the loop."""

import time
from dataclasses import fields, replace

import numpy as np
import pytest
import xarray as xr

from pbtlib import results
from pbtlib.cartpole import dqn, population
from pbtlib.cartpole.experiment import (
    Experiment,
    Record,
    Windows,
    initial_population,
    operators,
    prepare,
    run,
)
from pbtlib.loop import evolve

SMALL = Experiment(n_agents=10, n_steps=120, generations=3, m=1)


def assert_same(one, two):
    for f in fields(one):
        np.testing.assert_array_equal(getattr(one, f.name), getattr(two, f.name), err_msg=f.name)


# ---------------------------------------------------------------------------------------------- the loop


def test_threads_and_interruptions_change_no_bit(seed, tmp_path):
    whole, record = run(SMALL, seed, threads=1)
    again, same = run(SMALL, seed, threads=2)
    assert_same(whole, again)
    xr.testing.assert_equal(record, same)
    for stop in (1, 2):
        path = tmp_path / f"{stop}.nc"
        run(replace(SMALL, generations=stop), seed, checkpoint=path)
        resumed, same = run(SMALL, seed, checkpoint=path)
        assert_same(whole, resumed)
        xr.testing.assert_equal(record, same)
    other, _ = run(SMALL, seed + 1)
    assert (other.theta != whole.theta).any(axis=1).all()


def test_a_checkpoint_of_another_experiment_is_refused(seed, tmp_path):
    path = tmp_path / "run.nc"
    run(replace(SMALL, generations=1), seed, checkpoint=path)
    for change, message in (({"sigma": 0.9}, "sigma"), ({"mode": "random"}, "mode"), ({"q": 0.4}, "q")):
        with pytest.raises(ValueError, match=rf"belongs to another run; [\w.\[\]']*{message}"):
            run(replace(SMALL, **change), seed, checkpoint=path)
    with pytest.raises(ValueError, match=f"seed: {seed} there, {seed + 1} here"):
        run(SMALL, seed + 1, checkpoint=path)


def test_the_seconds_of_a_run_include_those_before_an_interruption(seed, tmp_path):
    path = tmp_path / "run.nc"
    run(replace(SMALL, generations=1), seed, checkpoint=path)
    arrays, meta = results.load_arrays(path)
    (name,) = (name for name in arrays if name.endswith("seconds"))
    assert 0 < arrays[name] < 60
    results.save_arrays(path, arrays | {name: np.array(1000.0)}, meta)
    _, record = run(SMALL, seed, checkpoint=path)
    assert 1000 < record.attrs["wall_seconds"] < 1060


def test_the_seconds_of_a_run_and_of_compiling_are_those_that_passed(seed):
    begun = time.perf_counter()
    prepared = prepare()
    between = time.perf_counter()
    _, record = run(SMALL, seed)
    assert 0 < prepared <= between - begun
    assert 0 < record.attrs["wall_seconds"] <= time.perf_counter() - between


def test_progress_is_shown_and_compilation_announced(seed, tmp_path, capfd):
    path = tmp_path / "run.nc"
    run(replace(SMALL, generations=1), seed, checkpoint=path, progress=True)
    run(SMALL, seed, checkpoint=path, progress=True)
    shown = capfd.readouterr().err
    assert "compiling" in shown
    assert "agent-steps/s" in shown
    assert "3.60k/3.60k" in shown


@pytest.mark.parametrize("train", [dqn.training(150), population.training(150)], ids=["torch", "compiled"])
def test_one_loop_evolves_torch_agents_and_compiled_ones(train, seed):
    """Four agents, the worst replaced by the best: the copy has its parent's weights and nothing else."""
    e = Experiment(n_agents=4, n_steps=150, m=1, q=0.25)
    start = initial_population(4, seed)
    record, seen = Record(start.h), []
    state = evolve(
        start,
        train=train,
        **operators(e),
        n_updates=2,
        seed=seed,
        observe=(record, lambda *update: seen.append(update)),
    )
    assert_same(state, seen[-1][1])
    for _, after, fitness, jump in seen:
        (i,) = np.flatnonzero(jump.who)
        assert fitness[i] == fitness.min()
        assert fitness[jump.parent[i]] == fitness.max()
        np.testing.assert_array_equal(after.theta[i], after.theta[jump.parent[i]])
        assert after.stored[i] == 0
        assert (after.clock == after.clock[0]).all()
    made = record.dataset()
    np.testing.assert_array_equal(made["h"][-1], state.h)
    assert dict(made.sizes) == {"update": 2, "agent": 4, "generation": 3, "coordinate": 3}


def test_the_controls_change_what_they_say(seed):
    for mode in ("no evolution", "weights only", "random", "multiplied", "pbt"):
        state, record = run(replace(SMALL, mode=mode), seed)
        who = record["parent"].to_numpy() != np.arange(10)
        moved = (np.diff(record["h"], axis=0) != 0).any(-1)
        assert np.abs(record["h"]).max() <= 1
        assert who.any() == (mode != "no evolution")
        assert moved.any() == (mode in ("random", "multiplied", "pbt"))
        assert moved.sum(1).max() <= 2, "a fifth of ten agents"
    assert state.theta.shape == (10, 4610)


def test_windows_are_what_selection_would_have_seen(seed):
    """Before the first update runs with different windows do the same: the sums of one are the fitness of another."""
    records = {m: run(replace(SMALL, n_steps=500, generations=1, m=m), seed)[1] for m in (1, 2, 5)}
    for m, record in records.items():
        sums = records[1]["window_sum"].sel(window=m)
        np.testing.assert_allclose(sums / m, record["fitness"], rtol=1e-12)
    assert list(records[1]["window"]) == [1, 2, 5]
    assert (records[1]["window_sum"].sel(window=5) != 5 * records[1]["fitness"]).any()


def test_sums_of_long_episodes_are_exact():
    windows, trace = Windows([10]), population.Trace(np.full((1, 10), 5000), np.array([10]))
    assert windows.watching(population.window_mean(10))(None, trace) == 5000
    windows(0, None, None, None)
    assert windows.dataset()["window_sum"].item() == 50_000


def test_a_population_can_start_from_given_hyperparameters(seed):
    start = ((0.5, -0.5, 0.0), (-0.2, 0.1, 1.0))
    given, drawn = initial_population(5, seed, start=start), initial_population(5, seed)
    np.testing.assert_array_equal(given.h, np.array(start)[[0, 1, 0, 1, 0]])
    np.testing.assert_array_equal(given.theta, drawn.theta)
    assert (drawn.h != given.h).all()


@pytest.mark.parametrize(
    "bad",
    [
        {"m": 6},
        {"m": 0},
        {"n_agents": 0},
        {"n_agents": 32768},
        {"n_steps": 32768},
        {"generations": 0},
        {"n_steps": 0, "m": 1},
        {"sigma": -1.0},
        {"mode": "none"},
    ],
)
def test_bad_parameters_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Experiment(**bad)


def test_too_few_agents_for_truncation_are_refused(seed):
    with pytest.raises(ValueError, match="N must be at least 5"):
        run(replace(SMALL, n_agents=1), seed)
    run(replace(SMALL, n_agents=1, generations=1, mode="no evolution"), seed)
