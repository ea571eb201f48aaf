"""What the engine promises of every study: any interruption, any processes, the same bits and nothing left over."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pytest
from walks import TOY, Setting, compute

from pbtlib import results
from pbtlib.__main__ import STUDIES
from pbtlib.studies.study import SCALES, Run, Study

posix = pytest.mark.skipif(os.name != "posix", reason="kills and asks for processes as POSIX systems do")

HERE = Path(__file__).parent
FILES = sorted([*(run.path("").name for run in TOY.runs("quick")), "start.nc"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The small study, made without an interruption."""
    directory = tmp_path_factory.mktemp("whole")
    TOY.make_all(TOY.runs("quick"), directory)
    return directory


def same(one, other, study=TOY):
    data = [study.collect(study.runs("quick"), directory)[0] for directory in (one, other)]
    return data[0].equals(data[1])


def holds_nothing_else(directory):
    return sorted(path.name for path in directory.iterdir()) == FILES


def in_background(directory, jobs, code="TOY.make_all(TOY.runs('quick'), sys.argv[1], n_jobs=int(sys.argv[2]))"):
    """Make the small study in a process group of its own."""
    program = (
        f"import os, signal, sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from walks import TOY; {code}"
    )
    words = [sys.executable, "-c", program, str(directory), str(jobs)]
    return subprocess.Popen(words, start_new_session=True, stderr=subprocess.PIPE)


def kill(process):
    """Kill a process and its workers; return whether it was still running."""
    if running := process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return running


# ---------------------------------------------------------------------------------------------- interruptions


@posix
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.slow
@pytest.mark.words
def test_killed_at_random_moments_a_study_ends_with_the_same_bits(whole, tmp_path, rng, jobs):
    """Killed without warning, its workers too, three times at moments drawn since it began to write."""
    kills = 0
    for _ in range(3):
        before = len(list(tmp_path.iterdir()))
        process = in_background(tmp_path, jobs)
        while len(list(tmp_path.iterdir())) <= before and process.poll() is None:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.1))
        kills += kill(process)
    assert kills, "it was over before the first kill"
    TOY.make_all(TOY.runs("quick"), tmp_path, n_jobs=jobs)
    assert same(whole, tmp_path)
    assert holds_nothing_else(tmp_path)


def test_a_run_that_draws_without_a_key_is_seen(whole, tmp_path):
    """The fault that the comparison of bits has to notice: numbers that depend on what the process did before."""
    shared = np.random.default_rng(0)

    def careless(run, needed, checkpoint):
        return compute(run, needed, checkpoint, pause=0) + shared.standard_normal()

    study = replace(TOY, compute=careless)
    study.make_all(study.runs("quick"), tmp_path / "one")
    study.make_all(study.runs("quick"), tmp_path / "two")
    assert not same(tmp_path / "one", tmp_path / "two", study)


KILL_WHILE_WRITING = """
import xarray as xr
write = xr.Dataset.to_netcdf
def half(self, target, **options):
    write(self, target, **options)
    if sys.argv[2] in target.name:
        content = target.read_bytes()
        target.write_bytes(content[:len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
xr.Dataset.to_netcdf = half
TOY.make_all(TOY.runs('quick'), sys.argv[1])
"""


@posix
@pytest.mark.parametrize("what", ["walk_seed_2.nc", "walk_seed_2.checkpoint"])
@pytest.mark.words
def test_killed_in_the_middle_of_a_write_leaves_nothing_behind(whole, tmp_path, what):
    process = in_background(tmp_path, what, f"exec({KILL_WHILE_WRITING!r})")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert [path for path in tmp_path.iterdir() if path.name.startswith(f".{what}")], "nothing half written"
    TOY.make_all(TOY.runs("quick"), tmp_path)
    assert same(whole, tmp_path)
    assert holds_nothing_else(tmp_path)


@pytest.mark.words
def test_killed_between_a_result_and_its_tidying_leaves_nothing_behind(whole, tmp_path):
    for path in whole.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "walk_seed_2.checkpoint").write_bytes(b"superfluous")
    TOY.make_all(TOY.runs("quick"), tmp_path)
    assert holds_nothing_else(tmp_path)


@posix
@pytest.mark.words
def test_what_a_process_that_runs_is_writing_is_not_removed(whole, tmp_path):
    """Not that of another machine, either, nor what merely has a similar name."""
    begin = results._scratch(tmp_path / "walk_seed_2.nc")
    with subprocess.Popen([sys.executable, "-c", "pass"]) as ended:
        ended.wait()
    kept = [f"{begin}{os.getpid()}-ab", f".walk_seed_2.nc.elsewhere-{ended.pid}-ab", f"{begin}mine", ".walk_seed_2.nc"]
    for name in (*kept, f"{begin}{ended.pid}-ab"):
        (tmp_path / name).write_bytes(b"half")
    TOY.make_all(TOY.runs("quick"), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*FILES, *kept])


