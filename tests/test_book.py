"""The notebooks, their twins, the ledger and the set-up files agree."""

import ast
import dataclasses
import hashlib
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from contextlib import nullcontext
from functools import cache
from html import escape
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml
from jupyter_book.config import validate_yaml
from nbclient.exceptions import CellExecutionError, DeadKernelError
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_reproduced import read_csv

import run
from book import build
from book.build import story_pages
from book.execute import (
    CHAPTERS,
    FIGURES,
    METADATA_MARK,
    ROOT,
    TWINS,
    _ids,
    claims_of,
    code_cells,
    figure_name,
    from_twin,
    is_edited,
    names,
    run_cells,
    same_cells,
    shown_metadata,
    to_twin,
)
from book.ledger import from_notebooks
from book.ledger import pages as ledger_page
from pbtlib.claims import COMPUTED, ledger

CHAPTER = pytest.mark.parametrize("name", names())
pytestmark = pytest.mark.words


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
def test_edits_by_hand_are_seen(name):
    notebook = stored(name)
    assert not is_edited(notebook)
    cell = notebook.cells[-1]
    cell.source += " "
    assert is_edited(notebook)
    cell.source = cell.source[:-1]
    assert not is_edited(notebook)
    for change in (notebook.cells.pop, lambda: notebook.cells.extend([cell, nbformat.v4.new_code_cell("1 + 1")])):
        change()
        assert is_edited(notebook)


@pytest.mark.parametrize("what", ["tags", "mystnb"])
def test_an_edited_caption_or_tag_is_seen(what):
    cell = nbformat.v4.new_code_cell("1", metadata={"tags": ["one"], "mystnb": {"figure": {"caption": "A line."}}})
    notebook = nbformat.v4.new_notebook(cells=[cell])
    cell.id = _ids(notebook)[0]
    notebook.metadata[METADATA_MARK] = shown_metadata(notebook)
    assert not is_edited(notebook)
    cell.metadata["executionInfo"] = {"elapsed": 3}
    assert not is_edited(notebook), "what an editor keeps for itself is no edit"
    cell.metadata[what] = ["other"] if what == "tags" else {"figure": {"caption": "Another."}}
    assert is_edited(notebook)


def test_an_edited_notebook_is_not_written_over(tmp_path, monkeypatch):
    name = "06_conclusion"
    notebook = stored(name)
    notebook.cells[0].source += "\nMine."
    nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    kept = (tmp_path / f"{name}.ipynb").read_bytes()
    monkeypatch.setattr(build, "CHAPTERS", tmp_path)
    with pytest.raises(SystemExit, match=f"take {name}"):
        build.execute_into_chapters([name])
    assert (tmp_path / f"{name}.ipynb").read_bytes() == kept


@CHAPTER
def test_stored_outputs_say_what_machine_they_were_made_on(name):
    assert re.match(r"Python 3\.\d+\.\d+ on \S+ \S+ \(.*numpy \S+", build.stored_on()[name]), "run `make exec`"


def test_the_record_of_a_machine_changes_only_with_the_outputs(tmp_path, monkeypatch):
    """Executing anew on another machine what comes out the same leaves every file as it was."""
    name = "06_conclusion"
    for folder in ("CHAPTERS", "FIGURES"):
        monkeypatch.setattr(build, folder, tmp_path)
    monkeypatch.setattr(build, "MADE", tmp_path / "made.json")

    def make(on, text="2"):
        page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text, id="a")])
        page.metadata["pbtlib"] = {"figures": {}, "on": on}
        monkeypatch.setattr(build, "executed", lambda wanted, strict: {name: page})
        monkeypatch.setattr(build, "is_edited", lambda notebook: False)
        build.execute_into_chapters([name])
        return build.stored_on()

    assert make("first") == {name: "first"}
    assert make("second") == {name: "first"}
    assert make("second", "3") == {name: "second"}


FAULTS = {"import os; os._exit(1)": "DeadKernelError", "1 / 0": "CellExecutionError"}


