"""Small changes planted all over the library, one at a time, and whether the tests notice.

``python run.py mutants`` draws MUTANTS changes from all of the library's Python, the same ones every time, runs in a
copy of the project the tests of the changed module until one fails, and writes to chapters/mutants.json how many were
noticed and what became of the others. Killed and started again it goes on: what is known of a change is kept in
_build/mutants until the function around it is another. ``python run.py mutants 40`` judges the first 40 alone.

A change that no test can notice, since nothing that is promised depends on it, has its reason in the table, written by
hand; so has one that was not noticed until a test was added. Changes are drawn by a hash of the code around them, so
that an edit elsewhere in a file leaves them as they are.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from book.execute import KERNEL_ENVIRONMENT, ROOT, write_if_changed

MUTANTS = 400
SEED = 20261130
TABLE = "chapters/mutants.json"
BUILD = "_build/mutants"
KILLED, SURVIVED, SLOW, EQUIVALENT = "killed", "survived", "timed out", "equivalent"
"""What becomes of a mutant: a test failed, none did, or it computed for many times as long as the sound library does;
or, as somebody who read it says, it does what it did before."""

SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
OPPOSITE = {
    a: b
    for one, two in (("min", "max"), ("minimum", "maximum"), ("argmin", "argmax"), ("nanmin", "nanmax"))
    for a, b in ((one, two), (two, one))
}
PERILOUS = ("os.kill", "shutil.rmtree")
"""Calls whose arguments are left alone: a change could end or remove what belongs to somebody else."""
WORDS = ("__repr__", "__str__")
"""Functions that make words."""

NAMESAKES = {
    "values": "algorithms",
    "history": "loop",
    "__main__": "main",
    "studies.study": "studies",
    "studies.ray_tune": "studies_ray",
    "studies.cluster": "cluster",
    "cartpole.setting": "cartpole_dqn",
    "cartpole.product": "cartpole_population",
    "figures": "extras",
}
"""From modules to the test file that is about them where it is not named after them."""
ROUNDS = ("not pages and not words and not slow", "not pages")
"""Which tests the rounds take; the second is for what survives the first."""
ALLOWED = 4.0
"""Seconds that a test of the first round may take; longer ones wait for the second."""
PATIENCE = 20.0
"""Seconds of processor time that a mutant has beyond four times what its tests take without it."""
PRELOADED = (
    "numpy scipy.stats scipy.optimize scipy.linalg scipy.integrate scipy.sparse.linalg scipy.special numba pytest "
    "xarray h5netcdf h5py hypothesis hypothesis.extra.numpy joblib tqdm threadpoolctl ot pandas matplotlib.pyplot "
    "seaborn torch gymnasium sphinx.application nbformat jupytext nbclient ipykernel.ipkernel dask distributed "
    "_hypothesis_pytestplugin pytest_timeout doctest"
)
"""Libraries of others that a test may load: once for all mutants."""


@dataclass(frozen=True)
class Mutant:
    """One change of one place of a file.

    Attributes
    ----------
    file : str
        From the project's folder.
    scope : str
        The functions and classes around it, joined by dots; empty outside of any.
    line : int
    before, after : str
        The code that is changed, as Python writes it.
    start, stop : int
        Where it stands, in bytes.
    around : str
        A mark of the outermost function or class around it, or of the statement.
    number : int
        Counts equal changes in one scope, from 0.
    """

    file: str
    scope: str
    line: int
    before: str
    after: str
    start: int
    stop: int
    around: str
    number: int = 0

    @property
    def name(self) -> str:
        """What tells it from all others, whatever stands elsewhere in the file."""
        words = (self.file, self.scope, self.before, self.after, str(self.number), self.around)
        return hashlib.sha256("\0".join(words).encode()).hexdigest()[:12]

    def planted(self, text: bytes) -> bytes:
        """The file with the change in it; every line keeps its number."""
        old = text[self.start : self.stop]
        missing = old.count(b"\n") - self.after.count("\n")
        return text[: self.start] + self.after.encode() + b"\n" * max(missing, 0) + text[self.stop :]


# ---------------------------------------------------------------------------------------------- the sampler


def mutants(file: str, text: bytes) -> list[Mutant]:
    """All changes of a file, in its order."""
    begins = [0]
    for row in text.splitlines(keepends=True):
        begins.append(begins[-1] + len(row))
    found: list[Mutant] = []
    count: Counter[tuple[str, str, str]] = Counter()
    for top in ast.parse(text).body:
        around = hashlib.sha256(ast.dump(top).encode()).hexdigest()[:12]
        for node, scope, new in _changes(top, ""):
            before, after = ast.unparse(node), new if isinstance(new, str) else ast.unparse(new)
            if isinstance(node, ast.expr):
                after = f"({after})"
            start = begins[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
            stop = begins[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
            line, key = text[:start].count(b"\n") + 1, (scope, before, after)
            if isinstance(node, ast.expr) and "\n" in text[start:stop].decode():
                after = after[:-1] + "\n" * text[start:stop].count(b"\n") + ")"
            found.append(Mutant(file, scope, line, before, after, start, stop, around, count[key]))
            count[key] += 1
    return found


def _changes(node: ast.AST, scope: str) -> Iterator[tuple[ast.AST, str, ast.AST]]:
    """Nodes below one, each with its scope and with what can take its place; nothing of words, marks and types."""
    if isinstance(node, ast.JoinedStr | ast.Raise | ast.Assert | ast.Import | ast.ImportFrom):
        return
    if isinstance(node, ast.Call) and ast.unparse(node.func) in PERILOUS:
        return
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'"):
        return
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        if node.name in WORDS:
            return
        scope = f"{scope}.{node.name}".lstrip(".")
    for new in _replacements(node):
        yield node, scope, new
    yield from ((old, scope, new) for old, new in _other_returns(node))
    skipped = {"annotation", "returns", "decorator_list", "type_params"}
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and name not in skipped:
                yield from _changes(child, scope)


def _replacements(node: ast.AST) -> Iterator[ast.AST]:
    """What can take a node's place."""
    match node:
        case ast.BinOp() if type(node.op) in SWAPPED and not _joins(node):
            yield _with(node, op=SWAPPED[type(node.op)]())
        case ast.AugAssign() | ast.BoolOp() if type(node.op) in SWAPPED:
            yield _with(node, op=SWAPPED[type(node.op)]())
        case ast.Compare(ops=ops):
            for k, operator in enumerate(ops):
                if type(operator) in SWAPPED:
                    yield _with(node, ops=[*ops[:k], SWAPPED[type(operator)](), *ops[k + 1 :]])
        case ast.Constant(value=value) if type(value) is int:
            yield ast.Constant(value + 1)
        case ast.Constant(value=value) if type(value) is float:
            yield ast.Constant(2 * value if 2 * value != value else 1.0)
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.Name(id=name, ctx=ast.Load()) if name in OPPOSITE:
            yield _with(node, id=OPPOSITE[name])
        case ast.Attribute(attr=name, ctx=ast.Load()) if name in OPPOSITE:
            yield _with(node, attr=OPPOSITE[name])
        case ast.IfExp():
            yield node.orelse
            yield node.body


