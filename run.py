"""The one way in: ``python run.py book`` and ``python run.py test`` do all the rest, on any system.

The first call creates ``.venv`` beside this file and installs the exact versions of requirements.lock; later calls
reuse it until pyproject.toml, the lock or the Python version change. Needs Python 3.11 to 3.13 and nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}

COMMANDS = {
    "book": "run what changed and build the pages (in _build/html)",
    "test": "every check: unit tests, then all notebooks against their stored outputs",
    "exec": "write fresh outputs into chapters/ (all chapters, or those named)",
    "take": "take an edited notebook over into its text twin",
    "seeds": "run all chapters under other seeds (seeds 1 2 3)",
    "lab": "open JupyterLab on the chapters",
    "pdf": "the whole book for print (_build/book.pdf; needs Chromium)",
    "zip": "the built book for reading without a network (_build/book.zip)",
    "shots": "pictures of every page, light, dark and on a phone (_build/shots)",
    "lint": "formatting, lint and types",
    "bench": "the benchmarks, as ratios within one run",
    "clean": "remove what was built",
}


def main() -> int:
    """Parse the command line, prepare the environment, run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Build, test and use the book.",
        epilog="\n".join(f"  {name:<6} {text}" for name, text in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="command")
    parser.add_argument("--seed", type=int, help="seed of the statistical tests (test)")
    parser.add_argument("rest", nargs="*", help="names of chapters, seeds, or paths of tests")
    arguments, options = parser.parse_known_args()
    if options and arguments.command not in ("test", "lab", "bench"):
        parser.error(f"unknown options {' '.join(options)} (test, lab and bench pass theirs on)")
    if arguments.seed is not None and arguments.command != "test":
        parser.error(f"--seed goes with test, not with {arguments.command}")
    if arguments.rest and arguments.command in ("book", "pdf", "zip", "lint", "clean"):
        parser.error(f"{arguments.command} takes no names, not {' '.join(arguments.rest)}")
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise SystemExit(f"Python 3.11 to 3.13 is needed; this is {sys.version.split()[0]}.")
    if arguments.command == "clean":
        shutil.rmtree(ROOT / "_build", ignore_errors=True)
        return 0
    prepare()
    rest = [*arguments.rest, *options]
    match arguments.command:
        case "book" | "exec" | "take" | "seeds":
            return call("-m", "book.build", arguments.command, *rest)
        case "test":
            return test(arguments.seed, rest)
        case "pdf" | "zip" | "shots":
            return call("-m", "book.build", "book") or call("-m", "book.takeaway", arguments.command, *rest)
        case "lint":
            return lint()
        case "bench":
            os.environ.update(ONE_THREAD)
            return call("-m", "benchmarks", *rest)
        case _:
            return call("-m", "jupyterlab", "--notebook-dir", str(ROOT / "chapters"), *rest)


def prepare() -> None:
    """Create or renew the environment when what defines it has changed."""
    recipe = hashlib.sha256(sys.version.encode())
    for name in ("pyproject.toml", "requirements.lock"):
        recipe.update((ROOT / name).read_bytes())
    stamp = VENV / "recipe.sha256"
    if stamp.is_file() and stamp.read_text() == recipe.hexdigest():
        return
    print("Preparing .venv from requirements.lock (a few minutes, about 2 GB)", flush=True)
    version = f"import sys, pip; raise SystemExit(sys.version_info[:2] != {sys.version_info[:2]})"
    if (
        not PYTHON.is_file()
        or subprocess.run([str(PYTHON), "-c", version], capture_output=True, check=False).returncode
    ):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-r", str(ROOT / "requirements.lock")], check=True)
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--editable", str(ROOT)], check=True)
    stamp.write_text(recipe.hexdigest())


def call(*words: str) -> int:
    """Run Python of the environment in the project's folder and return its exit code."""
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", "")])
    compiled = hashlib.sha256(b"".join(file.read_bytes() for file in sorted((ROOT / "pbtlib").rglob("*.py"))))
    cache = ROOT / "_build" / "numba" / compiled.hexdigest()[:16]  # Numba's own place does not follow imports
    if not cache.is_dir():
        shutil.rmtree(cache.parent, ignore_errors=True)
        cache.mkdir(parents=True)
    environment = {**os.environ, "PATH": path, "PYTHONUTF8": "1", "NUMBA_CACHE_DIR": str(cache)}
    return subprocess.run([str(PYTHON), *words], cwd=ROOT, env=environment, check=False).returncode


def lint() -> int:
    """Formatting, lint and types, all three even if one fails."""
    checks = (("-m", "ruff", "format", "--check", "."), ("-m", "ruff", "check", "."), ("-m", "mypy"))
    return max([call(*words) for words in checks])


def test(seed: int | None, paths: list[str]) -> int:
    """Unit tests, and unless only some paths are asked for, of the whole: the pages and the notebooks too."""
    everything = ["tests", "chapters", "--nbval-lax", "--nbval-sanitize-with", "tests/nbval.cfg"]
    some = any((ROOT / path.partition("::")[0]).exists() for path in paths)
    chosen = paths if some else [*everything, *paths]
    more = [] if seed is None else ["--seed", str(seed), f"--hypothesis-seed={seed}"]
    os.environ.update(ONE_THREAD, PBTLIB_STRICT="1", TQDM_DISABLE="1", PYTHONHASHSEED="0")
    if not some and (failed := call("-m", "book.build", "book")):
        return failed
    return call("-m", "pytest", "-n", "2", "--dist", "loadfile", *more, *chosen)


if __name__ == "__main__":
    raise SystemExit(main())
