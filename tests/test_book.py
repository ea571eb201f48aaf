"""The notebooks, their twins, the ledger and the set-up files agree; what is stored is what a new run gives."""

import json
import os
import re
import subprocess
import sys
import tomllib

import nbformat
import numpy as np
import pytest
import yaml
from jupyter_book.config import validate_yaml
from packaging.requirements import Requirement

from pbtlib.claims import ledger
from tools import build
from tools import ledger as ledger_page
from tools.notebooks import CHAPTERS, ROOT, TWINS, claims_of, code_cells, from_twin, names, same_cells, to_twin

CHAPTER = pytest.mark.parametrize("name", names())


def stored(name):
    return nbformat.read(CHAPTERS / f"{name}.ipynb", as_version=4)


@CHAPTER
def test_notebook_and_twin_agree(name):
    notebook = stored(name)
    nbformat.validate(notebook)
    assert same_cells(notebook, from_twin(TWINS / f"{name}.md")), (
        f"run `make exec NAME={name}` or `make take NAME={name}`"
    )


@CHAPTER
def test_a_twin_survives_the_round_trip(name, tmp_path):
    notebook = from_twin(TWINS / f"{name}.md")
    (tmp_path / "twin.md").write_text(to_twin(notebook))
    assert same_cells(from_twin(tmp_path / "twin.md"), notebook)


@CHAPTER
def test_every_cell_ran_once_in_order_without_error_or_complaint(name):
    cells = code_cells(stored(name))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert not cells or outputs, "no cell has an output"


@CHAPTER
def test_notebook_is_small_and_its_cells_short(name):
    assert (CHAPTERS / f"{name}.ipynb").stat().st_size < 1_000_000
    assert max([len(cell.source.splitlines()) for cell in code_cells(stored(name))], default=0) <= 25


@CHAPTER
def test_a_cell_with_a_claim_shows_nothing_that_nbval_cannot_compare(name):
    for cell in code_cells(from_twin(TWINS / f"{name}.md")):
        if "claim(" in cell.source:
            assert not cell.source.rstrip().endswith(";"), cell.source
            assert "plt." not in cell.source, "draw in a cell of its own"


@CHAPTER
def test_every_figure_has_caption_and_alternative_text(name):
    for cell in code_cells(stored(name)):
        if any("image/png" in output.get("data", {}) for output in cell.outputs):
            shown = cell.metadata.get("mystnb", {})
            assert len(shown.get("figure", {}).get("caption", "")) > 20, cell.source
            assert len(shown.get("image", {}).get("alt", "")) > 20, cell.source


@pytest.fixture(scope="module")
def rerun():
    """Execute the chapters that changed since they were last executed on this machine, in a process of its own."""
    words = [sys.executable, "-m", "tools.build", "run"]
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, "PBTLIB_STRICT": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return lambda name: build.executed([name], strict=True)[name]


@CHAPTER
def test_stored_and_new_measurements_agree(name, rerun):
    new = rerun(name)
    old_claims, new_claims = claims_of(stored(name)), claims_of(new)
    assert [c["id"] for c in new_claims] == [c["id"] for c in old_claims]
    for old, fresh in zip(old_claims, new_claims, strict=True):
        assert not disagreement(old, fresh), old["id"]


def disagreement(old, fresh):
    """Entries that differ by more than the two tolerances allow, beyond rounding."""
    a, b = (np.atleast_1d(claim["measured"]).astype(float) for claim in (old, fresh))
    slack = np.hypot(*(np.broadcast_to(claim["tolerance"], a.shape) for claim in (old, fresh)))
    return [
        pair
        for pair in zip(a.ravel(), b.ravel(), slack.ravel(), strict=True)
        if abs(pair[0] - pair[1]) > pair[2] + 1e-6 * abs(pair[0])
    ]


def test_a_stored_measurement_that_is_not_reproduced_is_noticed():
    claim = {"measured": [1.0, 2.0], "tolerance": [0.1, 0.1]}
    assert not disagreement(claim, {**claim, "measured": [1.0, 2.1]})
    assert disagreement(claim, {**claim, "measured": [1.0, 2.2]})


