"""The study of populations of networks: what is packed, what selection saw, and that one seed for all is one seed."""

import numpy as np
import pytest

from pbtlib.evolution import stream
from pbtlib.studies import chaos
from pbtlib.studies.chaos import ONE_SEED, RULES, Design, evolved, runs_of

SMALL = Design(generations=2)


def test_every_population_has_numbers_of_its_own():
    """Neither another rule nor another size nor another replicate shares them; the same key gives the same."""
    first = evolved(SMALL, "truncation", 5, 0, 3)
    again, other, rule = (
        evolved(SMALL, *key, 3) for key in (("truncation", 5, 0), ("truncation", 5, 1), ("Gibbs", 5, 0))
    )
    assert all((first[name] == again[name]).all() for name in first)
    assert (first["h_mean"][0] != other["h_mean"][0]).all()
    assert (first["h_mean"][0] != rule["h_mean"][0]).all()


def test_every_population_is_in_one_run():
    """Of every rule and size, however many are made at once."""
    counts, numbers = {100: 9, 150: 5, 800: 3}, {}
    for run in runs_of(SMALL, counts):
        of = run.setting
        numbers.setdefault((of.rule, of.n_agents), []).extend(range(of.first, of.first + of.replicates))
    assert {key for key in numbers if key[0] != ONE_SEED} == {(r, n) for r in RULES if r != ONE_SEED for n in counts}
    assert all(found == list(range(counts[n])) for (_, n), found in numbers.items())


def test_without_evolution_nothing_changes_and_with_it_something_does():
    still, moved = (evolved(SMALL, rule, 10, 0, 3)["h_mean"] for rule in ("no evolution", "truncation"))
    assert (still == still[0]).all()
    assert (moved[1:] != moved[0]).any()


def test_one_seed_for_all_makes_agents_of_equal_hyperparameters_one_agent(monkeypatch):
    """And without it they differ: that is what the broken model breaks."""
    start = chaos.initial_population
    monkeypatch.setattr(
        chaos, "initial_population", lambda n, seed, setting: start(n, seed, setting, ((0.0, 0.0, 0.0),))
    )
    broken, sound = (evolved(Design(generations=1), rule, 6, 0, 3)["score"][0] for rule in ("one seed", "no evolution"))
    assert (broken == broken[0]).all()
    assert (sound != sound[0]).any()


def test_populations_are_packed_by_rule_and_size_whatever_is_missing(tmp_path):
    study, runs = chaos.STUDY, chaos.STUDY.runs("quick")
    study.make_all([run for run in runs if "no evolution" not in run.name], tmp_path)
    data, meta = study.collect(runs, tmp_path)
    assert meta["missing"] == ["no evolution, N = 10, from 0", "no evolution, N = 20, from 0"]
    assert data["score"].dtype == np.uint8
    for n, rule, replicate in ((10, "truncation", 3), (20, "Gibbs", 1)):
        mine = data.isel(
            population=((data["rule"] == rule) & (data["agents"] == n) & (data["replicate"] == replicate)).values
        )
        alone = evolved(Design(generations=2), rule, n, replicate, chaos.SEED)
        np.testing.assert_array_equal(mine["score"][0, :, :n], alone["score"])
        assert not mine["score"][0, :, n:].any()
        np.testing.assert_allclose(mine["h_mean"][0], alone["h_mean"], atol=1e-6)


def test_the_plan_has_eight_of_each_at_least_and_small_ones_first():
    count = chaos.describe(chaos.plan("paper"))["populations"]
    assert min(count.values()) == 8
    assert {name.partition(",")[0] for name in count} == set(RULES)
    sizes = [run.setting.n_agents for run in chaos.plan("paper")]
    assert sizes == sorted(sizes)
    alike = {run.setting.n_agents for run in chaos.plan("paper") if run.setting.rule == ONE_SEED}
    assert alike == {50, 200, 800}


@pytest.mark.parametrize("n", [1, 3])
def test_copies_of_one_child_are_equal_and_independent_objects(n):
    children = chaos._Same(stream(0, 0, "same")).spawn(n)
    drawn = [child.random() for child in children]
    assert drawn == drawn[:1] * n


def test_a_truncation_of_more_than_half_is_refused():
    with pytest.raises(ValueError, match=r"q is 0\.7"):
        Design(q=0.7)
