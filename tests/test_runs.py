"""What is read from tables and from directories of Ray Tune is what was written, and what is not is counted."""

import csv
import json
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from simulated import record

from pbtlib import results, runs
from pbtlib.diagnosis import diagnose
from pbtlib.runs import UNKNOWN, read, summary

SAMPLE = results.DATA / "ray_sample"


def truth(kind):
    """Every result of a sample as Ray handed it to a callback, by trial in the order of time."""
    by_trial = {}
    for line in (SAMPLE / kind / "every_result.jsonl").read_text().splitlines():
        result = json.loads(line)
        by_trial.setdefault(result["trial"], []).append(result)
    return by_trial


@pytest.fixture
def sample(tmp_path):
    """A copy of the synchronous sample that a test may damage."""
    shutil.copytree(SAMPLE / "synch", tmp_path / "run")
    return tmp_path / "run"


def counted(run, word):
    return sum(len(places) for kind, places in run.attrs["counted"].items() if word in kind)


# ------------------------------------------------------------------------------------------------- Ray's own files


@pytest.mark.parametrize("kind", ["synch", "asynch"])
def test_every_score_and_every_hyperparameter_of_ray_is_found_in_spite_of_holes(kind):
    run = read(SAMPLE / kind, score="fitness")
    for i, rows in truth(kind).items():
        for name, key in {"score": "fitness", "h1": "h1", "h2": "h2", "time": "training_iteration"}.items():
            np.testing.assert_array_equal(run[name].to_numpy()[i, : len(rows)], [row[key] for row in rows])
    assert counted(run, "result.json lost") == 7
    assert run.attrs["synchronous"] == (kind == "synch")


@pytest.mark.parametrize("kind", ["synch", "asynch"])
def test_a_copy_trains_with_what_its_parent_had_times_the_factors_of_ray(kind):
    """The parents are right: h of the copy is the parent's times 1.2 or 0.8, or fresh (a quarter of the draws)."""
    run = read(SAMPLE / kind, score="fitness")
    parent, factors = run["parent"].to_numpy(), []
    for i, k in np.argwhere((parent != UNKNOWN) & (parent != np.arange(8)[:, None])):
        source = run.isel(trial=parent[i, k])
        factors += [
            np.nanmin(np.abs(run[h].to_numpy()[i, k + 1] / source[h].to_numpy() - [[1.2], [0.8]])) for h in ("h1", "h2")
        ]
    known = np.array(factors) < 1e-9
    assert len(known) == {"synch": 16, "asynch": 24}[kind]
    assert known.mean() > 0.5


def test_the_last_trial_to_arrive_is_written_with_the_iteration_before():
    """In the sample trial 7 is logged at iterations 0 and 2; it was replaced after 1 and 3."""
    parent = read(SAMPLE / "synch", score="fitness")["parent"].to_numpy()
    assert np.argwhere(parent[7] != 7).ravel().tolist() == [0, 2]
    assert ((parent != np.arange(8)[:, None]).sum(0) == [2, 2, 2, 2, 0]).all()


def test_the_score_is_named_or_the_choice_is_shown():
    with pytest.raises(ValueError, match="one of fitness, theta1, theta2"):
        read(SAMPLE / "synch")
    with pytest.raises(ValueError, match="score is 'loss'"):
        read(SAMPLE / "synch", score="loss")
    turned = read(SAMPLE / "synch", score="fitness", mode="min")
    assert (turned["score"] == -read(SAMPLE / "synch", score="fitness")["score"]).all()


def test_an_older_layout_reads_the_same(sample):
    """Trials one folder down, under random ids, with the index in the folder's name; no progress.csv in one of them."""
    whole = read(sample, score="fitness")
    (sample / "driver").mkdir()
    (sample / "pbt_global.txt").rename(sample / "driver" / "pbt_global.txt")
    for i in range(8):
        old, new = sample / f"trial_0000{i}", sample / "driver" / f"Quadratic_{i}_h1=0.5,h2=1_2021-01-01"
        old.rename(new)
        for name in ("progress.csv", "result.json"):
            text = (new / name).read_text().replace(f"demo_0000{i}", f"{i}f3ab{i}")
            (new / name).write_text(text)
    run = read(sample, score="fitness")
    for name in ("score", "parent", "h1", "h2"):
        np.testing.assert_array_equal(run[name], whole[name])


