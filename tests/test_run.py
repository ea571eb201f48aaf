"""The one way in: what `run.py` passes on, what it refuses, and when it makes its environment anew."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import run

pytestmark = pytest.mark.words


@pytest.fixture(autouse=True)
def _no_pass(monkeypatch):
    """These tests are about all passes, whichever runs them."""
    monkeypatch.delenv("PBTLIB_PASS", raising=False)


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """What would be run, in place of running it; nothing is prepared, and the logs of this very run are left alone."""
    made = []
    monkeypatch.setattr(run, "folder", lambda: tmp_path)
    monkeypatch.setattr(run.os, "environ", dict(run.os.environ))
    monkeypatch.setattr(run, "prepare", lambda venv, requirements, renew=False: None)
    monkeypatch.setattr(run, "call", lambda *words, venv=None, log=None, offline=False: made.append(words) or 0)
    return made


def main(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    return run.main()


@pytest.mark.parametrize(
    "words",
    [
        ("exec", "--seed", "3"),
        ("nbval", "--seed", "3"),
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
def test_the_whole_test_builds_the_pages_from_notebooks_run_once_and_compares_both(options, calls, monkeypatch):
    assert main(monkeypatch, "test", *options) == 0
    book, browser, test, summary = calls
    assert book == ("-m", "book.build", "book")
    assert browser == ("-m", "book.browser")
    assert {"tests", "pbtlib", *options} <= set(test)
    assert "chapters" not in test, "tests/test_compared.py compares what the book's build has run"
    assert summary[1] == "book.summary"


UNDER_NBVAL = {"chapters", "--nbval-lax", "tests/nbval.cfg", "book.under_nbval"}


def test_nbval_runs_every_notebook_strictly_by_the_rules_of_comparison(calls, monkeypatch):
    assert main(monkeypatch, "nbval") == 0
    test, summary = calls
    assert set(test) >= UNDER_NBVAL
    assert not {"tests", "pbtlib"} & set(test)
    assert run.os.environ["PBTLIB_STRICT"] == "1"
    assert summary[1] == "book.summary"


def as_on_the_oldest(monkeypatch):
    monkeypatch.setattr(run.platform, "machine", lambda: "x86_64")
    answer = subprocess.CompletedProcess([], 0, json.dumps(run.IN_FORCE))
    monkeypatch.setattr(run.subprocess, "run", lambda *_, **__: answer)


@pytest.mark.parametrize("which", ["portable", "newest", "lowest"])
def test_another_pass_runs_the_notebooks_under_nbval_and_repeats_what_may_differ(which, calls, monkeypatch):
    as_on_the_oldest(monkeypatch)
    assert main(monkeypatch, which, "--seed", "7") == 0
    notebooks, first, test, second = calls
    assert set(notebooks) >= UNDER_NBVAL
    assert "--seed" not in notebooks, "chapters have seeds of their own"
    assert {"tests", "not pages and not words" if which == "portable" else "not pages", "--seed"} <= set(test)
    assert not UNDER_NBVAL & set(test)
    assert first[1] == second[1] == "book.summary"
    assert run.os.environ["PBTLIB_PASS"] == which


@pytest.mark.parametrize("which", ["portable", "newest"])
def test_notebooks_that_part_end_another_pass(which, calls, monkeypatch):
    as_on_the_oldest(monkeypatch)
    monkeypatch.setattr(run, "call", lambda *words, **_: calls.append(words) or int("chapters" in words))
    assert main(monkeypatch, which) == 1
    assert [words[1] for words in calls] == ["pytest", "book.summary"]


def test_ci_is_what_the_documents_say():
    """The commands that every change must pass stand in three places; only what has passed them is published."""
    script = (run.ROOT / ".ci" / "run").read_text()
    made = [line for line in script.splitlines() if line.startswith("make")]
    assert made == ["make lint", "make test", "make portable"]
    said = "`make lint`, `make test` and `make portable`"
    for name in ("CONTRIBUTING.md", "chapters/text/reproduce.md"):
        sentences = re.split(r"(?<=[.:])\s", " ".join((run.ROOT / name).read_text().split()))
        assert any(said in sentence for sentence in sentences), name
        assert all(said in sentence for sentence in sentences if "`.ci/run` is `make" in sentence), name
    jobs = yaml.safe_load((run.ROOT / ".github" / "workflows" / "book.yml").read_text())["jobs"]
    assert "bash .ci/run" in [step.get("run") for step in jobs["check"]["steps"]]
    assert jobs["publish"]["needs"] == "check"
    repeated = {one["bounds"] for one in jobs["versions"]["strategy"]["matrix"]["include"]}
    assert repeated == {"lowest", "newest"}, "what check makes is not made again"


def test_a_baseline_that_is_not_in_force_runs_nothing(calls, monkeypatch, capsys):
    monkeypatch.setattr(run.platform, "machine", lambda: "x86_64")
    answer = subprocess.CompletedProcess([], 0, json.dumps(run.IN_FORCE | {"aten": "AVX512"}))
    monkeypatch.setattr(run.subprocess, "run", lambda *_, **__: answer)
    assert main(monkeypatch, "portable") == 1
    assert not calls
    assert "aten reports AVX512, not DEFAULT" in capsys.readouterr().out


def test_other_processors_are_told_that_the_baseline_is_not_theirs(calls, monkeypatch, capsys):
    monkeypatch.setattr(run.platform, "machine", lambda: "arm64")
    assert main(monkeypatch, "portable") == 0
    assert not calls
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize("path", ["tests/test_loop.py", "tests/test_loop.py::test_x", "tests"])
def test_some_tests_run_alone(path, calls, monkeypatch):
    assert main(monkeypatch, "test", "--seed", "7", path) == 0
    (*words,), _ = calls
    assert path in words
    assert "chapters" not in words
    assert words[words.index("--seed") + 1] == "7"
    assert "--hypothesis-seed=7" in words


def test_a_book_that_fails_ends_the_test(calls, monkeypatch):
    monkeypatch.setattr(run, "call", lambda *words, **_: calls.append(words) or 3)
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


def test_the_whole_test_builds_the_book_with_every_way_out_closed(calls, monkeypatch):
    seen = {}
    monkeypatch.setattr(run, "call", lambda *words, offline=False, **_: seen.setdefault(words[1], offline) and 0)
    assert main(monkeypatch, "test") == 0
    assert seen == {"book.build": True, "book.browser": False, "pytest": False, "book.summary": False}


@pytest.mark.parametrize(
    ("way", "open_"),
    [
        ("socket.create_connection(('192.0.2.1', 443), 5)", False),
        ("urllib.request.urlopen('http://192.0.2.1/', timeout=5)", False),
        ("socket.create_connection(socket.create_server(('127.0.0.1', 0)).getsockname())", True),
    ],
    ids=["a connection", "a page", "this machine"],
)
def test_a_way_out_is_closed_and_one_within_the_machine_is_open(way, open_, monkeypatch, capfd):
    """Even where a library would pass over a missing network."""
    code = f"import contextlib, socket, urllib.request\nwith contextlib.suppress(OSError): {way}"
    monkeypatch.setenv("no_proxy", "*")
    assert (run.call("-c", code, venv=Path(sys.prefix), offline=True) == 0) == open_
    assert ("WayOut: a connection to ('192.0.2.1', " in capfd.readouterr().err) != open_


@pytest.mark.parametrize(
    ("state", "made_anew"), [("none", True), ("other version", True), ("no pip", True), ("sound", False)]
)
def test_an_environment_is_made_anew_only_if_it_is_unfit(state, made_anew, monkeypatch, tmp_path):
    for name in ("pyproject.toml", "requirements.lock"):
        (tmp_path / name).write_text(f"a==1\ntorch==2.0 ; x != '{state}' \\\n    --hash=sha256:0\n")
    venv, done = tmp_path / ".venv", []
    python = venv / "bin" / "python"
    if state != "none":
        python.parent.mkdir(parents=True)
        python.write_text("")

    def fake(words, **_):
        done.append(words)
        python.parent.mkdir(parents=True, exist_ok=True)
        return subprocess.CompletedProcess(words, int(words[1] == "-c" and state in ("other version", "no pip")))

    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "interpreter", lambda venv: python)
    monkeypatch.setattr(run.subprocess, "run", fake)
    monkeypatch.setattr(run, "logged", lambda words, log, environment: done.append(words) or 0)
    run.prepare(venv, tmp_path / "requirements.lock")
    assert any(words[1:4] == ["-m", "venv", "--clear"] for words in done) == made_anew
    installs = [words for words in done if "install" in words]
    assert len(installs) == 2
    assert installs[1][-5:-1] == ["install", "torch==2.0", "--no-build-isolation", "--editable"], "what has no hash"
    run.prepare(venv, tmp_path / "requirements.lock")
    assert len([words for words in done if "install" in words]) == 2, "what is ready is left alone"
    run.prepare(venv, tmp_path / "requirements.lock", renew=True)
    assert "--upgrade" in next(words for words in done[-2:] if "-r" in words)


def test_renewing_the_lock_keeps_what_it_says_of_itself_and_of_torch(calls, monkeypatch, tmp_path):
    """Whatever uv writes, and however often."""
    resolved = "six==1 \\\n    --hash=sha256:0\ntorch==2.0 \\\n    --hash=sha256:1\n"

    def compiled(*words):
        calls.append(words)
        run.LOCK.write_text(resolved)
        return 0

    monkeypatch.setattr(run, "LOCK", tmp_path / "requirements.lock")
    monkeypatch.setattr(run, "call", compiled)
    for _ in range(2):
        assert main(monkeypatch, "lock", "--upgrade") == 0
        marked = resolved.replace("torch==2.0", "torch==2.0 ; sys_platform != 'linux'")
        assert run.LOCK.read_text() == run.LOCK_HEAD + marked
    assert {"--generate-hashes", "--universal", "--extra=setup", "--upgrade"} <= set(calls[0])
    assert "--extra=ray" not in calls[0]


def test_an_installation_that_fails_says_why_in_a_few_lines(monkeypatch, tmp_path):
    for name in ("pyproject.toml", "requirements.lock"):
        (tmp_path / name).write_text("")
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run.subprocess, "run", lambda words, **_: subprocess.CompletedProcess(words, 0))

    def fails(words, log, environment):
        log.parent.mkdir(exist_ok=True)
        log.write_text("Collecting a\nERROR: No matching distribution found for a\n")
        return 1

    monkeypatch.setattr(run, "logged", fails)
    with pytest.raises(SystemExit, match=r"No matching distribution found for a\n.*_build/setup.log says why"):
        run.prepare(tmp_path / ".venv", tmp_path / "requirements.lock")
    assert not (tmp_path / ".venv" / "recipe.sha256").exists()


@pytest.mark.parametrize("verbose", [False, True])
def test_what_a_command_says_goes_to_its_log_and_is_shown_on_demand(verbose, monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("PBTLIB_VERBOSE", raising=False)
    if verbose:
        monkeypatch.setenv("PBTLIB_VERBOSE", "1")
    log = tmp_path / "deep" / "x.log"
    code = run.logged([sys.executable, "-c", "print('said'); raise SystemExit(3)"], log, dict(run.os.environ))
    assert code == 3
    assert log.read_text() == "said\n"
    assert capsys.readouterr().out == ("said\n" if verbose else "")


def test_a_command_ends_when_it_ends_whatever_it_left_running(monkeypatch, tmp_path):
    monkeypatch.delenv("PBTLIB_VERBOSE", raising=False)
    left = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid)"
    begun = time.monotonic()
    assert run.logged([sys.executable, "-c", left], tmp_path / "x.log", dict(os.environ)) == 0
    assert time.monotonic() - begun < 30
    os.kill(int((tmp_path / "x.log").read_text()), signal.SIGTERM)
