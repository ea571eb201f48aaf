"""The direction of imports is held by a contract, and the contract bites."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.words
ROOT = Path(__file__).parents[1]
LINT = "from importlinter.cli import lint_imports_command as lint; lint(['--no-cache'])"


@pytest.mark.parametrize(
    ("line", "passes"),
    [
        ("", True),
        ("from pbtlib import loop\n", False),  # upwards
        ("from pbtlib import estimates\n", False),  # beside
    ],
)
def test_only_an_import_from_below_keeps_the_contract(line, passes, tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    copy = tmp_path / "pbtlib"
    shutil.copytree(ROOT / "pbtlib", copy, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "distances.py").open("a") as file:
        file.write(line)
    done = subprocess.run([sys.executable, "-c", LINT], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is passes, done.stdout + done.stderr
    assert passes or "pbtlib.distances ->" in done.stdout
