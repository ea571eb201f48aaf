"""The frozen study: its data can be made again, its estimators know processes with known answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pbtlib.cartpole.frozen import (
    Study,
    effective_size,
    episodes,
    latest,
    local_mean,
    make,
    places,
    relaxation_time,
    window_errors,
)  # fmt: skip

from pbtlib import results

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


def test_the_study_can_be_stopped_and_gone_on_with(tmp_path, monkeypatch):
    study = Study(n_agents=2, n_steps=150, initial=1, late=0, seed=3)
    whole = make(tmp_path / "whole.nc", study)
    assert whole.attrs["runs"] == {"planned": 9, "made": 9, "missing": 0}
    made = 0

    def interrupted(*arguments):
        nonlocal made
        if made == 4:
            raise KeyboardInterrupt
        made += 1
        return episodes(*arguments)

    monkeypatch.setattr("pbtlib.cartpole.frozen.episodes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "part.nc", study)
    assert results.load(tmp_path / "part.nc").attrs["runs"]["missing"] == 5
    monkeypatch.undo()
    make(tmp_path / "part.nc", study)
    np.testing.assert_array_equal(results.load(tmp_path / "part.nc")["returns"], whole["returns"])
    with pytest.raises(ValueError, match="other parameters"):
        make(tmp_path / "whole.nc", replace(study, n_steps=151))


def test_stored_returns_can_be_made_again():
    """The first steps of two points from the recorded parameters alone; slow learners, to the episode."""
    data = results.load(DATA)
    assert data.attrs["runs"]["missing"] == 0
    study = Study(**data.attrs["parameters"], seed=data.attrs["seed"])
    initial = places(replace(study, late=0))
    np.testing.assert_array_equal(initial[: study.initial], data["h"][: study.initial])
    np.testing.assert_array_equal(initial[study.initial :], data["h"][study.initial + study.late :])
    for point in (14, 28):
        first = episodes(data["h"].to_numpy()[point], point, replace(study, n_steps=300))
        again = [row[row > 0] for row in first]
        same = [np.array_equal(data["returns"][point, i, : len(row)], row) for i, row in enumerate(again)]
        assert np.mean(same) > 0.7, "rounding may change an action of an agent or two on another processor"
    with pytest.raises(ValueError, match="n_agents"):
        Study(n_agents=1)