def _with(node: ast.AST, **fields: Any) -> ast.AST:
    """A node with some fields replaced."""
    return type(node)(**{**dict(ast.iter_fields(node)), **fields})


def _joins(node: ast.AST) -> bool:
    """Whether a sum is one of texts or lists."""
    if isinstance(node, ast.BinOp):
        return _joins(node.left) or _joins(node.right)
    return isinstance(node, ast.JoinedStr | ast.List) or isinstance(getattr(node, "value", None), str)


def _other_returns(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """What a branch returns, with what is returned where it is not taken."""
    for name in ("body", "orelse"):
        block = getattr(node, name, None)
        for k, here in enumerate(block if isinstance(block, list) else []):
            if isinstance(here, ast.If) and isinstance(mine := here.body[-1], ast.Return):
                rest = here.orelse or block[k + 1 :]  # type: ignore[index]
                if rest and isinstance(other := rest[-1], ast.Return) and mine.value and other.value:
                    yield mine.value, other.value


def code_lines(text: bytes) -> int:
    """How many lines hold code that runs: no comments, no docstrings, no messages' continuation without code."""
    lines = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.stmt | ast.expr) and not isinstance(getattr(node, "value", None), str):
            lines.add(node.lineno)
    return len(lines)


def modules(root: Path) -> dict[str, str]:
    """From the library's modules, named without the package, to their files; ``__init__`` has nothing to change."""
    files = sorted((root / "pbtlib").rglob("*.py"))
    names = (path.relative_to(root).as_posix() for path in files if path.name != "__init__.py")
    return {module_of(file): file for file in names}


