"""Basins, the account of the wells' shares, and the stored study."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from pbtlib import results
from pbtlib.problems import Himmelblau
from pbtlib.studies import wells

DATA = Path(__file__).parent.parent / "data" / "one_well.nc"
SMALL = wells.Setting(agents=30, updates=40)


def test_a_basin_is_where_the_gradient_flow_ends(rng):
    problem, odd = Himmelblau(), [[0.3, y] for y in np.linspace(-5.8, -5.0, 4)]  # nearer to another well
    points = np.concatenate([rng.uniform(-6, 6, (60, 2)), odd])
    clear = [
        len(set(wells.basin(p + 0.03 * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])).tolist())) == 1
        for p in points
    ]
    points = points[clear]

    def flow(t, x):
        return -problem.gradient(x, np.zeros(2))

    ends = np.array([solve_ivp(flow, (0, 2), p, method="LSODA", rtol=1e-8, atol=1e-8).y[:, -1] for p in points])
    reached = np.square(ends[:, None] - problem.minima).sum(-1).argmin(-1)
    np.testing.assert_array_equal(wells.basin(points), reached)
    nearest = np.square(points[:, None] - problem.minima).sum(-1).argmin(-1)
    assert (nearest != reached)[-len(odd) :].all()  # the nearest minimiser is not the answer


def test_the_borders_of_the_basins_are_those_of_small_steps(rng):
    """Of 4,000 points a few are within a step of a border; shifted by 0.2 two in a hundred are beyond one."""
    problem, points = Himmelblau(), rng.uniform(-6, 6, (4000, 2))
    x = points
    for _ in range(3000):
        x = x - 1e-3 * problem.gradient(x, np.zeros(2))
    reached = np.square(x[:, None] - problem.minima).sum(-1).argmin(-1)
    assert (wells.basin(points) == reached).mean() > 0.995
    assert (wells.basin(points + np.array([0.0, 0.2])) == reached).mean() < 0.99


def test_minimisers_lie_in_their_own_basins():
    minima = Himmelblau().minima
    np.testing.assert_array_equal(wells.basin(minima), np.arange(4))
    np.testing.assert_array_equal(wells.basin(minima[None] + 0.05), [np.arange(4)])


@pytest.mark.parametrize("setting", [SMALL, replace(SMALL, tau=0.5), replace(SMALL, steps=0, updates=5)])
def test_the_account_is_complete_and_drift_has_mean_zero(setting, seed):
    data = wells.run(setting, seed)
    total = data["initial"] + data["account"].sum(("period", "source"))
    np.testing.assert_allclose(total, data["share"], atol=1e-5)
    np.testing.assert_allclose(data["account"].sum("well"), 0, atol=1e-5)
    variance = data["account_square"] - data["account"] ** 2
    error = np.sqrt(np.maximum(variance, 0) / wells.BLOCK)
    drift = data["account"].sel(source="drift")
    assert (np.abs(drift) <= 5.5 * error.sel(source="drift") + 1e-6).all()
    selected = data["account"].sel(source="selection", period="first update")
    assert (np.abs(selected) > 1e-3).any()


def test_without_selection_all_agents_are_parents_and_under_high_pressure_one(seed):
    for beta, parents in ((0.0, 30), (1e12, 1)):
        found = wells.run(replace(SMALL, beta=beta, updates=1), seed)["first_parents"]
        np.testing.assert_allclose(found, parents, rtol=1e-6)


def test_a_population_is_fixed_since_it_has_a_winner(seed):
    data = wells.run(replace(SMALL, beta=10.0, updates=30), seed)
    won = data["winner"] >= 0
    assert won.sum() > 10
    assert ((data["fixed_at"] > 0) == won).all()
    assert (data["fixed_at"] <= 30).all()
    assert float(data["fixed"][-1]) == pytest.approx(float(won.mean()))


def test_an_account_with_wrong_weights_gives_drift_a_mean(seed, monkeypatch):
    """Expected shares that leave selection out: what selection does would then be called drift."""

    class Careless(wells._Account):
        def evaluate(self, state, trace):
            fitness = super().evaluate(state, trace)
            self.expected = self.trained
            return fitness

    monkeypatch.setattr(wells, "_Account", Careless)
    data = wells.run(replace(SMALL, updates=2, beta=0.01), seed, replicates=2000)
    error = np.sqrt((data["account_square"] - data["account"] ** 2) / 2000)
    assert (np.abs(data["account"]) > 5.5 * error + 1e-6).sel(source="drift", period="first update").any()


def test_neutral_replicates_coalesce_like_wright_fisher(seed):
    setting = wells.Setting(agents=20, updates=30, beta=0.0, steps=1)
    data = wells.run(setting, seed, replicates=2000)
    time = data["time"].to_numpy()
    predicted = 1 - (1 - 1 / 20) ** (time + 1)  # one of the pair may be drawn twice: with replacement
    error = np.sqrt(0.25 / 2000)
    assert (np.abs(data["same_founder"] - predicted) < 5.5 * error).all()
    assert (np.abs(data["same_founder"] - (1 - (1 - 2 / 20) ** (time + 1))) > 5.5 * error).any()
    np.testing.assert_allclose(data["account"].sel(source="selection"), 0, atol=1e-6)


def test_blocks_are_packed_in_any_order_to_means_of_all(tmp_path):
    """Two settings, one of two blocks: the made ones are strung together, their means averaged, none drawn twice."""
    tiny = {"a": wells.Setting(agents=4, updates=2, replicates=200), "b": wells.Setting(agents=3, updates=1, steps=0)}
    runs = wells.runs_of({**tiny, "b": replace(tiny["b"], replicates=100)}, seed=1)
    assert [run.name for run in runs] == ["a, block 0", "b, block 0", "a, block 1"]
    study = replace(wells.STUDY, plan=lambda scale: runs)
    study.make_all(runs[::-1], tmp_path)
    data, meta = study.collect(runs, tmp_path)
    assert meta["runs"] == {"planned": 3, "made": 3, "missing": 0}
    blocks = [study.result(run, tmp_path) for run in (runs[0], runs[2])]
    assert (blocks[0]["first_parents"].to_numpy() != blocks[1]["first_parents"].to_numpy()).any()
    for name in ("winner", "first_parents"):
        np.testing.assert_array_equal(data[name].sel(setting="a"), np.concatenate([block[name] for block in blocks]))
    for name in ("mean_share", "account_square"):
        mean = np.mean([block[name] for block in blocks], 0)
        np.testing.assert_allclose(data[name].sel(setting="a"), mean, rtol=1e-6)
    assert data["winner"].sel(setting="b").isnull().sum() == 100  # it has one block, the other setting two
    assert data["fixed"].sel(setting="b").dropna("time")["time"].values.tolist() == [1]
    part, _ = study.collect(runs[:2], tmp_path)
    np.testing.assert_array_equal(part["winner"].sel(setting="a"), blocks[0]["winner"])


@pytest.mark.slow
@pytest.mark.words
def test_another_block_is_not_the_stored_one(tmp_path):
    """The slice that verifies the data tells seeds apart; `tests/test_studies.py` says that the right one agrees."""
    stored = results.load(DATA)
    results.save(tmp_path / DATA.name, stored, stored.attrs | {"seed": 1})
    assert wells.again(tmp_path / DATA.name) < 0.5
    results.save(tmp_path / DATA.name, stored, stored.attrs | {"missing": ["N = 30, block 0"]})
    with pytest.raises(ValueError, match="lacks 'N = 30', block 0"):
        wells.again(tmp_path / DATA.name)


@pytest.fixture(scope="module")
def stored():
    return results.load(DATA)


@pytest.mark.parametrize("name", wells.SETTINGS)
def test_the_first_update_of_every_stored_setting_can_be_made_again(stored, name):
    """Of its first block: how many parents the agents of each replicate have, to single precision."""
    setting = replace(wells.Setting(**stored.attrs["parameters"][name]), updates=1)
    there = stored["first_parents"].sel(setting=name)[: wells.BLOCK]
    for seed, agrees in ((stored.attrs["seed"], True), (stored.attrs["seed"] + 1, name == "β = 0")):
        new = wells.run(setting, wells._seed([*wells.SETTINGS].index(name), 0, seed))["first_parents"]
        assert (np.isclose(new, there, rtol=1e-5).mean() > 0.9) == agrees


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="replicates is 150"):
        wells.Setting(replicates=150)
    for tau in (0, 1.5):
        with pytest.raises(ValueError, match=f"tau is {tau}"):
            wells.Setting(tau=tau)
    with pytest.raises(ValueError, match="theta has shape"):
        wells.basin(np.zeros(3))
    with pytest.raises(ValueError, match=r"theta contains \[10000. 10000.\]"):
        wells.basin([[3.0, 2.0], [1e4, 1e4]])
    np.testing.assert_array_equal(wells.basin([[200.0, 200.0], [-200.0, -200.0]]), [0, 2])
    with pytest.raises(ValueError, match=r"steps is 2 with tau = 0.2.*or steps 0"):
        wells.Setting(steps=2, tau=0.2)
    assert wells.Setting(steps=3, tau=0.2).steps == 3
