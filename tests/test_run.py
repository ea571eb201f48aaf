"""The one way in: what `run.py` passes on, what it refuses, and when it makes its environment anew."""

import subprocess
import sys

import pytest

import run


@pytest.fixture
def calls(monkeypatch):
    """What would be run, in place of running it; nothing is prepared."""
    made = []
    monkeypatch.setattr(run.os, "environ", dict(run.os.environ))
    monkeypatch.setattr(run, "prepare", lambda: None)
    monkeypatch.setattr(run, "call", lambda *words: made.append(words) or 0)
    return made


def main(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    return run.main()


@pytest.mark.parametrize(
    "words",
    [
        ("exec", "--seed", "3"),
        ("book", "04_convergence"),
        ("lint", "pbtlib"),
        ("zip", "x"),
        ("book", "--fast"),
        ("fly",),
    ],
)
def test_words_that_mean_nothing_are_refused(words, calls, monkeypatch, capsys):
    with pytest.raises(SystemExit) as refused:
        main(monkeypatch, *words)
    assert refused.value.code == 2
    assert words[-1] in capsys.readouterr().err or words[1] in "--seed"
    assert not calls


@pytest.mark.parametrize("options", [(), ("-n", "1"), ("--maxfail", "3"), ("-x",)])
def test_the_whole_test_builds_the_pages_and_runs_the_notebooks(options, calls, monkeypatch):
    assert main(monkeypatch, "test", *options) == 0
    book, test = calls
    assert book == ("-m", "book.build", "book")
    assert {"tests", "chapters", "--nbval-lax", *options} <= set(test)


@pytest.mark.parametrize("path", ["tests/test_loop.py", "tests/test_loop.py::test_x", "tests"])
def test_some_tests_run_alone(path, calls, monkeypatch):
    assert main(monkeypatch, "test", "--seed", "7", path) == 0
    ((*words,),) = calls
    assert path in words
    assert "chapters" not in words
    assert words[words.index("--seed") + 1] == "7"
    assert "--hypothesis-seed=7" in words


def test_a_book_that_fails_ends_the_test(calls, monkeypatch):
    monkeypatch.setattr(run, "call", lambda *words: calls.append(words) or 3)
    assert main(monkeypatch, "test") == 3
    assert len(calls) == 1


def test_compiled_code_is_kept_apart_for_each_state_of_the_library(monkeypatch, tmp_path):
    (tmp_path / "pbtlib").mkdir()
    seen = []
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(
        run.subprocess, "run", lambda words, env, **_: seen.append(env) or subprocess.CompletedProcess([], 0)
    )
    for text in ("a = 1", "a = 1", "a = 2"):
        (tmp_path / "pbtlib" / "normals.py").write_text(text)
        run.call("-c", "")
    first, same, other = (env["NUMBA_CACHE_DIR"] for env in seen)
    assert first == same != other
    assert [path.name for path in (tmp_path / "_build" / "numba").iterdir()] == [other.rpartition("/")[2]]
    assert seen[0]["PYTHONUTF8"] == "1"


@pytest.mark.parametrize(
    ("state", "made_anew"), [("none", True), ("other version", True), ("no pip", True), ("sound", False)]
)
def test_an_environment_is_made_anew_only_if_it_is_unfit(state, made_anew, monkeypatch, tmp_path):
    for name in ("pyproject.toml", "requirements.lock"):
        (tmp_path / name).write_text(state)
    venv, done = tmp_path / ".venv", []
    python = venv / "bin" / "python"
    if state != "none":
        python.parent.mkdir(parents=True)
        python.write_text("")

    def fake(words, **_):
        done.append(words)
        python.parent.mkdir(parents=True, exist_ok=True)
        return subprocess.CompletedProcess(words, int(words[1] == "-c" and state in ("other version", "no pip")))

    for name, value in (("ROOT", tmp_path), ("VENV", venv), ("PYTHON", python)):
        monkeypatch.setattr(run, name, value)
    monkeypatch.setattr(run.subprocess, "run", fake)
    run.prepare()
    assert any(words[1:4] == ["-m", "venv", "--clear"] for words in done) == made_anew
    installs = [words for words in done if "install" in words]
    assert len(installs) == 2
    run.prepare()
    assert len([words for words in done if "install" in words]) == 2, "what is ready is left alone"