def sample(root: Path, total: int = MUTANTS, seed: int = SEED) -> list[Mutant]:
    """Draw changes from all modules, in proportion to their lines of code; the order is drawn too.

    Raises
    ------
    ValueError
        If the library has not so many.
    """
    texts = {file: (root / file).read_bytes() for file in modules(root).values()}

    def drawn(mutant: Mutant) -> str:
        words = (str(seed), mutant.file, mutant.scope, mutant.before, mutant.after, str(mutant.number))
        return hashlib.sha256("\0".join(words).encode()).hexdigest()

    options = {file: sorted(mutants(file, text), key=drawn) for file, text in texts.items()}
    options = {file: members for file, members in options.items() if members}
    if total > sum(map(len, options.values())):
        raise ValueError(f"{total} mutants are asked for, and the library has {sum(map(len, options.values()))}")
    lines = {file: code_lines(texts[file]) for file in options}
    share = {file: total * n / sum(lines.values()) for file, n in lines.items()}
    count = {file: min(int(share[file]), len(options[file])) for file in options}
    for file in sorted(options, key=lambda file: int(share[file]) - share[file]) * total:
        if sum(count.values()) == total:
            break
        count[file] += count[file] < len(options[file])
    return sorted((mutant for file in options for mutant in options[file][: count[file]]), key=drawn)


# ---------------------------------------------------------------------------------------------- which tests


@cache
def imported(path: Path, package: str = "") -> frozenset[str]:
    """The library's modules that a file imports, named without the package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(name.removeprefix("pbtlib.") for name in found if name.startswith("pbtlib."))


def tests_of(root: Path, module: str) -> tuple[list[str], list[str]]:
    """The test files nearest to a module, its own examples first; and the others that import it."""
    near = [NAMESAKES.get(module, module.replace(".", "_")), *(["studies"] if module.startswith("studies.") else [])]
    files = [f"tests/test_{name}.py" for name in dict.fromkeys(near)]
    others = [path for path in sorted((root / "tests").glob("test_*.py")) if module in imported(path)]
    first = [modules(root)[module], *(file for file in files if (root / file).is_file())]
    return first, [f"tests/{path.name}" for path in others if f"tests/{path.name}" not in files]


# ---------------------------------------------------------------------------------------------- running


def serve(preloaded: str = PRELOADED) -> None:
    """Answer requests, a line of JSON each: run these tests in a process of their own, forked from this one.

    This one has loaded what others wrote, which takes seconds, and nothing of the project.
    """
    for name in preloaded.split():
        with suppress(ImportError):
            __import__(name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "pbtlib"]:
        del sys.modules[name]  # what the build has of it
    try:
        from numba.core import caching

        vars(caching)["_SourceFileBackedLocatorMixin"].get_source_stamp = lambda self: (
            0
        )  # the parent says what is stale
    except ImportError:
        pass
    for request in sys.stdin:
        print(json.dumps(_forked(json.loads(request))), flush=True)


def _forked(request: dict[str, Any]) -> dict[str, Any]:
    """Run tests in a child, with a limit on its processor time; its exit code, first failure, seconds of each test."""
    with tempfile.TemporaryDirectory(prefix="mutant") as folder:
        answer, begun = Path(folder, "answer.json"), time.monotonic()
        pid = os.fork()
        if pid == 0:
            try:
                code = _child(request, answer, folder)
            except BaseException:
                code = 70
            os._exit(code)
        done, patience = 0, 30 * request["limit"]
        while not done:
            time.sleep(0.02)
            done, status, used = os.wait4(pid, os.WNOHANG)
            if not done and time.monotonic() - begun - _queued(pid) > patience:  # asleep: it waits for nobody
                os.killpg(pid, signal.SIGKILL)
                done, status, used = os.wait4(pid, 0)
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # what a broken test may have left
        told = json.loads(answer.read_text()) if answer.is_file() else {}
        code = os.waitstatus_to_exitcode(status)
        return {"code": code, "seconds": used.ru_utime + used.ru_stime, "by": "", "tests": {}, **told}


def _queued(pid: int) -> float:
    """Seconds that a process has waited for a processor that others had, where the system says so."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def _child(request: dict[str, Any], answer: Path, folder: str) -> int:
    import resource  # POSIX alone has it, and pages are built from the table elsewhere too

    import pytest

    os.setpgid(0, 0)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    limit = int(request["limit"]) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
    resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30, 12 * 2**30))
    os.environ |= {"TMPDIR": folder, "HYPOTHESIS_STORAGE_DIRECTORY": folder, "NUMBA_CACHE_DIR": request["cache"]}
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    if request["mutant"]:
        sys.dont_write_bytecode, os.environ["PYTHONDONTWRITEBYTECODE"] = True, "1"
    tempfile.tempdir = None
    with suppress(ImportError):
        import numba

        vars(numba.config)["CACHE_DIR"] = request["cache"]
    told: dict[str, Any] = {"by": "", "tests": {}}

    def names(item: Any) -> bool:
        code = inspect.getsource(item.function) if hasattr(item, "function") else item.name
        return any(re.search(rf"\b{word}\b", code) for word in request["words"])

    class Told:
        """Leaves out tests, has those first that name what is changed, then quick ones; notes seconds and a failure."""

        def pytest_collection_modifyitems(self, items: list[Any]) -> None:
            known, longest = request["known"], request["longest"]
            items[:] = [item for item in items if known.get(item.nodeid, 0.0) <= longest]
            items.sort(key=lambda item: (not names(item), known.get(item.nodeid, 0.0)))

        def pytest_runtest_logreport(self, report: Any) -> None:
            told["tests"][report.nodeid] = told["tests"].get(report.nodeid, 0.0) + report.duration
            if report.failed and not told["by"]:
                told["by"] = report.nodeid

    words = ["-x", "-q", "-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin", "-p", "pytest_timeout"]
    words += ["--hypothesis-seed=0", "-m", request["marks"], "--doctest-modules"]
    words += [f"--basetemp={folder}/tmp", *request["files"]]
    code = int(pytest.main(words, plugins=[Told()]))
    answer.write_text(json.dumps(told))
    return code


