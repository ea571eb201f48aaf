"""The one way in: ``python run.py book`` and ``python run.py test`` do all the rest, on any system.

The first call creates ``.venv`` beside this file and installs the exact versions of requirements.lock; later calls
reuse it until pyproject.toml, the lock or the Python version change. Needs Python 3.11 to 3.13 and nothing else. What
pip and pytest say goes to _build/*.log; ``-v`` shows it.
"""

from __future__ import annotations

import argparse
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
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
IMPORTS = ("-c", "from importlinter.cli import lint_imports_command as lint; lint()")
LAB_HOOK = "book.lab.keep_language"
WORKERS = 2
"""Processes that share the tests, and the processors."""
QUIET = {
    "PBTLIB_STRICT": "1",
    "TQDM_DISABLE": "1",
    "PYTHONHASHSEED": "0",
    "NUMBA_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // WORKERS)),
}

BASELINE = {
    "OPENBLAS_CORETYPE": "Nehalem",
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "NUMBA_CPU_NAME": "x86-64",
    "NUMBA_CPU_FEATURES": "+sse2",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX,-AVX512F",
}
"""What makes the libraries compute as on the oldest x86-64 processor; read when they are loaded."""
IN_FORCE = {"numpy": "X86_V2", "numba": "x86-64", "openblas": "Nehalem", "aten": "DEFAULT"}
"""What `pbtlib.processor.instruction_sets` returns then."""

COMMANDS = {
    "book": "run what changed and build the pages (in _build/html)",
    "test": "every check: the book, unit tests, all notebooks against their stored outputs",
    "nbval": "every notebook under nbval, against its stored outputs",
    "portable": "as on the oldest x86-64 processor: notebooks under nbval, and tests that a processor can decide",
    "newest": "notebooks under nbval, and all tests but those of the pages, with the newest versions allowed",
    "lowest": "notebooks under nbval, and all tests but those of the pages, with the lowest versions allowed",
    "exec": "write fresh outputs into chapters/ (all chapters, or those named)",
    "take": "take an edited notebook over into its text twin",
    "seeds": "run all chapters under other seeds (seeds 1 2 3)",
    "faults": "plant faults in copies of the project and say which claims part (all faults, or those named)",
    "mutants": "plant 400 small changes in the library, one at a time, and count those that no test notices",
    "lab": "open JupyterLab on the chapters",
    "pdf": "the book for print, whole (_build/book.pdf), for reading and in parts (needs Chromium)",
    "zip": "the built book for reading without a network (_build/book.zip)",
    "shots": "pictures of every page, light, dark and on a phone (_build/shots)",
    "lint": "formatting, lint, types and the order of imports",
    "bench": "the benchmarks: ratios within one run; pages (needs the built book); how large it gets (sizes)",
    "kills": "kill, fill and damage in copies, and count how it ends (all parts, or those named: studies exec files)",
    "lock": "write requirements.lock anew, with hashes (lock --upgrade: at the newest versions)",
    "clean": "remove what was built",
}
APART = ("ray",)
"""Extras that belong into environments of their own: no lock holds them, and no pass installs them."""
LOCK = ROOT / "requirements.lock"
LOCKING = ("--universal", "--python-version", "3.11", "--fork-strategy", "fewest", "--generate-hashes")
LOCK_HEAD = """\
# Every package of the environment at the version the book was made with, and the hashes of all its files; pip refuses
# any other file. For Python 3.11 to 3.13 on Linux, Windows and macOS (14 or later, Apple's processors, as torch asks).
# `python run.py lock` writes this file. Linux has a choice of builds of torch, each a file of its own: there run.py
# installs it after these, without a hash.
"""
STATISTICAL = ("test", "portable", "newest", "lowest")
CHECKS = (*STATISTICAL, "nbval")


