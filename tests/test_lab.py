"""Chapters in other editors: saving one unchanged changes nothing, and what was edited there reaches the twin."""

import asyncio
import copy
import json

import nbformat
import pytest
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager

import run
from book import build
from book.execute import CHAPTERS, TWINS, _as_saved, from_twin, left_behind, names, store, to_twin

pytestmark = pytest.mark.words
CHAPTER = pytest.mark.parametrize("name", names())
NEVER_SAVED = {"colab", "executionInfo", "outputId", "vscode", "Ada Lovelace", "0123456789"}


def twin(name):
    return (TWINS / f"{name}.md").read_text()


# ---------------------------------------------------------------------------------------------- opening and saving


def save(path, *, change=lambda content: None, **options):
    """Open and save a notebook as JupyterLab does: through Jupyter's own server, its numbers through JavaScript."""
    manager = AsyncLargeFileManager(root_dir=str(path.parent), **options)
    model = asyncio.run(manager.get(path.name))
    content = json.loads(json.dumps(model["content"]), parse_float=lambda text: json.loads(javascript(float(text))))
    for cell in content["cells"]:
        cell["metadata"].pop("trusted", None)  # the lab keeps that to itself
    change(content)
    asyncio.run(manager.save({"type": "notebook", "format": "json", "content": content}, path.name))


def javascript(number):
    """A number as JSON.stringify writes it, as far as JSON cares."""
    return str(int(number)) if number == int(number) and abs(number) < 1e21 else repr(number)


@CHAPTER
def test_saving_a_stored_notebook_unchanged_writes_the_same_bytes(name, tmp_path):
    path = tmp_path / f"{name}.ipynb"
    path.write_bytes((CHAPTERS / path.name).read_bytes())
    save(path)
    assert path.read_bytes() == (CHAPTERS / path.name).read_bytes()


@pytest.mark.parametrize(("number", "same"), [(1.0, False), (0.5, True), (1e-07, True), (-0.0, False), (3e300, True)])
def test_a_whole_number_with_a_point_would_be_changed_by_the_lab(number, same, tmp_path):
    """The companion: what `execute` leaves is stable, what a kernel sends need not be."""
    path = tmp_path / "page.ipynb"
    for value, stable in ((number, same), (_as_saved([number])[0], True)):
        output = nbformat.v4.new_output("display_data", {"text/plain": "x"}, metadata={"measured": [value]})
        page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[output])])
        store(page, path)
        before = path.read_bytes()
        save(path)
        assert (path.read_bytes() == before) == stable


@pytest.mark.parametrize("options", [{}, {"pre_save_hook": run.LAB_HOOK}])
def test_another_python_leaves_no_trace_under_make_lab(options, tmp_path):
    path = tmp_path / "page.ipynb"
    spoken = {"name": "python", "version": "3.11.0"}
    store(nbformat.v4.new_notebook(cells=[], metadata={"language_info": spoken}), path)
    before = path.read_bytes()
    save(path, change=lambda content: content["metadata"]["language_info"].update(version="3.13.1"), **options)
    assert (path.read_bytes() == before) == bool(options)


# ---------------------------------------------------------------------------------------------- the way back


@CHAPTER
def test_taking_an_unedited_notebook_leaves_the_twin_as_it_is(name):
    assert to_twin(from_twin(TWINS / f"{name}.md"), twin(name)) == twin(name)


def colab(notebook):
    """A notebook as Colab saves it: other ids, and who ran what."""
    made = copy.deepcopy(notebook)
    made.nbformat_minor = 0
    made.metadata = nbformat.from_dict(
        {
            "colab": {"provenance": [], "toc_visible": True},
            "kernelspec": {"name": "python3", "display_name": "Python 3"},
        }
    )
    for k, cell in enumerate(made.cells):
        del cell["id"]
        cell.metadata["id"] = f"x{k}"
        if cell.cell_type == "code":
            user = {"displayName": "Ada Lovelace", "userId": "0123456789"}
            cell.metadata |= {
                "executionInfo": {"status": "ok", "user": user},
                "outputId": f"y{k}",
                "colab": {"base_uri": ""},
            }
            cell.metadata.pop("jupyter", None)
    return made


