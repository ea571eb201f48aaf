"""Faults planted in a copy of the library, and which claims of a page part from their record then.

``python tests/planted.py NAME ...`` runs these chapters as they are and once under every fault, and prints a table.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

FAULTS = {
    "selection off": (
        "evolution.py",
        "return _softmax(self.beta, fitness, mass), mass",
        "return _softmax(0.0, fitness, mass), mass",
    ),
    "sign of the drift": (
        "training.py",
        "matrix = np.eye(linear.d) - dt * _drift_matrix(linear)",
        "matrix = np.eye(linear.d) + dt * _drift_matrix(linear)",
    ),
    "mutation doubled": ("evolution.py", "h[j, c] += sigma[c] * z", "h[j, c] += 2.0 * sigma[c] * z"),
    "Δt for √Δt": ("training.py", "root = np.sqrt(dt) * np.linalg.cholesky(", "root = dt * np.linalg.cholesky("),
    "optimum shifted": (
        "problems.py",
        "fitness: Array = 1.2 - np.square(theta).sum(-1)",
        "fitness: Array = 1.2 - np.square(theta - 0.3).sum(-1)",
    ),
}
"""From a fault's name to the file of pbtlib, the right code and the wrong one."""

DRIVER = """
import json, sys
from book.execute import TWINS, claims_of, execute_all, from_twin
chapters = {name: from_twin(TWINS / f"{name}.md") for name in sys.argv[1:]}
failed = execute_all(chapters, strict=False, workers=1)
said = {name: {c["id"]: c["agrees"] for c in claims_of(notebook)} for name, notebook in chapters.items()}
print(json.dumps({"said": said, "failed": sorted(failed)}))
"""


def plant(folder: Path, fault: str | None) -> None:
    """Copy what a chapter needs into an empty folder, with this fault or none.

    Raises
    ------
    ValueError
        If the code that the fault changes is not there exactly once.
    """
    for name in ("pbtlib", "book", "data"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "vendor"))
    shutil.copytree(ROOT / "chapters" / "text", folder / "chapters" / "text")
    shutil.copy(ROOT / "_config.yml", folder)
    if fault is not None:
        name, right, wrong = FAULTS[fault]
        path = folder / "pbtlib" / name
        code = path.read_text(encoding="utf-8")
        if code.count(right) != 1:
            raise ValueError(f"{name} holds {right!r} {code.count(right)} times; a fault needs it once")
        path.write_text(code.replace(right, wrong), encoding="utf-8")


def verdicts(names: list[str], fault: str | None) -> tuple[dict[str, dict[str, bool]], list[str]]:
    """Whether each claim of these chapters is as recorded, under a fault; and the chapters that stopped in an error."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        plant(folder, fault)
        environment = {**os.environ, "PYTHONPATH": place, "NUMBA_CACHE_DIR": f"{place}/numba", "TQDM_DISABLE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, *names],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=True,
        )
    found = json.loads(done.stdout.splitlines()[-1])
    return found["said"], found["failed"]


def main(names: list[str]) -> int:
    """Print which claims part under which fault; returns 1 if one parts without."""
    sound, stopped = verdicts(names, None)
    print("sound:", stopped or "every page runs to its end")
    table = {fault: verdicts(names, fault) for fault in FAULTS}
    for name, claims in sound.items():
        for claim in claims:
            parted = [f for f, (said, _) in table.items() if not said[name].get(claim, False)]
            print(f"{name:<20} {claim:<36} {', '.join(parted) or 'none'}")
    for fault, (_, failed) in table.items():
        print(f"{fault}: stopped in an error: {', '.join(failed) or 'no page'}")
    return int(bool(stopped) or not all(all(claims.values()) for claims in sound.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