def main() -> int:
    """Parse the command line, prepare the environment, run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Build, test and use the book.",
        epilog="\n".join(f"  {name:<8} {text}" for name, text in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="command")
    parser.add_argument("--seed", type=int, help=f"seed of the statistical tests ({', '.join(STATISTICAL)})")
    parser.add_argument("-v", "--verbose", action="store_true", help="show what goes to the logs")
    parser.add_argument("rest", nargs="*", help="names of chapters, seeds, or paths of tests")
    arguments, options = parser.parse_known_args()
    if options and arguments.command not in (*CHECKS, "lab", "bench", "lock"):
        parser.error(f"unknown options {' '.join(options)} ({', '.join(CHECKS)}, lab, bench and lock pass theirs on)")
    if arguments.seed is not None and arguments.command not in STATISTICAL:
        parser.error(f"--seed goes with {', '.join(STATISTICAL)}, not with {arguments.command}")
    if arguments.rest and arguments.command in ("book", "pdf", "zip", "lint", "lock", "clean"):
        parser.error(f"{arguments.command} takes no names, not {' '.join(arguments.rest)}")
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise SystemExit(f"Python 3.11 to 3.13 is needed; this is {sys.version.split()[0]}.")
    if arguments.command == "clean":
        shutil.rmtree(ROOT / "_build", ignore_errors=True)
        return 0
    if arguments.verbose:
        os.environ["PBTLIB_VERBOSE"] = "1"
    rest = [*arguments.rest, *options]
    if arguments.command in ("newest", "lowest"):
        return versions(arguments.command, arguments.seed, rest)
    prepare(VENV, LOCK)
    match arguments.command:
        case "book" | "exec" | "take" | "seeds":
            return call("-m", "book.build", arguments.command, *rest)
        case "faults" | "mutants":
            return call("-m", f"book.{arguments.command}", *rest)
        case "test":
            return test(arguments.seed, rest)
        case "nbval":
            return nbval(rest)
        case "portable":
            return portable(arguments.seed, rest)
        case "kills":
            return call("-m", "book.kills", *rest)
        case "pdf" | "zip" | "shots":
            return call("-m", "book.build", "book") or call("-m", "book.takeaway", arguments.command, *rest)
        case "lint":
            return lint()
        case "lock":
            return lock(rest)
        case "bench":
            os.environ.update(ONE_THREAD)
            return call("-m", "benchmarks", *rest)
        case _:
            os.environ.update(ONE_THREAD, PYTHONHASHSEED="0")  # as the stored outputs were made
            hook = f"--ContentsManager.pre_save_hook={LAB_HOOK}"
            return call("-m", "jupyterlab", "--notebook-dir", str(ROOT / "chapters"), hook, *rest)


# ---------------------------------------------------------------------------------------------- environments


def prepare(venv: Path, requirements: Path, *, renew: bool = False) -> None:
    """Create or renew an environment when what defines it has changed, or in any case."""
    recipe = hashlib.sha256(sys.version.encode())
    for path in (ROOT / "pyproject.toml", requirements):
        recipe.update(path.read_bytes())
    stamp = venv / "recipe.sha256"
    if not renew and stamp.is_file() and stamp.read_text() == recipe.hexdigest():
        return
    python, log = interpreter(venv), folder() / "setup.log"
    log.unlink(missing_ok=True)
    print(f"Preparing {shown(venv)} from {shown(requirements)}: a few minutes, about 2 GB", flush=True)
    version = f"import sys, pip; raise SystemExit(sys.version_info[:2] != {sys.version_info[:2]})"
    if (
        not python.is_file()
        or subprocess.run([str(python), "-c", version], capture_output=True, check=False).returncode
    ):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install"]
    newer = ["--upgrade", "--upgrade-strategy", "eager"] if renew else []
    torch = re.findall(r"^torch==[^\s;]+", requirements.read_text(), re.MULTILINE)
    library = [*torch, "--no-build-isolation", "--editable", str(ROOT)]  # with the setuptools of the lock
    for words in ([*pip, *newer, "-r", str(requirements)], [*pip, *library]):
        if logged(words, log, os.environ):
            last = [line for line in log.read_text(errors="replace").splitlines() if "ERROR" in line][-3:]
            raise SystemExit("\n".join([*last, f"{shown(venv)} could not be prepared: {shown(log)} says why."]))
    stamp.write_text(recipe.hexdigest())


def lock(rest: list[str]) -> int:
    """Write what pyproject.toml asks for into requirements.lock, versions as they were where they may stay so."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = ["pyproject.toml", *(f"--extra={name}" for name in extras if name not in APART), *LOCKING, *rest]
    if failed := call("-m", "uv", "pip", "compile", "-q", *asked, "--no-header", "--no-annotate", "-o", LOCK.name):
        return failed
    pins = re.sub(r"^torch==\S+", r"\g<0> ; sys_platform != 'linux'", LOCK.read_text(), flags=re.MULTILINE)
    LOCK.write_text(LOCK_HEAD + pins)
    return 0