@posix
@pytest.mark.slow
@pytest.mark.words
def test_two_processes_on_one_directory_give_the_same_bits(whole, tmp_path):
    processes = [in_background(tmp_path, 1) for _ in range(2)]
    for process in processes:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said.decode()
    assert same(whole, tmp_path)
    assert holds_nothing_else(tmp_path)


# ---------------------------------------------------------------------------------------------- what is made


def test_a_finished_run_is_not_made_again(whole):
    def never(*_):
        raise AssertionError("it was made again")

    before = {path: path.stat().st_mtime_ns for path in whole.iterdir()}
    replace(TOY, compute=never).make_all(TOY.runs("quick"), whole)
    assert {path: path.stat().st_mtime_ns for path in whole.iterdir()} == before


def test_a_run_begins_when_the_one_it_needs_is_made(monkeypatch):
    """Otherwise both processes would make the needed one; it may stand in the plan or not."""
    log = []

    def make(self, run, directory):
        log.append(f"begin {run.name}")
        time.sleep(0.05)
        log.append(f"end {run.name}")
        return run.path(directory)

    monkeypatch.setattr(Study, "make", make)
    with joblib.parallel_config("threading"):
        TOY.make_all(TOY.runs("quick"), "nowhere", n_jobs=4)
    for run in TOY.runs("quick"):
        if run.after:
            assert log.index(f"end {run.after.name}") < log.index(f"begin {run.name}")
    assert len(log) == 2 * len(FILES)