@pytest.mark.parametrize(("code", "error"), FAULTS.items())
def test_a_failure_stops_only_its_chapter(code, error):
    script = f"""
from nbformat.v4 import new_code_cell, new_notebook
from book.execute import execute_all
pages = {{name: new_notebook(cells=[new_code_cell(code)]) for name, code in (("bad", {code!r}), ("good", "2"))}}
failed = execute_all(pages, keep=lambda name, seconds: print("kept", name))
print(*((name, type(error).__name__) for name, error in failed.items()))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["kept good", str(("bad", error))]


@pytest.mark.parametrize(
    ("says", "starts", "error"),
    [
        (["Kernel died before replying to kernel_info"], 2, None),
        (["Kernel died before replying to kernel_info"] * 2, 2, DeadKernelError),
        (["Kernel died"], 1, RuntimeError),
    ],
)
def test_a_kernel_that_never_spoke_is_started_once_more(says, starts, error):
    """Two kernels that start at once may choose the same port; one that died in a cell is not tried again."""
    begun = []

    class Client:
        def execute(self, **_):
            begun.append(1)
            if len(begun) <= len(says):
                raise RuntimeError(says[len(begun) - 1])

    with pytest.raises(error) if error else nullcontext():
        run_cells(Client())
    assert len(begun) == starts


def test_a_broken_cache_is_no_cache(tmp_path):
    page = nbformat.v4.new_notebook(metadata={"pbtlib": {"fingerprint": "0"}})
    whole, path = nbformat.writes(page), tmp_path / "page.ipynb"
    assert build.kept(path) is None
    for text, sound in ((whole, True), (whole[:40], False), ("{}", False), (whole.replace("fingerprint", "x"), False)):
        path.write_text(text)
        assert (build.kept(path) is not None) == sound


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
    assert (CHAPTERS / f"{name}.ipynb").stat().st_size < 600_000
    sources = [cell.source.splitlines() for cell in code_cells(stored(name))]
    assert max(map(len, sources), default=0) <= 25
    assert max((len(line) for source in sources for line in source), default=0) <= 98, "a screen of 1280 pixels"


def code_in_view(notebook):
    """How many lines each cell has whose code is not folded."""
    folded = {"hide-input", "hide-cell", "remove-cell"}
    cells = (cell for cell in code_cells(notebook) if not folded & set(cell.metadata.get("tags", [])))
    return [len(cell.source.splitlines()) for cell in cells]


@pytest.mark.parametrize("name", [Path(page).name for page in story_pages()])
def test_a_story_page_shows_little_code(name):
    lines = code_in_view(stored(name))
    assert len(lines) <= 14, "cells"
    assert sum(lines) <= 160, "lines"
    assert max(lines, default=0) <= 20, "lines of one cell"


def test_folded_code_is_not_in_view():
    """The companion: evidence has more, a fold hides what it folds."""
    cells = [nbformat.v4.new_code_cell("1\n2", metadata={"tags": tags}) for tags in ([], ["hide-input"], ["x"])]
    assert code_in_view(nbformat.v4.new_notebook(cells=cells)) == [2, 2]
    assert len(code_in_view(stored("e5_quadratic"))) > 14


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
            assert shown["figure"].get("name"), "its data file is called after its name"


@CHAPTER
def test_every_figure_has_its_data_beside_the_notebook(name):
    """Each figure has a small file of numbers, with the words of its axes and what made it; and there is no other."""
    drawn = {c.metadata["mystnb"]["figure"]["name"] for c in code_cells(stored(name)) if shows_picture(c)}
    assert {path.stem.removeprefix(f"{name}-") for path in FIGURES.glob(f"{name}-*.csv")} == drawn, "run `make exec`"
    for figure in drawn:
        path = FIGURES / f"{name}-{figure}.csv"
        head, rows = read_csv(path.read_text())
        assert path.stat().st_size < 400_000
        assert head[1].startswith("made by pbtlib")
        assert any(line.startswith("panel 1") for line in head)
        assert len(rows) > 2
        assert all(np.isfinite(float(v)) for row in rows for k, v in row.items() if k not in ("series", "kind") and v)


@CHAPTER
def test_a_caption_is_short(name):
    assert long_captions(from_twin(TWINS / f"{name}.md")) == {}


def long_captions(notebook):
    shown = [cell.metadata["mystnb"]["figure"] for cell in code_cells(notebook) if figure_name(cell)]
    return {one["name"]: count for one in shown if (count := len(one["caption"].split())) >= 45}


def test_a_long_caption_is_noticed():
    figure = {"name": "long", "caption": "word " * 45}
    cell = nbformat.v4.new_code_cell("1", metadata={"mystnb": {"figure": figure}})
    assert long_captions(nbformat.v4.new_notebook(cells=[cell])) == {"long": 45}


def shows_picture(cell):
    return any("image/png" in output.get("data", {}) for output in cell.outputs)


def test_a_chapter_from_the_cache_is_the_one_that_was_run(rerun):
    """What its kernel said of its language comes along, so that writing it a second time changes nothing."""
    assert rerun("index").metadata["language_info"]["nbconvert_exporter"] == "python"
    assert "nbconvert_exporter" not in from_twin(TWINS / "index.md").metadata["language_info"]


@CHAPTER
def test_every_moving_figure_of_a_chapter_is_recorded_beside_it(name):
    sources = "\n".join(cell.source for cell in code_cells(from_twin(TWINS / f"{name}.md")))
    moving = set(re.findall(r"moving\.(?:figure|Moving)\(\s*\"(\w+)\"", sources))
    assert {path.stem.removeprefix(f"{name}-") for path in FIGURES.glob(f"{name}-*.json")} == moving, "run `make exec`"
    assert all((FIGURES / f"{name}-{figure}.json").stat().st_size < 200_000 for figure in moving)


def test_every_moving_figure_has_one_place_and_every_place_its_figure():
    asked = [
        n for path in TWINS.glob("*.md") for n in re.findall(r'class="moving" data-name="(\w+)"', path.read_text())
    ]
    assert sorted(asked) == sorted(path.stem.partition("-")[2] for path in FIGURES.glob("*.json"))


PAGES_OF_THE_LEDGER = ("claims", "findings", "paper_items", "text/reproduce")


@pytest.fixture(scope="module")
def shown():
    """The parts of the ledger, from the stored notebooks."""
    return from_notebooks(tuple((path, 0) for path in sorted(CHAPTERS.glob("*.ipynb"))))


def test_the_pages_of_the_ledger_ask_for_all_of_its_parts_and_hold_none(shown):
    texts = [(CHAPTERS / f"{page}.md").read_text() for page in PAGES_OF_THE_LEDGER]
    assert set(re.findall(r"```\{ledger\} (\w+)", "".join(texts))) == set(shown)
    assert not any(f"ledger-{name}" in text for name in ledger() for text in texts)
    for record in ledger().values():
        assert shown["entries"].count(f'id="ledger-{record.id}"') == 1
        assert escape(record.statement) in shown["entries"]


def test_a_claim_that_no_chapter_measures_is_noticed():
    found = {name: claims_of(stored(name)) for name in names()}
    chapter = next(name for name in found if found[name])
    with pytest.raises(ledger_page.LedgerError, match=found[chapter][0]["id"]):
        ledger_page.collect(ledger(), {**found, chapter: found[chapter][1:]})
    with pytest.raises(ledger_page.LedgerError, match="recorded for"):
        ledger_page.collect(ledger(), {**found, chapter: [], "elsewhere": found[chapter]})


def test_the_graph_of_claims_goes_from_left_to_right_and_leaves_none_out():
    groups = ledger_page.layers(ledger())
    column = {name: k for group in groups for k, names_ in enumerate(group) for name in names_}
    joined = {name for record in ledger().values() for name in (record.id, *record.depends) if record.depends}
    assert set(column) == joined
    for record in ledger().values():
        assert all(column[other] < column[record.id] for other in record.depends)
    drawn = ledger_page.graph(ledger())
    assert drawn.count("<rect") == len(joined)
    assert drawn.count("<path") == sum(len(record.depends) for record in ledger().values())


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('claim("em-weak-order", measured=1)', ["em-weak-order"]),
        ('for name in ("em-weak-order", "viridis"):\n    claim(name, measured=1)', ["em-weak-order"]),
        ('print("em-weak-order")', []),
    ],
)
def test_a_claim_has_its_place_also_if_a_cell_goes_over_a_list_of_them(source, found):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    assert [*ledger_page.places({"x": notebook}).claims] == found


def test_claims_that_rest_on_each_other_are_noticed():
    first, second, *_ = ledger().values()
    records = {
        first.id: dataclasses.replace(first, depends=(second.id,)),
        second.id: dataclasses.replace(second, depends=(first.id,)),
    }
    with pytest.raises(ledger_page.LedgerError, match="circle"):
        ledger_page.layers(records)


def test_every_result_of_our_own_has_its_place_on_the_page_of_findings(shown):
    for record in ledger().values():
        assert (f'"claims.html#ledger-{record.id}"' in shown["findings"]) == ("this book" in record.source)


@cache
def functions_in(path):
    """Source of a file of tests, and the names of its functions."""
    source = path.read_text() if path.is_file() else ""
    return source, {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


def without_a_test(records):
    """The computed claims that name no test, or one that does not exist: file, function, and the case in brackets."""
    missing = []
    for record in records:
        path, _, name = record.test.partition("::")
        function, _, case = name.rstrip("]").partition("[")
        source, functions = functions_in(ROOT / path)
        exists = function.startswith("test_") and function in functions and (not case or f'"{case}"' in source)
        if not exists and (record.test or record.status in COMPUTED):
            missing.append(record.id)
    return missing


@pytest.mark.parametrize("name", names())
def test_the_card_of_a_claim_is_asked_for_where_its_cell_does_not_show_it(name):
    asked = re.findall(r"^```\{claim\} (\S+)", (TWINS / f"{name}.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert not {*asked} & {verdict["id"] for verdict in claims_of(stored(name))}


def test_every_computed_claim_names_a_test_that_exists():
    assert without_a_test(ledger().values()) == []


@pytest.mark.parametrize(
    "test",
    ["", "test_book.py", "nowhere.py::test_it", "test_book.py::test_nobody", "test_book.py::ROOT",
     "test_book.py::test_every_computed_claim_names_a_test_that_exists[none" + " such]"],
)  # fmt: skip
def test_a_claim_without_a_test_is_noticed(test):
    record = next(record for record in ledger().values() if record.status in COMPUTED)
    assert without_a_test([record]) == []
    assert without_a_test([dataclasses.replace(record, test=test and f"tests/{test}")]) == [record.id]


def test_the_table_of_contents_holds_every_page():
    pages = {path.stem for path in [*CHAPTERS.glob("*.ipynb"), *CHAPTERS.glob("*.md")]}
    assert {f"chapters/{page}" for page in pages} == set(build.toc_files())
    assert {path.stem for path in CHAPTERS.glob("*.ipynb")} == set(names())


def test_the_configuration_fits_its_schema():
    validate_yaml(yaml.safe_load((ROOT / "_config.yml").read_text()), raise_on_errors=True)


# ---------------------------------------------------------------------------------------------- launching


@pytest.mark.parametrize("address", ["", "https://github.com/someone/some-book"])
def test_launch_links_follow_the_one_address(address, tmp_path):
    """Without an address there is no link to Binder or Colab; with one, each notebook has both, and they name it."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    assert config["repository"]["url"] == "" or config["repository"]["url"].startswith("https://")
    config["repository"]["url"] = address
    config["sphinx"]["local_extensions"] = {"book.theme": str(ROOT)}
    (tmp_path / "chapters").mkdir()
    (tmp_path / "_config.yml").write_text(yaml.safe_dump(config))
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: chapters/index\nchapters: [{file: chapters/one}]\n")
    (tmp_path / "chapters" / "index.md").write_text("# Front\n")
    (tmp_path / "chapters" / "references.bib").write_text("")
    cells = [nbformat.v4.new_markdown_cell("# One"), nbformat.v4.new_code_cell("1")]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=stored(names()[0]).metadata)
    nbformat.write(notebook, tmp_path / "chapters" / "one.ipynb")
    tool = str(Path(sys.executable).with_name("jupyter-book"))
    done = subprocess.run([tool, "build", str(tmp_path), "-q"], capture_output=True, text=True, env=build.environment())
    assert done.returncode == 0, done.stderr
    html = (tmp_path / "_build" / "html" / "chapters" / "one.html").read_text()
    links = set(re.findall(r'href="(https://(?:mybinder|colab)[^"]*)"', html))
    binder = "https://mybinder.org/v2/gh/someone/some-book/main?urlpath=lab/tree/chapters/one.ipynb"
    colab = "https://colab.research.google.com/github/someone/some-book/blob/main/chapters/one.ipynb"
    assert links == ({binder, colab} if address else set())
    assert "_sources/chapters/one.ipynb" in html, "a notebook can be downloaded in any case"


