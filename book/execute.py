"""Chapters as notebooks: made from their MyST twins, executed in clean kernels, stored in one normal form."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from ipykernel.ipkernel import IPythonKernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from tqdm import tqdm

from book import bootstrap, warm
from book.bootstrap import is_bootstrap
from pbtlib import results

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ROOT / "chapters"
TWINS = CHAPTERS / "text"
FIGURES = CHAPTERS / "figures"
RECORDERS = sorted((ROOT / "book").glob("*/kernel.py"))
"""Extensions of a chapter's kernel, which record what it shows."""
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
METADATA = {"kernelspec": KERNELSPEC, "language_info": {"name": "python"}}
CHECKED = "nbval-check-output"
METADATA_MARK = "pbtlib.shown"
FOLDED = {"hide-input", "hide-cell"}
OURS = ("mystnb", "tags")
UNNUMBERED = r"$$\begin{equation*}", r"\end{equation*}$$"
FAILURES = (CellExecutionError, CellTimeoutError, DeadKernelError)
CELL_SECONDS = 600
ARGUMENTS = (
    "--IPKernelApp.log_level=40",  # its note on local transport is no news to anybody
    *(f"--IPKernelApp.extra_extensions=book.{path.parent.name}.kernel" for path in RECORDERS),
)
"""What a chapter's kernel is started with."""
WORKERS = 2
"""Chapters that run at a time; they share the processors."""
KERNEL_ENVIRONMENT = {
    "NUMBA_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // WORKERS)),
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "TQDM_DISABLE": "1",
}


def names() -> list[str]:
    """Chapters that have a twin, in alphabetical order."""
    return sorted(path.stem for path in TWINS.glob("*.md"))


