"""Ray Tune's runs: the file keeps the engine's rule, a misreading breaks it, and where Ray is installed it runs."""

import importlib.util
import itertools
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from pbtlib import results
from pbtlib.studies import ray_tune
from pbtlib.studies.ray_tune import DATA, STUDY, Design, load, replaced, replay, timeline
from pbtlib.studies.study import Run

ROOT = Path(__file__).resolve().parent.parent
NAMES = ["additive", "default", "ten trials", "toy", "toy, weights only", "toy, hyperparameters only"]


@pytest.mark.parametrize("name", NAMES)
def test_every_update_of_ray_is_the_one_that_its_rule_asks_for(name):
    runs = load(name)
    assert (replay(runs).to_array() == 0).all()
    copied = runs["parent"].to_numpy() != np.arange(runs.sizes["trial"])
    assert (copied.sum(-1) == replaced(Design(**runs.attrs["design"]))).all()


def test_misreadings_of_the_rule_break_it():
    """Planted: 20 per cent for 25; parents from the middle; weights that were not copied."""
    runs = load("additive")
    assert (replay(runs, 0.2)["wrong"] == 1).all()
    best = runs["score"].argmax("trial").isel(interval=0)
    order = np.argsort(runs["score"].to_numpy()[0, 0])
    shifted = runs.copy(deep=True)
    shifted["parent"][0, 0, order[0]] = order[16]
    found = replay(shifted).isel(run=0, update=0)
    assert (int(found["outside"]), int(found["altered"])) == (1, 1)
    assert int(best[0]) == order[-1]


def test_a_quarter_of_ten_trials_is_three_of_them():
    """Planted: the paper's ⌊qN⌋ = 2."""
    runs = load("ten trials")
    assert ((runs["parent"].to_numpy() != np.arange(10)).sum(-1) == 3).all()
    assert (replay(runs, 0.2)["wrong"] == 1).all()


def test_trials_that_inherit_less_keep_the_rest():
    """The toy's trials keep their own h, or their own θ; read as Ray's usual copies they are altered."""
    weights = load("toy, weights only")
    assert (weights["h"] == np.eye(2)).all()
    trained = 1.2 - 1.62 * 0.96**100
    assert np.allclose(weights["score"].isel(interval=-1).max("trial"), trained, rtol=0, atol=1e-12)
    own = load("toy, hyperparameters only")
    assert (own["after"].to_numpy()[:, :-1] == own["before"].to_numpy()[:, 1:]).all()
    misread = own.assign_attrs(design={**own.attrs["design"], "inherit": "both"})
    assert (replay(misread)["altered"] > 0).any()


def test_asynchronous_trials_all_arrive_and_some_go_back():
    stored = results.load(DATA)
    for number in range(stored.attrs["parameters"]["asynchronous"]["runs"]):
        rows, copies = timeline(stored, "asynchronous", number)
        reached = rows[rows[:, 1] == 10]
        assert set(reached[:, 0]) == set(range(32))
        repeated = len(rows) - len({tuple(row) for row in rows[:, :2].tolist()})
        assert 0 < repeated < len(copies)
    with pytest.raises(ValueError, match="name is 'asynchronous'; of asynchronous runs there is no cross-section"):
        load("asynchronous")


def test_parents_are_drawn_uniformly_from_the_best():
    """Eight ranks of leaders, equally often parents: chi-square at 10⁻⁶."""
    from scipy import stats

    uses = np.zeros(8)
    for name in ("additive", "default"):
        runs = load(name)
        parent = runs["parent"].to_numpy()
        rank = np.argsort(np.argsort(runs["score"].to_numpy()[:, :-1], -1, kind="stable"), -1)
        copied = parent != np.arange(32)
        uses += np.bincount(np.take_along_axis(rank, parent, -1)[copied] - 24, minlength=8)
    assert stats.chisquare(uses).pvalue > 1e-6


