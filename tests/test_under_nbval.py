"""What nbval has run is kept as if the build had run it, and a departure is told by chapter, claim and numbers."""

import os
import subprocess
import sys
from xml.etree import ElementTree

import nbformat
import pytest

from book import summary
from book.execute import CHAPTERS, CHECKED, FIGURES, METADATA, ROOT, code_cells
from pbtlib.claims import ledger

RULES = ["--nbval-lax", "--nbval-sanitize-with", str(ROOT / "tests" / "nbval.cfg")]
PLUGIN = ["-p", "book.under_nbval", "--nbval-kernel-name", "recorded"]
pytestmark = [pytest.mark.words, pytest.mark.slow]


def nbval(path, folder):
    """Run a notebook as `make nbval` does, what is kept going into a folder; returns the report."""
    environment = {**os.environ, "PBTLIB_PASS": str(folder)}
    words = ["-q", "-p", "no:cacheprovider", "--color=no", f"--junitxml={folder / 'nbval.xml'}", *RULES, *PLUGIN]
    words.append(f"--rootdir={path.parent.parent}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, str(path)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (folder / "nbval.xml").is_file(), done.stdout + done.stderr
    return ElementTree.parse(folder / "nbval.xml").getroot()


def test_what_nbval_ran_is_kept_with_its_figures(tmp_path):
    name = "d_reinforcement_learning"  # a cell of it ends in a semicolon
    assert not summary_of(nbval(CHAPTERS / f"{name}.ipynb", tmp_path), "FAILED")
    kept = nbformat.read(tmp_path / "executed" / f"{name}.ipynb", as_version=4)
    stored = nbformat.read(CHAPTERS / f"{name}.ipynb", as_version=4)
    assert [c.execution_count for c in code_cells(kept)] == [c.execution_count for c in code_cells(stored)]
    assert set(kept.metadata["pbtlib"]["figures"]) == {
        path.stem.partition("-")[2] for path in FIGURES.glob(f"{name}-*")
    }
    assert [[out.output_type for out in cell.outputs] for cell in code_cells(kept)] == [
        [out.output_type for out in cell.outputs] for cell in code_cells(stored)
    ]
    assert kept.metadata["pbtlib"]["fingerprint"]
    assert kept.metadata["language_info"]["nbconvert_exporter"] == "python"


def summary_of(report, begin):
    """The lines of the end of a run from the first one that begins so."""
    lines = summary.told(report)
    first = next((k for k, line in enumerate(lines) if line.startswith(begin)), len(lines))
    return lines[first:]


NAME = next(record.id for record in ledger().values() if record.status == "verified")
CLAIM = f"""from pbtlib.claims import claim
claim("{NAME}", measured=7.25, predicted=1.0, control=9.0, bound=0.5)"""


def test_a_departed_claim_and_a_departed_word_are_told_by_chapter_claim_and_what_was_found(tmp_path):
    cells = [nbformat.v4.new_code_cell(source) for source in (CLAIM, "print('found it')")]
    for number, cell in enumerate(cells, 1):
        cell.metadata["tags"], cell.execution_count = [CHECKED], number
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="expected it\n")]
    path = tmp_path / "chapters" / "planted.ipynb"
    path.parent.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=METADATA), path)
    lines = summary_of(nbval(path, tmp_path), "FAILED")
    assert not (tmp_path / "executed").exists()
    claim, word = (lines[k:] for k, line in enumerate(lines) if line.startswith("FAILED"))
    assert "chapters/planted.ipynb::Cell 0" in claim[0]
    assert claim[1].endswith(f"in the cell of {NAME}")
    assert "ClaimError" in claim[2]
    assert "7.25" in claim[2]
    assert "predicted 1" in claim[2]
    assert "chapters/planted.ipynb::Cell 1" in word[0]
    assert word[1].endswith("Cell outputs differ, in the cell of no claim")
    assert "found" in "".join(word)
    assert "expected" in "".join(word)
