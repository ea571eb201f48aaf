"""What is killed, cannot write or does not fit leaves sound files and clear errors; `book.kills` sees what does not."""

import errno
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pytest
import xarray as xr

from book import build, kills
from book.execute import CHAPTERS, write_if_changed
from pbtlib import Gibbs, Quadratic, averaged, kinetic, loop, pbt, results
from pbtlib.cartpole import population
from pbtlib.checks import check_memory, memory

DATA = xr.Dataset({"x": ("k", [1.0, 2.0])})


def part_of_a_killed_process(path):
    with subprocess.Popen([sys.executable, "-c", "pass"]) as ended:
        ended.wait()
    left = path.with_name(f"{results._scratch(path)}{ended.pid}-ab.part")
    left.write_bytes(b"half")


# ---------------------------------------------------------------------------------------------- files


@pytest.mark.words
@pytest.mark.skipif(os.name != "posix", reason="only there is it known which processes run")
@pytest.mark.parametrize("before", [b"old", b"new"])
def test_what_a_killed_process_left_of_a_page_is_removed(tmp_path, before):
    (tmp_path / "a.ipynb").write_bytes(before)
    part_of_a_killed_process(tmp_path / "a.ipynb")
    assert write_if_changed(tmp_path / "a.ipynb", b"new") == (before == b"old")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.ipynb": b"new"}


@pytest.mark.words
def test_a_file_that_cannot_be_written_is_named_with_the_reason_and_the_old_one_stays(tmp_path, monkeypatch):
    path = tmp_path / "x.nc"
    results.save(path, DATA, {"seed": 1})
    before = path.read_bytes()

    def full(self, target, **_):
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, f"cannot close {target}")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", full)
    with pytest.raises(OSError, match=r"x\.nc'; the file could not be written: No space") as raised:
        results.save(path, DATA, {"seed": 2})
    assert ".part" not in str(raised.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"x.nc": before}


FULL = """
import resource, sys
import numpy as np, xarray as xr
from pbtlib import results
data = xr.Dataset({"x": ("k", np.random.default_rng(0).standard_normal(5000))})
resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))
for _ in range(4):
    try:
        results.save(sys.argv[1], data, {})
    except OSError as error:
        assert "x.nc'; the file could not be written: File too large" in str(error), error
    else:
        raise AssertionError
"""


@pytest.mark.words
@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="room cannot be asked for here")
def test_a_process_outlives_a_disk_that_is_full_again_and_again(tmp_path):
    """HDF5 ends it at the second attempt, so it must not come to that."""
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path / "x.nc")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(tmp_path.iterdir())


@pytest.mark.words
def test_a_file_whose_checksum_leaves_out_the_provenance_is_called_early_and_not_altered(tmp_path, monkeypatch):
    path, checksum = tmp_path / "x.nc", results._checksum
    with monkeypatch.context() as early:
        early.setattr(results, "_checksum", lambda data, meta: checksum(data, ""))
        results.save(path, DATA, {"seed": 1})
    with pytest.raises(ValueError, match=r"x\.nc.*early pbtlib 0\.1\.0"):
        results.load(path)


@pytest.mark.words
def test_a_text_that_is_no_text_any_more_is_altered(tmp_path):
    path = tmp_path / "x.nc"
    results.save(path, DATA, {"word": "seventeen"})
    path.write_bytes(path.read_bytes().replace(b"seventeen", b"seven\xf8een"))
    with pytest.raises(ValueError, match=r"x\.nc.*altered"):
        results.load(path)


def test_a_checkpoint_that_another_process_removes_is_no_checkpoint(tmp_path, monkeypatch):
    run = partial(pbt, Quadratic(), h=[[0.5, 0.5]] * 10, sigma=0.1, n_updates=3)
    (tmp_path / "c.nc").write_bytes(b"about to go")

    def gone(*_):
        raise FileNotFoundError

    monkeypatch.setattr(loop, "_restore", gone)
    end = run(checkpoint=tmp_path / "c.nc")
    assert end.state.h.tobytes() == run().state.h.tobytes()


# ---------------------------------------------------------------------------------------------- make exec


class Killed(BaseException):
    """What stands for a process that ends without a word."""


@pytest.fixture
def chapters(tmp_path, monkeypatch):
    """A folder of one chapter, made on another machine, and what it is about to be replaced by."""
    monkeypatch.setattr(build, "CHAPTERS", tmp_path)
    monkeypatch.setattr(build, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(build, "MADE", tmp_path / "made.json")
    monkeypatch.setattr(build, "_check_name", lambda name: None)
    (tmp_path / "figures").mkdir()
    for figure in ("kept", "gone"):
        (tmp_path / "figures" / f"one-{figure}.csv").write_text("old")
    (tmp_path / "made.json").write_text('{"one": "another machine"}')

    def executed(wanted, *, strict):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("new", id="a")])
        notebook.metadata["pbtlib"] = {"figures": {"kept": "x\n", "more": "y\n"}, "on": "this machine"}
        return {"one": notebook}

    monkeypatch.setattr(build, "executed", executed)
    return tmp_path


