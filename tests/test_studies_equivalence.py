"""The study that compares the compiled population with the oracle."""

import numpy as np
import pytest
import xarray as xr

from pbtlib import results
from pbtlib.studies import equivalence
from pbtlib.studies.equivalence import FAULTS, MARGINS, Design, compare

DATA = results.DATA / "cartpole_equivalence.nc"


def synthetic(rng, shift=0.0, trend=0.0):
    """Sides with normal noise: ``torch``, and ``other``, whose returns differ by a shift and a trend with the batch."""
    shape, h = (12, 80, 6), rng.uniform(-1, 1, (12, 80, 3))
    curves = {}
    for name, noise in zip(MARGINS, (20.0, 0.05, 0.05), strict=True):
        pair = noise * rng.standard_normal((2, *shape))
        if name == "return":
            pair[1] += shift + trend * np.sqrt(3) * h[..., 2:]
        curves[name] = (("side", "seed", "agent", "generation"), pair)
    return xr.Dataset({**curves, "h": (("seed", "agent", "coordinate"), h)}, coords={"side": ["torch", "other"]})


def test_equal_sides_are_equivalent_and_margins_are_not(rng):
    verdict = compare(synthetic(rng), "other")
    assert verdict["equivalent"]
    assert verdict["power"] > 0.99
    for difference in ({"shift": 10.0}, {"shift": -10.0}, {"trend": 10.0}, {"trend": -10.0}):
        verdict = compare(synthetic(rng, **difference), "other")
        assert not verdict["equivalent"]
        assert verdict["different"]


def test_intervals_are_students(rng):
    """Mean and half-width of one cell against the textbook formula."""
    study = synthetic(rng, shift=3.0)
    verdict = compare(study, "other", level=0.05).sel(quantity="return", contrast="mean").isel(generation=2)
    d = np.diff(study["return"].isel(generation=2), axis=0).ravel()
    np.testing.assert_allclose(verdict["difference"], d.mean(), rtol=1e-12)
    from scipy.stats import t

    width = t(959).ppf(1 - 0.05 / 72 / 2) * d.std(ddof=1) / np.sqrt(960)
    np.testing.assert_allclose(verdict["half_width"], width, rtol=1e-10)


def test_the_power_falls_with_the_noise(rng):
    """Of equal sides: the noise sets how wide the intervals are; once they are as wide as the margin there is none."""
    study = synthetic(rng)
    for factor, least, most in ((1.0, 0.99, 1.0), (8.0, 0.0, 0.0)):
        louder = study.assign({name: factor * study[name] for name in MARGINS})
        assert least <= compare(louder, "other")["power"] <= most


def test_the_study_can_be_made(tmp_path):
    runs = equivalence.runs_of(2, Design(n_agents=2, n_steps=130, generations=2))
    equivalence.STUDY.make_all(runs, tmp_path)
    study, meta = equivalence.STUDY.collect(runs, tmp_path)
    assert meta["parameters"] == {"seeds": 2, "n_agents": 2, "n_steps": 130, "generations": 2}
    assert study["return"].dims == ("side", "seed", "agent", "generation")
    assert [*study["side"].values] == ["torch", "compiled", "compiled again", *FAULTS]
    assert np.isfinite(study[list(MARGINS)].to_array()).all()
    np.testing.assert_array_equal(study["steps"], [130, 260])
    assert (study["h"][0] != study["h"][1]).all()


def test_packing_the_seeds_of_the_stored_file_gives_that_file():
    study, runs = results.load(DATA), equivalence.plan("paper")
    made = {run: study.isel(seed=run.seed).drop_vars(["side", "steps"]) for run in runs}
    packed = equivalence.pack(runs, made)
    assert packed.equals(study)
    assert all(packed[name].dims == study[name].dims for name in study)


def test_stored_curves_of_the_population_are_equivalent_to_torchs():
    study = results.load(DATA)
    for side in ("compiled", "compiled again"):
        verdict = compare(study, side)
        assert verdict["equivalent"], side
        assert verdict["power"] > 0.9


@pytest.mark.parametrize("fault", FAULTS)
def test_stored_curves_reveal_planted_faults(fault):
    verdict = compare(results.load(DATA), fault)
    assert not verdict["equivalent"]
    assert verdict["different"]


def test_other_curves_are_not_the_stored_ones(tmp_path):
    stored = results.load(DATA)
    results.save(tmp_path / DATA.name, stored.roll(seed=1), stored.attrs)
    assert equivalence.again(tmp_path / DATA.name) < equivalence.STUDY.agreement
    results.save(tmp_path / DATA.name, stored, stored.attrs | {"missing": ["seed 0"]})
    with pytest.raises(ValueError, match="lacks seed 0"):
        equivalence.again(tmp_path / DATA.name)
