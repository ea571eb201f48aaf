"""What the commands need and say: a browser that is found or brought, the oldest processor, a readable end."""

import json
import os
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

import run
from book import browser, summary
from book.execute import ROOT
from pbtlib.claims import COMPUTED, ledger
from pbtlib.processor import instruction_sets

pytestmark = pytest.mark.words

# ---------------------------------------------------------------------------------------------- the browser


def finder(*found):
    """What a machine answers when it is asked for its browser, time after time."""
    answers = iter(found)
    return lambda: next(answers)


def test_a_browser_that_is_there_is_taken_and_nothing_is_installed():
    assert browser.bring(finder("/a"), [lambda: pytest.fail("installed")]) == "/a"


def test_ways_to_install_are_tried_in_order_until_a_browser_starts():
    tried = []

    def way(name, success):
        return lambda: tried.append(name) or success

    ways = [way("refused", False), way("does not start", True), way("good", True), way("not needed", True)]
    assert browser.bring(finder(None, None, "/b"), ways) == "/b"
    assert tried == ["refused", "does not start", "good"]


def test_a_machine_that_can_have_no_browser_is_told_so_in_one_line(capsys, monkeypatch):
    assert browser.bring(finder(None), [lambda: False]) is None
    monkeypatch.setattr(browser, "bring", lambda: None)
    assert browser.main() == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "will not run" in line
    assert "CHROMIUM" in line


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine on which only what is put into a folder is on the PATH, and Playwright has nothing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setattr(browser, "playwrights_own", lambda: str(tmp_path / "none"))
    browser.chromium_path.cache_clear()

    def program(name, code):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\nexit {code}\n")
        path.chmod(0o755)
        return str(path)

    yield program
    browser.chromium_path.cache_clear()


@pytest.mark.skipif(os.name == "nt", reason="the programs here are shell scripts")
@pytest.mark.parametrize(
    ("name", "code", "found"), [("chromium", 0, True), ("google-chrome", 0, True), ("chromium", 1, False)]
)
def test_a_browser_on_the_path_is_found_if_it_starts(name, code, found, machine):
    path = machine(name, code)
    assert browser.chromium_path() == (path if found else None)


@pytest.mark.skipif(os.name == "nt", reason="the programs here are shell scripts")
def test_the_browser_that_the_reader_names_comes_first_and_must_start(machine, monkeypatch, tmp_path):
    machine("chromium", 0)
    monkeypatch.setenv("CHROMIUM", machine("mine", 0))
    assert browser.chromium_path() == str(tmp_path / "mine")
    browser.chromium_path.cache_clear()
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "absent"))
    with pytest.raises(SystemExit, match="absent"):
        browser.chromium_path()


def test_debians_package_is_for_root_on_debian_only(monkeypatch):
    ran = []
    monkeypatch.setattr(browser, "_run", lambda *words: ran.append(words) or True)
    for apt, user in ((None, 0), ("/usr/bin/apt-get", 1000)):
        monkeypatch.setattr(browser.shutil, "which", lambda name, apt=apt: apt)
        monkeypatch.setattr(browser.os, "geteuid", lambda user=user: user, raising=False)
        assert not browser.debian_package()
    assert not ran
    monkeypatch.setattr(browser.os, "geteuid", lambda: 0, raising=False)
    assert browser.debian_package()
    assert [words[1] for words in ran] == ["update", "install"]


# ---------------------------------------------------------------------------------------------- the oldest processor

LOCKED = f"\nnumpy=={np.__version__} " in run.LOCK.read_text()
NAMED = pytest.mark.skipif(not LOCKED, reason="instruction sets have other names in another NumPy than the lock's")
X86 = pytest.mark.skipif(run.platform.machine().lower() not in ("x86_64", "amd64"), reason="the baseline is x86-64's")
ASK = "import json, pbtlib.processor as p; print(json.dumps(p.instruction_sets()))"


def sets(**more):
    """The instruction sets of a new process under the baseline, some of it changed."""
    environment = {**os.environ, **run.BASELINE, **more}
    done = subprocess.run([sys.executable, "-c", ASK], cwd=ROOT, env=environment, capture_output=True, check=True)
    return json.loads(done.stdout)


