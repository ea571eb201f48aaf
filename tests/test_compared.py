"""Notebooks are compared by verdicts and words: nothing that a processor decides is among them."""

import ast
import os
import re
import subprocess
import sys

import nbformat
import pytest
import torch
from nbval.plugin import get_sanitize_patterns

from book.execute import CHAPTERS, CHECKED, KERNEL_ENVIRONMENT, METADATA, ROOT, TWINS, code_cells, from_twin, names

pytestmark = pytest.mark.words  # as on another processor, nbval itself compares
RULES = ROOT / "tests" / "nbval.cfg"
PATTERNS = get_sanitize_patterns(RULES.read_text())
NUMBER = re.compile(r"(?<!\w)[-+−]?\d+(?:\.\d*)?(?:e[-+]?\d+)?(?!\w)")
OTHERS = ("-1234.5", "7", "+0.1", "−3.", " 2e-07", "1.5e+300", "nan", "-inf", "1 ± 0.2", "[ 1.  -2.5\n 3. ]", "10⁻⁴")


def compared(text):
    """What nbval compares of a text."""
    for pattern, replacement in PATTERNS:
        text = re.sub(pattern, replacement, text)
    return text


def checked_cells(notebook):
    return [cell for cell in code_cells(notebook) if CHECKED in cell.metadata.get("tags", [])]


def stored(name):
    return nbformat.read(CHAPTERS / f"{name}.ipynb", as_version=4)


def said(notebook):
    """The outputs of a notebook's cells that are compared, text by text."""
    for cell in checked_cells(notebook):
        for output in cell.outputs:
            yield from [output["text"]] if "text" in output else output["data"].values()


def texts():
    """The compared outputs of all stored notebooks."""
    return [text for name in names() for text in said(stored(name))]


@pytest.mark.parametrize("name", names())
def test_stored_and_new_words_agree(name, rerun):
    """What nbval does where it runs the chapters itself, here on those that this pass has executed."""
    assert [compared(text) for text in said(rerun(name))] == [compared(text) for text in said(stored(name))]


def test_the_rules_are_read():
    assert len(PATTERNS) == RULES.read_text().count("regex:") == 2


def test_no_number_of_a_compared_output_survives():
    """Another sign, width, exponent or count of any number leaves what is compared as it is; and words are left."""
    found = texts()
    assert len(found) > 300
    for text in found:
        seen = compared(text)
        assert not any(c.isdigit() or c in "±+−-[]." for c in seen), text
        assert re.search(r"[^\W\d_]", seen), f"nothing is left to compare of {text!r}"
        for other in OTHERS:
            assert compared(NUMBER.sub(other, text)) == seen, (text, other)


@pytest.mark.parametrize(
    "plant", ["{0}", " {0}", "[{0}", "± {0}", "+{0}", "−{0}", "={0}", "({0},", "\n{0}", "× 10⁻{0}"]
)
@pytest.mark.parametrize("number", ["3", "12.75", "1e-05", "2.e+10", ".5", "1,000", "nan", "inf"])
def test_a_planted_number_is_not_compared(plant, number):
    words = "✓ one: measured {} holds"
    assert compared(words.format(f" {plant.format(number)} ")) == compared(words.format(" 4 "))


@pytest.mark.parametrize(
    "other",
    [
        "✗ one: Measured 3 ± 1, predicted 3. A broken model gives 9. Measured with tolerance 2: fails",
        "Consistent with: One is one. Measured 3 ± 1, predicted 3. A broken model gives 9.",
        "Refuted: One is one. Measured 3 ± 1, predicted 3. A broken model gives 9.",
        "Holds: One is one. Measured 3 ± 1, predicted at most 3. A broken model gives 9.",
        "Holds: Two is one. Measured 3 ± 1, predicted 3. A broken model gives 9.",
        "Holds: One is one. Measured 3 ± 1, predicted 3. A rival formula gives 9.",
    ],
)
def test_another_verdict_or_word_is_seen(other):
    said = "Holds: One is one. Measured 3 ± 1, predicted 3. A broken model gives 9."
    assert compared(said) == compared(said.replace("3 ± 1", "−2.75 × 10⁻³ ± 0.01"))
    assert compared(other) != compared(said)


# ---------------------------------------------------------------------------------------------- words


def listed(test):
    """Whether a condition only picks from a list that is written out: ``s in (3, 5)``."""
    return (
        isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.In) and isinstance(test.comparators[0], ast.Tuple)
    )


def chosen_words(source):
    """Prints whose words, or whose number, a computation chooses: on another processor it may choose otherwise."""
    found = []

    def walk(node, branch):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
            inner = [n for part in [*node.args, *node.keywords] for n in ast.walk(part)]
            picks = [n for n in inner if isinstance(n, ast.IfExp) or getattr(n, "attr", getattr(n, "id", "")) in PICKS]
            if branch or picks:
                found.append(ast.unparse(node))
        inside = branch or (isinstance(node, (ast.If, ast.While)) and not listed(node.test))
        for child in ast.iter_child_nodes(node):
            walk(child, inside)

    walk(ast.parse(source), False)
    return found


PICKS = {"argmax", "argmin", "argsort", "nanargmax", "nanargmin", "idxmax", "idxmin", "sorted", "most_common"}


@pytest.mark.parametrize("name", names())
def test_no_compared_cell_prints_words_that_a_computation_chooses(name):
    for cell in checked_cells(from_twin(TWINS / f"{name}.md")):
        assert not chosen_words(cell.source), "print it in a cell of its own"


@pytest.mark.parametrize(
    "source",
    [
        "print('best:', labels[returns.argmax()])",
        "print('left' if x > 0 else 'right')",
        "print(*sorted(share, key=share.get))",
        "if returns[0] > 30:\n    print('solved')",
        "def watch(k):\n    while error > 1e-9:\n        print('again')",
    ],
)
def test_words_that_a_computation_chooses_are_noticed(source):
    assert chosen_words(source)
    assert not chosen_words("for k in range(3):\n    print(f'wells {x.max():.2f}', 'and', len(x))")


@pytest.mark.slow
def test_what_depends_on_the_processor_passes_as_a_number_and_is_caught_as_a_word(tmp_path):
    """Planted: a cell that prints a number, and one that prints a word, which the instruction set decides."""
    code = "import torch\nlevel = torch.backends.cpu.get_cpu_capability()\nprint('level', {})"
    cells = [nbformat.v4.new_code_cell(code.format(what)) for what in ("len(level), -1.0 / len(level)", "level")]
    for number, cell in enumerate(cells, 1):
        cell.metadata["tags"], cell.execution_count = [CHECKED], number
    native = torch.backends.cpu.get_cpu_capability()
    for cell, said in zip(cells, (f"{len(native)} {-1 / len(native)}", native), strict=True):
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=f"level {said}\n")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=METADATA), tmp_path / "planted.ipynb")
    for level, failed in ((None, 0), ("default", int(native != "DEFAULT"))):
        environment = {**os.environ, **KERNEL_ENVIRONMENT, **({"ATEN_CPU_CAPABILITY": level} if level else {})}
        words = [
            "-q",
            "-p",
            "no:cacheprovider",
            "--nbval-lax",
            "--nbval-sanitize-with",
            str(RULES),
            "--nbval-cell-timeout",
            "600",
            str(tmp_path),
        ]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert f"{2 - failed} passed" in done.stdout, done.stdout
        assert (f"{failed} failed" in done.stdout) == bool(failed), done.stdout
