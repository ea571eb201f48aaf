"""JupyterLab as `make lab` starts it: opening a chapter changes no file, whatever Python reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def keep_language(model: dict[str, Any], path: str, contents_manager: Any, **_: Any) -> None:
    """Before a notebook is saved, put back what its file says of kernel and language.

    JupyterLab notes the exact version of the Python that a notebook was opened with. Jupyter Server calls this as its
    ``pre_save_hook``, and saves the changed model.
    """
    if model["type"] != "notebook" or not model.get("content"):
        return
    try:
        before = json.loads((Path(contents_manager.root_dir) / path.strip("/")).read_text())["metadata"]
    except (OSError, ValueError, KeyError):  # a new notebook
        return
    for name in ("kernelspec", "language_info"):
        if name in before:
            model["content"]["metadata"][name] = before[name]