def from_twin(path: Path) -> NotebookNode:
    """Read a twin as a notebook without outputs.

    Ids come from the sources, cells with a claim are tagged for nbval, what the book folds is folded in JupyterLab
    too, displays are marked as unnumbered because JupyterLab would add numbers of its own to the paper's, and before
    the first code cell comes the one of `book.bootstrap`.
    """
    notebook: NotebookNode = jupytext.read(path, fmt="md:myst")
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\$\$(.+?)\$\$", lambda m: m[1].join(UNNUMBERED), cell.source, flags=re.DOTALL)
    code = [k for k, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    for k in code:
        cell = notebook.cells[k]
        tags = list(cell.metadata.get("tags", []))
        if FOLDED & set(tags):
            cell.metadata["jupyter"] = {"source_hidden": True}
        if "claim(" in cell.source and CHECKED not in tags:
            cell.metadata["tags"] = [*tags, CHECKED]
    if code:
        notebook.cells.insert(code[0], bootstrap.cell())
    for cell, name in zip(notebook.cells, _ids(notebook), strict=True):
        cell.id = name
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def _ids(notebook: NotebookNode) -> list[str]:
    """A cell's id is the hash of its source, and of how often the same source came before."""
    seen: dict[str, int] = {}
    found = []
    for cell in notebook.cells:
        key = f"{cell.cell_type}\n{cell.source}"
        seen[key] = seen.get(key, 0) + 1
        found.append(hashlib.sha256(f"{key}\n{seen[key]}".encode()).hexdigest()[:12])
    return found


def is_edited(notebook: NotebookNode) -> bool:
    """Whether cells, captions, alternative texts or tags of a stored notebook were changed by hand since it was made.

    A cell's id tells whether its source is the one it was made with; METADATA_MARK in a notebook's metadata does the
    same for what Jupyter Book reads of the cells' metadata.
    """
    mark = notebook.metadata.get(METADATA_MARK)
    return [cell.get("id") for cell in notebook.cells] != _ids(notebook) or mark not in (None, shown_metadata(notebook))


def shown_metadata(notebook: NotebookNode) -> str:
    """Hash of the cells' tags, captions and alternative texts: not of what an editor keeps there for itself."""
    shown = [{key: cell.metadata[key] for key in ("tags", "mystnb") if key in cell.metadata} for cell in notebook.cells]
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()[:12]


def to_twin(notebook: NotebookNode, twin: str = "") -> str:
    """Write a notebook as the text of its twin; the inverse of `from_twin` (outputs are left behind).

    Parameters
    ----------
    notebook : NotebookNode
        As stored, or as JupyterLab, Colab or VS Code saved it: what they note for themselves is left behind.
    twin : str
        The text as it is. Its head, and cells that the notebook did not change, keep their form to the letter.
    """
    plain = _plain(notebook)
    written: str = jupytext.writes(plain, fmt="md:myst")
    old, new = _texts(twin), _texts(written)
    keys, wanted = _keys(jupytext.reads(twin, fmt="md:myst")), _keys(plain)
    if (len(keys), len(wanted)) != (len(old), len(new)):
        return written  # prose that looks like a border between cells
    kept: dict[str, list[str]] = {}
    for key, text in zip(keys, old, strict=True):
        kept.setdefault(key, []).append(text)
    body, before = "", ""
    for cell, key, text in zip(plain.cells, wanted, new, strict=True):
        same = kept[key].pop(0) if kept.get(key) else text
        border = before == cell.cell_type == "markdown" and not same.startswith("+++")
        body += ("+++\n\n" if border else "") + same.strip("\n") + "\n\n"
        before = cell.cell_type
    return _head(twin or written) + body.rstrip("\n") + "\n"


def left_behind(notebook: NotebookNode) -> list[str]:
    """Names of the notes in a notebook's cells that `to_twin` does not take over."""
    return sorted({key for cell in notebook.cells for key in cell.metadata} - {*OURS, "jupyter"})


def _plain(notebook: NotebookNode) -> NotebookNode:
    """The cells of a twin: without outputs, without what is generated, and with our own metadata alone."""
    spoken = {"name": "python", "pygments_lexer": "ipython3"}
    made: NotebookNode = nbformat.v4.new_notebook(metadata={"kernelspec": KERNELSPEC, "language_info": spoken})
    for cell in notebook.cells:
        if is_bootstrap(cell):
            continue
        metadata = {key: cell.metadata[key] for key in OURS if key in cell.metadata}
        tags = [tag for tag in metadata.pop("tags", []) if tag != CHECKED]
        new = getattr(nbformat.v4, f"new_{cell.cell_type}_cell")
        source = cell.source
        for mark in UNNUMBERED if cell.cell_type == "markdown" else ():
            source = source.replace(mark, "$$")
        made.cells.append(new(source, metadata=metadata | ({"tags": tags} if tags else {})))
    return made


def _keys(notebook: NotebookNode) -> list[str]:
    """What the cells of a twin say, each in one form."""
    cells = _plain(notebook).cells
    return [json.dumps([cell.cell_type, cell.source, cell.metadata], sort_keys=True) for cell in cells]


def _head(twin: str) -> str:
    """The lines of a twin before its first cell."""
    found = re.match(r"---\n.*?^---\n+", twin, re.DOTALL | re.MULTILINE)
    return found[0] if found else ""


def _texts(twin: str) -> list[str]:
    """The text of each cell of a twin."""
    fence = re.compile(r"^(```+)\{(code|raw)-cell\}.*?^\1 *$", re.DOTALL | re.MULTILINE)
    body, texts, end = twin.removeprefix(_head(twin)), [], 0
    for found in [*fence.finditer(body), None]:
        prose = body[end : found.start() if found else len(body)]
        texts += [text for text in re.split(r"^(?=\+\+\+)", prose, flags=re.MULTILINE) if text.strip("+\n ")]
        if found:
            texts.append(found[0])
            end = found.end()
    return texts


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that a kernel runs."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def figure_name(cell: NotebookNode) -> str | None:
    """The name that a cell gives to its figure."""
    name: str | None = cell.metadata.get("mystnb", {}).get("figure", {}).get("name")
    return name


def same_cells(left: NotebookNode, right: NotebookNode) -> bool:
    """Whether two notebooks agree in everything but their outputs."""

    def bare(notebook: NotebookNode) -> list[Any]:
        return [(c.cell_type, c.id, c.source, dict(c.metadata)) for c in notebook.cells]

    return bare(left) == bare(right)


def parameter(notebook: NotebookNode, name: str) -> str | None:
    """Value of a line ``NAME = literal`` of the chapter, as written; None if there is none."""
    for cell in code_cells(notebook):
        if found := re.search(rf"^{name} = (\S+)", cell.source, re.MULTILINE):
            return found.group(1)
    return None


def execute(
    notebook: NotebookNode,
    *,
    seed: int | None = None,
    strict: bool = True,
    kernel: str = "python3",
    progress: Callable[[], None] = lambda: None,
) -> float:
    """Run a notebook in a clean kernel, store its outputs in normal form, and return the seconds it took.

    Parameters
    ----------
    notebook : NotebookNode
        Changed in place. Its metadata receive the data of its figures, ``["pbtlib"]["figures"]``: see `_figures`.
    seed : int, optional
        Replaces the number in the chapter's line ``SEED = n``.
    strict : bool
        Whether a claim that parts from its record is an error.
    kernel : str
        The name by which Jupyter knows it.
    progress : callable
        Called after every cell.

    Raises
    ------
    FAILURES
        If a cell fails, takes longer than CELL_SECONDS, or its kernel dies.
    """
    sources = [cell.source for cell in notebook.cells]
    if seed is not None:
        for cell in code_cells(notebook):
            cell.source = re.sub(r"^SEED = \d+", f"SEED = {seed}", cell.source, flags=re.MULTILINE)
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        startup_timeout=CELL_SECONDS,
        coalesce_streams=True,
        kernel_name=kernel,
        resources={"metadata": {"path": str(CHAPTERS)}},
        extra_arguments=list(ARGUMENTS),
        on_cell_executed=lambda **_: progress(),
    )
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, **kernel_environment(folder, strict=strict)}
        try:
            with kernel_log().open("a") as words:  # what a kernel says beside its cells' outputs
                if code_cells(notebook):
                    run_cells(client, env=environment, stdout=words, stderr=words)
        finally:
            for cell, source in zip(notebook.cells, sources, strict=True):
                cell.source = source
        in_normal_form(notebook, Path(folder))
    return time.monotonic() - started


