"""Kills at random moments, full disks, damaged files: whether what was interrupted ends as if nothing had been.

``python run.py kills`` does all of it, ``python run.py kills studies exec files`` the parts named, and writes to
chapters/kills.json how often each ended bit-identical, in an error that names the file and the reason, or wrong.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from book.execute import CHAPTERS, ROOT, write_if_changed
from pbtlib import results

TABLE = CHAPTERS / "kills.json"
SEED = 21
SLICES = {"digits": (12, ("population, seed 2026", "schedule, seed 2026")), "frozen": (3, ("point 20",))}
"""Runs of studies at the paper's scale, and how often they are killed at any moment, and as often while they write:
networks of which one run needs another, and CartPole agents that need a run with checkpoints."""
KILLS = {"studies": 2 * sum(kills for kills, _ in SLICES.values()), "exec": 20}
EARLY = ("9ada6e3f85ed", "data/cartpole_frozen.nc")
OUTCOMES = ("identical", "error", "wrong")
Outcome = str


@dataclass
class Row:
    """What was done, and how often it ended how."""

    what: str
    identical: int = 0
    error: int = 0
    wrong: int = 0

    def count(self, outcome: Outcome, times: int = 1) -> None:
        """Add to one of the three."""
        setattr(self, outcome, getattr(self, outcome) + times)


def main() -> int:
    """Do the parts named, or all, and write the table; returns 1 if anything ended wrong."""
    parser = argparse.ArgumentParser(prog="run.py kills", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", nargs="*")
    wanted = parser.parse_args().part or [*PARTS]
    if unknown := set(wanted) - PARTS.keys():
        parser.error(f"no part is named {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if os.name != "posix":
        print("Nothing was done: processes are killed here as POSIX systems do it.")
        return 0
    wrong = 0
    for part in wanted:
        with tempfile.TemporaryDirectory() as folder:
            rows = []
            for row in PARTS[part](Path(folder), np.random.default_rng(SEED)):
                print(f"{row.what}: {', '.join(f'{getattr(row, name)} {name}' for name in OUTCOMES)}", flush=True)
                rows.append(row)
                write_rows(part, [asdict(row) for row in rows])
        wrong += sum(row.wrong for row in rows)
    return 1 if wrong else 0


def stored() -> dict[str, list[dict[str, Any]]]:
    """The rows of the table by part."""
    return dict(json.loads(TABLE.read_text(encoding="utf-8"))) if TABLE.is_file() else {}


def write_rows(part: str, rows: list[dict[str, Any]]) -> None:
    """Put the rows of one part into the table."""
    write_if_changed(TABLE, json.dumps({**stored(), part: rows}, indent=1, sort_keys=True) + "\n")


# ---------------------------------------------------------------------------------------------- killing


class Child:
    """A process that does a piece of work with everything imported already, in a process group of its own."""

    def __init__(self, work: Callable[[], object], log: Path) -> None:
        def begin() -> None:
            os.setsid()
            with log.open("wb") as said:
                for descriptor in (1, 2):
                    os.dup2(said.fileno(), descriptor)
            work()

        self._process = get_context("fork").Process(target=begin)
        self._process.start()
        self.log = log

    def running(self, seconds: float = 0.0) -> bool:
        """Whether it runs still after so many seconds."""
        self._process.join(seconds)
        return self._process.exitcode is None

    def end(self) -> int:
        """Wait for its end, and return its exit code."""
        self._process.join()
        return self._process.exitcode or 0

    def killed(self, after: Callable[[Child], None]) -> bool:
        """Kill it and its group without warning when the call returns; whether it was still running."""
        after(self)
        if running := self.running():
            with suppress(ProcessLookupError):  # it has no group yet
                os.killpg(self._process.pid or 0, signal.SIGKILL)
            self._process.kill()
        self.end()
        return running

    def outcome(self, same: Callable[[], bool], named: str) -> Outcome:
        """How it came to its end: with the same bits, or an error that names something."""
        failed = self.end()
        if not failed and same():
            return "identical"
        last = (self.log.read_text(errors="replace").strip().splitlines() or [""])[-1]
        print(last, file=sys.stderr)
        return "error" if failed and named in last else "wrong"


def at(seconds: float, child: Child) -> None:
    """Wait so long, or until the process ends."""
    child.running(seconds)


def at_write(folder: Path, number: int, seconds: float, child: Child) -> None:
    """Wait until a process has been seen to write so often below a folder, and this little longer."""
    seen = marks(folder)
    while number > 0 and child.running(0.0005):
        if (now := marks(folder)) != seen:
            number, seen = number - 1, now
    child.running(seconds)


def marks(folder: Path) -> set[tuple[str, int]]:
    """The files below a folder and when each was changed."""
    found = set()
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                found.add((name, os.stat(os.path.join(place, name)).st_mtime_ns))
    return found


# ---------------------------------------------------------------------------------------------- studies


def studies(folder: Path, rng: np.random.Generator) -> Iterator[Row]:
    """Kill and resume slices of studies at paper scale, at moments drawn uniformly and while they write."""
    from pbtlib.__main__ import STUDIES  # here, since it loads all studies

    for name, (kills, wanted) in SLICES.items():
        study = STUDIES[name]
        runs = [run for run in study.runs("paper") if run.name in wanted]
        whole, clock = folder / f"{name}-whole", time.monotonic()
        begin = partial(Child, log=folder / "log")
        if begin(partial(study.make_all, runs, whole)).end():
            raise SystemExit((folder / "log").read_text(errors="replace"))
        expected = time.monotonic() - clock
        for aimed in (False, True):
            row = Row(f"study {name}, killed {'while it writes a file' if aimed else 'at any moment'}, and resumed")
            left, places = kills, itertools.count()
            while left:
                place, hits, running = folder / f"{name}-{aimed}-{next(places)}", 0, True
                place.mkdir()
                while hits < left and running:
                    moment = partial(at, rng.uniform(0, expected))
                    if aimed:
                        moment = partial(at_write, place, int(rng.integers(1, 4)), rng.uniform(0, 0.02))
                    running = begin(partial(study.make_all, runs, place)).killed(moment)
                    hits += running
                last = begin(partial(study.make_all, runs, place))
                row.count(last.outcome(partial(same_files, whole, place), place.name), hits)
                left -= hits
            yield row


def same_files(whole: Path, place: Path) -> bool:
    """Whether two directories hold the same files with the same arrays, bit for bit, and the same provenance."""
    names = sorted(path.name for path in whole.iterdir())
    return names == sorted(path.name for path in place.iterdir()) and all(
        same_data(results.load(whole / name), results.load(place / name)) for name in names
    )


def same_data(one: xr.Dataset, other: xr.Dataset) -> bool:
    """Whether two data sets agree bit for bit in all but the time that they took."""
    took = {"wall_seconds": None}
    return one.attrs | took == other.attrs | took and [described(one)] == [described(other)]


def described(data: xr.Dataset) -> dict[str, Any]:
    """Names, axes, types and bytes of all arrays."""
    return {
        str(name): (v.dims, v.dtype.str, v.attrs, v.to_numpy().tolist() if v.dtype.kind == "O" else v.values.tobytes())
        for name, v in data.variables.items()
    }


# ---------------------------------------------------------------------------------------------- make exec

PAGE = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

# A small page

```{code-cell} ipython3
import matplotlib.pyplot as plt
import numpy as np
SEED = OLD
rng = np.random.default_rng(SEED)
```
"""
FIGURE = """
```{{code-cell}} ipython3
:mystnb:
:  figure: {{name: {name}, caption: "A line."}}
fig, axis = plt.subplots()
axis.plot(np.arange(2000), rng.standard_normal(2000), label="y")
axis.set(xlabel="x", ylabel="y")
plt.show()
```
"""