# ---------------------------------------------------------------------------------------------- set-up files


def pins(text):
    """From each line of a lock that pins a version to the hashes below it."""
    parts = re.split(r"^(?=[^\s#])", text, flags=re.MULTILINE)[1:]
    return {
        part.partition("\n")[0].rstrip(" \\"): re.findall(r"^ +--hash=sha256:([0-9a-f]{64})\b", part, re.M)
        for part in parts
    }


def lock():
    """Names and versions that the lock has for this system and Python, and torch, which Linux gets apart."""
    found = [Requirement(line) for line in pins(run.LOCK.read_text())]
    here = [one for one in found if one.name == "torch" or not one.marker or one.marker.evaluate()]
    return {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in here}


def test_lock_holds_what_pyproject_asks_for_and_is_what_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [group for name, group in project["optional-dependencies"].items() if name not in run.APART]
    asked = [Requirement(r) for group in [project["dependencies"], *extras] for r in group]
    locked = lock()
    for requirement in asked:
        assert locked[canonicalize_name(requirement.name)] in requirement.specifier, requirement
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True
    )
    installed = {canonicalize_name(p["name"]): p["version"].partition("+")[0] for p in json.loads(listed.stdout)}
    assert {name: installed.get(name) for name in locked} == locked


def test_lock_is_portable():
    text = run.LOCK.read_text()
    assert not re.search(r"nvidia|cuda|\+cpu|https?:|--index|--find-links| @ ", text)
    elsewhere = [one for one in map(Requirement, pins(text)) if one.marker and "linux" in str(one.marker)]
    assert [one.name for one in elsewhere] == ["torch"], "whose builds for Linux are a choice"


