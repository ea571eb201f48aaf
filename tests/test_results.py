"""Data files round-trip exactly, and a damaged or altered one is refused."""

import os
import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pbtlib import results

KINDS = [np.float64, np.float32, np.int64, np.int32, np.uint8, np.uint64, np.bool_]


@pytest.fixture
def data():
    return xr.Dataset({"x": (("k", "agent"), np.arange(6.0).reshape(2, 3))}, {"agent": ["a", "b", "c"]})


def test_round_trip_keeps_labels_values_and_provenance(tmp_path, data):
    meta = results.provenance({"beta": 1.5, "rule": "gibbs"}, seed=3, wall_seconds=1.25, planned=4, made=3)
    results.save(tmp_path / "deep" / "x.nc", data, meta)
    back = results.load(tmp_path / "deep" / "x.nc")
    xr.testing.assert_equal(back, data)
    assert back.attrs == meta
    assert meta["runs"] == {"planned": 4, "made": 3, "missing": 1}
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["x.nc"]


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_arrays_round_trip_bit_for_bit(tmp_path_factory, data):
    kind = data.draw(st.sampled_from(KINDS))
    array = data.draw(hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)))
    path = tmp_path_factory.mktemp("a") / "c.nc"
    results.save_arrays(path, {"a": array, "b": np.arange(3)}, {"k": 7})
    back, meta = results.load_arrays(path)
    assert meta == {"k": 7}
    assert back["a"].dtype == array.dtype
    assert back["a"].shape == array.shape
    assert back["a"].tobytes() == array.tobytes()


def test_a_notebook_finds_the_data_from_any_folder(tmp_path, data, monkeypatch):
    kept = tmp_path / "package" / "data"
    results.save(kept / "x.nc", data, {})
    monkeypatch.setattr(results, "DATA", kept)
    monkeypatch.chdir(tmp_path)
    xr.testing.assert_equal(results.load("../data/x.nc"), data)
    with pytest.raises(FileNotFoundError):
        results.load(tmp_path / "x.nc")
    with pytest.raises(FileNotFoundError):
        results.load("../data/other.nc")


def test_altered_value_is_refused(tmp_path, data):
    results.save(tmp_path / "x.nc", data, {})
    with xr.open_dataset(tmp_path / "x.nc", engine="h5netcdf") as opened:
        forged = opened.load()
    forged["x"][0, 0] = 1e-9
    forged.to_netcdf(tmp_path / "x.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match="altered"):
        results.load(tmp_path / "x.nc")


def test_altered_provenance_is_refused(tmp_path, data):
    path = tmp_path / "x.nc"
    results.save(path, data, {"seed": 1})
    with xr.open_dataset(path, engine="h5netcdf") as opened:
        forged = opened.load()
    forged.attrs["meta"] = '{"seed": 2}'
    forged.to_netcdf(path, engine="h5netcdf")
    with pytest.raises(ValueError, match="altered"):
        results.load(path)


def test_truncated_foreign_and_missing_files_are_refused(tmp_path, data):
    path = tmp_path / "x.nc"
    with pytest.raises(FileNotFoundError, match=r"x\.nc"):
        results.load(path)
    results.save(path, data, {})
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="damaged"):
        results.load(path)
    data.to_netcdf(path, engine="h5netcdf")
    with pytest.raises(ValueError, match="no provenance"):
        results.load(path)


def test_failed_write_keeps_the_old_file(tmp_path, data):
    path = tmp_path / "x.nc"
    results.save(path, data, {"version": 1})
    with pytest.raises(ValueError, match="dtype"):
        results.save(path, xr.Dataset({"x": ("k", np.array([object()]))}), {"version": 2})
    assert results.load(path).attrs == {"version": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.nc"]


def test_what_the_system_says_stands_once_in_the_error(tmp_path, data):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="could not be written") as raised:
        results.save(tmp_path / "file" / "x.nc", data, {})
    assert str(raised.value).endswith(f"could not be written: {os.strerror(raised.value.errno)}")


def test_two_threads_may_write_one_file(tmp_path, data, monkeypatch):
    """Both are about to write at the same time; the file is whole, from one of them, and nothing else is left."""
    path, both, write = tmp_path / "x.nc", Barrier(2), xr.Dataset.to_netcdf
    scratches = set()

    def together(self, target, **options):
        scratches.add(target)
        both.wait(timeout=30)
        write(self, target, **options)

    monkeypatch.setattr(xr.Dataset, "to_netcdf", together)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda version: results.save(path, data, {"version": version}), (1, 2)))
    assert len(scratches) == 2
    assert results.load(path).attrs["version"] in (1, 2)
    assert [p.name for p in tmp_path.iterdir()] == ["x.nc"]


def test_the_home_directory_may_be_a_tilde(tmp_path, data, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    results.save("~/deep/x.nc", data, {"seed": 1})
    assert results.load("~/deep/x.nc").attrs == {"seed": 1}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x.nc"]


@pytest.mark.words
@pytest.mark.parametrize("kept", ["nothing", "all of it", "its folder", "its folder, since changed"])
def test_only_a_commit_of_this_library_is_recorded(tmp_path, kept):
    """A copy inside another repository, untracked or tracked there, is no checkout; a repository of its own is."""
    inside = tmp_path / ("" if "folder" in kept else "elsewhere") / "pbtlib"
    shutil.copytree(Path(results.__file__).parent, inside, ignore=shutil.ignore_patterns("__pycache__"))

    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main"]
        return subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    git("init")
    if kept != "nothing":
        git("add", ".")
    git("commit", "--allow-empty", "-m", "a commit")
    if "changed" in kept:
        with (inside / "checks.py").open("a") as file:
            file.write("# one more line\n")
    code = "from pbtlib import results; print(results.__file__); print(results.commit())"
    words = [sys.executable, "-c", code]
    shown = subprocess.run(words, cwd=inside.parent, check=True, capture_output=True, text=True).stdout.split()
    assert shown[0] == str(inside / "results.py")
    mine = git("rev-parse", "--short=12", "HEAD").strip()
    expected = {"its folder": mine, "its folder, since changed": f"{mine}+"}
    assert shown[1] == expected.get(kept, "None")


def test_more_runs_made_than_planned_is_refused():
    with pytest.raises(ValueError, match="planned = 1"):
        results.provenance({}, seed=0, wall_seconds=0.0, planned=1, made=2)


def test_what_a_killed_process_left_is_removed_and_what_one_that_runs_writes_stays(tmp_path, data):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    path, here = tmp_path / "a.nc", re.sub(r"[^A-Za-z0-9]+", "_", platform.node())
    left, written = (tmp_path / f".a.nc.{here}-{process}-0.part" for process in (ended.pid, os.getpid()))
    for file in (left, written):
        file.touch()
    results.tidy(tmp_path / "nowhere" / "a.nc")
    results.save(path, data, {})
    assert sorted(tmp_path.iterdir()) == sorted([path, written])
