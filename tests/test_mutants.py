"""The changes that `make mutants` draws are of code alone and always the same, and it says truly what tests notice."""

import ast
import dataclasses
import json
from collections import Counter

import pytest

from book import mutants
from book.execute import ROOT
from book.ledger import pages, with_parts
from book.mutants import EQUIVALENT, KILLED, MUTANTS, ROUNDS, SLOW, SURVIVED, Warm

pytestmark = pytest.mark.words

WORDS = '''
"""The sum of 1 + 1, not 3."""
import math
from typing import Literal

def half(x: Literal[1, 2] = None) -> Literal[3]:
    """Half of 2 is 1; -1 < 0."""
    assert x < 2 * 3
    if x:
        raise ValueError(f"{x + 1} is not below {2}", 1 + 2)
    os.kill(process, 0)
    return f"{x + 1:4}" + "a" + str(x)

class A:
    x: Literal[4]

    def __repr__(self):
        return str(1 + 2)

if __name__ == "__main__":
    half(1 + 2)
'''
CODE = """
def sign(x, low=-1.0):
    if not x:
        return 0
    if (x > low and
            x < 3):
        return min(x + 1,
                   x * 2)
    x -= 1
    return x if x <= 0 else np.maximum(x, 5)
"""
CHANGES = [
    ("-1.0", "(1.0)"),
    ("1.0", "(2.0)"),
    ("not x", "(x)"),
    ("0", "(1)"),
    ("x > low and x < 3", "(x > low or x < 3)"),
    ("x > low", "(x >= low)"),
    ("x < 3", "(x <= 3)"),
    ("3", "(4)"),
    ("min", "(max)"),
    ("x + 1", "(x - 1)"),
    ("1", "(2)"),
    ("x * 2", "(x / 2)"),
    ("2", "(3)"),
    ("x -= 1", "x += 1"),
    ("1", "(2)"),
    ("x if x <= 0 else np.maximum(x, 5)", "(np.maximum(x, 5))"),
    ("x if x <= 0 else np.maximum(x, 5)", "(x)"),
    ("x <= 0", "(x < 0)"),
    ("0", "(1)"),
    ("np.maximum", "(np.minimum)"),
    ("5", "(6)"),
    ("0", "(x if x <= 0 else np.maximum(x, 5))"),
    ("min(x + 1, x * 2)", "(x if x <= 0 else np.maximum(x, 5))"),
]


@pytest.fixture(scope="module")
def drawn():
    return mutants.sample(ROOT)


def found(text):
    return mutants.mutants("x.py", text.encode())


def test_words_marks_types_and_what_ends_processes_are_never_changed():
    assert found(WORDS) == []


def test_every_place_of_code_is_changed_in_the_ways_that_are_listed():
    changes = [(m.before, "".join(m.after.split("\n"))) for m in found(CODE)]
    assert Counter(changes) == Counter(CHANGES)


def test_a_mutant_parses_differs_in_one_place_and_leaves_every_line_where_it_was():
    for mutant in found(CODE):
        text = mutant.planted(CODE.encode()).decode()
        assert ast.dump(ast.parse(text)) != ast.dump(ast.parse(CODE))
        assert text.count("\n") == CODE.count("\n")


def strings(tree):
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_what_is_drawn_from_the_library_parses_and_changes_no_text_in_it(drawn):
    assert len({mutant.name for mutant in drawn}) == len(drawn) == MUTANTS
    for mutant in drawn[:40]:
        text = (ROOT / mutant.file).read_bytes()
        planted = mutant.planted(text)
        assert planted.count(b"\n") == text.count(b"\n")
        assert strings(ast.parse(planted)) <= strings(ast.parse(text))


def test_a_seed_draws_the_same_again_and_another_seed_others(drawn):
    assert mutants.sample(ROOT) == drawn
    others = mutants.sample(ROOT, seed=mutants.SEED + 1)
    assert len({m.name for m in others} & {m.name for m in drawn}) < len(drawn) / 3


def test_modules_have_their_share_of_lines(drawn):
    lines = {file: mutants.code_lines((ROOT / file).read_bytes()) for file in mutants.modules(ROOT).values()}
    count = Counter(mutant.file for mutant in drawn)
    for file, n in lines.items():
        assert abs(count[file] - MUTANTS * n / sum(lines.values())) <= 1


def test_an_edit_elsewhere_leaves_a_mutant_what_it_is():
    kept = {mutant.name for mutant in found(CODE + "\n\ndef other(x):\n    return x + 1\n")}
    assert {mutant.name for mutant in found("# above\n" + CODE)} < kept
    assert not {mutant.name for mutant in found(CODE.replace("5", "7"))} & kept


def test_the_nearest_tests_come_first():
    near, others = mutants.tests_of(ROOT, "evolution")
    assert near == ["pbtlib/evolution.py", "tests/test_evolution.py"]
    assert "tests/test_loop.py" in others
    assert "tests/test_evolution.py" not in others
    near, _ = mutants.tests_of(ROOT, "studies.wells")
    assert near == ["pbtlib/studies/wells.py", "tests/test_studies_wells.py", "tests/test_studies.py"]


def test_every_module_of_the_library_has_tests_of_its_own():
    for module in mutants.modules(ROOT):
        near, _ = mutants.tests_of(ROOT, module)
        assert len(near) > 1, f"say in NAMESAKES which file tests pbtlib.{module}"


def test_code_that_may_be_compiled_is_kept_apart(drawn):
    apart = {(m.file, m.scope) for m in drawn if mutants.touches_compiled(ROOT, m)}
    assert all(scope == "" or file.split("/")[-1] in HOLD_COMPILED for file, scope in apart)
    assert any(scope for _, scope in apart)


