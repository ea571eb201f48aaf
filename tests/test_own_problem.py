"""The pages on a problem of one's own: with other data in their one cell, all that is theory must hold unchanged."""

import ast

import matplotlib.pyplot as plt
import numpy as np
import pytest
from chapter_code import cells

from book.execute import ROOT
from pbtlib import claims

STORY, EVIDENCE = "your_problem", "e_your_problem"
THEORY = {
    "own-training",
    "own-effective-fitness",
    "own-predictive-likelihood",
    "own-averaged",
    "own-heat-moves-optimum",
    "own-fixed-penalty-is-honest",
    "own-parents-have-seen-validation",
}
OTHER_DATA = """
SEED = {seed}
rng = np.random.default_rng({seed})
inputs = 50 + 7 * rng.standard_normal((200, 2))
x = (inputs - 50) / 7
target = 3 * x[:, 0] - 2 * x[:, 0] * x[:, 1] + 2 * rng.standard_normal(200)
DEGREE, N_TRAIN, N_VALID, SPLIT = 2, 20, 60, 0
"""


def read(page, seed, monkeypatch):
    """Run a page on other data; return its verdicts and how many figures it drew."""
    verdicts = {}

    def record(name, **numbers):
        verdicts[name] = claims.judge(name, **numbers)

    monkeypatch.setattr(claims, "claim", record)
    monkeypatch.chdir(ROOT / "chapters")
    assert sum("penguins.csv" in cell for cell in cells(page)) == 1
    space: dict[str, object] = {}
    for cell in cells(page):
        exec(compile(OTHER_DATA.format(seed=seed + 1) if "penguins.csv" in cell else cell, page, "exec"), space)
    figures = len(plt.get_fignums())
    plt.close("all")
    return verdicts, figures


@pytest.mark.slow
def test_another_problem_needs_one_cell(seed, monkeypatch):
    """Two columns, degree two, 200 rows, other numbers everywhere: figures are drawn, nothing fails."""
    verdicts, figures = read(STORY, seed, monkeypatch)
    assert figures == 5
    assert not set(verdicts) & THEORY


@pytest.mark.slow
def test_the_theory_holds_for_another_problem(seed, monkeypatch):
    verdicts, _ = read(EVIDENCE, seed, monkeypatch)
    assert {name for name, verdict in verdicts.items() if verdict.outcome != "holds"} == set()
    assert THEORY - {"own-heat-moves-optimum"} <= set(verdicts) <= THEORY  # the optimum may lie at the edge of the box


def defined(page):
    """The functions and classes of a page, as Python reads them."""
    trees = [ast.parse(cell) for cell in cells(page)]
    named = [node for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return {node.name: ast.dump(node) for node in named}


def test_story_and_evidence_speak_of_the_same_problem():
    """Data, and every function that both define, are the same; what one changes in one only is noticed here."""
    story, evidence = defined(STORY), defined(EVIDENCE)
    shared = set(story) & set(evidence)
    assert {"check_data", "split", "Ridge", "problem", "effective", "run"} <= shared
    assert {name for name in shared if story[name] != evidence[name]} == set()
    for words in ("penguins.csv", "lower, upper = "):
        first, second = ([cell for cell in cells(page) if words in cell] for page in (STORY, EVIDENCE))
        assert len(first) == len(second) == 1
        assert first == second


def first_cells(data, monkeypatch, page=EVIDENCE, until="claim("):
    """Run what a page begins with on these data."""
    monkeypatch.chdir(ROOT / "chapters")
    space: dict[str, object] = {}
    for cell in cells(page):
        if until in cell:
            return space
        exec(compile(data if "penguins.csv" in cell else cell, page, "exec"), space)
    raise AssertionError("the page claims nothing")


YES_NO = OTHER_DATA.format(seed=5) + "inputs = np.c_[inputs, x[:, 0] > 1.5]\n"


def test_a_yes_no_column_is_a_column_like_others(monkeypatch):
    """Its square is itself, among few rows it may be constant: a feature that is zero leaves all formulas exact."""
    space = first_cells(YES_NO, monkeypatch)
    for key in range(40):
        for features, _ in space["split"](key):
            assert np.isfinite(features).all()
            assert np.abs(features).max() < 1e3
    constant = YES_NO + "inputs[:, -1] = 1.0\n"
    assert np.isfinite(first_cells(constant, monkeypatch)["h_best"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("inputs[7, 1] = np.nan", "1 rows hold NaN or infinity, the first is row 7"),
        ("target[3] = np.inf", "the first is row 3"),
        ("target = target[:, None]", r"shapes \(200, 2\) and \(200, 1\)"),
        ("inputs = inputs[:, 0]", r"shapes \(200,\) and"),
        ("DEGREE = 0", "DEGREE is 0"),
        ("DEGREE = 1", "DEGREE is 1; it must be at least 2"),
        ("inputs, target = inputs[:81], target[:81]", "81 rows leave 1 to test"),
    ],
)
def test_bad_data_are_named_at_once(spoil, message, monkeypatch):
    with pytest.raises(AssertionError, match=message):
        first_cells(OTHER_DATA.format(seed=5) + spoil + "\n", monkeypatch)


MISLEADING = (
    OTHER_DATA.format(seed=5)
    + """
target = x[:, 0].copy()
target[stream(0, SPLIT, "split").permutation(200)[N_TRAIN:]] *= -1
"""
)


@pytest.mark.parametrize(("data", "edge"), [(MISLEADING, True), (OTHER_DATA.format(seed=5), False)])
def test_an_optimum_at_the_edge_of_the_box_is_mentioned(data, edge, monkeypatch, capsys):
    """What the training rows teach is wrong for all others: the largest penalty there is does best."""
    space = first_cells(data, monkeypatch, STORY, until="def effective(")
    assert (space["upper"] - space["h_best"] < 1e-6) == edge
    assert ("edge of the box" in capsys.readouterr().out) == edge


def test_many_weights_are_announced(monkeypatch, capsys):
    """Ten columns and cubes make 285 weights; two make nine, of which nothing is said."""
    wide = OTHER_DATA.format(seed=5) + "inputs = stream(5, 1, 'wide').standard_normal((len(target), 10))\nDEGREE = 3\n"
    for data, said in ((wide, True), (OTHER_DATA.format(seed=5), False)):
        first_cells(data, monkeypatch, until="class Ridge")
        assert ("285 weights: this page will take minutes" in capsys.readouterr().out) == said
