"""The first code cell of every stored notebook: it brings pbtlib to a Python that lacks it."""

from __future__ import annotations

from pathlib import Path

import nbformat
import yaml
from nbformat import NotebookNode

CONFIG = Path(__file__).resolve().parent.parent / "_config.yml"
FIRST_LINE = "# Brings pbtlib where it is missing. The build writes this cell; it is not taken into the text."
NEEDED = ("pbtlib", "numba", "torch", "gymnasium", "seaborn")
EXTRAS = "[plots,cartpole]"

TEMPLATE = f"""{FIRST_LINE}
def bring_pbtlib(address, branch):
    import importlib.metadata, importlib.util, site, subprocess, sys  # noqa: E401, I001
    from pathlib import Path
    if all(map(importlib.util.find_spec, {NEEDED})):
        return
    around = [Path.cwd(), *Path.cwd().parents]
    checkout = next((p for p in around if (p / "pbtlib" / "claims.toml").is_file()), None)
    if not checkout and not address:
        raise ModuleNotFoundError("pbtlib, this book's library, is not installed here: move the "
            "notebook into the book's chapters/, or run: pip install FOLDER_OF_THE_BOOK")
    source = [f"pbtlib{EXTRAS} @ git+{{address}}@{{branch}}"]
    source = ["--editable", f"{{checkout}}{EXTRAS}"] if checkout else source
    print("Installing pbtlib and what it needs, which may take some minutes:", *source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    done = subprocess.run([*pip, *source], capture_output=True, text=True)
    if done.returncode:
        raise ModuleNotFoundError(f"pip could not install pbtlib; it says\\n{{done.stderr}}")
    sys.path[:0] = [*([str(checkout)] if checkout else []), site.getusersitepackages()]
    importlib.invalidate_caches()
    now = importlib.metadata.version("numpy")
    if getattr(sys.modules.get("numpy"), "__version__", now) != now:
        raise ImportError(f"NumPy has become {{now}}: restart the kernel and run all again")

bring_pbtlib({{address!r}}, {{branch!r}})"""


def cell() -> NotebookNode:
    """Return the cell for the address in _config.yml, folded in JupyterLab and left out of the book."""
    repository = yaml.safe_load(CONFIG.read_text())["repository"]
    source = TEMPLATE.replace("{address!r}", repr(repository["url"])).replace("{branch!r}", repr(repository["branch"]))
    made: NotebookNode = nbformat.v4.new_code_cell(source)
    made.metadata = nbformat.from_dict({"jupyter": {"source_hidden": True}, "tags": ["remove-cell"]})
    return made


def is_bootstrap(cell: NotebookNode) -> bool:
    """Whether a cell is the one that the build writes, now or for another address."""
    return cell.cell_type == "code" and str(cell.source).startswith(FIRST_LINE)