def without_hash(text):
    return [line for line, hashes in pins(text).items() if not hashes]


def test_every_pin_of_the_lock_has_its_hashes():
    text = run.LOCK.read_text()
    assert not without_hash(text)
    bare = re.sub(r"^(numpy==\S+) \\\n( +--hash.*\n)+", r"\1\n", text, flags=re.MULTILINE)
    assert without_hash(bare) == [f"numpy=={lock()['numpy']}"], "the companion"


def test_a_file_that_is_not_the_locked_one_is_refused(tmp_path):
    """A wheel under a locked name and version, but with other contents: pip takes it only if the lock had its hash."""
    version = lock()["six"]
    wheel = tmp_path / f"six-{version}-py2.py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(f"six-{version}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: six\nVersion: {version}\n")
        file.writestr(
            f"six-{version}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr("six.py", "raise SystemExit('not what was locked')\n")
    (locked,) = re.findall(r"^six==.*\n(?: +--hash.*\n)+", run.LOCK.read_text(), re.MULTILINE)
    own = f"six=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"
    pip = [sys.executable, "-m", "pip", "download", "-q", "--isolated", "--no-index", "--find-links", str(tmp_path)]
    for text, refused in ((locked, True), (own, False)):
        (tmp_path / "lock").write_text(text)
        words = [*pip, "-d", str(tmp_path / "out"), "-r", str(tmp_path / "lock")]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert ("DO NOT MATCH THE HASHES" in done.stderr) == bool(done.returncode) == refused, done.stderr


def test_environment_file_installs_the_lock_and_the_processor_build_of_torch():
    *conda, last = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert last == {"pip": ["-r requirements.lock"]}
    assert "pip install --no-deps --no-build-isolation --editable ." in (ROOT / "postBuild").read_text()
    assert f"pytorch={lock()['torch']}=cpu*" in conda
    assert f"pip install torch=={lock()['torch']}`" in (ROOT / "README.md").read_text()


def test_every_package_has_a_lowest_version():
    """`make lowest` installs exactly these; a bound without one would be no promise."""
    asked = [Requirement(line) for line in run.bounds("lowest")]
    assert all([s.operator for s in requirement.specifier] == ["=="] for requirement in asked)
    assert [Requirement(line).name for line in run.bounds("newest")] == [requirement.name for requirement in asked]


def test_torch_stays_at_the_version_of_the_lock_unless_one_is_named(monkeypatch):
    monkeypatch.delenv("PBTLIB_TORCH", raising=False)
    for which in ("newest", "lowest"):
        assert f"torch=={lock()['torch']}" in run.bounds(which)
    monkeypatch.setenv("PBTLIB_TORCH", "9.9")
    assert "torch==9.9" in run.bounds("newest")


# ---------------------------------------------------------------------------------------------- what a build redoes


def test_a_chapter_depends_on_the_library_it_reaches():
    reached = {path.name for path in build.library_files("from pbtlib.claims import claim\nimport numpy")}
    assert {"claims.py", "checks.py", "__init__.py"} <= reached
    assert "results.py" not in reached


@pytest.mark.parametrize("code", ["x = (", "x = !ls", "len?", "%matplotlib inline\nx = 1"])
def test_what_is_no_plain_python_has_a_fingerprint_too(code):
    """So a typing error stops its own chapter when it runs, and not the whole build before."""
    pages = [nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c)]) for c in (code, code + " ")]
    assert build.fingerprint(pages[0]) != build.fingerprint(pages[1])