class Warm:
    """A copy of the project, and a process in it that runs tests on request."""

    def __init__(self, root: Path, preloaded: str = PRELOADED) -> None:
        """Renew the copy, and start the process."""
        self.root, self.build = root, root / BUILD
        self.copy, self.sound = self.build / "project", self.build / "numba" / _mark(root)
        self.kept = self.sound / "seconds.json"  # of the tests, once their code is compiled
        self.known: dict[str, dict[str, float]] = json.loads(self.kept.read_text()) if self.kept.is_file() else {}
        shutil.rmtree(self.copy, ignore_errors=True)
        unlike = shutil.ignore_patterns("_build", ".*", "__pycache__", "*.egg-info")
        shutil.copytree(root, self.copy, ignore=unlike)
        environment = {**os.environ, **KERNEL_ENVIRONMENT, "PYTHONPATH": str(self.copy), "MPLBACKEND": "agg"}
        environment |= {"NUMBA_CACHE_DIR": str(self.sound), "PBTLIB_STRICT": "1"}
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        code = f"import sys; sys.path.append({str(ROOT)!r}); from book.mutants import serve; serve({preloaded!r})"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=self.copy,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    def __enter__(self) -> Warm:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def ask(
        self,
        files: list[str],
        marks: str,
        *,
        limit: float = 900,
        cache: Path | None = None,
        longest: float = 1e9,
        scope: str = "",
    ) -> dict[str, Any]:
        """Run tests of the copy as it is, in so much processor time; with a cache of their own they are a mutant's."""
        assert self.process.stdin
        assert self.process.stdout
        known = {name: seconds for file in files for name, seconds in self.known.get(f"{file} {marks}", {}).items()}
        words = {"files": files, "marks": marks, "limit": limit, "known": known, "longest": longest}
        words |= {"cache": str(cache or self.sound), "mutant": cache is not None}
        words["words"] = [word for word in scope.split(".") if word and not word.startswith("_")]
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def seconds(self, file: str, marks: str) -> dict[str, float]:
        """How long the tests of a file take with the sound library; run once, and again when it changes.

        Raises
        ------
        RuntimeError
            If one of them fails: nothing can be said of mutants then.
        """
        key, mark = f"{file} {marks}", hashlib.sha256((self.root / file).read_bytes()).hexdigest()[:12]
        if self.known.get(key, {}).get(f"mark {mark}") is None:
            compiled = -1
            while compiled != (compiled := len([*self.sound.rglob("*.nbc")])):  # once more if the first has compiled
                answer = self.ask([file], marks)
            if answer["code"] not in (0, 5):
                raise RuntimeError(f"{answer['by'] or file} fails without a mutant (code {answer['code']})")
            self.known[key] = {**answer["tests"], f"mark {mark}": answer["seconds"]}
            self.kept.parent.mkdir(parents=True, exist_ok=True)
            self.kept.write_text(json.dumps(self.known))
        return self.known[key]

    def judge(self, mutant: Mutant, rounds: tuple[str, ...] = ROUNDS) -> dict[str, Any]:
        """Plant a mutant in the copy, run its tests, the nearest first, and take it out again."""
        path = self.copy / mutant.file
        text, times = path.read_bytes(), path.stat()

        def restore() -> None:
            path.write_bytes(text)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

        near, others = tests_of(self.root, module_of(mutant.file))
        found: dict[str, Any] = {"outcome": SURVIVED, "by": "", "seconds": 0.0, "rounds": len(rounds)}
        try:
            for marks in rounds:
                for files in (near, others) if marks == ROUNDS[0] else (near,):
                    longest = ALLOWED if marks == ROUNDS[0] else 1e9
                    restore()  # as tests not known yet are timed with the sound library
                    sound = [self.seconds(file, marks) for file in files]
                    spent = sum(
                        s for tests in sound for name, s in tests.items() if name[:5] != "mark " and s <= longest
                    )
                    if not files or not any(len(tests) > 1 for tests in sound):
                        continue
                    path.write_bytes(mutant.planted(text))
                    os.utime(path, (0, 0))  # as bytecode of the sound file may be of this second and size
                    cache = self.cache(mutant)
                    limit = PATIENCE + 4 * spent + 60 * (cache != self.sound)
                    answer = self.ask(files, marks, limit=limit, cache=cache, longest=longest, scope=mutant.scope)
                    found["seconds"] = round(found["seconds"] + answer["seconds"], 1)
                    if answer["code"] not in (0, 5):
                        late = answer["code"] in (-signal.SIGXCPU, -signal.SIGKILL)
                        return found | {"outcome": SLOW if late else KILLED, "by": answer["by"] or files[0]}
        finally:
            restore()
        return found

    def cache(self, mutant: Mutant) -> Path:
        """Where compiled code is kept: with the sound library's unless the mutant can be in it; then apart.

        Numba's own mark of a function does not follow what it calls, nor the constants in it.
        """
        if not touches_compiled(self.root, mutant):
            return self.sound
        own = self.build / "numba" / "mutant"
        shutil.rmtree(own, ignore_errors=True)
        known = modules(self.root)
        using = {name: imported(self.root / file) & {*known} for name, file in known.items()}
        stale = {name for name, file in known.items() if file == mutant.file}
        while more := {name for name, others in using.items() if others & stale} - stale:
            stale |= more
        last = {name.rpartition(".")[2] for name in stale}
        if self.sound.is_dir():
            shutil.copytree(self.sound, own, ignore=lambda _, names: [n for n in names if n.partition(".")[0] in last])
        return own


