"""A diagnosis says the right thing about runs whose truth is known, at a stated rate, and nothing about small ones.

Every finding answers wrongly with a probability of about `LEVEL` = 1 %. Of `RUNS` = 12 runs of one truth four or more
are then wrong with a probability of 5e-6. Where an answer can be found, nine runs in ten find it (30 runs of each truth
were tried); that fewer than six of twelve do has then a probability of 5e-5.
"""

from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from simulated import record, run

from pbtlib import diagnosis, results, runs
from pbtlib.claims import ledger
from pbtlib.diagnosis import CANNOT, diagnose

RUNS, WRONG, RIGHT = 12, 3, 6

TRUTHS = {
    "merit, relaxed": {"truth": "merit", "time": 3.0},
    "merit, not relaxed": {"truth": "merit", "time": 0.1},
    "merit, no luck": {"truth": "merit", "time": 3.0, "spread": 0.02},
    "luck, forgotten": {"truth": "luck", "time": 3.0},
    "luck, inherited": {"truth": "luck", "time": 0.15},
    "luck, for ever": {"truth": "luck", "time": 0.002, "sigma": 0.02, "trials": 200},
    "no selection": {"truth": "lot", "time": 3.0},
}


@cache
def made(name, seed):
    """Runs of one truth."""
    return [run(seed=1000 * seed + i, **TRUTHS[name]) for i in range(RUNS)]


@cache
def verdicts(name, seed):
    """For each finding the verdicts about the runs."""
    found = [diagnose(one, draws=199) for one in made(name, seed)]
    return {f.name: [d[f.name].verdict for d in found] for f in found[0].findings}


@pytest.mark.parametrize(
    ("truth", "finding", "right"),
    [
        ("merit, relaxed", "families", "yes"),
        ("merit, relaxed", "schedule:h", "yes"),
        ("merit, relaxed", "luck", "yes"),
        ("merit, not relaxed", "relaxed", "no"),
        ("luck, forgotten", "relaxed", "yes"),
        ("luck, forgotten", "luck", "yes"),
        ("luck, inherited", "relaxed", "no"),
        ("no selection", "families", "no"),
    ],
)
def test_what_can_be_found_is_found(truth, finding, right, seed):
    assert verdicts(truth, seed)[finding].count(right) >= RIGHT


@pytest.mark.parametrize(
    ("truth", "finding", "wrong"),
    [
        ("merit, relaxed", "relaxed", "no"),
        ("merit, not relaxed", "relaxed", "yes"),
        ("merit, no luck", "luck", "yes"),
        ("luck, forgotten", "families", "yes"),
        ("luck, forgotten", "schedule:h", "yes"),
        ("luck, forgotten", "relaxed", "no"),
        ("luck, inherited", "schedule:h", "yes"),
        ("luck, for ever", "schedule:h", "yes"),
        ("luck, for ever", "relaxed", "yes"),
        ("luck, inherited", "relaxed", "yes"),
        ("no selection", "families", "yes"),
        ("no selection", "schedule:h", "yes"),
        ("no selection", "relaxed", "no"),
    ],
)
def test_false_alarms_are_as_rare_as_promised(truth, finding, wrong, seed):
    assert verdicts(truth, seed)[finding].count(wrong) <= WRONG


def test_of_eight_trials_nothing_is_said(seed):
    for truth in ("merit", "luck", "lot"):
        found = diagnose(run(truth, seed, trials=8), draws=199)
        assert {f.verdict for f in found.findings} == {CANNOT}
        assert "8 trials are too few" in str(found)


def test_of_ray_s_samples_nothing_is_said_and_the_reason_is_given():
    for kind, reason in (("synch", "8 trials are too few"), ("asynch", "Asynchronous run")):
        found = diagnose(runs.read(results.DATA / "ray_sample" / kind, score="fitness"))
        assert all(f.verdict == CANNOT for f in found.findings if f.name != "grid")
        assert reason in found["relaxed"].reason


def test_without_parents_or_with_few_updates_nothing_is_said(seed):
    table = record("merit", seed, updates=5)
    assert "4 updates are too few" in diagnose(runs.read(table))["families"].reason
    assert "does not say who was copied" in diagnose(runs.read(table.drop(columns="parent")))["luck"].reason


