"""The frozen study: its data can be made again, its estimators know processes with known answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pbtlib import results
from pbtlib.estimates import effective_size
from pbtlib.studies import frozen
from pbtlib.studies.frozen import Design, latest, local_mean, relaxation_time, window_errors

DATA = Path(__file__).parent.parent / "data" / "cartpole_frozen.nc"


def ar1(rng, phi, shape, drift=0.0):
    """Stationary AR(1) of variance one along the last axis, on a line that rises by ``drift`` a step."""
    x = np.empty(shape)
    x[..., 0] = rng.standard_normal(shape[:-1])
    for k in range(1, shape[-1]):
        x[..., k] = phi * x[..., k - 1] + np.sqrt(1 - phi**2) * rng.standard_normal(shape[:-1])
    return x + drift * np.arange(shape[-1])


# ---------------------------------------------------------------------------------------------- estimators


@pytest.mark.parametrize("phi", [0.0, 0.7])
def test_bias_and_variance_of_a_window_on_a_drifting_process(phi, rng):
    """Bias −g(m − 1)/2, variance that of an AR(1) mean; a reference that is drawn, not known, adds no error."""
    groups, agents, g = 400, 12, 0.3
    x = ar1(rng, phi, (groups, agents, 20), drift=g)
    reference = 19 * g + rng.standard_normal((groups, agents))
    for m in (1, 5, 20):
        bias, variance, squared = window_errors(x[..., -m:].mean(-1), reference)
        truth = (-g * (m - 1) / 2, 1 / effective_size(phi ** np.arange(20), m), (g * (m - 1) / 2) ** 2)
        for got, want in zip((bias, variance, squared), truth, strict=True):
            assert abs(got.mean() - want) < 5 * got.std(ddof=1) / np.sqrt(groups)
    assert abs((bias**2).mean() - truth[2]) > 1e-3, "the square of the estimated bias is biased itself"


def test_windows_of_a_known_history():
    returns = np.array([[10, 20, 30, 0], [60, 40, 0, 0]])
    np.testing.assert_array_equal(latest(returns, 59, 2), [[10, 20], [np.nan, np.nan]])
    np.testing.assert_array_equal(latest(returns, 60, 2), [[20, 30], [np.nan, 60]])
    np.testing.assert_array_equal(latest(returns, 1e9, 1), [[30], [40]])
    np.testing.assert_array_equal(local_mean(returns, 0, 11), [15, 60])  # begin at 0, 10, 30 and at 0, 60
    np.testing.assert_array_equal(local_mean(returns, 30, 61), [30, 40])
    assert np.isnan(local_mean(returns, 61, 1e9)).all()
    with pytest.raises(ValueError, match="m is 0"):
        latest(returns, 60, 0)


def test_relaxation_of_an_exponential():
    """1 − e^{−t/T} stays within δ of 1 from T log(1/δ) on."""
    t = np.arange(0.0, 1000.0)
    for scale in (5.0, 80.0):
        found = relaxation_time(t, 1 - np.exp(-t / scale), 1.0, 0.1)
        assert 0 <= found - scale * np.log(10) < 1
    np.testing.assert_array_equal(relaxation_time(t, np.array([t, 0 * t]), [0.0, 0.0], 1.0), [np.inf, 0])


# ---------------------------------------------------------------------------------------------- the data


def test_points_are_packed_wherever_they_come_from(tmp_path):
    """Initial, late and corner; a late one is what the run that evolves ended with. Points not made are empty."""
    small = frozen.Experiment(n_agents=5, n_steps=120, generations=1, m=1)
    runs = frozen.runs_of(Design(n_agents=2, n_steps=150, initial=1, late=1, seed=3))
    runs = [replace(run, after=replace(run.after, setting=small)) if run.after else run for run in runs]
    frozen.STUDY.make_all(runs[:3], tmp_path)
    data, meta = frozen.STUDY.collect(runs, tmp_path)
    assert meta["runs"] == {"planned": 10, "made": 3, "missing": 7}
    assert meta["parameters"] == {"n_agents": 2, "n_steps": 150, "initial": 1, "late": 1}
    assert data["kind"].to_numpy().tolist() == ["initial", "late", *8 * ["corner"]]
    evolved, _ = frozen.run(small, 3)
    np.testing.assert_array_equal(data["h"][1], evolved.h[0])
    np.testing.assert_array_equal(data["h"][2], [-1, -1, -1])
    for point in range(3):
        alone = frozen.episodes(data["h"].to_numpy()[point], point, runs[0].setting.design)
        np.testing.assert_array_equal(data["returns"][point, :, : alone.shape[1]], alone)
    assert not data["returns"][3:].any()
    assert np.isnan(data["h"][3:]).all()


def test_packing_the_points_of_the_stored_file_gives_that_file():
    data = results.load(DATA)
    runs = frozen.plan("paper")
    made = {}
    for k, run in enumerate(runs):
        point = data.isel(point=k).drop_vars(["kind", "coordinate"])
        made[run] = point.isel(episode=slice(int((point["returns"] > 0).any("agent").sum())))
    packed = frozen.pack(runs, made)
    assert packed.equals(data)
    assert {name: v.dtype for name, v in packed.data_vars.items()} == {name: v.dtype for name, v in data.items()}
    for run in runs:
        if run.after is None:
            np.testing.assert_array_equal(frozen.place(run.setting), made[run]["h"])


def test_another_seed_is_not_the_stored_one(tmp_path):
    stored = results.load(DATA)
    results.save(tmp_path / DATA.name, stored, stored.attrs | {"seed": 1})
    assert frozen.again(tmp_path / DATA.name) < frozen.STUDY.agreement
    with pytest.raises(ValueError, match="n_agents"):
        Design(n_agents=1)
