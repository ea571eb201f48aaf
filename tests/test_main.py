"""The command line that makes and checks the stored data."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pbtlib import __main__ as command
from pbtlib import results
from pbtlib.studies import wells

pytestmark = pytest.mark.words
TINY = {"one": wells.Setting(agents=4, updates=1, replicates=200)}


@pytest.fixture
def tiny(monkeypatch):
    """A study of two blocks; the file of the paper's scale is another one."""
    study = replace(wells.STUDY, plan=lambda scale: wells.runs_of(TINY, len(scale)))
    monkeypatch.setattr(command, "STUDIES", {"wells": study})
    return study


def test_runs_are_listed_made_packed_and_verified(tiny, tmp_path, capsys):
    where = ["wells", "--scale", "quick", "--directory", str(tmp_path)]
    assert command.main(["list", *where]) == 0
    assert "2 runs planned, 0 made" in capsys.readouterr().out
    tiny.make(tiny.runs("quick")[0], tmp_path)
    assert command.main(["make", "--pack", *where]) == 0
    shown = capsys.readouterr().out
    assert "planned 2, made 1, missing 1" in shown
    assert "missing: one, block 1" in shown
    assert command.main(["list", *where]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["made  one, block 0", "-     one, block 1"]
    assert command.main(["make", "--jobs", "1", "--output", str(tmp_path / "all.nc"), *where]) == 0
    assert "all.nc: whole; runs planned 2, made 2, missing 0" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "expected"), [(["--jobs", "1"], 1), ([], 7)])
def test_as_many_runs_are_made_at_a_time_as_are_asked_for_or_as_there_are_processors(
    tiny, tmp_path, monkeypatch, words, expected
):
    asked, make_all = [], type(tiny).make_all

    def one_at_a_time(study, runs, directory, *, n_jobs, progress):
        asked.append(n_jobs)
        return make_all(study, runs, directory, n_jobs=1, progress=progress)

    monkeypatch.setattr(command, "processors", lambda: 7)
    monkeypatch.setattr(type(tiny), "make_all", one_at_a_time)
    assert command.main(["make", "wells", "--scale", "quick", "--directory", str(tmp_path), *words]) == 0
    assert asked == [expected]


def test_a_complete_file_is_neither_made_again_nor_replaced_by_less(tiny, tmp_path, capsys):
    words = ["make", "wells", "--output", str(tmp_path / "all.nc"), "--directory"]
    assert command.main([*words, str(tmp_path / "runs"), "--jobs", "1"]) == 0
    before = (tmp_path / "all.nc").read_bytes()
    assert command.main([*words, str(tmp_path / "new"), "--jobs", "1"]) == 0
    assert "nothing is left to be made" in capsys.readouterr().out
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "all.nc").read_bytes() == before
    runs = tiny.runs("quick")
    runs[1].path(tmp_path / "runs").unlink()
    tiny.make(runs[0], tmp_path / "new")
    part, meta = tiny.collect(runs, tmp_path / "runs")
    results.save(tmp_path / "all.nc", part, meta)
    runs[0].path(tmp_path / "new").unlink()
    assert command.main([*words, str(tmp_path / "new"), "--pack"]) == 1
    assert "no result of the planned runs" in capsys.readouterr().err
    assert results.load(tmp_path / "all.nc").attrs["runs"]["made"] == 1


def test_the_list_says_what_is_planned_stored_missing_and_how_long_it_takes(capsys):
    assert command.main(["list"]) == 0
    shown = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    for name, study in command.STUDIES.items():
        planned, stored, missing = shown[name][1:4]
        assert (int(planned), int(stored), int(missing)) == (len(study.runs("paper")), len(study.runs("paper")), 0)
        assert f"data/{study.file}," in shown[name]
    assert shown["cartpole"][5:7] == ["3.3", "h"]


def test_runs_are_kept_in_the_checkout_or_beside_where_one_works(tmp_path, monkeypatch):
    assert command.place(wells.STUDY, "quick") == command.ROOT / "_build" / "studies" / "wells" / "quick"
    monkeypatch.setattr(command, "ROOT", tmp_path)
    assert command.place(wells.STUDY, "quick") == Path("_build/studies/wells/quick")


