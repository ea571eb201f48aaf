"""Ray Tune's runs: the file keeps the engine's rule, a misreading breaks it, and where Ray is installed it runs."""

import importlib.util
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from pbtlib import results
from pbtlib.studies.ray_tune import DATA, STUDY, Design, load, replaced, replay, timeline

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