def test_without_progress_the_holes_of_result_json_are_missing_and_named(sample):
    for path in sample.rglob("progress.csv"):
        path.unlink()
    run = read(sample, score="fitness")
    assert int(run["score"].isnull().sum()) == 7
    assert counted(run, "results missing") + counted(run, "ended early") >= 1
    assert counted(run, "without progress.csv") == 8


def test_cut_lines_are_counted(sample):
    with (sample / "trial_00003" / "progress.csv").open("a") as file:
        file.write("-1.5,0.3,0.")
    with (sample / "pbt_global.txt").open("a") as file:
        file.write('["3_h1=0.1,h2=0.2", "5_h1')
    with (sample / "trial_00003" / "result.json").open("a") as file:
        file.write('{"fitness": -1.')
    run = read(sample, score="fitness")
    assert counted(run, "cut off") == 3
    np.testing.assert_array_equal(run["score"], read(SAMPLE / "synch", score="fitness")["score"])
    assert "3 × line cut off" in summary(run)


def test_a_score_that_is_no_number_is_nan_and_counted(sample):
    path = sample / "trial_00002" / "progress.csv"
    rows = list(csv.reader(path.read_text().splitlines()))
    rows[2][0] = "nan"
    path.write_text("".join(",".join(row) + "\r\n" for row in rows))
    run = read(sample, score="fitness")
    assert np.isnan(run["score"].to_numpy()[2, 1])
    assert counted(run, "no finite number") == 1


def test_a_trial_that_died_is_named(sample):
    shutil.copy(sample / "trial_00004" / "progress.csv", sample / "keep.csv")
    lines = (sample / "keep.csv").read_text().splitlines()[:3]
    (sample / "trial_00004" / "progress.csv").write_text("\r\n".join([*lines, ""]))
    (sample / "trial_00004" / "result.json").unlink()
    (sample / "trial_00004" / "error.txt").write_text("Failure # 1 (occurred at some time)\nValueError: diverged\n")
    (sample / "trial_00006" / "progress.csv").write_text("")
    (sample / "trial_00006" / "result.json").write_text("")
    run = read(sample, score="fitness")
    assert run.attrs["counted"]["trial that failed"] == ("trial_00004 (1 failures)",)
    assert run.attrs["counted"]["trial that ended early"] == ("demo_00004: 2 of 5 results",)
    assert run.attrs["counted"]["trial without a result, omitted"] == ("trial_00006",)
    assert counted(run, "copies into a trial without results") == 1
    assert counted(run, "parent without results") >= 1


def test_results_that_a_restart_made_again_count_once(sample):
    """Trial 4 was never replaced; after a crash it went on from iteration 2 and made 3, 4, 5 again."""
    path = sample / "trial_00004" / "progress.csv"
    lines = path.read_text().splitlines()
    again = [f"9.5{line[line.index(',') :]}" for line in lines[3:]]
    path.write_text("\r\n".join([*lines, *again, ""]))
    (sample / "trial_00004" / "result.json").unlink()
    run = read(sample, score="fitness")
    assert run["score"].to_numpy()[4, 2:].tolist() == [9.5] * 3
    assert counted(run, "started again") == 3


def test_two_folders_of_one_trial_are_an_error(sample):
    shutil.copytree(sample / "trial_00001", sample / "trial_00001_again")
    with pytest.raises(ValueError, match="are both trial 'demo_00001'"):
        read(sample, score="fitness")