def kernel_environment(folder: str, *, strict: bool) -> dict[str, str]:
    """What the environment of a chapter's kernel holds beside ours; its recorders write into the folder."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**KERNEL_ENVIRONMENT, "PBTLIB_STRICT": str(int(strict)), "BOOK_RECORDS": folder, "PYTHONPATH": path}


def in_normal_form(notebook: NotebookNode, folder: Path) -> None:
    """Leave in a notebook that was run its outputs, its language in the kernel's words, and the data of its figures."""
    spoken = IPythonKernel.language_info  # which JupyterLab writes too
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [_as_saved(output) for output in cell.outputs]
    figures = _figures(notebook, folder)
    notebook.metadata = nbformat.from_dict({**METADATA, "language_info": spoken, "pbtlib": {"figures": figures}})


def run_cells(client: NotebookClient, **kernel: Any) -> None:
    """Run a notebook; a kernel that dies before its first word, as when its port was taken meanwhile, gets a second."""
    for second in (False, True):
        try:
            client.execute(**kernel)
        except RuntimeError as error:
            if "before replying" not in str(error):
                raise
            if second:
                raise DeadKernelError(str(error)) from error
        else:
            return


def kernel_log() -> Path:
    """The file for what kernels say on their own, such as that they were interrupted at the end."""
    folder = ROOT / "_build" / os.environ.get("PBTLIB_PASS", "")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "kernels.log"


def _figures(notebook: NotebookNode, folder: Path) -> dict[str, str]:
    """From the names of a chapter's figures to what they draw, as CSV, and of those that move, as JSON."""
    found = {path.name: path.read_text() for path in sorted(folder.glob("*.json"))}
    for k, cell in enumerate(code_cells(notebook), 1):
        name = figure_name(cell) or f"cell-{k}"
        for path in sorted(folder.glob(f"{k}-*.csv")):
            number = path.stem.partition("-")[2]
            found[name if number == "1" else f"{name}-{number}"] = path.read_text()
    return found


def execute_all(
    chapters: dict[str, NotebookNode],
    *,
    seed: int | None = None,
    strict: bool = True,
    workers: int = WORKERS,
    keep: Callable[[str, float], None] = lambda name, seconds: None,
) -> dict[str, Exception]:
    """Run several notebooks side by side under one progress bar; a failure does not stop the others.

    Parameters
    ----------
    chapters, seed, strict
        As `execute` takes them, each chapter under its name.
    workers : int
        How many run at a time.
    keep : callable
        Called with a chapter's name and the seconds it took as soon as it is done.

    Returns
    -------
    dict
        The failures, from name to error.
    """
    if not chapters:
        return {}
    cells = sum(len(code_cells(notebook)) for notebook in chapters.values())
    lock = threading.Lock()
    with tqdm(total=cells, unit="cell", desc=f"Executing {len(chapters)} chapters") as bar:

        def tick() -> None:
            with lock:
                bar.update()

        def run(item: tuple[str, NotebookNode]) -> tuple[str, Exception | None]:
            name, notebook = item
            try:
                seconds = execute(notebook, seed=seed, strict=strict, kernel=warm.KERNEL, progress=tick)
            except FAILURES as error:
                return name, error
            with lock:
                keep(name, seconds)
            return name, None

        with warm.kernels(environment=KERNEL_ENVIRONMENT), ThreadPoolExecutor(workers) as pool:
            return {name: error for name, error in pool.map(run, chapters.items()) if error is not None}


def claims_of(notebook: NotebookNode) -> list[dict[str, Any]]:
    """The verdicts stored in a notebook's outputs, in order."""
    found = []
    for cell in code_cells(notebook):
        for output in cell.outputs:
            record = output.get("metadata", {}).get("pbtlib.claim")
            if record:
                found.append(dict(record))
    return found


def store(notebook: NotebookNode, path: Path) -> bool:
    """Write a notebook if that changes the file, and say whether it did."""
    return write_if_changed(path, written(notebook))


def written(notebook: NotebookNode) -> str:
    """A notebook as its file holds it."""
    text: str = nbformat.writes(notebook) + "\n"
    return text


def write_if_changed(path: Path, content: str | bytes) -> bool:
    """Write a file, whole or not at all, and only when its content differs: its time stamp means something."""
    if holds(path, content):
        results.tidy(path)
        return False
    with results.replacing(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
    return True


def holds(path: Path, content: str | bytes) -> bool:
    """Whether a file is there and holds just this."""
    return path.is_file() and path.read_bytes() == (content.encode() if isinstance(content, str) else content)


def _as_saved(value: Any) -> Any:
    """A JSON value as JavaScript writes it, where 1.0 is 1: saving a notebook in JupyterLab then changes no number."""
    if isinstance(value, dict):
        return nbformat.from_dict({key: _as_saved(inner) for key, inner in value.items()})
    if isinstance(value, list):
        return [_as_saved(inner) for inner in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return int(value)
    return value
