"""Names in the code of the pages lead to the reference, and only where they cannot mean anything else."""

import importlib
import re
import types
from pathlib import Path

import pytest
import yaml

import pbtlib
from book.reference import imported, keep_bars

pytestmark = pytest.mark.words
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("from pbtlib import averaged, pbt", {"averaged": "pbtlib.averaged", "pbt": "pbtlib.algorithms.pbt"}),
        ("from pbtlib.loop import evolve as run", {"run": "pbtlib.loop.evolve"}),
        ("from pbtlib.loop import Lineage\nLineage = 3", {}),
        ("from pbtlib.loop import evolve\ndef f(evolve): pass", {}),
        ("import numpy as np", {}),
    ],
)
def test_a_name_is_linked_if_the_page_imports_it_and_gives_it_to_nothing_else(code, names):
    assert imported(code) == names


def test_bars_in_docstrings_are_bars_except_in_literals_mathematics_and_examples():
    lines = ["s = |h| and :math:`|x|` and ``|``", ">>> a | b"]
    keep_bars(None, "", "", None, None, lines)
    assert lines == [r"s = \|h\| and :math:`|x|` and ``|``", ">>> a | b"]


LIBRARY = sorted(re.findall(r"automodule:: (\S+)", "".join(p.read_text() for p in (ROOT / "chapters").glob("api*.md"))))


def without_example(module):
    """Names of the functions and classes that a module offers and whose docstring shows no example."""
    offered = {name: getattr(module, name) for name in module.__all__}
    return [name for name, it in offered.items() if type(it).__module__ != "typing" and callable(it)
            and getattr(it, "__module__", "") == module.__name__ and ">>>" not in (it.__doc__ or "")]  # fmt: skip


@pytest.mark.parametrize("name", LIBRARY)
def test_every_function_and_class_of_the_reference_shows_an_example(name):
    assert without_example(importlib.import_module(name)) == []


def test_a_function_without_an_example_is_found():
    module = types.ModuleType("planted")
    exec("def bare(): 'No example.'\ndef shown(): '>>> 1'\nDATA = 3\n__all__ = ['bare', 'shown', 'DATA']", vars(module))
    module.bare.__module__ = module.shown.__module__ = "planted"
    assert without_example(module) == ["bare"]


def test_what_the_package_offers_is_in_the_reference():
    assert {f"pbtlib.{room}" for room in pbtlib._PLACE.values()} <= set(LIBRARY)


@pytest.mark.parametrize(
    ("role", "target", "may_lead_nowhere"),
    [
        ("py:class", "numpy.ndarray", True),
        ("py:class", "array_like", True),
        ("py:class", "N", True),
        ("py:class", "Gausian", False),
        ("py:class", "pbtlib.evolution.Selektion", False),
        ("py:obj", "check_nmuber", False),
    ],
)
def test_a_misspelt_name_of_the_library_stops_the_build_and_a_type_in_words_does_not(role, target, may_lead_nowhere):
    config = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["config"]
    assert config["default_role"] == "py:obj"
    ignored = [all(map(re.fullmatch, pair, (role, target))) for pair in config["nitpick_ignore_regex"]]
    assert any(ignored) == may_lead_nowhere