def test_single_steps_of_ray_have_the_laws_of_their_rule():
    """Noise of training and perturbation, over their sizes, have squares of mean 1, and training forgets as it must.

    Within five standard errors, 6·10⁻⁷ each. Planted: 40 steps of training, a perturbation of 0.12.
    """
    runs = load("additive")
    h, parent = runs["h"].to_numpy(), runs["parent"].to_numpy()
    copied = parent != np.arange(32)
    moved = (h[:, 1:] - np.take_along_axis(h[:, :-1], parent[..., None], 2))[copied].ravel()
    begun, ended = (runs[name].to_numpy() - h[..., :1] for name in ("before", "after"))

    def off(normal):
        return (normal**2 - 1).sum() / np.sqrt(2 * normal.size)

    def trained(steps):
        kept = 0.98 ** np.arange(steps)
        size = 0.1 * abs(h[..., 1:]) * np.sqrt((kept**2).sum())
        noise, start = (ended - 0.98**steps * begun) / size, begun / size
        return off(noise), (noise * start).sum() / np.sqrt((start**2).sum())

    assert np.abs([*trained(50), off(moved / 0.1)]).max() < 5
    assert min(*np.abs(trained(40)), abs(off(moved / 0.12))) > 5


def test_quantiles_round_up_as_ray_rounds_them():
    pairs = [(32, 0.25, 8), (10, 0.25, 3), (100, 0.07, 8), (2, 0.5, 1), (3, 0.5, 1), (8, 0.0, 0)]
    for n, q, m in pairs:
        assert replaced(Design(trials=n, quantile=q)) == m


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match="problem is 'cubic'; allowed are 'quadratic', 'toy'"):
        Design(problem="cubic")
    with pytest.raises(ValueError, match="inherit is 'all'; allowed are 'both', 'weights', 'hyperparameters'"):
        Design(inherit="all")
    with pytest.raises(ValueError, match="name is 'nobody'; the file holds"):
        load("nobody")
    with pytest.raises(ValueError, match="name and number are 'default' and 99"):
        timeline(results.load(DATA), "default", 99)


