"""Every notebook runs where pbtlib is missing, in a kernel that is already running; pbtlib runs where nothing can be
written and brings its data along."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest

from book import bootstrap
from book.execute import ROOT, TWINS, from_twin, names
from pbtlib import __main__ as command
from pbtlib import claims, normals, results

pytestmark = pytest.mark.words
SITE = Path(sysconfig.get_paths()["purelib"])
PROJECT = ("pbtlib", "data", "pyproject.toml", "README.md", "LICENSE")
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the project, without what was built."""
    folder = tmp_path_factory.mktemp("checkout") / "book"
    for name in PROJECT:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def bare(tmp_path):
    """A Python that has pip and all that pbtlib needs, but no pbtlib."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for path in SITE.iterdir():
        if "pbtlib" not in path.name and path.suffix != ".pth":
            (shelf / path.name).symlink_to(path)
    (own,) = (tmp_path / "bare").glob("[Ll]ib/**/site-packages")
    (own / "shelf.pth").write_text(str(shelf))
    return next((tmp_path / "bare").glob("[bS]*/python*"))


def run(python, folder, sources):
    """Execute code cells in one kernel of a Python, without network; return what they printed, and the complaint."""
    share = python.parent / "share"
    (share / "kernels" / "bare").mkdir(parents=True, exist_ok=True)
    words = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = {"argv": words, "display_name": "bare", "language": "python"}
    (share / "kernels" / "bare" / "kernel.json").write_text(json.dumps(kernel))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "notebook.ipynb"
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= OFFLINE | {"JUPYTER_PATH": str(share)}
    start = [sys.executable, "-c", "from nbclient.cli import main; main()", "--inplace", "--kernel_name=bare"]
    done = subprocess.run([*start, str(path)], env=environment, capture_output=True, text=True)
    outputs = [output for cell in nbformat.read(path, as_version=4).cells for output in cell.outputs]
    return "".join(output.get("text", "") for output in outputs), done.stderr if done.returncode else ""


MISSING = "import importlib.util\nassert importlib.util.find_spec('pbtlib') is None"
CHECK = """
import pbtlib
from pbtlib import claims, results
print(pbtlib.__file__)
print(results.load("../data/one_well.nc").attrs["runs"]["missing"], len(claims.ledger()) > 100,
      (results.DATA / "ray_sample" / "asynch" / "pbt_global.txt").is_file())
"""


def source(address=""):
    """The first cell as it is written for an address."""
    text = bootstrap.cell().source
    return re.sub(r"^bring_pbtlib\(.*\)$", f"bring_pbtlib({address!r}, 'main')", text, flags=re.MULTILINE)


def test_every_notebook_with_code_begins_with_the_cell():
    for name in names():
        cells = from_twin(TWINS / f"{name}.md").cells
        code = [cell for cell in cells if cell.cell_type == "code"]
        assert [bootstrap.is_bootstrap(cell) for cell in code] == [True] + [False] * (len(code) - 1) if code else True
        assert cells[0].cell_type == "markdown", "a page begins with its title"
    cell = bootstrap.cell()
    assert "remove-cell" in cell.metadata["tags"]
    assert cell.metadata["jupyter"]["source_hidden"]


def test_the_cell_does_nothing_where_pbtlib_is_installed(monkeypatch):
    def no_process(*words, **options):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "run", no_process)
    path = list(sys.path)
    exec(bootstrap.cell().source, {})
    assert sys.path == path


@pytest.mark.slow
def test_a_notebook_runs_from_the_checkout_around_it(bare, checkout):
    shown, complaint = run(bare, checkout / "chapters", [MISSING, source(), CHECK])
    assert not complaint
    assert str(checkout / "pbtlib") in shown
    assert "0 True True" in shown


def test_a_kernel_that_runs_does_not_see_an_editable_installation_by_itself(bare, checkout):
    """The companion: without the line that extends the path the same notebook fails."""
    fault = source().replace("sys.path[:0] =", "unused =")
    assert fault != source()
    _, complaint = run(bare, checkout / "chapters", [MISSING, fault, CHECK])
    assert "No module named 'pbtlib'" in complaint


@pytest.mark.slow
def test_a_notebook_runs_far_from_its_checkout_and_finds_its_data(bare, checkout, tmp_path):
    git = ["git", "-C", str(checkout), "-c", "user.name=A", "-c", "user.email=a@example.org"]
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "All"]):
        subprocess.run([*git, *words], check=True)
    shown, complaint = run(bare, tmp_path / "elsewhere", [MISSING, source(f"file://localhost{checkout}"), CHECK])
    assert not complaint
    assert str(bare.parents[1]) in shown
    assert "0 True True" in shown


def test_a_notebook_that_can_find_nothing_says_what_to_do(bare, tmp_path):
    _, complaint = run(bare, tmp_path / "elsewhere", [MISSING, source()])
    assert "pip install FOLDER_OF_THE_BOOK" in complaint


# ---------------------------------------------------------------------------------------------- a place to write


def test_pbtlib_runs_where_nothing_can_be_written(checkout, tmp_path):
    """A file where a folder should be stops every user alike; so does a home below it."""
    package = shutil.copytree(checkout / "pbtlib", tmp_path / "pbtlib", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in (package, package / "cartpole", package / "studies"):
        (folder / "__pycache__").write_text("")
    nowhere = str(package / "__pycache__" / "home")
    hidden = {"NUMBA_CACHE_DIR", "PYTHONPATH", "XDG_CACHE_HOME", "LOCALAPPDATA"}
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    environment |= {"HOME": nowhere, "USERPROFILE": nowhere, "MPLCONFIGDIR": str(tmp_path)}

    def python(code):
        words = [sys.executable, "-c", code]
        return subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)

    fault = python("from numba import njit; import pbtlib.checks; njit(cache=True)(pbtlib.checks.check_number)")
    assert "cannot cache function" in fault.stderr, "the place is not what it should be"
    done = python(
        "import pbtlib.evolution, pbtlib.training, pbtlib.studies.wells, pbtlib.cartpole.population, pbtlib.results\n"
        "from pbtlib.normals import COMPILE, normals\n"
        "print(pbtlib.__file__, COMPILE['cache'], normals(1, 2, 3).shape)"
    )
    assert done.stdout.split() == [str(package / "__init__.py"), "False", "(3,", "2)"], done.stderr


def test_compiled_code_is_kept_where_it_can_be():
    assert normals.COMPILE["cache"]


# ---------------------------------------------------------------------------------------------- words


def test_verifying_nothing_is_a_failure(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "DATA", tmp_path)
    assert command.main(["verify"]) == 1
    assert "nothing was verified" in capsys.readouterr().err


def test_missing_data_are_asked_for_in_words():
    with pytest.raises(FileNotFoundError, match="come with pbtlib"):
        results.load("../data/never.nc")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_claim_speaks_on_any_terminal(encoding):
    name = next(name for name, record in claims.ledger().items() if record.status == "verified")
    code = f"from pbtlib.claims import claim; claim({name!r}, measured=1, predicted=1, control=2)"
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONUTF8",)} | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode(encoding)
    assert said.startswith("Holds: ")
    assert ("₂" if encoding == "utf-8" else r"\N{SUBSCRIPT TWO}") in said