def test_data_are_found_by_any_name_that_a_chapter_reads():
    every = build.data_files("pd.read_csv(name)")
    assert len(every) > 3
    assert {p.stem for p in build.data_files("pd.read_csv('penguins.csv')")} == {"penguins"}
    assert build.data_files("x = 1") == []
    assert build.data_files("for path in folder.glob('*.csv'): pass") == every


def test_fingerprint_follows_code_and_ignores_prose(monkeypatch, tmp_path):
    name = next(name for name in names() if claims_of(stored(name)))
    notebook = from_twin(TWINS / f"{name}.md")
    before = build.fingerprint(notebook)
    prose = next(cell for cell in notebook.cells if cell.cell_type == "markdown")
    prose.source += "\nMore prose."
    assert build.fingerprint(notebook) == before
    code_cells(notebook)[-1].source += "\n1 + 1"
    assert build.fingerprint(notebook) != before


def test_fingerprint_follows_the_claims_but_not_which_test_they_name(monkeypatch):
    """A claim's words are shown where it is measured; its test is shown by the build."""
    name = next(name for name in names() if claims_of(stored(name)))
    notebook, load = from_twin(TWINS / f"{name}.md"), build._entries
    before = build.fingerprint(notebook)
    for field, follows in (("test", False), ("statement", True)):
        changed = lambda text, field=field: {k: {**v, field: "other"} for k, v in load(text).items()}  # noqa: E731
        monkeypatch.setattr(build, "_entries", changed)
        assert (build.fingerprint(notebook) != before) == follows


