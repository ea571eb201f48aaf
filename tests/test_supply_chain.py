"""What comes from others: whose files the pages load, and what the workflow, the code and the data may bring in."""

import ast
import gzip
import json
import pickle
import re
import shutil
from importlib.metadata import distribution
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from sphinx.errors import ExtensionError

from book import build, licences
from book.build import BUILD
from book.execute import CHAPTERS, FIGURES, ROOT

pytestmark = pytest.mark.words

# ---------------------------------------------------------------------------------------------- assets and licences


@pytest.fixture
def assets(tmp_path):
    """Some of what the pages load: a file of ours, one of a package, and what lies in a folder `vendor`."""
    static = tmp_path / "_static"
    shutil.copytree(licences.BOOK / "formulas" / "vendor", static)
    shutil.copy(licences.BOOK / "light" / "light.css", static)
    for file in distribution("sphinx-copybutton").files:
        if file.parent.name == "_static" and file.suffix in (".js", ".css", ".svg"):
            shutil.copy(file.locate(), static)
    return static


def owners(static):
    return licences.owners(static, [distribution("sphinx-copybutton")])


def test_every_asset_is_ours_or_of_someone_with_a_licence(assets):
    found = owners(assets)
    assert set(found) == {licences.OURS, "sphinx-copybutton", "MathJax"}
    assert found[licences.OURS] == ["light.css"]
    assert "clipboard.min.js" in found["sphinx-copybutton"]
    assert "mathjax/tex-chtml.js" in found["MathJax"]


@pytest.mark.parametrize("name", ["stranger.js", "clipboard.min.js", "mathjax/tex-chtml.js", "vendor/new.js"])
def test_a_new_or_altered_asset_is_noticed(name, assets):
    """Also one that bears the name of another."""
    path = assets / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("altered")
    assert owners(assets)[""] == [name]


def test_a_new_folder_of_others_is_noticed(assets, monkeypatch, tmp_path):
    """What lies in a folder `vendor` of the book is not ours, and needs an entry."""
    vendored = tmp_path / "book" / "feature" / "vendor" / "new"
    vendored.mkdir(parents=True)
    (vendored / "new.js").write_text("1")
    shutil.copytree(vendored, assets / "new")
    monkeypatch.setattr(licences, "BOOK", tmp_path / "book")
    assert "new/new.js" in owners(assets)[""]


def test_a_build_with_an_asset_of_nobody_fails_and_names_it(assets):
    (assets / "stranger.js").write_text("1")
    app = SimpleNamespace(outdir=assets.parent, builder=SimpleNamespace(name="html"), extensions=["sphinx_copybutton"])
    with pytest.raises(ExtensionError, match=r"ERROR: stranger\.js is among the assets, and nobody answers for it"):
        licences.write(app, None)
    assert not (assets.parent / "licences.txt").exists()


@pytest.mark.parametrize("left", [True, False])
def test_what_an_earlier_build_left_among_the_assets_is_removed_once(left, tmp_path, monkeypatch):
    """A build that fails without anything left by an earlier one fails at once."""
    stranger, tried = tmp_path / "html" / "_static" / "stranger.js", []
    stranger.parent.mkdir(parents=True)
    stranger.write_text("1")
    if left:
        (tmp_path / ".doctrees").mkdir()
    places = {"ROOT": "", "BUILD": "", "CHAPTERS": "chapters", "SOURCE": "src", "LOG": "book.log"}
    for name, place in places.items():
        monkeypatch.setattr(build, name, tmp_path / place)
    build.LOG.write_text("ERROR: stranger.js is among the assets, and nobody answers for it\n")
    monkeypatch.setattr(build, "_sphinx", lambda command: tried.append(command) or stranger.exists())
    assert build.pages_built() == (0 if left else 1)
    assert len(tried) == (2 if left else 1)


def test_a_part_that_a_package_left_out_is_noticed(assets):
    clipboard = next(part for part in licences.INSIDE if part.name == "clipboard.js")
    assert re.fullmatch(r"\d+\.\d+\.\d+", licences.version(clipboard, assets))
    (assets / "clipboard.min.js").write_text("something else")
    with pytest.raises(LookupError, match="clipboard"):
        licences.version(clipboard, assets)


