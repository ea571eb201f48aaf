import numpy as np
import pytest

from pbtlib import results
from pbtlib.cartpole.experiment import FACTORS, Experiment, operators
from pbtlib.cartpole.population import new_population
from pbtlib.cartpole.setting import decode
from pbtlib.evolution import Jump
from pbtlib.studies import perturbation, sweep


def test_the_two_rules_are_paired_seed_by_seed():
    runs = perturbation.plan("paper")
    assert [run.seed for run in runs] == [seed for seed in range(10) for _ in range(2)]
    assert {run.setting.mode for run in runs} == {"pbt", "multiplied"}
    assert {run.setting.n_agents for run in runs} == {100}


def test_a_mutation_that_multiplies_takes_each_factor_half_of_the_time(rng):
    """Learning rates in the middle of the box; nobody else moves."""
    state = new_population(np.zeros((2000, 3)), rng)
    jump = Jump(np.arange(2000) < 1000, np.arange(2000))
    moved = operators(Experiment(mode="multiplied"))["mutate"](state, jump, rng)
    ratio = decode(moved.h).lr / decode(state.h).lr
    np.testing.assert_allclose(np.unique(ratio[:1000].round(9)), FACTORS)
    assert abs((ratio[:1000] > 1).mean() - 0.5) < 6 * 0.5 / np.sqrt(1000)
    np.testing.assert_array_equal(moved.h[1000:], 0)


def test_runs_of_a_seed_share_their_first_generation():
    stored = sweep.load(perturbation.DATA).isel(update=0, generation=0)
    for name in ("score", "h", "episodes"):
        added, multiplied = (stored[name].sel(run=run) for run in ("added", "multiplied"))
        assert added.equals(multiplied.assign_coords(added.coords)), name


def test_another_file_is_not_made_again(tmp_path):
    stored = results.load(perturbation.DATA)
    results.save(tmp_path / "rolled.nc", stored.roll(seed=1), stored.attrs)
    assert perturbation.again(tmp_path / "rolled.nc") < perturbation.STUDY.agreement
    lacking = stored.copy(deep=True)
    lacking["episodes"][0, 0] = sweep.MISSING
    results.save(tmp_path / "lacking.nc", lacking, stored.attrs)
    with pytest.raises(ValueError, match="lacks runs"):
        perturbation.again(tmp_path / "lacking.nc")