def test_no_pickle_is_opened(sample, monkeypatch):
    (sample / "trial_00001" / "params.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    monkeypatch.setitem(sys.modules, "pickle", None)
    read(sample, score="fitness")


def test_text_and_nested_hyperparameters_and_lists(sample):
    for i in range(8):
        path = sample / f"trial_0000{i}" / "result.json"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["config"] |= {"opt": {"name": "adam" if i % 2 else "sgd"}, "layers": [8, 8]}
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (sample / "pbt_global.txt").unlink()
    run = read(sample, score="fitness")
    assert run["opt/name"].to_numpy()[1, 0] == "adam"
    assert run.attrs["constant"] == {"layers": "[8, 8]"}
    assert counted(run, "parents unknown") == 1
    assert (run["parent"] == UNKNOWN).all()


# ------------------------------------------------------------------------------------------------- small directories


@pytest.fixture
def written(tmp_path):
    """Writes a directory of Ray Tune with these results of each trial, by the name of its folder."""

    def write(trials, name="trial_{}"):
        for i, rows in enumerate(trials):
            place = tmp_path / "small" / name.format(i)
            place.mkdir(parents=True)
            lines = [
                {"merit": v, "training_iteration": t, "trial_id": f"t_{i:05}", "config": {"lr": i}} for t, v in rows
            ]
            (place / "result.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return tmp_path / "small"

    return write


def test_one_metric_needs_no_name_and_one_result_is_a_run(written):
    run = read(written([[(1, 0.5)], [(1, 0.7)]]))
    assert run["score"].to_numpy().tolist() == [[0.5], [0.7]]
    assert run["lr"].to_numpy().tolist() == [[0.0], [1.0]]


def test_trials_without_a_number_are_kept_and_told(written):
    folder = written([[(1, 0.5), (2, 0.6)], [(1, 0.7), (2, 0.8)]])
    for path in folder.rglob("result.json"):
        path.write_text(path.read_text().replace("t_0000", "name"))
    run = read(folder)
    assert run.sizes["trial"] == 2
    assert counted(run, "without an index") == 2


def test_a_line_that_is_cut_is_named_by_its_number(written):
    folder = written([[(1, 0.5), (2, 0.6)], [(1, 0.7), (2, 0.8)]])
    with (folder / "trial_0" / "result.json").open("a") as file:
        file.write('{"merit": 1')
    assert read(folder).attrs["counted"]["line cut off or malformed, omitted"] == ("trial_0/result.json line 3",)


@pytest.mark.parametrize(("time", "kind"), [(2, "fits nowhere"), (3, "only result.json holds")])
def test_a_result_of_result_json_alone_counts_only_if_it_is_later(written, time, kind):
    folder = written([[(1, 0.5), (2, 0.6), (time, 0.9)]])
    (folder / "trial_0" / "progress.csv").write_text(
        "merit,training_iteration,trial_id\r\n0.5,1,t_00000\r\n0.6,2,t_00000\r\n"
    )
    run = read(folder)
    assert counted(run, kind) == 1
    assert run["score"].to_numpy()[0].tolist() == [0.5, 0.6, *([0.9] if time == 3 else [])]


@pytest.mark.parametrize(("times", "source_at", "told"), [((1, 2, 5), 4, {2: 7}), ((1, 2, 1), 0, {})])
def test_of_two_places_for_a_copy_that_counts_after_which_time_goes_on_from_the_parents(
    written, times, source_at, told
):
    """The copy may be after result 1 or 2; the third result is one after the parent's, and a configuration may tell."""
    folder = written([[(time, 0.5) for time in times], [(1, 0.7), (2, 0.7), (3, 0.8), (4, 0.8)]])
    rows = (folder / "trial_0" / "result.json").read_text().splitlines()
    known = [rows[0], *(rows[k].replace('"lr": 0', f'"lr": {lr}') for k, lr in told.items())]
    (folder / "trial_0" / "result.json").write_text("\n".join([*known, ""]))
    table = ["merit,training_iteration,trial_id", *(f"0.5,{time},t_00000" for time in times), ""]
    (folder / "trial_0" / "progress.csv").write_text("\r\n".join(table))
    copy = ["0_lr=0", "1_lr=1", 1, source_at, {"lr": 1}, {"lr": 7}]
    (folder / "pbt_global.txt").write_text(json.dumps(copy) + "\n")
    assert read(folder, score="merit")["parent"].to_numpy()[0, :2].tolist() == [0, 1]


# ------------------------------------------------------------------------------------------------- tables


def test_a_table_and_its_csv_file_are_the_same_run(tmp_path):
    frame = record("merit", 3, trials=8, updates=4)
    frame.to_csv(tmp_path / "run.csv", index=False)
    by_frame, by_file = read(frame), read(tmp_path / "run.csv")
    assert by_frame.identical(by_file)
    wide = frame.pivot(index="trial", columns="time", values="score").to_numpy()
    np.testing.assert_array_equal(by_frame["score"], wide)
    assert by_frame.attrs["synchronous"]
    assert by_frame.attrs["counted"] == {}


def test_a_hyperparameter_that_is_known_once_only_is_constant():
    rows = {"trial": ["a", "a", "b", "b"], "time": [1, 2, 1, 2], "score": 0.0, "lr": [0.1, np.nan, np.nan, np.nan]}
    run = read(pd.DataFrame(rows | {"size": ["small", "small", "large", "large"]}))
    assert run.attrs["constant"] == {"lr": 0.1}
    assert run["size"].to_numpy().tolist() == [["small"] * 2, ["large"] * 2]


@pytest.mark.parametrize("times", [[1, 2, 3, 2], [1, 2, 3, 3]])
def test_time_that_does_not_go_on_is_an_error_that_names_the_trial(times):
    frame = pd.DataFrame({"trial": "a", "time": times, "score": 0.0, "lr": 0.1})
    with pytest.raises(ValueError, match=r"time of trial 'a' (goes back|stands still) from 3 \(row 2\)"):
        read(frame)


def test_time_may_go_back_where_a_parent_was_copied():
    rows = {"trial": ["a", "b", "a", "b", "b"], "time": [1, 1, 2, 2, 2], "score": range(5), "lr": [1, 2, 1, 2, 3]}
    run = read(pd.DataFrame({**rows, "parent": ["a", "b", "a", "a", "b"]}))
    assert run["time"].to_numpy()[1].tolist() == [1, 2, 2]
    assert not run.attrs["synchronous"]


def test_broken_tables_give_named_errors_or_counts(tmp_path):
    good = {"trial": ["a", "b"], "time": [1, 1], "score": [0.5, 0.7], "lr": [1, 2]}
    with pytest.raises(ValueError, match="score is 'accuracy'; the table has no such column, only trial"):
        read(pd.DataFrame(good), score="accuracy")
    twice = pd.DataFrame(good)
    twice.columns = ["trial", "time", "score", "time"]
    with pytest.raises(ValueError, match=r"columns \['time'\] twice"):
        read(twice)
    run = read(pd.DataFrame({**good, "parent": ["b", "zoe"], "score": ["0.5", "?"]}))
    assert counted(run, "no trial of the table (zoe)") == 1
    assert counted(run, "no finite number") == 1
    assert run["parent"].to_numpy().ravel().tolist() == [1, UNKNOWN]
    (tmp_path / "cut.csv").write_text("trial,time,score,lr\na,1,0.5,1\nb,1,0.7,2\na,2\n,2,1,1\n")
    run = read(tmp_path / "cut.csv")
    assert run.attrs["counted"] == {
        "line cut off or malformed, omitted": (f"{tmp_path.name}/cut.csv line 4",),
        "row without trial or time, omitted": (f"{tmp_path.name}/cut.csv line 5",),
    }
    with pytest.raises(ValueError, match="these names are taken"):
        read(pd.DataFrame({**good, "interval": [1, 2]}))
    with pytest.raises(TypeError, match="source is a list"):
        read([1, 2])
    with pytest.raises(FileNotFoundError, match=r"no progress\.csv"):
        read(tmp_path)
    with pytest.raises(ValueError, match="mode is 'up'"):
        read(pd.DataFrame(good), mode="up")


def test_a_table_without_rows_is_an_error(tmp_path):
    (tmp_path / "empty.csv").write_text("trial,time,score\n")
    with pytest.raises(ValueError, match="no row that could be read"):
        read(tmp_path / "empty.csv")


@pytest.mark.parametrize(
    ("lost", "kind"),
    [(-1e160, "beyond 1e+150"), (1e300, "beyond 1e+150"), (10**400, "no finite")],
    ids=["-1e160", "1e300", "10^400"],
)
def test_a_score_of_a_trial_that_diverged_is_counted_and_diagnosed_as_none(lost, kind):
    frame = record("merit", 3, trials=40, updates=15).astype({"score": object})
    frame.loc[163, "score"] = lost
    run = read(frame)
    assert counted(run, kind) == 1
    assert "row 163" in summary(run)
    frame.loc[163, "score"] = np.nan
    said = [[(f.name, f.verdict) for f in diagnose(one, draws=199).findings] for one in (run, read(frame))]
    assert said[0] == said[1]


def test_a_hyperparameter_beyond_all_squares_is_unknown_and_counted():
    frame = record("merit", 3, trials=8, updates=4)
    frame.loc[9, "h"], frame.loc[18, "h"] = 1e200, np.inf
    run = read(frame)
    assert run.attrs["counted"] == {
        "hyperparameter beyond 1e+150 in size, unknown": ("h of 1, result 2", "h of 2, result 3")
    }
    assert int(run["h"].isnull().sum()) == 2


def test_a_misread_offset_would_be_seen(monkeypatch):
    """Planted: the late trial's iteration taken at its word. Trial 7's first copy then fits no result."""
    fits = runs._fits
    monkeypatch.setattr(
        runs, "_fits", lambda c, rows, r: fits(c, rows, r) if rows[r].time == c.replaced_at else -np.inf
    )
    run = read(SAMPLE / "synch", score="fitness")
    assert counted(run, "copy that fits no result") >= 1