# ------------------------------------------------------------------------------------------------- planted faults


def test_the_lottery_alone_would_call_lucky_families_a_schedule(seed, monkeypatch):
    """Planted: h is taken to matter. Then hitch-hiking on inherited luck passes for selection, too often."""
    real = diagnosis._mutation_effect
    monkeypatch.setattr(diagnosis, "_mutation_effect", lambda *a: diagnosis._Effect(**{**vars(real(*a)), "p": 0.0}))
    found = [diagnose(one, draws=199)["schedule:h"].verdict for one in made("luck, for ever", seed)]
    assert found.count("yes") > WRONG


def capped(rng, trials=20, updates=12):
    """A capped reward under Ray's stable order: everybody has the same score, the first created are replaced."""
    rows, m, h = [], trials // 4, rng.uniform(-1, 1, trials)
    for k in range(updates):
        parent = np.arange(trials)
        parent[:m] = rng.integers(trials - m, trials, m)
        rows.append(pd.DataFrame({"trial": range(trials), "time": k, "score": 1.0, "h": h, "parent": parent}))
        h = h[parent] + 0.1 * rng.standard_normal(trials) * (parent != np.arange(trials))
    return runs.read(pd.concat(rows))


def test_ties_in_order_of_creation_are_no_evidence(rng, monkeypatch):
    finding = diagnose(capped(rng))["families"]
    assert finding.low <= 1 <= finding.high
    assert "ties decided" in finding.reason
    monkeypatch.setattr(diagnosis, "_truncates", lambda lines: False)  # planted: ties broken by lot
    finding = diagnose(capped(rng))["families"]
    assert not finding.low <= 1 <= finding.high


# ------------------------------------------------------------------------------------------------- numbers


def growing(rng, v, trials=32, updates=10, readings=5):
    """Scores that grow along straight lines, with readings of variance v."""
    rows, growth = [], rng.normal(0.0, 1.0, trials)
    for k in range(updates):
        parent = np.arange(trials)
        parent[k % trials] = (k + 1) % trials
        for r in range(readings):
            score = growth * r + np.sqrt(v) * rng.standard_normal(trials)
            after = parent if r == readings - 1 else np.arange(trials)
            frame = {"trial": range(trials), "time": k * readings + r, "score": score, "h": 0.0, "parent": after}
            rows.append(pd.DataFrame(frame))
    return runs.read(pd.concat(rows)), np.mean(growth**2)


@pytest.mark.parametrize(("v", "right"), [(40.0, "yes"), (0.1, "no")])
def test_the_best_window_follows_its_law(v, right, rng):
    """Ten intervals at 1 %: of eight runs three or more outside have a probability of 5e-5."""
    missed = 0
    for _ in range(8):
        data, g2 = growing(rng, v)
        finding = diagnose(data, draws=199)["window"]
        missed += not finding.low <= (2 * v / g2) ** (1 / 3) <= finding.high
        assert finding.verdict in (right, CANNOT)
    assert missed <= 2


@pytest.mark.parametrize(("v", "readings"), [(0.1, 3), (2.0, 3), (8.0, 5)])
def test_averaging_pays_if_the_best_window_is_surely_beyond_one_and_a_half(v, readings, rng):
    finding = diagnose(growing(rng, v, readings=readings)[0], draws=199)["window"]
    assert finding.low <= finding.value <= finding.high
    assert finding.verdict == ("yes" if finding.low > 1.5 else "no" if finding.high < 1.5 else CANNOT)


def test_variety_is_the_last_spread_over_the_first(seed):
    """The first of the lotteries is the run itself, so what it says of the run is what the table says."""
    data = run("merit", seed)
    finding = diagnose(data, draws=199)["variety:h"]
    h = data["h"].to_numpy()
    assert finding.value == pytest.approx(h[:, -1].std() / h[:, 0].std(), rel=1e-9)


def test_an_interval_of_the_part_that_is_lost_lies_about_its_value(seed):
    finding = diagnose(run("luck", seed, time=0.15), draws=199)["luck"]
    assert finding.high - finding.value == pytest.approx(finding.value - finding.low)