@pytest.mark.pages
@pytest.mark.usefixtures("pages")
def test_the_built_book_brings_the_licences_of_all_that_it_loads():
    written = (BUILD / "html" / "licences.txt").read_text()
    table, _, rest = written.partition("What else made the pages")
    for name in ("pydata-sphinx-theme", "Sphinx", *(part.name for part in licences.INSIDE)):
        assert re.search(rf"^{re.escape(name)}  ", table, re.MULTILINE), name
        assert f"\n{name}\n{'=' * 80}\n" in rest, "its text"
    assert re.search(r"^torch  ", rest, re.MULTILINE)


# ---------------------------------------------------------------------------------------------- the workflow


def unpinned(text):
    """Actions of a workflow that are neither of this project nor named by the hash of a commit."""
    return [name for name in re.findall(r"\buses:\s*(\S+)", text) if not re.fullmatch(r"\./.*|.+@[0-9a-f]{40}", name)]


def test_every_action_of_a_workflow_is_pinned_by_its_commit():
    texts = [path.read_text() for path in (ROOT / ".github").rglob("*.y*ml")]
    assert sum(text.count("uses:") for text in texts) >= 5
    assert not [name for text in texts for name in unpinned(text)]
    assert unpinned(texts[0].replace(re.search(r"@([0-9a-f]{40})", texts[0])[1], "v4", 1)), "the companion"
    assert unpinned("- uses: a/b\n- uses: ./own\n- uses: c/d@main  # v1") == ["a/b", "c/d@main"]


# ---------------------------------------------------------------------------------------------- code in data's clothes

MODULES = {"cPickle", "cloudpickle", "dill", "jsonpickle", "marshal", "shelve"}
CALLS = re.compile(
    r"_?pickle\.(?!dumps)\w+|joblib\.(load|dump|Memory)|torch\.(save|load)|yaml\.(?!safe_)\w*load\w*|.*\.(read|to)_pickle"
)
"""What reads or writes files that can hold code; how many bytes a value takes may be asked (`pickle.dumps`)."""


