"""What `pip install pbtlib` brings is enough for the method; figures and agents in torch name the extra they need."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.words
ROOT = Path(__file__).resolve().parent.parent
ABSENT = """
import importlib.machinery, importlib.metadata
away = ("torch", "gymnasium", "matplotlib", "seaborn")
find, version = importlib.machinery.PathFinder.find_spec, importlib.metadata.version
def absent(name, *rest):
    return None if name.partition(".")[0] in away else find(name, *rest)
def unknown(name):
    if name in away:
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)
importlib.machinery.PathFinder.find_spec, importlib.metadata.version = absent, unknown
"""


def without_extras(script):
    words = [sys.executable, "-c", ABSENT + script]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


def test_all_but_figures_and_torch_agents_loads_without_the_extras():
    done = without_extras("""
import importlib, pkgutil, pbtlib
for module in pkgutil.walk_packages(pbtlib.__path__, "pbtlib."):
    if module.name not in ("pbtlib.figures", "pbtlib.cartpole.dqn", "pbtlib.__main__", "pbtlib.data"):
        importlib.import_module(module.name)
from pbtlib import results
made = results.provenance({}, seed=1, wall_seconds=0.0)
assert "torch" not in made["versions"] and "aten" not in made["instructions"]
""")
    assert not done.returncode, done.stderr


@pytest.mark.parametrize(("module", "extra"), [("figures", "plots"), ("cartpole.dqn", "cartpole")])
def test_what_an_extra_brings_is_asked_for_by_its_name(module, extra):
    done = without_extras(f"import pbtlib.{module}")
    assert f"with the extra '{extra}'" in done.stderr.splitlines()[-1]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extra in extras
