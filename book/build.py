"""Build the book: copy it, run what changed, write provenance, hand it to Jupyter Book.

python -m book.build book            execute what changed in _build/, build the pages
python -m book.build run             execute only
python -m book.build exec [NAME...]  make chapters/NAME.ipynb anew from the twins
python -m book.build take NAME       take an edited notebook over into its twin
python -m book.build seeds 1 2 3     run every chapter under other seeds and report the claims that break
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import yaml
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from sphinx_external_toc.parsing import parse_toc_yaml

import pbtlib
from book.bootstrap import is_bootstrap
from book.execute import (
    CHAPTERS,
    FIGURES,
    METADATA_MARK,
    RECORDERS,
    ROOT,
    TWINS,
    claims_of,
    code_cells,
    execute_all,
    figure_name,
    from_twin,
    holds,
    is_edited,
    left_behind,
    names,
    parameter,
    same_cells,
    shown_metadata,
    store,
    to_twin,
    write_if_changed,
    written,
)
from pbtlib import results
from pbtlib.processor import instruction_sets

BUILD = ROOT / "_build"
SOURCE = BUILD / "src"
LOG = BUILD / "book.log"
MADE = CHAPTERS / "made.json"
EXECUTED = BUILD / os.environ.get("PBTLIB_PASS", "") / "executed"  # other processors and versions keep their own
LIBRARY = ROOT / "pbtlib"
READERS = re.compile(r"open|open_\w+|read_\w+|load\w*|genfromtxt|fromfile|r?glob|iterdir|listdir|scandir|walk")
STORY = ("The paper, alive", "Beyond the paper", "Your own")
SHARED = ("_config.yml", "_toc.yml", "data")


def main() -> int:
    """Command line of the build; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m book.build", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("book")
    commands.add_parser("run")
    commands.add_parser("exec").add_argument("name", nargs="*")
    commands.add_parser("take").add_argument("name")
    commands.add_parser("seeds").add_argument("seed", nargs="+", type=int)
    arguments = parser.parse_args()
    match arguments.command:
        case "book":
            return book()
        case "run":
            executed(strict=os.environ.get("PBTLIB_STRICT") == "1")
            return 0
        case "exec":
            return execute_into_chapters(arguments.name or names())
        case "take":
            return take(arguments.name)
        case _:
            return other_seeds(arguments.seed)


# ---------------------------------------------------------------------------------------------- what depends on what


def fingerprint(notebook: NotebookNode) -> str:
    """Hash of all that a chapter's outputs depend on: code, figures' names, library, data, claims, the lock, Python."""
    code = "\n".join(cell.source for cell in code_cells(notebook) if not is_bootstrap(cell))
    digest = hashlib.sha256(code.encode())
    for path in [*library_files(code), *data_files(code), ROOT / "requirements.lock", *RECORDERS]:
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    entries = _entries((LIBRARY / "claims.toml").read_text())
    named = {k: {field: v[field] for field in v.keys() - {"test"}} for k, v in entries.items() if k in code}
    digest.update(json.dumps(named, sort_keys=True).encode())
    digest.update("\n".join(filter(None, map(figure_name, code_cells(notebook)))).encode())
    digest.update(platform.python_version().encode())
    return digest.hexdigest()


def library_files(code: str) -> list[Path]:
    """The files of pbtlib that a piece of code imports, directly or through others."""
    reached: set[Path] = set()
    waiting = [code]
    while waiting:
        for path in _imports(waiting.pop()):
            if path not in reached:
                reached.add(path)
                waiting.append(path.read_text())
    return sorted(reached)


@cache
def _entries(ledger: str) -> dict[str, Any]:
    return tomllib.loads(ledger)


def _parsed(code: str) -> ast.Module:
    """The syntax tree of a notebook's code; an empty one if Python cannot read it, and then its chapter fails alone."""
    for plain in (str, TransformerManager().transform_cell):  # the second, which takes longer, knows ``%`` and ``!``
        with suppress(SyntaxError):
            return ast.parse(plain(code))
    return ast.Module(body=[], type_ignores=[])


