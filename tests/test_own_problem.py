"""The page "Use it on your own problem": with other data in its one cell, all that is theory must hold unchanged."""

import re
from pathlib import Path

import matplotlib.pyplot as plt

from pbtlib import claims

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "chapters" / "text" / "05d_your_own_problem.md"
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


def cells():
    """The code cells of the page, without their options."""
    found = re.findall(r"^```\{code-cell\} ipython3\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return [re.sub(r"\A(---\n.*?^---\n|:tags: [^\n]*\n)", "", c, flags=re.DOTALL | re.MULTILINE) for c in found]


def read(seed, monkeypatch, change=lambda cell: cell):
    """Run the page on other data; return its verdicts and how many figures it drew."""
    verdicts = {}

    def record(name, **numbers):
        verdicts[name] = claims.judge(name, **numbers)

    monkeypatch.setattr(claims, "claim", record)
    monkeypatch.chdir(ROOT / "chapters")
    (yours,) = [i for i, cell in enumerate(cells()) if "penguins.csv" in cell]
    page = [OTHER_DATA.format(seed=seed + 1) if i == yours else change(cell) for i, cell in enumerate(cells())]
    space: dict[str, object] = {}
    for cell in page:
        exec(compile(cell, str(PAGE), "exec"), space)
    figures = len(plt.get_fignums())
    plt.close("all")
    return verdicts, figures


def test_another_problem_needs_one_cell(seed, monkeypatch):
    """Two columns, degree two, 200 rows, other numbers everywhere: formulas hold, figures are drawn, nothing fails."""
    verdicts, figures = read(seed, monkeypatch)
    assert figures == 3
    assert {name for name, verdict in verdicts.items() if not verdict.holds} <= set(verdicts) - THEORY
    assert set(verdicts) >= THEORY - {"own-heat-moves-optimum"}  # the optimum may lie at the edge of the box