def vscode(notebook):
    """A notebook as VS Code saves it."""
    made = copy.deepcopy(notebook)
    made.metadata = nbformat.from_dict({"language_info": {"name": "python", "version": "3.12.1"}})
    for cell in made.cells:
        cell.metadata["vscode"] = {"languageId": "python"}
    return made


@CHAPTER
@pytest.mark.parametrize("editor", [colab, vscode])
def test_taking_a_notebook_that_another_editor_saved_takes_nothing_but_edits(name, editor):
    saved = editor(from_twin(TWINS / f"{name}.md"))
    assert to_twin(saved, twin(name)) == twin(name)
    assert {"executionInfo", "outputId", "colab", "vscode", "id"} & set(left_behind(saved)) or not saved.cells
    saved.cells[0].source += "\n\nA line of mine."
    edited = to_twin(saved, twin(name))
    assert "A line of mine." in edited
    assert not [word for word in NEVER_SAVED if word in edited and word not in twin(name)]


def figure(notebook):
    return next(cell for cell in notebook.cells if "figure" in cell.metadata.get("mystnb", {}))


def lines_changed(old, new):
    return set(new.splitlines()) - set(old.splitlines()), set(old.splitlines()) - set(new.splitlines())


@pytest.mark.parametrize("editor", [copy.deepcopy, colab, vscode])
def test_captions_and_tags_that_were_edited_reach_the_twin_and_nothing_else_does(editor, tmp_path):
    name = "03_1_bilevel"
    notebook = editor(from_twin(TWINS / f"{name}.md"))
    cell = figure(notebook)
    cell.metadata["mystnb"]["figure"]["caption"] = "Another caption."
    cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-output"]
    text = to_twin(notebook, twin(name))
    (tmp_path / "twin.md").write_text(text)
    again = figure(from_twin(tmp_path / "twin.md"))
    assert again.metadata["mystnb"]["figure"]["caption"] == "Another caption."
    assert "hide-output" in again.metadata["tags"]
    added, removed = lines_changed(twin(name), text)
    assert len(added | removed) < 30, "only the one cell is written anew"
    assert cell.source in text


def test_cells_can_be_added_moved_and_removed():
    name = "03_1_bilevel"
    notebook = from_twin(TWINS / f"{name}.md")
    prose = [k for k, cell in enumerate(notebook.cells) if cell.cell_type == "markdown"]
    notebook.cells.insert(prose[1] + 1, nbformat.v4.new_markdown_cell("Prose after prose."))
    notebook.cells.insert(prose[1], nbformat.v4.new_code_cell("mine = 1"))
    notebook.cells.append(notebook.cells.pop(4))
    text = to_twin(notebook, twin(name))
    lines = set(lines_changed(twin(name), text)[0])
    assert lines == {"+++", "Prose after prose.", "mine = 1"}
    assert "```{code-cell} ipython3\nmine = 1\n```" in text
    assert to_twin(notebook, text) == text


def test_take_says_what_it_leaves_behind(tmp_path, monkeypatch, capsys):
    name = "06_conclusion"
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / f"{name}.md").write_text(twin(name))
    nbformat.write(colab(from_twin(TWINS / f"{name}.md")), tmp_path / f"{name}.ipynb")
    monkeypatch.setattr(build, "CHAPTERS", tmp_path)
    monkeypatch.setattr(build, "TWINS", tmp_path / "text")
    assert build.take(name) == 0
    shown = capsys.readouterr().out
    assert "unchanged" in shown
    assert "id" in shown.split("not taken over: ")[1]


# ---------------------------------------------------------------------------------------------- what is seen there


def test_what_the_book_folds_is_folded_in_the_lab():
    cells = [cell for name in names() for cell in from_twin(TWINS / f"{name}.md").cells if cell.cell_type == "code"]
    folded = [bool({"hide-input", "hide-cell", "remove-cell"} & set(cell.metadata.get("tags", []))) for cell in cells]
    assert [cell.metadata.get("jupyter") == {"source_hidden": True} for cell in cells] == folded
    assert any(folded)


def test_no_display_is_left_for_the_lab_to_number():
    for name in names():
        for cell in from_twin(TWINS / f"{name}.md").cells:
            if cell.cell_type == "markdown":
                assert cell.source.count("$$") == cell.source.count(r"$$\begin{equation*}") * 2
                assert cell.source.count(r"$$\begin{equation*}") == cell.source.count(r"\end{equation*}$$")