@X86
@NAMED
def test_under_the_baseline_every_library_computes_as_on_the_oldest_processor():
    assert not run.not_in_force(sets())


@X86
@NAMED
@pytest.mark.parametrize(
    ("variable", "value", "library"),
    [
        ("OPENBLAS_CORETYPE", "Prescott", "openblas"),
        ("NUMBA_CPU_NAME", "nehalem", "numba"),
        ("ATEN_CPU_CAPABILITY", "avx2", "aten"),
    ],
)
def test_a_library_that_the_baseline_does_not_hold_back_is_named(variable, value, library):
    found = sets(**{variable: value})
    if library == "aten" and found["aten"] == "DEFAULT":
        pytest.skip("this processor has no AVX2")
    (told,) = run.not_in_force(found)
    assert told.startswith(f"{library} reports ")


def test_this_pass_runs_on_the_processor_that_it_says():
    assert all(instruction_sets().values())
    if os.environ.get("PBTLIB_PASS") == "portable":
        assert not run.not_in_force(instruction_sets())


# ---------------------------------------------------------------------------------------------- how a run ends

REPORT = """<testsuites><testsuite>
<testcase classname="tests.test_a" name="test_good"/>
<testcase classname="tests.test_compared" name="test_stored_and_new_words_agree[04_convergence]"/>
<testcase classname="chapters.05_2_cartpole.ipynb" name="Cell 0"/>
<testcase classname="tests.test_a" name="test_bad[1]"><failure message="AssertionError: assert 1 == 2">
def test_bad():
&gt;       assert f() == 2
E       assert 1 == 2
E        +  where 1 = f()
</failure></testcase>
<testcase classname="tests.test_b" name="test_x"><skipped message="no Chromium"/></testcase>
<testcase classname="tests.test_b" name="test_y"><skipped message="no Chromium"/></testcase>
<testcase classname="tests.test_b" name="test_z"><skipped message="no network"/></testcase>
</testsuite></testsuites>"""


def test_the_end_says_what_failed_what_was_found_and_one_line_for_each_cause_of_skipping():
    lines = summary.told(ElementTree.fromstring(REPORT))
    assert lines[:3] == ["FAILED tests/test_a::test_bad[1]", "    assert 1 == 2", "    +  where 1 = f()"]
    assert lines[3:5] == ["2 tests did not run: no Chromium.", "1 test did not run: no network."]
    assert lines[5].startswith("1 of 1 chapters ran under nbval and said what is stored; ")
    assert lines[6].startswith("1 chapters compared, ")
    assert len(lines) == 7


def test_claims_that_were_not_reached_are_not_as_recorded(monkeypatch):
    """After a failed cell a notebook holds the verdicts before it alone: the rest are counted all the same."""
    due = {
        name for name, record in ledger().items() if record.chapter == "04_convergence" and record.status in COMPUTED
    }
    verdicts = [{"id": name, "agrees": True} for name in sorted(due)[:2]]
    monkeypatch.setattr(summary, "kept", lambda path: object())
    monkeypatch.setattr(summary, "claims_of", lambda notebook: verdicts)
    lines = summary.told(ElementTree.fromstring(REPORT))
    assert lines[6] == f"1 chapters compared, 2 of {len(due)} claims as recorded."
    assert len(due) > 2


def test_a_run_in_which_everything_fails_still_fits_a_screen():
    case = REPORT.splitlines()[4:10]
    lines = summary.told(ElementTree.fromstring("\n".join(["<testsuites>", *(500 * case), "</testsuites>"])))
    assert len(lines) < 40
    assert lines[-1].endswith("492 more failures")


WARNING = """
import types
import warnings

def test_ours():
    warnings.warn("ours")

def test_theirs():
    theirs = types.ModuleType("ot.bregman")
    exec("import warnings\\nwarnings.warn('theirs')", theirs.__dict__)
"""


def test_our_own_warnings_are_errors_and_those_of_other_packages_are_not(tmp_path):
    path = tmp_path / "test_planted.py"
    path.write_text(WARNING)
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), "--rootdir", tmp_path]
    done = subprocess.run([sys.executable, *words, path], cwd=tmp_path, capture_output=True, text=True)
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "UserWarning: ours" in done.stdout