def test_fingerprint_follows_the_names_of_figures():
    notebook = from_twin(TWINS / "03_two_time_scales.md")
    before = build.fingerprint(notebook)
    cell = next(cell for cell in code_cells(notebook) if figure_name(cell))
    cell.metadata["mystnb"]["figure"]["name"] += "-other"
    assert build.fingerprint(notebook) != before


def test_fingerprint_follows_a_changed_line_of_the_library(monkeypatch):
    name = next(name for name in names() if claims_of(stored(name)))
    notebook = from_twin(TWINS / f"{name}.md")
    before = build.fingerprint(notebook)
    files = build.library_files("\n".join(cell.source for cell in code_cells(notebook)))
    read = type(files[0]).read_bytes
    monkeypatch.setattr(type(files[0]), "read_bytes", lambda p: read(p) + (b"\n" if p == files[-1] else b""))
    assert build.fingerprint(notebook) != before


# ---------------------------------------------------------------------------------------------- what a build says


def test_a_chapter_with_a_typing_error_fails_by_name_and_the_others_are_built(tmp_path, monkeypatch, capsys):
    """The book is laid out with the stored form of the one that failed, and says so."""
    shown = {}
    good, bad = from_twin(TWINS / "06_conclusion.md"), from_twin(TWINS / "01_introduction.md")
    good.metadata["pbtlib"] = {"figures": {}, "seconds": 1.0, "on": "here"}
    typo = CellExecutionError("\n------------------\nx = !ls(\n------------------\n\nSyntaxError: never closed", "", "")
    attempt = ({"06_conclusion": good, "01_introduction": bad}, {"01_introduction": typo}, 2)
    monkeypatch.setattr(build, "BUILD", ROOT / "_build")
    monkeypatch.setattr(build, "attempted", lambda **_: attempt)
    monkeypatch.setattr(build, "_lay_out", shown.update)
    monkeypatch.setattr(build, "pages_built", lambda: 0)
    assert build.book() == 1
    assert shown == {"06_conclusion": good, "01_introduction": None}
    said = capsys.readouterr()
    assert "01_introduction failed" in said.err
    assert "SyntaxError: never closed" in said.err
    assert "in the cell that begins: x = !ls(" in said.err
    assert "1 chapters: 1 run" in said.out
    (ROOT / "_build" / "01_introduction.log").unlink()