def bounds(which: str) -> list[str]:
    """What pyproject.toml asks for, as it stands (newest) or each at its lower bound (lowest).

    PyTorch stays at the version of the lock, since another may be the build for graphics cards, several gigabytes
    large; the environment variable PBTLIB_TORCH names another version.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [rs for name, rs in project["optional-dependencies"].items() if name not in APART]
    asked = [*project["dependencies"], *(requirement for group in extras for requirement in group)]
    if which == "lowest":
        asked = [re.sub(r">=([^,]+).*", r"==\1", requirement) for requirement in asked]
    (locked,) = re.findall(r"^torch==(\S+)", LOCK.read_text(), re.MULTILINE)
    torch = f"torch=={os.environ.get('PBTLIB_TORCH') or locked}"
    return [torch if re.match(r"torch\b", requirement) else requirement for requirement in asked]


def interpreter(venv: Path) -> Path:
    """The Python of an environment."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def folder() -> Path:
    """Where this pass keeps its logs, compiled code and executed chapters."""
    return ROOT / "_build" / os.environ.get("PBTLIB_PASS", "")


def shown(path: Path) -> str:
    """A path as a reader in the project's folder writes it."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


# ---------------------------------------------------------------------------------------------- running


def call(*words: str, venv: Path | None = None, log: Path | None = None, offline: bool = False) -> int:
    """Run Python of the environment in the project's folder, if need be without a network; returns its exit code."""
    python = interpreter(venv or VENV)
    compiled = hashlib.sha256(b"".join(file.read_bytes() for file in sorted((ROOT / "pbtlib").rglob("*.py"))))
    cache = folder() / "numba" / compiled.hexdigest()[:16]  # Numba's own place does not follow imports
    if not cache.is_dir():
        shutil.rmtree(cache.parent, ignore_errors=True)
        cache.mkdir(parents=True)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(python.parent), os.environ.get("PATH", "")]),
        "PYTHONUTF8": "1",
        "NUMBA_CACHE_DIR": str(cache),
    }
    if offline:
        environment["PYTHONPATH"] = str(ROOT / "tests" / "offline")
    if log is not None:
        return logged([str(python), *words], log, environment)
    return subprocess.run([str(python), *words], cwd=ROOT, env=environment, check=False).returncode