def test_without_ray_the_extra_is_named(tmp_path):
    script = (
        "import sys; sys.modules['ray'] = None\n"
        "from pathlib import Path\n"
        "from pbtlib.studies.ray_tune import STUDY\n"
        "STUDY.make(STUDY.runs('quick')[0], Path(sys.argv[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert "environment of their own with pbtlib and the extra 'ray'" in done.stderr.splitlines()[-1]
    assert not list(tmp_path.glob("*.nc"))


# ---------------------------------------------------------------------------------------------- trials without Ray


@pytest.fixture
def stage(monkeypatch, tmp_path):
    """A stand-in for Ray that asks every trial for its intervals, in turn, and copies nobody."""
    seen = SimpleNamespace(started=False, begun=[], schedulers=[], h2=0.0)

    class Trainable:
        def __init__(self, number, config):
            self.trial_id = f"trial_{number:05}"
            self.setup(config)

    class Tuner:
        def __init__(self, trial, *, param_space, tune_config, run_config):
            self.trial, self.space, self.tuning, self.running = trial, param_space, tune_config, run_config

        def fit(self):
            grids = [[{"h1": v} for v in self.space["h1"]] if isinstance(self.space["h1"], list) else [{}]]
            configs = [first for _ in range(self.tuning.num_samples) for first in itertools.chain(*grids)]
            for i, config in enumerate(configs):
                known = {"h1": 2.0, "h2": seen.h2} if not config else {**config, "h2": self.space["h2"](config)}
                trial = self.trial(i, known)
                for k in range(self.running.stop["training_iteration"]):
                    result = {**trial.step(), "training_iteration": k + 1}
                    for callback in self.running.callbacks:
                        callback.on_trial_result(k, [], trial, result)

    ray, tune, schedulers = (ModuleType(name) for name in ("ray", "ray.tune", "ray.tune.schedulers"))
    vars(ray).update(
        tune=tune, __version__="0", is_initialized=lambda: seen.started, init=lambda **k: seen.begun.append(k)
    )
    vars(tune).update(
        Trainable=Trainable, Callback=object, Tuner=Tuner, TuneConfig=SimpleNamespace, RunConfig=SimpleNamespace,
        uniform=lambda low, high: (low, high), grid_search=list, sample_from=lambda f: f, with_resources=lambda t, _: t,
    )  # fmt: skip
    schedulers.PopulationBasedTraining = lambda **words: seen.schedulers.append(words)
    for module in (ray, tune, schedulers):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    seen.rows = lambda design: ray_tune._ray(design, tmp_path)[0]
    return seen


def test_a_copy_that_ray_logged_is_kept_by_the_numbers_of_its_trials(monkeypatch, tmp_path):
    lines = [["12_h1=0.5,h2=1_2", "7_h1=-1.0,h2=3_4", 1, 2, {}, {}], ["0_h1=0", "31_h1=1", 3, 3, {}, {}]]
    monkeypatch.setattr(ray_tune, "_ray", lambda design, folder: (np.zeros((2, 9)), lines, "0"))
    made = ray_tune.compute(Run("a run", Design(), 0), None, tmp_path)
    assert made["copy"].values.tolist() == [[12, 7, 1, 2], [0, 31, 3, 3]]
    assert made["row"].dims == ("result", "column")


def test_a_trial_of_the_toy_descends_its_own_loss(stage):
    """Ten steps of −2hθ at 0.02 in an interval: the coordinate with h = 1 shrinks by 0.96¹⁰, the other stays."""
    rows = stage.rows(Design(problem="toy", trials=2, intervals=3))
    assert rows[:, :2].tolist() == [[i, k] for i in (0, 1) for k in (1, 2, 3)]
    for i, h in ((0, [1.0, 0.0]), (1, [0.0, 1.0])):
        for row in rows[rows[:, 0] == i]:
            k = row[1]
            before, after = (0.9 * 0.96 ** (10 * n * np.array(h)) for n in (k - 1, k))
            np.testing.assert_allclose(row[3:], [*h, *before, *after], rtol=1e-12)
            assert row[2] == pytest.approx(1.2 - (after**2).sum(), rel=1e-12)


@pytest.mark.parametrize("noise", [0.0, 1.0, -1.0])
def test_a_trial_of_the_quadratic_relaxes_to_its_h_with_noise_of_its_strength(stage, noise):
    """Fifty Euler steps of dθ = −2(θ − h₁)dt + |h₂|dB at 0.01; at 64 trials chi-square of 128 at 10⁻⁶."""
    stage.h2 = noise
    rows = stage.rows(Design(trials=64, intervals=2))
    rows = rows[rows[:, 1] == 2]
    left = 0.98**50
    rest = rows[:, 7:9] - 2.0 - left * (rows[:, 5:7] - 2.0)
    if noise == 0:
        assert np.abs(rest).max() < 1e-12
    else:
        sum_ = np.square(rest).sum() / (0.01 * (1 - left**2) / (1 - 0.98**2))
        assert 72 < sum_ < 206
    np.testing.assert_allclose(rows[:, 2], 1.2 - np.square(rows[:, 7:9]).sum(-1), rtol=1e-12)


def test_a_copy_is_mutated_by_a_tenth_and_stays_positive_in_the_toy_alone(stage):
    for problem, least in (("quadratic", -1.0), ("toy", 0.0)):
        stage.rows(Design(problem=problem, trials=2, intervals=2))
        explore = stage.schedulers[-1]["custom_explore_fn"]
        moved = np.array([[*explore({"h1": 0.0, "h2": 0.0}).values()] for _ in range(500)])
        assert (moved.min() < 0) == (least < 0)
        assert 0.08 < np.sqrt(np.mean(moved**2)) < 0.12


def test_ray_is_started_once_and_at_home(stage):
    stage.rows(Design(trials=2, intervals=2))
    assert [words["address"] for words in stage.begun] == ["local"]
    stage.started = True
    stage.rows(Design(trials=2, intervals=2))
    assert len(stage.begun) == 1


if importlib.util.find_spec("ray"):  # an environment of its own

    @pytest.mark.slow
    def test_ray_runs_here_and_keeps_its_rule(tmp_path):
        runs = STUDY.runs("quick")
        STUDY.make_all(runs, tmp_path, n_jobs=1)
        data, meta = STUDY.collect(runs, tmp_path)
        results.save(tmp_path / "ray.nc", data, meta)
        for name in ("additive", "toy, weights only", "toy, hyperparameters only"):
            assert (replay(load(name, tmp_path / "ray.nc")).to_array() == 0).all(), name
        made = load("additive", tmp_path / "ray.nc")
        assert made.attrs["design"] == asdict(Design(trials=8, intervals=3))
        assert (replay(made, 0.125).to_array() != 0).any()
        assert (load("toy, weights only", tmp_path / "ray.nc")["h"] == np.eye(2)).all()