class _OnlyWhatRuns(ast.NodeTransformer):
    """Leaves out what only a type checker reads."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        """Keep of ``if TYPE_CHECKING`` what else is done."""
        self.generic_visit(node)
        return node.orelse if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else node


@cache
def _imports(code: str) -> frozenset[Path]:
    modules: set[str] = set()
    for node in ast.walk(_OnlyWhatRuns().visit(_parsed(code))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
            if any(alias.name == "pbtlib" for alias in node.names):  # whose names are loaded when they are used
                modules |= {f"pbtlib.{room}" for room in pbtlib._ROOMS}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            if node.module == "pbtlib":
                modules |= {f"pbtlib.{pbtlib._PLACE[a.name]}" for a in node.names if a.name in pbtlib._PLACE}
    found: set[Path] = set()
    for module in modules:
        parts = module.split(".")
        if parts[0] != "pbtlib":
            continue
        for depth in range(1, len(parts) + 1):
            base = ROOT.joinpath(*parts[:depth])
            found |= {path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()}
    return frozenset(found)


def data_files(code: str) -> list[Path]:
    """The data that a piece of code may read: what it names in data/ and chapters/, or all if it opens another name."""
    files = [path for path in (ROOT / "data").rglob("*") if path.is_file()]
    files += [path for path in CHAPTERS.glob("*") if path.is_file() and path.suffix not in (".ipynb", ".md", ".bib")]
    calls = (node for node in ast.walk(_parsed(code)) if isinstance(node, ast.Call))
    unclear = any(_reads(call) and not _names(call, files) for call in calls)
    return sorted(path for path in files if unclear or path.stem in code)


def _reads(call: ast.Call) -> bool:
    return bool(READERS.fullmatch(getattr(call.func, "attr", getattr(call.func, "id", ""))))


def _names(call: ast.Call, files: list[Path]) -> bool:
    """Whether the name of a file stands in a call."""
    words = {str(node.value) for node in ast.walk(call) if isinstance(node, ast.Constant)}
    return any(path.stem in word for path in files for word in words)


# ---------------------------------------------------------------------------------------------- executing


def executed(wanted: list[str] | None = None, *, strict: bool) -> dict[str, NotebookNode]:
    """Return the chapters with outputs made on this machine, running those that changed since.

    Parameters
    ----------
    wanted : list of str, optional
        Names of chapters; all by default.
    strict : bool
        Whether a claim that parts from its record is an error.

    Raises
    ------
    SystemExit
        If a chapter fails: why is printed, and the other chapters are kept.
    """
    chapters, failed, _ = attempted(wanted, strict=strict)
    _stop_on_failure(failed)
    return chapters


def attempted(
    wanted: list[str] | None = None, *, strict: bool
) -> tuple[dict[str, NotebookNode], dict[str, Exception], int]:
    """Do as `executed` does, and return the chapters, the errors of those that failed, and how many were run."""
    chapters = {name: from_twin(TWINS / f"{name}.md") for name in wanted or names()}
    marks = {name: fingerprint(notebook) for name, notebook in chapters.items()}
    stale = {}
    for name, notebook in chapters.items():
        old = kept(EXECUTED / f"{name}.ipynb")
        made = old.metadata["pbtlib"] if old is not None else {}
        if old is not None and made["fingerprint"] == marks[name] and (made["strict"] or not strict):
            for cell, ran in zip(code_cells(notebook), code_cells(old), strict=True):
                cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
            notebook.metadata.update(pbtlib=made, language_info=old.metadata["language_info"])
        else:
            stale[name] = notebook

    def done(name: str, seconds: float) -> None:
        keep(name, chapters[name], marks[name], strict=strict, seconds=seconds)

    return chapters, execute_all(stale, strict=strict, keep=done), len(stale)


def keep(name: str, notebook: NotebookNode, mark: str, *, strict: bool, seconds: float) -> None:
    """Keep a chapter that was executed for the pages and tests that ask for it, under its fingerprint."""
    sound = all(verdict["agrees"] for verdict in claims_of(notebook))  # then strictness changes nothing
    made = {"fingerprint": mark, "strict": strict or sound, "seconds": round(seconds, 1), "on": machine()}
    notebook.metadata["pbtlib"].update(made)
    store(notebook, EXECUTED / f"{name}.ipynb")


def kept(path: Path) -> NotebookNode | None:
    """A notebook that was executed and kept; None if there is none, or only a part of one."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except (FileNotFoundError, nbformat.reader.NotJSONError, nbformat.ValidationError):
        return None
    return notebook if "fingerprint" in notebook.metadata.get("pbtlib", {}) else None


