"""How large it gets: sizes beyond any of the book, their time and memory, and what a tenth of each tells beforehand.

``python run.py bench sizes`` measures each in a process of its own and writes it to chapters/kills.json.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from pbtlib.checks import memory

SEED = 21


def particles(n: int) -> Callable[[], object]:
    """One update of Algorithm 1 on the quadratic problem, after 50 training steps."""
    from pbtlib import Quadratic, pbt

    def update(agents: int = n) -> object:
        return pbt(
            Quadratic(), theta=[1.0, 1.0], box=([-1.0, -1.0], [1.0, 1.0]), n_agents=agents, sigma=0.1, dt=0.01,
            steps=50, n_updates=1, seed=SEED,
        )  # fmt: skip

    update(10)
    return update


def cartpole(n: int) -> Callable[[], object]:
    """A generation of 100 steps of a new population, and its selection, copy and mutation."""
    from pbtlib.cartpole.experiment import Experiment, prepare, run

    prepare()
    return lambda: run(Experiment(n_agents=n, n_steps=100, generations=1, m=1), SEED)


def grid(n: int) -> Callable[[], object]:
    """Two steps of the two-time-scale equation (8) on n × n cells."""
    from pbtlib import Gibbs, kinetic
    from pbtlib.averaged import Grid

    def solve() -> object:
        axis = Grid(-3.0, 3.0, n)
        model = kinetic.model(
            axis, axis, loss=lambda θ, h: (θ - h) ** 2, fitness=lambda θ, h: -(θ**2), noise=1.0, sigma=0.3, rule=Gibbs()
        )
        return kinetic.solve(model.equilibrium / n, model, 0.02, dt=0.01, epsilon=0.1)

    return solve


def claims(n: int) -> Callable[[], object]:
    """All parts of the ledger's pages from n claims, those of the book repeated under other names."""
    import nbformat

    from book.build import EXECUTED
    from book.execute import CHAPTERS, claims_of, names
    from book.ledger.pages import parts, places
    from pbtlib.claims import COMPUTED, ledger

    notebooks: dict[str, Any] = {}
    for name in names():
        path = EXECUTED / f"{name}.ipynb"
        notebooks[name] = nbformat.read(path if path.is_file() else CHAPTERS / path.name, as_version=4)
    verdicts = {verdict["id"]: verdict for notebook in notebooks.values() for verdict in claims_of(notebook)}
    real = [record for record in ledger().values() if record.status not in COMPUTED or record.id in verdicts]
    records = {}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in notebooks}
    for k in range(n):
        round_, record = k // len(real), real[k % len(real)]
        copy = replace(record, id=f"{record.id}-{round_}", depends=tuple(f"{d}-{round_}" for d in record.depends))
        records[copy.id] = copy
        if record.status in COMPUTED:
            found[record.chapter].append(verdicts[record.id] | {"id": copy.id})
    records = {
        name: replace(record, depends=tuple(d for d in record.depends if d in records))
        for name, record in records.items()
    }

    def made() -> object:
        with patch("pbtlib.claims.ledger", return_value=records):  # verdicts look their claims up there
            return parts(records, found, places(notebooks))

    return made


SIZES: dict[str, tuple[Callable[[int], Callable[[], object]], int, int, float, str]] = {
    "particles": (particles, 1_000_000, 10_000_000, 10.0, "10,000,000 particles, one update of Algorithm 1"),
    "cartpole": (cartpole, 2_000, 20_000, 10.0, "20,000 CartPole agents, a generation of 100 steps"),
    "grid": (grid, 253, 801, (801 / 253) ** 2, "kinetic equation, 801 × 801 cells, two steps"),
    "claims": (claims, 100, 1_000, 10.0, "ledger of 1,000 claims, all of its parts"),
}
"""What is measured: how it is made, the small and the full size, how often the small one goes into it, its name."""


def measure(name: str, size: int) -> dict[str, float]:
    """Seconds, those of processors, and the peak of memory [GB] before and with it, in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.sizes", name, str(size)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} of size {size}: {done.stderr[-2000:] or f'ended by signal {-done.returncode}'}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def peak() -> float:
    """Most memory that this process has held [GB]."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def inside(name: str, size: int) -> dict[str, float]:
    """What `measure` returns, of this process."""
    work = SIZES[name][0](size)
    before, wall, processor = peak(), time.perf_counter(), time.process_time()
    work()
    return {
        "seconds": time.perf_counter() - wall,
        "processor": time.process_time() - processor,
        "before": before,
        "memory": peak(),
    }


def row(name: str) -> dict[str, Any]:
    """A line of the table: the full size beside what a tenth of it tells, and at which size memory gives first."""
    _, small, full, factor, what = SIZES[name]
    tenth, whole = measure(name, small), measure(name, full)
    grows = whole["memory"] - whole["before"]
    most = full * (memory() / 1e9 - whole["before"]) / max(grows, 1e-3)
    if name == "grid":
        most = full * ((memory() / 1e9 - whole["before"]) / max(grows, 1e-3)) ** 0.5
    return {
        "what": what,
        **{key: round(whole[key], 3) for key in ("seconds", "processor", "memory")},
        "told_seconds": round(tenth["processor"] * factor, 3),
        "told_memory": round(tenth["before"] + (tenth["memory"] - tenth["before"]) * factor, 3),
        "first": f"memory, at about {float(f'{most:.2g}'):,.0f}",
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure the sizes named, or all, one after another, and add them to the table."""
    from book.kills import stored, write_rows

    for name in arguments or SIZES:
        found = row(name)
        kept = {line["what"]: line for line in stored().get("sizes", [])} | {found["what"]: found}
        write_rows("sizes", [kept[what] for *_, what in SIZES.values() if what in kept])
        print(json.dumps(found, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    print(json.dumps(inside(sys.argv[1], int(sys.argv[2]))))
