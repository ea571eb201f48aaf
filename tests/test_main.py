"""The command line that makes and checks the stored data."""

import numpy as np
import pytest

from pbtlib import __main__ as command
from pbtlib import results
from pbtlib.cartpole import sweep
from pbtlib.cartpole.experiment import Experiment


@pytest.fixture
def tiny(monkeypatch):
    """Two experiments instead of all."""
    small = Experiment(n_agents=5, n_steps=100, generations=1, m=1)
    monkeypatch.setattr(sweep, "plan", lambda scale: [sweep.Run(name, small, 0) for name in ("one", "two")])


def test_runs_are_listed_made_packed_and_verified(tiny, tmp_path, capsys):
    where = ["--directory", str(tmp_path)]
    assert command.main(["experiments", *where]) == 0
    assert capsys.readouterr().out.count("none (of 1)") == 2
    sweep.make(sweep.plan("quick")[0], tmp_path)
    assert command.main(["cartpole", "--pack", *where]) == 0
    shown = capsys.readouterr().out
    assert "planned 2, made 1, missing 1" in shown
    assert "missing: two, seed 0" in shown
    assert command.main(["cartpole", "--jobs", "1", "--output", str(tmp_path / "all.nc"), *where]) == 0
    assert "all.nc: whole; runs planned 2, made 2, missing 0" in capsys.readouterr().out
    assert command.main(["experiments", *where]) == 0
    assert capsys.readouterr().out.count("0 (of 1)") == 2


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


def test_the_books_data_are_whole(capsys):
    assert command.main(["verify"]) == 0
    assert "cartpole_equivalence.nc: whole" in capsys.readouterr().out


def test_wrong_commands_are_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["cartpole", "--scale", "huge"])
    assert "'paper', 'quick'" in capsys.readouterr().err