def _stop_on_failure(failed: dict[str, Exception]) -> None:
    for name, error in failed.items():
        print("\n".join(["", *fault(name, error)]), file=sys.stderr)
    if failed:
        raise SystemExit(f"Execution failed in {', '.join(failed)}.")


def fault(name: str, error: Exception) -> list[str]:
    """What stopped a chapter, in a few lines: the cell, the error, and what may be its cause; all of it in a log."""
    log = BUILD / f"{name}.log"
    write_if_changed(log, f"{error}\n")
    lines = [f"{name} failed; all that Python said is in {log.relative_to(ROOT)}"]
    code = re.search(r"-{18}\n(.*?)\n-{18}", str(error), re.DOTALL)
    if code:
        first, *rest = code[1].strip().splitlines()
        lines.append(f"    in the cell that begins: {first}{' ...' if rest else ''}")
    said = [line for line in re.sub(r"\x1b\[[\d;]*m", "", str(error)).splitlines() if line.strip()]
    lines += [f"    {line.strip()[:300]}" for line in said[-1:]]
    return [*lines, f"    {suspicion(name)}"]


def suspicion(name: str) -> str:
    """What a chapter that parts from its stored outputs may owe that to: an edit, the machine, or the library."""
    path, twin = CHAPTERS / f"{name}.ipynb", TWINS / f"{name}.md"
    if not path.is_file() or not same_cells(from_twin(twin), nbformat.read(path, as_version=4)):
        return "The chapter is not the one whose outputs are stored: look at what was changed in it first."
    if (before := stored_on().get(name)) != machine():
        return f"The chapter is as stored, but its outputs were made with {before}, and this is {machine()}."
    return "Chapter, processor and versions are those of the stored outputs: look at pbtlib, data and claims.toml."


def execute_into_chapters(wanted: list[str]) -> int:
    """`make exec`: write notebooks with fresh outputs, and the data of figures, into chapters/."""
    for name in wanted:
        _check_name(name)
        path = CHAPTERS / f"{name}.ipynb"
        if path.is_file() and is_edited(nbformat.read(path, as_version=4)):
            raise SystemExit(
                f"chapters/{name}.ipynb has been edited: `take {name}` keeps the edits, "
                f"`git checkout chapters/{name}.ipynb` drops them; then run exec again."
            )
    machines = stored_on()
    for name, notebook in executed(wanted, strict=True).items():
        made = notebook.metadata.pop("pbtlib")
        notebook.metadata[METADATA_MARK] = shown_metadata(notebook)
        figures = figure_files(name, notebook, made["figures"])
        path = CHAPTERS / f"{name}.ipynb"
        files = {FIGURES / file: text for file, text in figures.items()} | {path: written(notebook)}
        changed = [file for file, text in files.items() if not holds(file, text)]
        if changed or name not in machines:  # first, so that killed and called again it names the machine all the same
            machines[name] = made["on"]
            write_if_changed(MADE, json.dumps(machines, indent=1, sort_keys=True) + "\n")
        for file, text in files.items():
            write_if_changed(file, text)
        for old in set(FIGURES.glob(f"{name}-*.*")) - files.keys():
            old.unlink()
        print(f"chapters/{name}.ipynb {'written' if path in changed else 'unchanged'}")
    return 0