def test_truncated_files_are_named_before_any_work(whole, tmp_path):
    """At any length; deleted, they are made again."""
    run = TOY.runs("quick")[2]
    content = run.path(whole).read_bytes()
    for length in (0, 7, 100, len(content) // 2, len(content) - 1):
        run.path(tmp_path).write_bytes(content[:length])
        with pytest.raises(ValueError, match=rf"{run.path('').name}.*(damaged|altered).*delete it"):
            TOY.make_all(TOY.runs("quick"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [run.path("").name]
    run.path(tmp_path).unlink()
    TOY.make_all(TOY.runs("quick"), tmp_path)
    assert same(whole, tmp_path)


def test_files_of_another_run_are_refused(whole):
    """Another parameter, another seed, another needed run: by what makes, lists and packs."""
    run = TOY.runs("quick")[0]
    for other in (
        replace(run, setting=Setting(agents=7)),
        replace(run, seed=5),
        replace(run, after=None),
        replace(run, after=replace(run.after, seed=7)),
    ):
        for refuses in (partial(TOY.make, other), partial(TOY.made, [other]), partial(TOY.collect, [other])):
            with pytest.raises(ValueError, match="made with other parameters; choose an empty one"):
                refuses(whole)


def test_runs_of_one_file_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"runs of one file 'a_b\.nc'"):
        TOY.make_all([Run("a b", Setting(), 0), Run("a|b", Setting(), 1)], tmp_path)


def test_packed_data_count_and_name_what_is_missing_and_where_it_comes_from(whole, tmp_path):
    runs, missing = TOY.runs("quick"), TOY.runs("quick")[3]
    for number, run in enumerate(set(runs) - {missing}):
        record = results.load(run.path(whole))
        versions = record.attrs["versions"] | {"numpy": f"9.{number % 2}"}
        meta = record.attrs | {"commit": "ab"[number % 2], "versions": versions, "wall_seconds": 2.0}
        results.save(run.path(tmp_path), record, meta)
    data, meta = TOY.collect(runs, tmp_path)
    assert data.sizes["run"] == len(runs) - 1
    assert meta["runs"] == {"planned": len(runs), "made": len(runs) - 1, "missing": 1}
    assert meta["missing"] == [missing.name]
    assert (meta["commit"], meta["versions"]["numpy"]) == ("a, b", "9.0, 9.1")
    assert meta["wall_seconds"] == 2 * (len(runs) - 1)
    assert meta["parameters"] == TOY.describe(runs)
    assert [meta["seed"], runs[1].seed] == [11, 0], "the seed is that of the first run"
    with pytest.raises(ValueError, match="no result of the planned runs"):
        TOY.collect(runs, tmp_path / "elsewhere")


def test_a_run_says_how_long_it_took(tmp_path):
    begun = time.perf_counter()
    run = TOY.runs("quick")[0]
    seconds = results.load(TOY.make(run, tmp_path)).attrs["wall_seconds"]
    assert 0 < seconds <= time.perf_counter() - begun


def test_a_directory_may_be_in_the_home(whole, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    TOY.make_all(TOY.runs("quick"), "~/runs")
    assert same(whole, tmp_path / "runs")
    assert holds_nothing_else(tmp_path / "runs")


def test_progress_counts_the_planned_runs(whole, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    run = TOY.runs("quick")[2]
    run.path(tmp_path).write_bytes(run.path(whole).read_bytes())
    TOY.make_all(TOY.runs("quick"), tmp_path, progress=True)
    shown = capsys.readouterr().err
    assert "1/6" in shown
    assert "6/6" in shown
    assert "7/" not in shown


# ---------------------------------------------------------------------------------------------- the book's studies


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
@pytest.mark.words
def test_the_stored_data_are_the_planned_study(study):
    """All of it is made, and the time that is announced is the time it took."""
    runs, path = study.runs("paper"), results.DATA / study.file
    assert study.stored(runs, path) == len(runs)
    assert study.stored(study.runs("quick"), path) is None
    assert study.seconds["paper"] == pytest.approx(results.load(path).attrs["wall_seconds"], rel=0.1)


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_every_run_has_a_file_and_a_page_of_its_own(study):
    for scale in SCALES:
        files = [run.path("").name for run in study.runs(scale)]
        assert len({name.lower() for name in files}) == len(files)
        assert all(name == name.strip(". ") and not set(name) & set('\\/:*?"<>| ') for name in files)
    assert (HERE.parent / "chapters" / "text" / f"{study.page}.md").read_text().count(study.file)
    with pytest.raises(ValueError, match="scale is 'huge'; allowed are 'quick', 'paper'"):
        study.runs("huge")


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_a_slice_of_the_stored_data_can_be_made_again(study):
    assert study.again(results.DATA / study.file) >= study.agreement


# ---------------------------------------------------------------------------------------------- whence the data came

ELSEWHERE = {
    ("one_well.nc", "f192d50ed728+"): "made of that commit with changes that none holds; it takes 80 minutes",
    ("cartpole_frozen.nc", "24dda335f069"): "made at a commit that did not come into this history",
}
"""Data files whose commit is not to be found, or not all of it, and why; slices of them are made again all the same."""


def history(folder, *words):
    return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)


def not_in(folder, commits):
    """Those of the commits named, parted by commas, that are no ancestors of what a checkout holds."""
    return [c for c in commits.split(", ") if history(folder, "merge-base", "--is-ancestor", c, "HEAD").returncode]


@pytest.fixture(scope="module")
def checkout():
    here = HERE.parent
    try:
        whole = history(here, "rev-parse", "--is-shallow-repository", "--show-toplevel").stdout.split("\n")
    except OSError:
        pytest.skip("no git, so no history to look the commits of data up in")
    if whole[0] != "false" or not Path(whole[1]).samefile(here):
        pytest.skip("no whole history here to look the commits of data up in")
    return here


@pytest.mark.words
@pytest.mark.parametrize("path", sorted(results.DATA.glob("*.nc")), ids=lambda path: path.name)
def test_the_commit_of_a_data_file_is_in_the_history_and_nothing_was_changed_beside_it(path, checkout):
    commit = results.load(path).attrs["commit"]
    assert (path.name, commit) in ELSEWHERE or not_in(checkout, commit) == []


@pytest.mark.words
def test_a_commit_from_elsewhere_or_with_changes_is_noticed(checkout):
    head = history(checkout, "rev-parse", "HEAD").stdout.strip()
    assert not_in(checkout, f"{head}, {head}+, {'0' * 40}, None") == [f"{head}+", "0" * 40, "None"]


def unlisted(page):
    """Data files that a page does not link to, and links to files that do not exist."""
    return {path.name for path in results.DATA.glob("*.nc")} ^ set(re.findall(r"\]\(\.\./data/([\w.]+\.nc)\)", page))


@pytest.mark.words
def test_every_data_file_is_named_where_the_book_says_how_to_make_it():
    page = (HERE.parent / "chapters" / "text" / "reproduce.md").read_text()
    assert unlisted(page) == set()
    assert unlisted(page.replace("cartpole_chaos.nc](../data/cartpole_chaos.nc", "that](cartpole_chaos.nc")) == {
        "cartpole_chaos.nc"
    }