def runs_data(code):
    """Places in code that could read data which are run, or write them."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names = [one.name.partition(".")[0] for one in node.names]
            found += [name for name in names if name in MODULES]
            found += [one.name for one in node.names if "pickle" in one.name and one.asname]
        elif isinstance(node, ast.ImportFrom):
            called = [f"{node.module}.{one.name}" for one in node.names]
            found += [name for name in called if name.partition(".")[0] in MODULES or CALLS.fullmatch(name)]
        elif isinstance(node, ast.Call):
            given = {word.arg: getattr(word.value, "value", ...) for word in node.keywords}
            name = f"{getattr(getattr(node.func, 'value', None), 'id', '')}.{getattr(node.func, 'attr', '')}"
            found += [name] if CALLS.fullmatch(name) and given.get("weights_only") is not True else []
            found += ["allow_pickle"] if given.get("allow_pickle", False) is not False else []
    return found


def test_no_code_reads_or_writes_a_file_that_can_hold_code():
    """Tests are left out: they ask of values that they survive the way to another process, and keep no file."""
    files = [
        ROOT / "run.py",
        *(path for room in ("pbtlib", "book", "benchmarks") for path in (ROOT / room).rglob("*.py")),
    ]
    found = {path.name: runs_data(path.read_text()) for path in files}
    for path in CHAPTERS.glob("*.ipynb"):
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        found[path.name] = runs_data("\n".join("".join(cell["source"]) for cell in cells))
    assert len(found) > 80
    assert not {name: places for name, places in found.items() if places}


@pytest.mark.parametrize(
    "code",
    [
        "import dill",
        "import pickle as p",
        "from pickle import loads",
        "import pickle; pickle.load(f)",
        "import joblib; joblib.load(p)",
        "from joblib import load",
        "import shelve",
        "import marshal",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "torch.save(x, p)",
        "np.load(p, allow_pickle=True)",
        "np.load(p, allow_pickle=flag)",
        "pd.read_pickle(p)",
        "frame.to_pickle(p)",
        "yaml.load(text, Loader)",
    ],
)
def test_code_that_could_run_data_is_noticed(code):
    assert runs_data(code)


def test_what_only_computes_or_reads_numbers_is_let_through():
    code = "import pickle, joblib, yaml; len(pickle.dumps(x)); joblib.Parallel(); yaml.safe_load(t); np.load(p)"
    assert not runs_data(code + "; np.load(p, allow_pickle=False); torch.load(p, weights_only=True)")


TEXT = (".csv", ".json", ".jsonl", ".txt")
REFERENCES = {"DIMENSION_LIST", "REFERENCE_LIST"}
"""Attributes by which netCDF says which axis is which: they point inside the file."""


def holds_more(path):
    """What a data file could hold besides numbers and words, or nothing; an error if its reader cannot read it."""
    if path.suffix == ".nc":
        with h5py.File(path) as file:
            return inside(file)
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind not in TEXT:
        return [f"{path.name}: a kind of file that is not known to hold numbers and words only"]
    text = raw.decode("utf-8")
    if kind in (".json", ".jsonl"):
        a_line_each = kind == ".jsonl" or path.name == "result.json"  # Ray's
        list(map(json.loads, text.splitlines() if a_line_each else [text]))
    formulas = re.findall(r"(?:^|,)\"?[=@].*", text, re.MULTILINE) if kind == ".csv" else []  # a spreadsheet's
    return [*formulas, *re.findall(r"[\x00-\x08\x0e-\x1f]", text)]


def inside(group):
    """What an HDF5 group holds that is no number, no word, not in the file itself, or needs a filter of others."""
    found = []

    def look(name, of):
        if not (of.kind in "biufS" or h5py.check_string_dtype(of) or h5py.check_enum_dtype(of)):
            found.append(f"{name} of {of}")

    def look_beside(one):
        for name in set(one.attrs) - REFERENCES:
            look(name, one.attrs.get_id(name).dtype)

    look_beside(group)
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            found.append(f"{name} is elsewhere")
        elif isinstance(one := group[name], h5py.Group):
            found += inside(one)
        else:
            look(name, one.dtype)
            look_beside(one)
            recipe = one.id.get_create_plist()
            filters = [recipe.get_filter(k)[0] for k in range(recipe.get_nfilters())]
            found += [f"{name} needs filter {code}" for code in filters if code > 3]  # deflate, shuffle, checksum
            found += [f"{name} is elsewhere"] if one.is_virtual or one.external else []
    return found


DATA = sorted(path for path in (ROOT / "data").rglob("*") if path.is_file() and "__pycache__" not in path.parts)


@pytest.mark.parametrize("path", DATA, ids=lambda path: path.relative_to(ROOT / "data").as_posix())
def test_a_data_file_holds_numbers_and_words_and_nothing_that_runs(path):
    assert not holds_more(path)


def test_the_data_under_the_figures_are_such_files_too():
    found = {path.name: holds_more(path) for path in [*FIGURES.iterdir(), *CHAPTERS.glob("*.json")]}
    assert len(found) > 100
    assert not {name: more for name, more in found.items() if more}


def hdf5(path, **more):
    """A small file that is sound, and what is written to it besides."""
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3.0)
        file["x"].attrs["units"] = "words"
        for fill in more.values():
            fill(file)
    return path


def test_sound_files_are_let_through(tmp_path):
    (tmp_path / "a.csv").write_text('x,y\n-1,"é"\n+2,b=c\n')
    assert not holds_more(tmp_path / "a.csv")
    assert not holds_more(
        hdf5(tmp_path / "a.nc", z=lambda f: f.create_dataset("z", data=np.ones(9), compression="gzip"))
    )


def test_a_file_that_could_run_is_noticed(tmp_path):
    value = np.array([{"a": 1}], dtype=object)
    np.save(tmp_path / "a.npy", value)
    (tmp_path / "a.csv").write_text("x\n=cmd()\n")
    assert all(holds_more(tmp_path / name) for name in ("a.npy", "a.csv"))
    for name, error in {"a.nc": OSError, "b.csv": UnicodeDecodeError, "a.json": ValueError}.items():
        (tmp_path / name).write_bytes(pickle.dumps(value))
        with pytest.raises(error):
            holds_more(tmp_path / name)


@pytest.mark.parametrize(
    "plant",
    [
        lambda f: f.create_dataset("o", data=np.void(b"any bytes")),
        lambda f: f.create_dataset("v", (1,), dtype=h5py.vlen_dtype(np.uint8)),
        lambda f: f.create_dataset("r", data=f["x"].ref, dtype=h5py.ref_dtype),
        lambda f: f["x"].attrs.__setitem__("o", np.void(b"any bytes")),
        lambda f: f.create_group("deep").create_dataset("o", data=np.void(b"any bytes")),
        lambda f: f.__setitem__("away", h5py.ExternalLink("other.nc", "/x")),
        lambda f: f.create_dataset("z", data=np.ones(9), compression="lzf"),
    ],
    ids=["bytes", "lists of bytes", "a reference", "bytes beside", "bytes deep", "a link", "a filter of others"],
)
def test_what_else_an_hdf5_file_can_hold_is_noticed(plant, tmp_path):
    assert holds_more(hdf5(tmp_path / "a.nc", plant=plant))