def _compiled(node: ast.AST) -> bool:
    """Whether Numba compiles a function."""
    return isinstance(node, ast.FunctionDef) and any(
        re.search("jit|compiled|intrinsic", ast.unparse(by)) for by in node.decorator_list
    )


def touches_compiled(root: Path, mutant: Mutant) -> bool:
    """Whether compiled code may be another with a mutant: it is in a compiled function or in none."""
    return mutant.scope.partition(".")[0] in {"", *_with_compiled((root / mutant.file).read_bytes())}


@cache
def _with_compiled(text: bytes) -> frozenset[str]:
    """The outermost functions and classes of a file that hold compiled code."""
    tops = (top for top in ast.parse(text).body if isinstance(top, ast.FunctionDef | ast.ClassDef))
    return frozenset(top.name for top in tops if any(_compiled(node) for node in ast.walk(top)))


def _mark(root: Path) -> str:
    """A mark of what Numba compiles and of the constants that it may hold."""
    parts = []
    for path in sorted((root / "pbtlib").rglob("*.py")):
        tree = ast.parse(path.read_bytes())
        parts += [ast.dump(node) for node in ast.walk(tree) if _compiled(node)]
        parts += [ast.dump(top) for top in tree.body if isinstance(top, ast.Assign | ast.AnnAssign)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]


# ---------------------------------------------------------------------------------------------- the table


def state(root: Path, file: str) -> str:
    """A mark of a file's code without its words: whether it is the one that was changed."""
    tree = ast.parse((root / file).read_bytes())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            body[0].value.value = ""
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:12]


def module_of(file: str) -> str:
    """The name of a file's module, without the package's."""
    return file.removeprefix("pbtlib/").removesuffix(".py").replace("/", ".")