def logged(words: list[str], log: Path, environment: os._Environ[str] | dict[str, str]) -> int:
    """Run a command with its words added to a log, a terminal showing how far it is; returns its exit code.

    It ends with the command, whatever else that may have left running with the same log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    verbose, terminal = "PBTLIB_VERBOSE" in os.environ, sys.stdout.isatty()
    with log.open("ab") as file, log.open(encoding="utf-8", errors="replace") as said:
        said.seek(0, os.SEEK_END)
        with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT) as process:
            ended = False
            while not ended:
                ended = process.poll() is not None
                text = said.read()
                if verbose:
                    print(text, end="", flush=True)
                elif terminal and (far := re.findall(r"\[ *(\d+%)\]", text)):
                    print(f"\r{far[-1]:>4} of the tests", end="", flush=True)
                time.sleep(0 if ended else 0.1)
    if terminal and not verbose:
        print("\r", end="")
    return int(process.returncode)


def lint() -> int:
    """Formatting, lint, types and the order of imports, all four even if one fails."""
    checks = (("-m", "ruff", "format", "--check", "."), ("-m", "ruff", "check", "."), ("-m", "mypy"), IMPORTS)
    return max([call(*words) for words in checks])


# ---------------------------------------------------------------------------------------------- tests


def test(seed: int | None, rest: list[str]) -> int:
    """Unit tests, and unless only some paths are asked for, of the whole: the pages and the notebooks too.

    Each notebook is executed once, for its page, which needs no network; tests then compare what it said with what is
    stored.
    """
    os.environ.update(ONE_THREAD | QUIET)
    whole = not some(rest)
    if whole and (failed := call("-m", "book.build", "book", offline=True)):
        return failed
    if whole:
        call("-m", "book.browser")
    return pytest(seed, rest)


def nbval(rest: list[str], venv: Path | None = None) -> int:
    """Execute notebooks under nbval, strictly, and compare what they say with what is stored; what ran is kept."""
    os.environ.update(ONE_THREAD | QUIET)
    rules = ["--nbval-lax", "--nbval-sanitize-with", "tests/nbval.cfg", "--nbval-cell-timeout", "600"]
    rules += ["-p", "book.under_nbval", "--nbval-kernel-name", "recorded", "--nbval-kernel-startup-timeout", "600"]
    return pytest(None, [*([] if some(rest) else ["chapters"]), *rules, *rest], venv, "nbval")


def portable(seed: int | None, rest: list[str]) -> int:
    """The checks as on the oldest x86-64 processor, with compiled code and executed chapters of their own."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        print(f"Nothing was run: 'portable' is for x86-64 processors, and this is {platform.machine()}.")
        return 0
    os.environ.update(BASELINE | ONE_THREAD | QUIET | {"PBTLIB_PASS": "portable"})
    found = subprocess.run(
        [str(interpreter(VENV)), "-c", "import json, pbtlib.processor as p; print(json.dumps(p.instruction_sets()))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    if parted := not_in_force(json.loads(found.stdout)):
        print(f"The baseline is not in force, so nothing was run: {'; '.join(parted)}.")
        return 1
    print("As on the oldest x86-64 processor: " + ", ".join(f"{name} {it}" for name, it in IN_FORCE.items()))
    return away(seed, rest, without=("pages", "words"))


def not_in_force(found: dict[str, str]) -> list[str]:
    """Which libraries compute with other instructions than the baseline's."""
    return [f"{name} reports {found.get(name)}, not {it}" for name, it in IN_FORCE.items() if found.get(name) != it]


def versions(which: str, seed: int | None, rest: list[str]) -> int:
    """The checks with the newest or lowest versions, in an environment of their own (_build/newest, _build/lowest)."""
    os.environ.update(ONE_THREAD | QUIET | {"PBTLIB_PASS": which})
    wanted, venv = folder() / "requirements.txt", folder() / "venv"
    wanted.parent.mkdir(parents=True, exist_ok=True)
    wanted.write_text("\n".join(bounds(which)) + "\n")
    prepare(venv, wanted, renew=which == "newest")
    lock = "tests/test_book.py::test_lock_holds_what_pyproject_asks_for_and_is_what_is_installed"
    return away(seed, [*rest, "--deselect", lock], venv)


def away(seed: int | None, rest: list[str], venv: Path | None = None, without: tuple[str, ...] = ("pages",)) -> int:
    """What a pass on other terms repeats: all but what would be the same; each chapter is executed once, by nbval."""
    if not some(rest) and (failed := nbval([], venv)):
        return failed
    wanted = ["-m", " and ".join(f"not {mark}" for mark in without)]
    return pytest(seed, [*([] if some(rest) else ["tests"]), *wanted, *rest], venv)


def pytest(seed: int | None, rest: list[str], venv: Path | None = None, name: str = "test") -> int:
    """Run tests with their words in a log, then say in a few lines how they ended."""
    everything = ["tests", "pbtlib", "--doctest-modules"]
    seeds = [] if seed is None else ["--seed", str(seed), f"--hypothesis-seed={seed}"]
    report, log = folder() / f"{name}.xml", folder() / f"{name}.log"
    for old in (report, log):
        old.unlink(missing_ok=True)
    told = [
        "-q",
        "-n",
        str(WORKERS),
        "--dist",
        "loadfile",
        "--no-loadscope-reorder",
        "--color=no",
        f"--junitxml={report}",
    ]
    chosen = [] if some(rest) else everything
    code = call("-m", "pytest", *told, *seeds, *chosen, *rest, venv=venv, log=log)
    call("-m", "book.summary", str(report), str(log), venv=venv)
    return code


def some(rest: list[str]) -> bool:
    """Whether words name paths of tests, so that only these are run."""
    skip = {k + 1 for k, word in enumerate(rest) if word in ("--deselect", "--ignore", "--nbval-sanitize-with")}
    return any((ROOT / word.partition("::")[0]).exists() for k, word in enumerate(rest) if k not in skip)


if __name__ == "__main__":
    raise SystemExit(main())