HOLD_COMPILED = ("normals.py", "training.py", "evolution.py", "kinetic.py", "wells.py", "population.py", "product.py")

# ---------------------------------------------------------------------------------------------- what becomes of them

HALF = """def half(x):
    while x < 0:
        x += 1
    return x / 2
"""
NOTHING = "from pbtlib import half\n\n\ndef test_nothing():\n    half.half\n"
ALL = """from pbtlib.half import half


def test_all():
    assert [half(x) for x in (-1, -0.5, 0, 3)] == [0, 0.25, 0, 1.5]
"""


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """What becomes of all changes of a small library with these tests."""
    monkeypatch.setattr(mutants, "PATIENCE", 1.0)

    def judge(tests, others=""):
        files = {"pbtlib/__init__.py": "", "pbtlib/half.py": HALF, "tests/test_half.py": tests}
        for name, text in (files | ({"tests/test_others.py": others} if others else {})).items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        drawn = mutants.mutants("pbtlib/half.py", HALF.encode())
        with Warm(tmp_path, preloaded="pytest") as warm:
            answers = {(m.before, m.after): warm.judge(m, ROUNDS[:1]) for m in drawn}
            assert (warm.copy / "pbtlib" / "half.py").read_text() == HALF, "a mutant is taken out again"
        return {change: answer["outcome"] for change, answer in answers.items()}

    return judge


@pytest.mark.slow
def test_tests_that_test_nothing_let_all_survive(judged):
    assert set(judged(NOTHING).values()) == {SURVIVED}


@pytest.mark.slow
def test_tests_that_test_something_kill_and_an_endless_loop_is_told_from_a_failure(judged):
    assert judged(ALL) == {
        ("x < 0", "(x <= 0)"): KILLED,
        ("0", "(1)"): KILLED,
        ("x += 1", "x -= 1"): SLOW,
        ("1", "(2)"): KILLED,
        ("x / 2", "(x * 2)"): KILLED,
        ("2", "(3)"): KILLED,
    }


@pytest.mark.slow
def test_tests_further_away_are_timed_without_the_mutant_and_notice_it(judged):
    assert SURVIVED not in judged(NOTHING, others=ALL).values()


@pytest.mark.slow
def test_tests_that_fail_without_a_mutant_are_no_judge(judged):
    with pytest.raises(RuntimeError, match=r"test_half\.py::test_bad fails without a mutant"):
        judged("def test_bad():\n    assert False\n")


# ---------------------------------------------------------------------------------------------- the table


def test_the_table_counts_a_reason_as_equivalent_and_keeps_it(tmp_path):
    (tmp_path / "x.py").write_text(CODE)
    a, b, c, d = found(CODE)[:4]
    seen = {"outcome": SURVIVED, "rounds": 2}
    known = {a.name: {"outcome": KILLED, "by": "t"}, b.name: seen, c.name: seen, d.name: {**seen, "rounds": 1}}
    old = {"read": [{"name": b.name, "equivalent": "no matter"}, {"name": a.name, "equivalent": ""}]}
    table = mutants.table(tmp_path, [a, b, c, d], known, old)
    (row,) = table["modules"].values()
    assert (row["mutants"], row[KILLED], row[EQUIVALENT], row[SURVIVED]) == (4, 1, 1, 1)
    assert (table["planned"], table["made"], table["missing"]) == (4, 3, 1)
    said = {row["name"]: row for row in table["read"]}
    assert said[b.name]["equivalent"] == "no matter"
    assert said[a.name]["by"] == "t", "what once survived names the test that notices it now"
    assert mutants.changed(table, tmp_path) == []
    (tmp_path / "x.py").write_text(CODE.replace("5", "6"))
    assert mutants.changed(table, tmp_path) == ["x.py"]
    assert "changed since: `x`" in pages._mutants(table)
    assert "| `x` | 1 | 1 | 1 |" in pages._mutants(table)


def test_the_stored_table_adds_up_and_tests_notice_nineteen_in_twenty():
    table = mutants.stored()
    rows = table["modules"].values()
    assert table["planned"] == MUTANTS == sum(row["mutants"] for row in rows)
    assert table["made"] == sum(row[what] for row in rows for what in (KILLED, EQUIVALENT, SURVIVED))
    assert table["made"] + table["missing"] == table["planned"]
    killed, survived = (sum(row[what] for row in rows) for what in (KILLED, SURVIVED))
    assert killed >= 0.95 * (killed + survived)
    for what in (EQUIVALENT, SURVIVED):
        assert sum(row["outcome"] == what for row in table["read"]) == sum(row[what] for row in rows)
    assert all(row["equivalent"] for row in table["read"] if row["outcome"] == EQUIVALENT)


def test_a_page_that_is_a_notebook_shows_the_table_too():
    text = "Before.\n\n```{ledger} mutants\n```\n\nAfter.\n"
    filled = "Before.\n\nTABLE\n\nAfter.\n"
    assert with_parts(text, {"mutants": "TABLE\n"}) == filled
    code = {"cell_type": "code", "source": text}
    notebook = {"cells": [{"cell_type": "markdown", "source": text.splitlines(keepends=True)}, code]}
    shown, left = json.loads(with_parts(json.dumps(notebook), {"mutants": "TABLE\n"}))["cells"]
    assert shown["source"] == filled
    assert left == code


def test_a_mutant_says_where_it_stands():
    (mutant,) = (m for m in found(CODE) if m.before == "5")
    assert (mutant.line, mutant.scope) == (10, "sign")
    assert dataclasses.replace(mutant, number=1).name != mutant.name