def stored_on() -> dict[str, str]:
    """On which machine the stored outputs of each chapter were made; `make exec` changes it where it changes them."""
    return dict(json.loads(MADE.read_text())) if MADE.is_file() else {}


@cache
def machine() -> str:
    """What the last digits of this machine's results depend on, in words."""
    libraries = ", ".join(f"{library} {name}" for library, name in sorted(instruction_sets().items()))
    return f"Python {platform.python_version()} on {platform.system()} {platform.machine()} ({libraries})"


def figure_files(name: str, notebook: NotebookNode, figures: dict[str, str], *more: str) -> dict[str, str]:
    """The data files of a chapter's figures, from file name to contents, each with a line that says how it was made.

    Parameters
    ----------
    name, notebook : str, NotebookNode
        The chapter.
    figures : dict
        From figure to CSV, or JSON if it moves, as `book.execute.execute` leaves it.
    more : str
        What to add to the line: commit, run time.
    """
    made = " · ".join([f"pbtlib {pbtlib.__version__}", *_settings(notebook), *more])
    head = "# {figure}, a figure of the page {name}; text and figures under CC BY 4.0\n# made by {made}\n"
    files = {}
    for figure, text in figures.items():
        if figure.endswith(".json"):
            files[f"{name}-{figure}"] = text.replace("{", f'{{"made":{json.dumps(made, ensure_ascii=False)},', 1) + "\n"
        else:
            files[f"{name}-{figure}.csv"] = head.format(figure=figure, name=name, made=made) + text
    return files


def take(name: str) -> int:
    """`take NAME`: make the twin follow an edited notebook; outputs are made anew by `exec`."""
    _check_name(name)
    notebook, twin = nbformat.read(CHAPTERS / f"{name}.ipynb", as_version=4), TWINS / f"{name}.md"
    changed = write_if_changed(twin, to_twin(notebook, twin.read_text()))
    print(f"chapters/text/{name}.md {'written; now run exec' if changed else 'unchanged'}")
    if dropped := left_behind(notebook):
        print(f"Notes of the editor that were not taken over: {', '.join(dropped)}")
    return 0


def other_seeds(seeds: list[int]) -> int:
    """`seeds`: run all chapters under other seeds; a claim that holds for its seed alone is no claim."""
    broken = []
    for seed in seeds:
        chapters = {name: from_twin(TWINS / f"{name}.md") for name in names()}
        chapters = {name: notebook for name, notebook in chapters.items() if parameter(notebook, "SEED")}
        _stop_on_failure(execute_all(chapters, seed=seed, strict=False))
        verdicts = [verdict for notebook in chapters.values() for verdict in claims_of(notebook)]
        bad = [verdict["id"] for verdict in verdicts if not verdict["agrees"]]
        print(f"seed {seed}: {len(verdicts) - len(bad)} of {len(verdicts)} claims as recorded {bad or ''}")
        broken += bad
    return 1 if broken else 0


def _check_name(name: str) -> None:
    if name not in names():
        raise SystemExit(f"There is no chapter {name!r}; chapters are {', '.join(names())}.")


# ---------------------------------------------------------------------------------------------- building