def test_the_ledger_page_is_what_the_notebooks_say():
    page = ledger_page.page(ledger(), {name: claims_of(stored(name)) for name in names()})
    assert (CHAPTERS / "claims.md").read_text() == page, "run `make exec`"


def test_a_claim_that_no_chapter_measures_is_noticed():
    found = {name: claims_of(stored(name)) for name in names()}
    chapter = next(name for name in found if found[name])
    with pytest.raises(ledger_page.LedgerError, match=found[chapter][0]["id"]):
        ledger_page.page(ledger(), {**found, chapter: found[chapter][1:]})
    with pytest.raises(ledger_page.LedgerError, match="recorded for"):
        ledger_page.page(ledger(), {**found, chapter: [], "elsewhere": found[chapter]})


def test_tests_named_in_the_ledger_exist():
    for record in ledger().values():
        if record.test:
            path, _, function = record.test.partition("::")
            assert (ROOT / path).is_file(), record.id
            assert f"def {function.split('[')[0]}" in (ROOT / path).read_text(), record.id


def test_the_table_of_contents_holds_every_page():
    pages = {path.stem for path in [*CHAPTERS.glob("*.ipynb"), *CHAPTERS.glob("*.md")]}
    assert {f"chapters/{page}" for page in pages} == set(build.toc_files())
    assert {path.stem for path in CHAPTERS.glob("*.ipynb")} == set(names())


def test_the_configuration_fits_its_schema():
    validate_yaml(yaml.safe_load((ROOT / "_config.yml").read_text()), raise_on_errors=True)


# ---------------------------------------------------------------------------------------------- set-up files


def lock():
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in (line.split("==") for line in lines)}


def test_lock_holds_what_pyproject_asks_for_and_is_what_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [
        Requirement(r)
        for group in ([project["dependencies"], *project["optional-dependencies"].values()])
        for r in group
    ]
    locked = lock()
    for requirement in asked:
        assert locked[re.sub(r"[-_.]+", "-", requirement.name).lower()] in requirement.specifier, requirement
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True
    )
    installed = {
        re.sub(r"[-_.]+", "-", p["name"]).lower(): p["version"].partition("+")[0] for p in json.loads(listed.stdout)
    }
    assert {name: installed.get(name) for name in locked} == locked
    assert set(installed) - set(locked) <= {"pbtlib", "pip", "setuptools", "wheel"}


def test_lock_is_portable():
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"nvidia|cuda|\+cpu|https?:|--index|--find-links| @ ", text)


def test_environment_file_installs_the_lock():
    pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"][-1]["pip"]
    assert pip == ["-r requirements.lock", "-e ."]


# ---------------------------------------------------------------------------------------------- what a build redoes


def test_a_chapter_depends_on_the_library_it_reaches():
    reached = {path.name for path in build.library_files("from pbtlib.claims import claim\nimport numpy")}
    assert {"claims.py", "checks.py", "__init__.py"} <= reached
    assert "results.py" not in reached


def test_fingerprint_follows_code_and_ignores_prose(monkeypatch, tmp_path):
    name = next(name for name in names() if claims_of(stored(name)))
    notebook = from_twin(TWINS / f"{name}.md")
    before = build.fingerprint(notebook)
    prose = next(cell for cell in notebook.cells if cell.cell_type == "markdown")
    prose.source += "\nMore prose."
    assert build.fingerprint(notebook) == before
    code_cells(notebook)[-1].source += "\n1 + 1"
    assert build.fingerprint(notebook) != before


def test_fingerprint_follows_a_changed_line_of_the_library(monkeypatch):
    name = next(name for name in names() if claims_of(stored(name)))
    notebook = from_twin(TWINS / f"{name}.md")
    before = build.fingerprint(notebook)
    files = build.library_files("\n".join(cell.source for cell in code_cells(notebook)))
    read = type(files[0]).read_bytes
    monkeypatch.setattr(type(files[0]), "read_bytes", lambda p: read(p) + (b"\n" if p == files[-1] else b""))
    assert build.fingerprint(notebook) != before