def page(seed: str, figures: str) -> str:
    """The text of a page with figures of these names."""
    return PAGE.replace("OLD", seed) + "".join(FIGURE.format(name=f"figure-{name}") for name in figures)


def execution(folder: Path, rng: np.random.Generator) -> Iterator[Row]:
    """Kill `make exec` in a copy of the project with two pages that changed, at any moment and while it writes."""
    copy = folder / "project"
    for name in ("pbtlib", "book"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "vendor"))
    for name in ("requirements.lock", "_config.yml", ".gitignore"):
        shutil.copy(ROOT / name, copy)
    (copy / "chapters" / "text").mkdir(parents=True)
    temporary = folder / "tmp"
    temporary.mkdir()
    rows: dict[str, Row] = {}
    with subprocess.Popen(
        [sys.executable, "-u", "-c", f"from book import kills; kills.in_the_copy({int(rng.integers(2**31))})"],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        for line in process.stdout or ():
            row = Row(**json.loads(line))
            rows[row.what] = row
    yield from rows.values()
    if process.returncode:
        raise SystemExit("The copy of the project in which chapters are executed did not come to its end.")


def in_the_copy(seed: int) -> None:
    """Do what `execution` says in the project that this module belongs to, and print the row after each kill."""
    from book.build import execute_into_chapters

    rng, pages, record = np.random.default_rng(seed), ["small", "smaller"], CHAPTERS / "made.json"
    run = partial(Child, partial(execute_into_chapters, pages), ROOT / "log")

    def made(number: int, figures: str) -> dict[Path, bytes]:
        for name in pages:
            (CHAPTERS / "text" / f"{name}.md").write_text(page(str(number), figures))
        if run().end():
            raise SystemExit((ROOT / "log").read_text(errors="replace"))
        return snapshot(CHAPTERS)

    made(1, "abcd")
    record.write_text(json.dumps(dict.fromkeys(pages, "another machine")))
    old, clock = snapshot(CHAPTERS), time.monotonic()
    new, expected = made(2, "abxyz"), time.monotonic() - clock
    start = old | {path: content for path, content in new.items() if path.suffix == ".md"}
    git("init", "-q")
    for aimed in (True, False):
        row = Row(f"make exec, killed {'while it writes' if aimed else 'at any moment'}, and called again")
        left = KILLS["exec"] // 2
        while left:
            lay(CHAPTERS, start)
            git("add", "-A", "chapters")
            moment = partial(at_write, CHAPTERS, int(rng.integers(1, 8)), rng.uniform(0, 0.003))
            if not aimed:
                shutil.rmtree(ROOT / "_build" / "executed", ignore_errors=True)
                moment = partial(at, rng.uniform(0, expected))
            if run().killed(moment):
                left -= 1
                sound = between(CHAPTERS, start, new, git("status", "--porcelain", "--", "chapters"))
                outcome = run().outcome(lambda: snapshot(CHAPTERS) == new and not processes(ROOT), "chapters")
                row.count(outcome if sound else "wrong")
                print(json.dumps(asdict(row)), flush=True)


def between(chapters: Path, old: Mapping[Path, bytes], new: Mapping[Path, bytes], status: str) -> bool:
    """Whether each file that git would see is whole, the old one or the new one, and so is each line of the record."""
    record, found = Path("made.json"), snapshot(chapters)
    lines = [json.loads(files[record]).items() for files in (found, old, new)]
    other = [str(line) for line in lines[0] if line not in lines[1] and line not in lines[2]]
    for path, content in found.items():
        if path != record and path.suffix != ".part" and content not in (old.get(path), new.get(path)):
            other.append(str(path))
    if other or ".part" in status or not old.keys() & new.keys() <= found.keys():
        print("not whole:", *other, status, file=sys.stderr)
        return False
    return True


def snapshot(folder: Path) -> dict[Path, bytes]:
    """The files of a folder and what they hold."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lay(folder: Path, files: Mapping[Path, bytes]) -> None:
    """Make a folder hold these files alone."""
    shutil.rmtree(folder)
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def git(*words: str) -> str:
    """What git says of the project."""
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def processes(folder: Path, patience: float = 10.0) -> list[str]:
    """Processes that work in a folder still, after some patience; none where the system does not tell."""
    found = ["?"]
    until = time.monotonic() + patience
    while found and time.monotonic() < until:
        found = []
        for link in Path("/proc").glob("[0-9]*/cwd"):
            if link.parent.name != str(os.getpid()):
                with suppress(OSError):
                    found += [link.parent.name] if link.resolve().is_relative_to(folder) else []
        time.sleep(0.1 if found else 0)
    return found


# ---------------------------------------------------------------------------------------------- files


def files(folder: Path, rng: np.random.Generator) -> Iterator[Row]:
    """Write to full disks and read-only folders, read damaged files, and share a checkpoint."""
    data = xr.Dataset({"x": (("agent", "number"), rng.standard_normal((60, 60)))})
    ways: dict[str, Callable[[Path], object]] = {
        "data file": lambda path: results.save(path, data, {"seed": 1}),
        "checkpoint": lambda path: results.save_arrays(path, {"x": data["x"].to_numpy()}, {"seed": 1}),
        "page": lambda path: write_if_changed(path, data["x"].to_numpy().tobytes()),
    }
    place = folder / "disk"
    place.mkdir()
    for what, way in ways.items():
        row = Row(f"{what} written to a full disk; an old one stays")
        for kilobytes in (4, 8, 12, 20, 28, 60):
            with small_disk(place, kilobytes) as full:
                (full / "x.nc").write_bytes(b"old")
                row.count(attempt(partial(way, full / "x.nc"), full, {"x.nc": b"old"}))
        yield row
    row = Row("files written into a read-only folder")
    for way in ways.values():
        with small_disk(place, 100) as only:
            (only / "x.nc").write_bytes(b"old")
            with read_only(only):
                row.count(attempt(partial(way, only / "x.nc"), only, {"x.nc": b"old"}))
    yield row
    yield from damaged(folder, rng)
    yield early(folder)
    yield shared(folder)


@contextmanager
def small_disk(place: Path, kilobytes: int) -> Iterator[Path]:
    """A folder that takes no more: a file system of its own for root, else a limit on the size of files."""
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)], capture_output=True, check=False
        ).returncode
    )
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if not mounted:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000 * kilobytes, before[1]))
    try:
        yield place
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        if mounted:
            subprocess.run(["umount", "-l", str(place)], check=True)
        for path in place.iterdir():
            path.unlink()


@contextmanager
def read_only(place: Path) -> Iterator[None]:
    """A folder into which nobody writes, root neither."""
    if os.path.ismount(place):
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        yield
    else:
        place.chmod(0o555)
        try:
            yield
        finally:
            place.chmod(0o755)


def attempt(write: Callable[[], object], place: Path, before: dict[str, bytes]) -> Outcome:
    """Write a file: it is whole then, or an error names it and the others are as before, with nothing beside them."""
    try:
        write()
    except (OSError, RuntimeError) as error:
        left = {path.name: path.read_bytes() for path in place.iterdir()}
        return "error" if left == before and "x.nc" in str(error) and ".part" not in str(error) else "wrong"
    return "identical" if [path.name for path in place.iterdir()] == ["x.nc"] else "wrong"


def damaged(folder: Path, rng: np.random.Generator) -> Iterator[Row]:
    """Cut data files short and alter bytes in each of their regions; a process of its own reads them."""
    import pbtlib.__main__  # noqa: F401 (here, so that not each of these processes loads all studies)

    for name in ("cluster.nc", "cartpole_perturbation.nc"):
        whole = (results.DATA / name).read_bytes()
        ends = np.linspace(0, len(whole), 4).astype(int)
        for region, low, high in zip(("header", "middle", "end"), ends, ends[1:], strict=False):
            if region == "header":
                high = min(high, 4096)
            if region == "end":
                low = max(low, len(whole) - 4096)
            cut, altered = (Row(f"{name} {how} in its {region}, read and verified") for how in ("cut short", "altered"))
            for row in (cut, altered):
                for position in rng.integers(low, high, 3 if row is cut else 8):
                    content = bytearray(whole[:position] if row is cut else whole)
                    if row is altered:
                        content[position] ^= int(rng.integers(1, 256))
                    (folder / name).write_bytes(content)
                    row.count(alone(partial(read, folder / name, results.DATA / name)))
                yield row


def alone(work: Callable[[], Outcome]) -> Outcome:
    """Do it in a process of its own, so that a library that crashes is seen."""
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        try:
            return pool.submit(work).result(timeout=60)
        except Exception as error:
            print(repr(error), file=sys.stderr)
            return "wrong"


def read(path: Path, sound: Path) -> Outcome:
    """Read a file with all readers and verify it: the same as a sound one, or an error that names it and says why."""
    from pbtlib.__main__ import verify  # here, since it loads all studies

    said = []
    for reader in (results.load, results.load_arrays):
        try:
            found = reader(path)
        except ValueError as error:
            said.append(path.name in str(error) and len(str(error)) > len(str(path)) + 20)
        else:
            if isinstance(found, xr.Dataset) and not same_data(found, results.load(sound)):
                return "wrong"
    code = verify([path])
    if not said:
        return "identical" if code == 0 else "wrong"
    return "error" if said == [True, True] and code == 1 else "wrong"


def early(folder: Path) -> Row:
    """A data file as version 0.1.0 wrote it, from the project's history; nothing where there is none."""
    row, path = Row("data file of version 0.1.0, read and verified"), folder / "early.nc"
    kept = subprocess.run(["git", "show", ":".join(EARLY)], cwd=ROOT, capture_output=True, check=False)
    if kept.returncode == 0:
        path.write_bytes(kept.stdout)
        row.count(alone(partial(read, path, results.DATA / "cartpole_frozen.nc")))
    return row


def shared(folder: Path) -> Row:
    """Two processes on one checkpoint at once, of one run and of two."""
    from pbtlib import Quadratic, pbt

    def run(checkpoint: Path | None, result: Path, seed: int) -> None:
        end = pbt(
            Quadratic(), theta=[5.0, 5.0], box=(-5, 5), h=[[4.0, 1.0]] * 50, sigma=0.2, dt=0.01, steps=100,
            n_updates=40, checkpoint=checkpoint, seed=seed,
        )  # fmt: skip
        results.save_arrays(result, {"theta": end.state.theta, "h": end.state.h}, {})

    row = Row("two processes on one checkpoint at once")
    for seed in (1, 2):  # not in this process, whose threads its children would lack
        Child(partial(run, None, folder / f"{seed}.nc", seed), folder / "log").end()
    for k, seeds in enumerate(((1, 1), (1, 1), (2, 2), (1, 2))):
        place = folder / f"checkpoint-{k}"
        place.mkdir()
        made = [folder / f"{k}-{number}.nc" for number in (0, 1)]
        pair = [
            Child(partial(run, place / "c.nc", result, seed), folder / f"{result.name}.log")
            for result, seed in zip(made, seeds, strict=True)
        ]
        for child, result, seed in zip(pair, made, seeds, strict=True):
            whole = folder / f"{seed}.nc"
            row.count(child.outcome(partial(same_result, whole, result), "c.nc"))
        row.wrong += [path.name for path in place.iterdir()] != ["c.nc"]
    return row


def same_result(whole: Path, result: Path) -> bool:
    """Whether two files hold the same data."""
    return same_data(results.load(whole), results.load(result))


PARTS: dict[str, Callable[[Path, np.random.Generator], Iterator[Row]]] = {
    "studies": studies,
    "exec": execution,
    "files": files,
}

if __name__ == "__main__":
    raise SystemExit(main())