def test_what_is_not_stored_is_missing(capsys):
    assert command.main(["list", "--scale", "quick"]) == 0
    shown = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    for name, study in command.STUDIES.items():
        assert shown[name][1:4] == [str(len(study.runs("quick"))), "-", str(len(study.runs("quick")))]


def test_a_slice_that_is_not_the_stored_one_fails(tiny, capsys, monkeypatch):
    path = results.DATA / tiny.file
    for share, code in ((tiny.agreement, 0), (tiny.agreement - 0.01, 1)):
        monkeypatch.setitem(command.STUDIES, "wells", replace(tiny, again=lambda path, share=share: share))
        assert command.main(["verify", "--remake", str(path)]) == code
        assert ("NOT made again" in capsys.readouterr().out) == bool(code)


@pytest.mark.parametrize("words", [[], ["list"], ["make"], ["verify"]])
def test_every_command_explains_itself(words, capsys):
    with pytest.raises(SystemExit) as left:
        command.main([*words, "--help"])
    assert left.value.code == 0
    assert "usage: python -m pbtlib" in capsys.readouterr().out


def test_modules_are_no_commands(tmp_path):
    """Only the package has a command line: a module that is run makes nothing, whatever it is told."""
    names = {study.compute.__module__ for study in command.STUDIES.values()}
    runs = [f"runpy.run_module({name!r}, {{}}, '__main__')" for name in sorted(names)]
    code = "\n".join(["import runpy, sys", "sys.argv[1:] = ['--help']", *runs])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert not done.stdout
    assert not list(tmp_path.iterdir())


def test_damage_is_found(tmp_path, capsys):
    broken = tmp_path / "broken.nc"
    broken.write_bytes(b"no data")
    assert command.main(["verify", str(broken), str(tmp_path / "absent.nc")]) == 1
    shown = capsys.readouterr().err
    assert "broken.nc" in shown
    assert "damaged" in shown
    assert "no such data file" in shown


def test_only_the_file_that_is_named_is_verified(tmp_path, capsys, monkeypatch):
    """Not the book's file of the same name, from whatever folder."""
    monkeypatch.chdir(tmp_path)
    for path in ("no/such/folder/one_well.nc", "one_well.nc"):
        assert command.main(["verify", path]) == 1
        shown = capsys.readouterr()
        assert "no such data file" in shown.err
        assert "whole" not in shown.out


def test_a_checkpoint_is_no_data_file(tmp_path, capsys):
    results.save_arrays(tmp_path / "one-seed0.checkpoint", {"h": np.zeros(3)}, {"next_update": 3})
    assert command.main(["verify", str(tmp_path / "one-seed0.checkpoint")]) == 1
    assert "one-seed0.checkpoint: the file counts no runs; it is a checkpoint" in capsys.readouterr().err


def test_a_directory_that_cannot_be_written_is_named(tiny, tmp_path, capsys):
    (tmp_path / "file").write_text("no directory")
    assert command.main(["make", "wells", "--jobs", "1", "--directory", str(tmp_path / "file")]) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_the_books_data_are_whole(capsys):
    assert command.main(["verify"]) == 0
    assert "cartpole_equivalence.nc: whole" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["make", "wells", "--scale", "huge"], "huge"),
        (["make", "nothing"], "'cartpole'"),
        (["make", "wells", "--jobs", "0"], "0 is not positive"),
        (["list", "--directory", "x"], "name it"),
        (["make", "wells", "--dask", "tcp://scheduler:8786", "--pack"], "--pack: not allowed with argument --dask"),
        (
            ["make", "wells", "--dask", "tcp://scheduler:8786", "--jobs", "2"],
            "--jobs: not allowed with argument --dask",
        ),
        (["make", "wells", "--jobs", "2", "--pack"], "--pack: not allowed with argument --jobs"),
        ([], "command"),
    ],
)
def test_wrong_commands_are_refused(words, message, capsys):
    with pytest.raises(SystemExit):
        command.main(words)
    assert message in capsys.readouterr().err