@pytest.mark.slow
def test_a_mutation_costs_its_variance_times_the_curvature(seed):
    """The score of the merit is −(h − 2)² and luck, so a mutation of variance σ² costs σ² on average.

    The spread of one run is 0.025, so 0.04 is seven times that of the mean of 24. Were h measured from the mean of its
    interval, which follows the optimum, the cost would seem 0.19, with a spread of 0.04.
    """
    records = [diagnosis._lines(run("merit", 1000 * seed + i, sigma=0.5, updates=60))[0] for i in range(2 * RUNS)]
    effects = [diagnosis._mutation_effect(lines, "h") for lines in records]
    assert abs(np.mean([effect.cost for effect in effects]) - 0.25) < 0.04
    assert 0.01 < np.mean([effect.cost_error for effect in effects]) < 0.05


def test_of_fewer_than_50_copies_nothing_is_said_about_mutation(seed):
    found = diagnose(run("merit", seed, trials=16, updates=10), draws=199)
    assert found["mutation:h"].verdict == CANNOT
    assert found["mutation:h"].reason == "Fewer than 50 copies were mutated."


@pytest.mark.parametrize(
    ("trials", "dimensions", "verdict"), [(20, 1, "yes"), (19, 1, CANNOT), (64, 2, CANNOT), (8, 2, "no"), (2, 1, "no")]
)
def test_a_grid_of_the_same_cost_is_arithmetic(trials, dimensions, verdict):
    finding = diagnosis._grid(trials, dimensions)
    assert finding.value == pytest.approx(trials ** (1 / dimensions))
    assert finding.verdict == verdict


def test_weights_trained_anew_give_the_premium(rng, seed):
    lucky, true = run("luck", seed, time=0.15), run("merit", seed, spread=0.002)
    anew = 0.5 * rng.standard_normal(64)
    assert diagnose(lucky, retrained=anew, draws=199)["luck"].verdict == "yes"
    same = true["score"].to_numpy()[:, -1] + 0.002 * rng.standard_normal(64)
    assert diagnose(true, retrained=same, draws=199)["luck"].verdict == "no"


def test_the_part_of_a_lead_that_is_lost_is_one_minus_the_contraction(seed):
    """Luck alone decays by e^(−2t) in an interval: the interval misses it at 1 % in 8 runs, at most twice."""
    missed = 0
    for i in range(8):
        finding = diagnose(run("luck", 1000 * seed + i, time=0.15), draws=199)["luck"]
        missed += not finding.low <= 1 - np.exp(-0.3) <= finding.high
    assert missed <= 2


def test_rates_of_coalescence_are_those_of_truncation(seed):
    """Two trials share a parent with probability q(τ² + 2τ) / N at τ = 1, up to O(1/N²): 0.75 / 64."""
    finding = diagnose(run("merit", seed, updates=40), draws=199)["families"]
    rate, error = (
        float(word.rstrip(",.")) for word in finding.reason.split("probability ")[1].split(" per ")[0].split(" ± ")
    )
    assert abs(rate - 0.75 / 64) < 5 * error + 2 / 64**2


def test_a_diagnosis_prints_draws_and_names_claims_of_the_ledger(seed):
    found = diagnose(run("merit", seed), draws=199)
    assert {f.claim for f in found.findings} <= set(ledger())
    assert str(found).startswith("64 trials, 19 updates\nIs training relaxed")
    with pytest.raises(KeyError, match="'wealth'"):
        found["wealth"]
    figure, ax = plt.subplots()
    found.plot(ax)
    assert [label.get_text() for label in ax.get_yticklabels()] == [f.name.replace(":", " of ") for f in found.findings]
    plt.close(figure)


def test_a_logarithmic_hyperparameter_and_text_are_taken_as_such(rng):
    table = record("merit", 5, trials=32, updates=10)
    table["lr"], table["kind"] = 10.0 ** (2 * table["h"]), np.where(table["h"] > 0, "a", "b")
    found = diagnose(runs.read(table), draws=199)
    assert found.logarithmic == ("lr",)
    assert "schedule:lr" in {f.name for f in found.findings}
    assert "schedule:kind" not in {f.name for f in found.findings}


