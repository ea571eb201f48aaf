"""Populations of small networks on real data: what a mode shares with another, what training does, what is stored."""

import hashlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from scipy import stats

from pbtlib import results, runs
from pbtlib.diagnosis import diagnose
from pbtlib.evolution import stream
from pbtlib.studies import digits
from pbtlib.studies.digits import Setting, first_networks, split

SMALL = Setting(updates=4, readings=2, steps=2, cells=(5, 2))


def made(seed, **modes):
    """The small population and a mode that may need it."""
    population = digits.run(SMALL, seed)
    return population, digits.run(replace(SMALL, **modes), seed, population)


def trained_by_torch(setting, data, state, rng):
    """One interval of the same batches, with the gradients of PyTorch."""
    x, label = map(torch.from_numpy, data.train)
    batches = rng.integers(len(label), size=(setting.readings, setting.steps, setting.agents, setting.batch))
    ends = []
    for i, (theta, h) in enumerate(zip(state.theta, state.h, strict=True)):
        layers = [torch.tensor(a[i : i + 1].copy(), requires_grad=True) for a in digits._layers(state.theta)]
        rate, decay = 10.0**h
        for batch in batches[:, :, i].reshape(-1, setting.batch):
            w, b, v, c = (layer[0] for layer in layers)
            loss = torch.nn.functional.cross_entropy(torch.relu(x[batch] @ w + b) @ v + c, label[batch])
            slopes = torch.autograd.grad(loss, layers)
            with torch.no_grad():
                for layer, slope in zip(layers, slopes, strict=True):
                    layer.mul_(1 - rate * decay).sub_(rate * slope)
        ends.append(torch.cat([layer.detach().ravel() for layer in layers]).numpy())
        assert ends[-1].shape == theta.shape
    return np.stack(ends)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cells": (5,)}, r"cells is \(5,\); it must be a tuple of 2"),
        ({"cells": [5, 4]}, r"cells is \[5, 4\]"),
        ({"cells": (0, 4)}, r"cells\[0\] is 0"),
        ({"q": 0.9}, "q is 0.9"),
        ({"sigma": -1.0}, "sigma is -1.0"),
        ({"sigma": np.nan}, "sigma is nan"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        Setting(**change)
    with pytest.raises(TypeError, match=r"cells\[0\] is 2.5"):
        Setting(cells=(2.5, 4))


@pytest.mark.parametrize("mode", digits.AFTER)
@pytest.mark.parametrize("other", [{"updates": 3}, {"cells": (2, 5), "updates": 5}, {"cells": (3, 2)}])
def test_a_population_of_another_setting_cannot_be_followed(mode, other):
    population = digits.run(replace(SMALL, steps=1, readings=1, **other), 0)
    with pytest.raises(ValueError, match=r"needed has \d+ agents and \d updates; the setting has 10 and 4"):
        digits.run(replace(SMALL, mode=mode), 0, population)


def test_training_is_gradient_descent_on_the_cross_entropy(seed):
    data, state = split(SMALL, seed), first_networks(SMALL, seed)
    wanted = trained_by_torch(SMALL, data, state, stream(seed, 0, "train"))
    ours = digits.train(SMALL, data, state, stream(seed, 0, "train"))[0].theta
    np.testing.assert_allclose(ours, wanted, atol=1e-4)
    other = digits.train(SMALL, data, replace(state, h=np.add(state.h, [0.3, 0])), stream(seed, 0, "train"))[0].theta
    assert abs(other - wanted).max() > 1e-3, "twice the learning rate is seen"


def test_outputs_far_apart_do_not_overflow(seed):
    state = first_networks(SMALL, seed)
    wide = replace(state, theta=30 * state.theta)
    assert np.isfinite(digits.train(SMALL, split(SMALL, seed), wide, stream(seed, 0, "train"))[0].theta).all()


def test_the_three_parts_of_a_split_are_all_images_and_no_two_share_one(seed):
    parts = split(Setting(), seed)
    x, label = digits.images()
    rows = np.concatenate([np.c_[images, labels] for images, labels in vars(parts).values()])
    np.testing.assert_array_equal(np.unique(rows, axis=0), np.unique(np.c_[x, label], axis=0))
    assert len(rows) == len(x)
    assert (split(Setting(), seed + 1).test[1] != parts.test[1]).any()


def test_modes_of_a_seed_share_their_first_interval(seed):
    """So differences between them can be paired; new weights and a grid differ."""
    first = digits.run(SMALL, seed).isel(update=0)
    for mode in ("weights only", "random h", "by lot", "random search"):
        other = digits.run(replace(SMALL, mode=mode), seed).isel(update=0)
        for name in ("valid", "test", "h"):
            xr.testing.assert_equal(other[name], first[name])
    grid = digits.run(replace(SMALL, mode="grid"), seed)["h"].isel(update=0)
    assert (grid != first["h"]).all()
    assert [len(np.unique(grid[:, i].round(4))) for i in range(2)] == list(SMALL.cells)


def test_weights_only_keeps_h_and_random_search_copies_nobody(seed):
    population, other = made(seed, mode="weights only")
    assert (population["h"] != population["h"].isel(update=0)).any()
    assert (other["h"] == other["h"].isel(update=0)).all()
    own = np.arange(SMALL.agents)[:, None]
    assert (other["parent"] != own).sum("agent").to_numpy().tolist() == [2, 2, 2, 0]
    assert (made(seed, mode="random search")[1]["parent"] == own).all()


def test_copies_have_the_perturbed_hyperparameters_of_their_parents(seed):
    """In a population and in one that is selected by lot; nobody else's change."""
    for mode in ("population", "by lot"):
        record = digits.run(replace(SMALL, mode=mode, sigma=0.01), seed)
        h, parent = record["h"].to_numpy(), record["parent"].to_numpy()
        for k in range(SMALL.updates - 1):
            moved = h[:, k + 1] - h[parent[:, k], k]
            copied = parent[:, k] != np.arange(SMALL.agents)
            assert (moved[~copied] == 0).all()
            assert (moved[copied] != 0).all()
            assert np.abs(moved).max() < 0.06, "six standard deviations"


def test_retrained_and_schedule_follow_the_population_with_new_weights(seed):
    population, last = made(seed, mode="retrained")
    assert (last["h"] == population["h"].isel(update=-1)).all()
    schedule = made(seed, mode="schedule")[1]["h"].to_numpy()
    for agent in range(SMALL.agents):
        line = agent
        for k in reversed(range(SMALL.updates)):
            if k < SMALL.updates - 1:
                line = int(population["parent"][line, k])
            np.testing.assert_array_equal(schedule[agent, k], population["h"][line, k])
    with pytest.raises(ValueError, match="needs the population of its seed"):
        digits.run(replace(SMALL, mode="schedule"), seed)


def test_selection_by_lot_is_blind(seed):
    """Over many updates who is replaced has no worse a score than who stays; under truncation it has."""
    setting = replace(SMALL, updates=40, steps=1)
    gap = {}
    for mode in ("population", "by lot"):
        record = digits.run(replace(setting, mode=mode), seed).isel(update=slice(-1))
        score, gone = record["valid"][..., -1].to_numpy(), (record["parent"] != np.arange(10)[:, None]).to_numpy()
        rank = np.argsort(np.argsort(score, 0), 0)[gone]
        gap[mode] = (rank.mean() - 4.5) / (np.sqrt(99 / 12) / np.sqrt(len(rank)))
    assert abs(gap["by lot"]) < 5
    assert gap["population"] < -5


def test_a_record_whose_copies_kept_their_h_shows_no_schedule(seed):
    """Nothing was drawn, so the difference between a copy's h and its parent's is no experiment."""
    rng, rows, n = np.random.default_rng(seed), [], 40
    own, luck = rng.uniform(-1, 1, n), np.zeros(n)
    for k in range(20):
        score = luck - (own - 1) ** 2 + 0.1 * rng.standard_normal(n)
        parent = np.arange(n)
        parent[np.argsort(score)[:10]] = rng.choice(np.argsort(score)[-10:], 10)
        rows.append(pd.DataFrame({"trial": np.arange(n), "time": k, "score": score, "h": own, "parent": parent}))
        luck = luck[parent] + 0.1 * rng.standard_normal(n)
    kept = pd.concat(rows, ignore_index=True)
    found = diagnose(runs.read(kept), draws=199)
    assert {found[name].verdict for name in ("schedule:h", "mutation:h")} == {"cannot tell"}
    assert "too few mutated copies" in found["schedule:h"].reason
    kept.loc[kept.index[-1], "h"] += 0.01  # one copy that moved: then the fault is back, as planted
    assert diagnose(runs.read(kept), draws=199)["schedule:h"].verdict == "yes"


def test_stored_populations_end_five_points_above_random_search_and_their_winners_less_than_two():
    """Over the sixteen splits, by Student's three standard errors; a population by lot ends no five points above."""
    data = digits.load()
    modes = list(data["mode"].to_numpy())
    score = data["score"].isel(update=-1, reading=-1).transpose("mode", "seed", "agent").to_numpy()
    test = data["test"].isel(update=-1).transpose("mode", "seed", "agent").to_numpy()
    winner = np.take_along_axis(test, score.argmax(-1)[..., None], -1)[..., 0]

    def ahead(values, mode):
        gap = values[modes.index(mode)] - values[modes.index("random search")]
        return gap.mean(), stats.t(len(gap) - 1).ppf(stats.norm.cdf(3)) * gap.std(ddof=1) / np.sqrt(len(gap))

    gain, error = ahead(test.mean(-1), "population")
    assert gain - error > 0.05
    assert ahead(test.mean(-1), "by lot")[0] < 0.05
    gain, error = ahead(winner, "population")
    assert gain + error < 0.02
    mean_gap = (winner - test.mean(-1))[modes.index("random search")].mean()
    assert mean_gap > 0.02, "a winner is further than that above its own population"


def test_the_images_are_those_that_their_note_names():
    note = (results.DATA / "digits.txt").read_text()
    assert hashlib.sha256((results.DATA / "digits.csv.gz").read_bytes()).hexdigest() in note


def test_a_slice_of_another_seed_is_not_the_stored_one(tmp_path):
    stored = results.load(digits.DATA)
    results.save(tmp_path / digits.DATA.name, stored.assign_coords(seed=stored["seed"] + 100), stored.attrs)
    assert digits.again(tmp_path / digits.DATA.name) < digits.STUDY.agreement


def test_bad_input_is_named(tmp_path):
    with pytest.raises(ValueError, match="mode is 'nothing'; allowed are 'population'"):
        Setting(mode="nothing")
    with pytest.raises(ValueError, match="of 1797 images none is left"):
        split(Setting(train=1000, valid=797), 0)
    with pytest.raises(ValueError, match="holds no runs on digits"):
        digits.load(results.DATA / "ray.nc")
    stored = results.load(digits.DATA)
    results.save(tmp_path / "part.nc", stored, stored.attrs | {"missing": ["grid, seed 1"]})
    with pytest.raises(ValueError, match="lacks 1 runs, the first is 'grid, seed 1'"):
        digits.load(tmp_path / "part.nc")