def test_a_departure_is_named_with_its_numbers_and_what_may_have_caused_it(monkeypatch):
    name = next(name for name in names() if claims_of(stored(name)))
    notebook = stored(name)
    assert build.found({name: notebook}, 1, 61.0) == [
        f"1 chapters: 1 run (1 min 1 s), 0 as run before; {len(claims_of(notebook))} of {len(claims_of(notebook))} "
        "claims as recorded."
    ]
    output = next(o for c in code_cells(notebook) for o in c.outputs if "pbtlib.claim" in o.get("metadata", {}))
    record = output["metadata"]["pbtlib.claim"]
    record.update(agrees=False, outcome="fails", control_outcome="holds", measured=[7.25])
    lines = build.found({name: notebook}, 1, 61.0)
    assert record["id"] in lines[1]
    assert ": fails, its control: holds" in lines[1]
    assert "measured [7.25]" in lines[1]
    monkeypatch.setattr(build, "stored_on", lambda: {name: build.machine()})
    assert "pbtlib, data and claims.toml" in build.suspicion(name)
    monkeypatch.setattr(build, "stored_on", lambda: {name: "another machine"})
    assert "another machine" in build.suspicion(name)
    monkeypatch.setattr(build, "same_cells", lambda *_: False)
    assert "what was changed in it" in build.suspicion(name)
