"""Names in the code of the pages lead to the reference, and only where they cannot mean anything else."""

import pytest

from book.reference import imported, keep_bars


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