def test_errors_name_the_argument(seed):
    data = run("merit", seed, trials=8, updates=3)
    with pytest.raises(ValueError, match=r"retrained has shape \(3,\); it must be \(8,\)"):
        diagnose(data, retrained=[1, 2, 3])
    with pytest.raises(ValueError, match="draws is 10"):
        diagnose(data, draws=10)
    with pytest.raises(ValueError, match="it must be what"):
        diagnose(data.drop_vars("parent"))


@pytest.mark.parametrize(("copies", "drift"), [(9, (0.0, 0.0)), (10, (-0.5, 0.3))])
def test_a_drift_of_mutations_is_estimated_from_ten_copies_and_not_from_fewer(copies, drift):
    before, parent = np.arange(20.0), np.arange(20)
    parent[:copies] = parent[-copies:]
    after = np.where(parent == np.arange(20), before, 0.5 * before[parent] + 0.3)
    lines = diagnosis._Lines(np.zeros((2, 20)), parent[None], {"h": np.stack([before, after])}, np.arange(2), ())
    assert diagnosis._drift(lines, "h") == pytest.approx(drift)


def test_the_first_lottery_is_the_run_itself(rng):
    """Where copied trials are copied too, so that the order of copying matters."""
    updates, n = 6, 30
    parent, h = np.tile(np.arange(n), (updates, 1)), [rng.standard_normal(n)]
    for row in parent:
        who = rng.choice(n, 10, replace=False)
        row[who] = np.roll(who, 1)
        h.append(h[-1][row] + np.isin(np.arange(n), who) * rng.standard_normal(n))
    score = rng.standard_normal((updates + 1, n))
    lines = diagnosis._Lines(score, parent, {"h": np.array(h)}, np.arange(updates + 1), ())
    lots = diagnosis._lotteries(lines, ["h"], 3, rng)
    np.testing.assert_allclose(lots.path["h"][0], np.mean(h[1:], 1) - h[0].mean(), atol=1e-12)
    assert lots.spread["h"][0] == pytest.approx(h[-1].std() / h[0].std())
    assert not np.isclose(lots.path["h"][1:, -1], lots.path["h"][0, -1]).any()


@pytest.mark.parametrize(
    ("score", "ties"), [(range(8), 0), ([0, 1, 2, 3, 4, 5, 5, 6], 2), ([0, 1, 1, 3, 4, 5, 6, 7], 2)]
)
def test_updates_where_ties_decide_are_counted_at_both_ends(score, ties, rng):
    parent = np.tile([6, 7, 2, 3, 4, 5, 6, 7], (2, 1))
    lines = diagnosis._Lines(np.array([score] * 3, float), parent, {}, np.arange(3), ())
    assert diagnosis._truncates(lines)
    assert diagnosis._lotteries(lines, [], 3, rng).ties == ties


@pytest.mark.parametrize(("kept", "verdict"), [(1.0, "yes"), (0.5, CANNOT), (0.2, "no")])
def test_variety_is_kept_above_one_half_and_in_doubt_near_it(kept, verdict):
    lots = diagnosis._Lots(np.ones(4), {"h": np.array([kept, 0.8, 1.0, 1.25])}, {}, (0.1, 0.01), 0)
    finding = diagnosis._variety("h", lots, "")
    assert finding.verdict == verdict
    assert 0.8 * kept < finding.low < finding.value == kept < finding.high < 1.25 * kept


def test_variety_that_a_lottery_may_lose_altogether_is_not_judged():
    lots = diagnosis._Lots(np.ones(3), {"h": np.array([0.5, 0.0, 0.0])}, {}, (0.1, 0.01), 0)
    assert diagnosis._variety("h", lots, "").verdict == CANNOT


def test_kinship_is_told_relative_to_the_mean_lottery():
    lots = diagnosis._Lots(np.array([0.3, 0.1, 0.2]), {}, {}, (0.1, 0.01), 0)
    lines = diagnosis._Lines(np.zeros((2, 5)), np.arange(5)[None], {}, np.arange(2), ())
    assert diagnosis._families(lines, lots, "").value == pytest.approx(2.0)