def changed(table: dict[str, Any], root: Path = ROOT) -> list[str]:
    """The files of a table whose code is no longer the one that was changed."""
    files = ((file, row["state"]) for file, row in table["modules"].items())
    return [file for file, mark in files if not (root / file).is_file() or state(root, file) != mark]


def stored(root: Path = ROOT) -> dict[str, Any]:
    """The table, empty if there is none."""
    path = root / TABLE
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def table(root: Path, drawn: list[Mutant], known: dict[str, dict[str, Any]], old: dict[str, Any]) -> dict[str, Any]:
    """What became of the mutants, by module; those that were read, with what was found out about them."""
    read = {row["name"]: row for row in old.get("read", [])}
    rows: dict[str, dict[str, Any]] = {}
    survivors, outcomes = [], Counter[str]()
    for mutant in sorted(drawn, key=lambda mutant: (mutant.file, mutant.line, mutant.name)):
        row = rows.setdefault(
            mutant.file, {"state": state(root, mutant.file), "mutants": 0, KILLED: 0, EQUIVALENT: 0, SURVIVED: 0}
        )
        row["mutants"] += 1
        said, found = read.get(mutant.name, {}), known.get(mutant.name)
        if not found:
            continue
        outcome = KILLED if found["outcome"] == SLOW else found["outcome"]
        if outcome == SURVIVED and said.get("equivalent"):
            outcome = EQUIVALENT
        if outcome == SURVIVED and found["rounds"] < len(ROUNDS):
            continue  # the slow tests have yet to see it
        row[outcome] += 1
        outcomes[found["outcome"]] += 1
        if outcome != KILLED or said:
            where = {"name": mutant.name, "file": mutant.file, "line": mutant.line, "scope": mutant.scope}
            change = {"before": mutant.before, "after": mutant.after.strip(), "outcome": outcome}
            why = {"equivalent": said.get("equivalent", "")} if outcome != KILLED else {"by": found["by"]}
            survivors.append(where | change | why)
    made = outcomes.total()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True)
    return {
        "seed": SEED,
        "commit": commit.stdout.strip(),
        "planned": len(drawn),
        "made": made,
        "missing": len(drawn) - made,
        SLOW: outcomes[SLOW],
        "modules": rows,
        "read": survivors,
    }


def main() -> int:
    """Judge the mutants that are not known yet and write the table; returns 1 if too many survive unexplained."""
    parser = argparse.ArgumentParser(prog="run.py mutants", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("first", nargs="?", type=int, default=MUTANTS, help="how many to judge, of those drawn")
    first = parser.parse_args().first
    drawn, kept = sample(ROOT), ROOT / BUILD / "found.json"
    known: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.is_file() else {}
    tests = hashlib.sha256(b"".join(p.read_bytes() for p in sorted((ROOT / "tests").glob("*.py")))).hexdigest()[:12]
    explained = {row["name"] for row in stored().get("read", []) if row.get("equivalent")}

    def settled(mutant: Mutant, rounds: int) -> bool:
        """Whether a test has noticed it, somebody has explained it, or these tests have had it so many rounds."""
        found = known.get(mutant.name)
        if not found or found["outcome"] != SURVIVED or mutant.name in explained:
            return bool(found)
        return bool(found["tests"] == tests and found["rounds"] >= rounds)

    try:
        with Warm(ROOT) as warm:
            for rounds in (1, len(ROUNDS)):
                for mutant in [mutant for mutant in drawn[:first] if not settled(mutant, rounds)]:
                    found = warm.judge(mutant, ROUNDS[rounds - 1 : rounds])
                    known[mutant.name] = found | {"rounds": rounds, "tests": tests}
                    part = kept.with_suffix(".part")
                    part.write_text(json.dumps(known, indent=0))
                    part.replace(kept)
                    change = " ".join(f"{mutant.before[:60]} → {mutant.after[:60]}".split())
                    place = f"{mutant.file}:{mutant.line}"
                    print(f"{place} {found['outcome']} ({found['seconds']} s) {change} {found['by']}", flush=True)
    finally:
        told = table(ROOT, drawn, known, stored())
        write_if_changed(ROOT / TABLE, json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    counts = {what: sum(row[what] for row in told["modules"].values()) for what in (KILLED, EQUIVALENT, SURVIVED)}
    print(f"{told['planned']} planned, {told['made']} made, {told['missing']} missing:", counts)
    return int(counts[KILLED] < 0.95 * (counts[KILLED] + counts[SURVIVED]))


if __name__ == "__main__":
    raise SystemExit(main())