def interrupted(monkeypatch, number, write=write_if_changed):
    """Have the process end before it writes file number so, and run it."""
    left = iter([None] * number)

    def some(path, content):
        if next(left, "end") == "end":
            raise Killed
        return write(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(build, "write_if_changed", some)
        build.execute_into_chapters(["one"])


@pytest.mark.words
@pytest.mark.parametrize("number", range(4))
def test_killed_between_two_files_and_called_again_exec_ends_as_if_undisturbed(chapters, monkeypatch, number):
    with pytest.raises(Killed):
        interrupted(monkeypatch, number)
    assert (chapters / "figures" / "one-gone.csv").is_file(), "old figures go when all is written"
    build.execute_into_chapters(["one"])
    assert json.loads((chapters / "made.json").read_text()) == {"one": "this machine"}
    files = sorted(path.name for path in chapters.rglob("*.*"))
    assert files == ["made.json", "one-kept.csv", "one-more.csv", "one.ipynb"]


# ---------------------------------------------------------------------------------------------- what does not fit


def test_what_does_not_fit_into_memory_is_named_with_what_it_needs():
    check_memory("n is 1", min(1.0, memory()))
    with pytest.raises(MemoryError, match=r"n is 7, which needs 1,000,000,000\.0 GB of memory; there are [\d.,]+"):
        check_memory("n is 7", 1e18)
    with pytest.raises(MemoryError, match=r"n_agents is 10,000,000,000,000"):
        pbt(Quadratic(), box=(-1, 1), sigma=0.1, n_updates=1, n_agents=10**13)
    many = np.broadcast_to(0.0, (10**9, 3))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(population, "check_array", lambda name, value, **_: value)
        patched.setattr(population, "decode", lambda scaled: None)
        with pytest.raises(MemoryError, match=r"h has shape \(1000000000, 3\)"):
            population.new_population(many, np.random.default_rng(0))


def test_the_propagator_is_the_same_however_many_columns_are_computed_at_once(monkeypatch):
    θ, h = averaged.Grid(-2.0, 2.0, 15), averaged.Grid(-2.0, 2.0, 11)
    model = kinetic.model(
        θ, h, loss=lambda θ, h: (θ - h) ** 2, fitness=lambda θ, h: -(θ**2), noise=1.0, sigma=0.6, rule=Gibbs()
    )
    whole = kinetic.propagator(model, 0.3)
    monkeypatch.setattr(kinetic, "TOGETHER", 3)
    assert kinetic.propagator(model, 0.3).tobytes() == whole.tobytes()
    monkeypatch.setattr("pbtlib.checks.memory", lambda: 1e4)
    with pytest.raises(MemoryError, match="the grid is 15 x 11"):
        kinetic.propagator(model, 0.3)


# ---------------------------------------------------------------------------------------------- what kills see


@pytest.mark.words
def test_the_table_holds_nothing_wrong():
    table = kills.stored()
    assert set(table) <= {*kills.PARTS, "sizes"}
    for part in set(table) & set(kills.PARTS):
        assert all(row["wrong"] == 0 for row in table[part])


@pytest.mark.words
@pytest.mark.parametrize("fault", ["none", "left beside", "unnamed", "half"])
def test_a_failed_write_that_leaves_something_or_says_nothing_is_wrong(tmp_path, fault):
    (tmp_path / "x.nc").write_bytes(b"old")

    def write():
        if fault == "left beside":
            (tmp_path / ".x.nc.part").write_bytes(b"half")
        if fault == "half":
            (tmp_path / "x.nc").write_bytes(b"half")
        raise OSError("full" if fault == "unnamed" else "x.nc: full")

    assert kills.attempt(write, tmp_path, {"x.nc": b"old"}) == ("error" if fault == "none" else "wrong")


@pytest.mark.words
def test_a_reader_that_lets_an_altered_file_pass_is_wrong(tmp_path, monkeypatch):
    sound, path = tmp_path / "sound.nc", tmp_path / "x.nc"
    meta = results.provenance({}, seed=1, wall_seconds=1)
    results.save(sound, DATA, meta)
    results.save(path, DATA, meta | {"seed": 2})
    assert kills.read(sound, sound) == "identical"
    assert kills.read(path, sound) == "wrong"
    path.write_bytes(path.read_bytes()[:100])
    assert kills.read(path, sound) == "error"
    monkeypatch.setattr(results, "load_arrays", lambda path: ({}, {}))
    assert kills.read(path, sound) == "wrong"


@pytest.mark.words
@pytest.mark.parametrize(
    ("content", "status", "sound"),
    [(b"old", "", True), (b"new", "", True), (b"ne", "", False), (b"new", "?? a.part", False)],
)
def test_a_file_that_is_neither_old_nor_new_is_noticed(tmp_path, content, status, sound):
    old, new = (
        {Path("made.json"): json.dumps(dict.fromkeys("ab", text)).encode(), Path("a.ipynb"): text.encode()}
        for text in ("old", "new")
    )
    (tmp_path / "a.ipynb").write_bytes(content)
    (tmp_path / "made.json").write_text('{"a": "new", "b": "old"}')
    assert kills.between(tmp_path, old, new, status) == sound
    (tmp_path / "made.json").write_text('{"a": "never", "b": "old"}')
    assert not kills.between(tmp_path, old, new, status)


@pytest.mark.words
def test_bits_are_compared_and_not_values():
    assert kills.same_data(DATA, DATA.assign_attrs(wall_seconds=3))
    assert not kills.same_data(DATA, DATA + 1e-15)
    assert not kills.same_data(0 * DATA, -0.0 * DATA)


@pytest.mark.words
def test_the_page_shows_the_table():
    from book.ledger.pages import _kills

    shown = _kills(kills.stored())
    assert "## " not in shown
    assert "```{ledger} kills" in (CHAPTERS / "text" / "reproduce.md").read_text()
    assert all(row["what"] in shown.replace("\u200b", "") for rows in kills.stored().values() for row in rows)