def book() -> int:
    """`make book`: the pages in _build/html, from chapters executed on this machine; the git tree stays clean."""
    begun = time.monotonic()
    chapters, failed, run = attempted(strict=os.environ.get("PBTLIB_STRICT") == "1")
    for name, error in failed.items():
        print("\n".join(fault(name, error)), file=sys.stderr)
        if not (CHAPTERS / f"{name}.ipynb").is_file():
            print("It has no stored outputs to be shown instead, so the book was not built.", file=sys.stderr)
            return 1
    for name, notebook in chapters.items():
        path = CHAPTERS / f"{name}.ipynb"
        if name not in failed and (not path.is_file() or not same_cells(notebook, nbformat.read(path, as_version=4))):
            print(f"note: chapters/{name}.ipynb is not what its twin says; 'exec' remakes it, 'take' keeps its edits")
    _lay_out({name: None if name in failed else notebook for name, notebook in chapters.items()})
    sound = {name: notebook for name, notebook in chapters.items() if name not in failed}
    print("\n".join(found(sound, run - len(failed), time.monotonic() - begun)))
    built = pages_built()
    if failed:
        print(f"Not run to the end, and shown as stored: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else built


def found(chapters: dict[str, NotebookNode], run: int, seconds: float) -> list[str]:
    """What the chapters came to, in a few lines: how many were run, and which claims part from their record."""
    verdicts = [(name, verdict) for name, notebook in chapters.items() for verdict in claims_of(notebook)]
    parted = [(name, verdict) for name, verdict in verdicts if not verdict["agrees"]]
    minutes, rest = divmod(round(seconds), 60)
    lines = [
        f"{len(chapters)} chapters: {run} run ({minutes} min {rest} s), {len(chapters) - run} as run before; "
        f"{len(verdicts) - len(parted)} of {len(verdicts)} claims as recorded."
    ]
    for name, verdict in parted:
        lines.append(
            f"    {verdict['id']} ({name}): {verdict['outcome']}, its control: {verdict['control_outcome']}, "
            f"recorded as {verdict['status']}: measured {verdict['measured']}, predicted {verdict['predicted']}, "
            f"tolerance {verdict['tolerance']}"[:300]
        )
    return [*lines, *(f"    {suspicion(name)}" for name in dict.fromkeys(name for name, _ in parted))]


def pages_built() -> int:
    """Hand what was laid out to Jupyter Book unless it is what the pages were made of; returns the exit code."""
    mark = hashlib.sha256()
    made_by = [path for ending in ("py", "js", "css") for path in (ROOT / "book").rglob(f"*.{ending}")]
    tables = [CHAPTERS / f"{name}.json" for name in ("faults", "mutants", "kills")]
    shown = [*made_by, *(ROOT / "tests").glob("test_*.py"), *tables, *SOURCE.rglob("*")]
    for path in sorted(path for path in shown if path.is_file()):
        mark.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    front, stamp = BUILD / "html" / "index.html", BUILD / "html.sha256"
    if front.is_file() and stamp.is_file() and stamp.read_text() == mark.hexdigest():
        print(f"Nothing changed. The book is at {front}")
        return 0
    stamp.unlink(missing_ok=True)
    command = [*jupyter_book(), "build", str(SOURCE), "--path-output", str(ROOT), "-W", "-n", "--keep-going"]
    doctrees = BUILD / ".doctrees"
    partial = doctrees.is_dir()
    failed = _sphinx(command)
    if failed and partial:
        print("Building once more from scratch: what was kept of earlier pages may have misled the build.")
        shutil.rmtree(doctrees)
        shutil.rmtree(front.parent, ignore_errors=True)
        failed = _sphinx(command)
    if failed:
        complaints = re.findall(r"^.*(?:WARNING|ERROR|Error:).*$", LOG.read_text(errors="replace"), re.MULTILINE)
        print("\n".join(dict.fromkeys(complaints[:15])), file=sys.stderr)
        print(f"The pages were not built; what Jupyter Book said is in {LOG.relative_to(ROOT)}", file=sys.stderr)
        return 1
    stamp.write_text(mark.hexdigest())
    print(f"The book is at {front}")
    return 0


def _sphinx(command: list[str]) -> bool:
    """Run Jupyter Book, its words going to a log, or to the terminal too if that is asked for; whether it failed."""
    with LOG.open("w") as log:
        if "PBTLIB_VERBOSE" not in os.environ:
            done = subprocess.run(command, env=environment(), check=False, stdout=log, stderr=subprocess.STDOUT)
            return done.returncode != 0
        with subprocess.Popen(
            command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            for line in process.stdout or ():
                log.write(line)
                print(line, end="", flush=True)
        return process.returncode != 0


def jupyter_book() -> list[str]:
    """The words that start Jupyter Book with this Python."""
    return [sys.executable, "-c", "from jupyter_book.cli.main import main; main(prog_name='jupyter-book')"]


def environment() -> dict[str, str]:
    """What Sphinx needs to find its extensions `book.numbers` and `book.theme`, and no warnings from libraries."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONPATH": paths}


def _lay_out(chapters: dict[str, NotebookNode | None]) -> None:
    """Write what Jupyter Book reads into SOURCE; a chapter that is None is shown as it is stored."""
    pages: dict[Path, str] = {}
    for name, notebook in chapters.items():
        if notebook is None:
            stored = nbformat.read(CHAPTERS / f"{name}.ipynb", as_version=4)
            foot = nbformat.v4.new_markdown_cell(_provenance(name))
            foot.id = "provenance"
            stored.cells.append(foot)
            pages[Path("chapters") / f"{name}.ipynb"] = written(stored)
            for path in FIGURES.glob(f"{name}-*.*"):
                pages[Path("chapters") / FIGURES.name / path.name] = path.read_text()
            continue
        copy = nbformat.from_dict(notebook)
        made = copy.metadata.pop("pbtlib")
        foot = nbformat.v4.new_markdown_cell(_provenance(name, notebook, made))
        foot.id = "provenance"
        copy.cells.append(foot)
        pages[Path("chapters") / f"{name}.ipynb"] = written(copy)
        stamp = (f"commit {commit()}", f"executed in {made['seconds']:.1f} s")
        for file, text in figure_files(name, notebook, made["figures"], *stamp).items():
            pages[Path("chapters") / FIGURES.name / file] = text
    plain = {path.name: path.read_text() for path in CHAPTERS.glob("*.md")}
    for name, text in plain.items():
        pages[Path("chapters") / name] = f"{text}\n\n{_provenance()}\n"
    for path in CHAPTERS.glob("*.bib"):
        pages[Path("chapters") / path.name] = path.read_text()
    wanted = {SOURCE / path for path in pages}
    for path, text in pages.items():
        write_if_changed(SOURCE / path, text)
    for name in SHARED:
        for path in [ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*"):
            if path.is_file():
                write_if_changed(SOURCE / path.relative_to(ROOT), path.read_bytes())
                wanted.add(SOURCE / path.relative_to(ROOT))
    for path in SOURCE.rglob("*"):
        if path.is_file() and path not in wanted:
            path.unlink()


def _provenance(name: str = "", notebook: NotebookNode | None = None, made: dict[str, Any] | None = None) -> str:
    parts = [f"pbtlib {pbtlib.__version__}", f"commit {commit()}"]
    if name and notebook is None:
        parts.append(f"not run here: the outputs are those stored with {stored_on().get(name, 'another machine')}")
    if notebook is not None and made is not None and code_cells(notebook):
        parts += [*_settings(notebook), f"executed in {made['seconds']:.1f} s", made["on"]]
        parts += [f"outputs of the notebook stored with {on}" for on in [stored_on().get(name)] if on]
    return f'<p class="provenance">How this page was made: {" · ".join(parts)}.</p>'


def _settings(notebook: NotebookNode) -> list[str]:
    seed, code = parameter(notebook, "SEED"), "\n".join(cell.source for cell in code_cells(notebook))
    data = sorted(path.name for path in (ROOT / "data").glob("*") if path.name in code)
    return [*([f"seed {seed}"] if seed else []), *(f"data/{name}" for name in data)]


def commit() -> str:
    """The commit of the working tree; a trailing ``+`` says that files differ from it."""
    return results.commit() or "unknown"


def toc_files() -> list[str]:
    """The pages that _toc.yml names, without ending, in reading order."""
    return list(parse_toc_yaml(ROOT / "_toc.yml"))


def story_pages() -> list[str]:
    """The pages that are read, not consulted: those of three parts of the contents."""
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"]
    return [page["file"] for part in parts if part["caption"] in STORY for page in part["chapters"]]


if __name__ == "__main__":
    raise SystemExit(main())
