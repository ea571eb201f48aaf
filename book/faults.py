"""Faults planted in a copy of the project, and which claims part from their record then.

``python run.py faults`` plants every fault of FAULTS by itself, executes the pages named with it, and writes what
parted to chapters/faults.json; ``python run.py faults NAME...`` does that for these faults alone.

A claim depends on a fault if one of the two numbers that it compares, measured and predicted, is another under the
fault: every random number comes from a key, so nothing else can change it. Whether the claim parts has no part in that.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from book.execute import CHAPTERS, KERNEL_ENVIRONMENT, ROOT, TWINS, claims_of, code_cells, from_twin, write_if_changed
from pbtlib import claims, moving

TABLE = CHAPTERS / "faults.json"
COPY = ROOT / "_build" / "faults"
PARTED, STOPPED, STOOD = "parted", "stopped", "stood"
"""What becomes of a claim: another verdict than recorded; none, as an error came first; the recorded one."""


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes
    ----------
    name : str
        Short, for the command line.
    what : str
        What is broken, in words.
    file : str
        The file that is broken, from the project's folder: of the library, or a page's text.
    changes : tuple
        Pairs of a text that stands there once, and what takes its place.
    pages : tuple of str
        The pages that are executed.
    stood : dict
        From claims that depend on the fault and do not part to the reason, in words.
    """

    name: str
    what: str
    file: str
    changes: tuple[tuple[str, str], ...]
    pages: tuple[str, ...]
    stood: dict[str, str] = field(default_factory=dict)


FAULTS = (
    Fault(
        "selection-off",
        "Softmax selection weighs all agents alike.",
        "pbtlib/evolution.py",
        (("return _softmax(self.beta, fitness, mass), mass", "return _softmax(0.0, fitness, mass), mass"),),
        ("02_4_selection", "05e_three_landscapes", "e3_1_bilevel", "forever", "reading_schedules"),
    ),
    Fault(
        "truncation-off",
        "Truncation takes the best and the worst by lot.",
        "pbtlib/evolution.py",
        (("(rng.random(fitness.shape), fitness, mass > 0)", "(rng.random(fitness.shape), mass > 0)"),),
        ("02_4_selection", "e2_mechanism", "ray_tune"),
    ),
    Fault(
        "mutation-doubled",
        "Mutation is twice as strong as it is told to be.",
        "pbtlib/evolution.py",
        (("h[j, c] += sigma[c] * z", "h[j, c] += 2.0 * sigma[c] * z"),),
        ("e2_mechanism", "e4_convergence", "forever", "reading_schedules"),
    ),
    Fault(
        "drift-sign",
        "Training by Euler-Maruyama climbs a quadratic loss.",
        "pbtlib/training.py",
        (("np.eye(linear.d) - dt * _drift_matrix(linear)", "np.eye(linear.d) + dt * _drift_matrix(linear)"),),
        ("e2_mechanism", "ray_tune"),
    ),
    Fault(
        "noise-halved",
        "The noise of an Euler-Maruyama step has half its variance.",
        "pbtlib/training.py",
        (("root = np.sqrt(dt) * np.linalg.cholesky(", "root = np.sqrt(dt / 2) * np.linalg.cholesky("),),
        ("e2_mechanism", "e3_1_bilevel"),
    ),
    Fault(
        "exact-rate",
        "The exact transition of a linear drift has twice the rate.",
        "pbtlib/training.py",
        (("(vectors * np.exp(-rates * step)) @ vectors.T", "(vectors * np.exp(-2 * rates * step)) @ vectors.T"),),
        ("02_4_selection", "e2_mechanism", "e3_1_bilevel"),
    ),
    Fault(
        "window-short",
        "The window mean (23) leaves out the last entry of the window.",
        "pbtlib/training.py",
        (("np.asarray(trace.fitness.mean(-1))", "np.asarray(trace.fitness[..., :-1].mean(-1))"),),
        ("e3_1_bilevel",),
    ),
    Fault(
        "optimum-shifted",
        "The optimum of the quadratic example's fitness lies at 0.3 in each coordinate, not at 0.",
        "pbtlib/problems.py",
        (("1.2 - np.square(theta).sum(-1)", "1.2 - np.square(theta - 0.3).sum(-1)"),),
        ("e2_mechanism", "e3_1_bilevel", "noise_that_pays", "ray_tune"),
    ),
    Fault(
        "pressure-exponent",
        "The closed form of the effective fitness takes the variance under half the pressure.",
        "pbtlib/problems.py",
        (("spread = 2.0 * beta * variance", "spread = beta * variance"),),
        ("e3_1_bilevel", "e4_convergence", "noise_that_pays"),
    ),
    Fault(
        "mean-exponent",
        "The logarithm of a mean of exponentials is divided by twice the pressure.",
        "pbtlib/bilevel.py",
        (("np.asarray(top + log_mean / beta)", "np.asarray(top + log_mean / (2 * beta))"),),
        ("e3_1_bilevel",),
    ),
    Fault(
        "time-scales",
        "The solver of (8) trains as if there were one time scale.",
        "pbtlib/kinetic.py",
        (("_factor(model, length / epsilon)", "_factor(model, length)"),),
        ("e3_two_time_scales",),
    ),
    Fault(
        "growth-exponent",
        "The growth rate of a lineage (Theorem E1) is that under twice the pressure.",
        "pbtlib/inheritance.py",
        (("root = np.exp(0.5 * beta * (F - F.max()))", "root = np.exp(beta * (F - F.max()))"),),
        ("05e_three_landscapes",),
    ),
    Fault(
        "seeds-mixed",
        "The file of the CartPole experiment is read with the parents of another seed.",
        "pbtlib/studies/sweep.py",
        (('"parent": data["parent"].transpose(', '"parent": data["parent"].roll(seed=1).transpose('),),
        ("05_2_cartpole", "05e_three_landscapes", "cartpole_open", "e5_cartpole"),
    ),
    Fault(
        "sgd-rate",
        "Minibatch SGD takes steps of twice the learning rate.",
        "chapters/text/e2_mechanism.md",
        (
            (
                'theta = theta - eta / B * np.einsum("cb,cbd->cd", residual, x[i])\n        if k > burn',
                'theta = theta - 2 * eta / B * np.einsum("cb,cbd->cd", residual, x[i])\n        if k > burn',
            ),
        ),
        ("e2_mechanism",),
    ),
    Fault(
        "manifold-signs",
        "The drift along the ring of minimisers goes the other way, that of the gradient flow downhill; noise in one "
        "direction enters with the step, not its root, or the drift under it is twice as strong.",
        "chapters/text/e3_two_time_scales.md",
        (
            ("turn = tilt * normal[1]", "turn = -tilt * normal[1]"),
            ("flux = (drift * (r[1:]", "flux = (-drift * (r[1:]"),
            ("np.sqrt(dt * strength)", "dt * np.sqrt(strength)"),
            ("delta = delta - dt * delta @ M.T + kick", "delta = delta - 2 * dt * delta @ M.T + kick"),
        ),
        ("e3_two_time_scales",),
    ),
    Fault(
        "ring-rate",
        "The loss about the ring of minimisers is half as lopsided.",
        "chapters/text/e3_1_bilevel.md",
        (("exponent = alpha * (1 + tilt * cosine)", "exponent = alpha * (1 + tilt / 2 * cosine)"),),
        ("e3_1_bilevel",),
    ),
    Fault(
        "peaks-curvature",
        "The two peaks are twice as sharp as theory is told.",
        "chapters/text/two_peaks.md",
        (("return height - curvature / 2 * (h - centre) ** 2", "return height - curvature * (h - centre) ** 2"),),
        ("two_peaks",),
    ),
    Fault(
        "forever-exponents",
        "The optimum that agents see is shifted, their bump of fitness is narrower, and the kernel of mutation between "
        "radii has half its variance.",
        "chapters/text/forever.md",
        (
            ("np.sin(3 * state.theta[..., 0])", "np.sin(3 * state.theta[..., 0] - 0.5)"),
            ("return 1 + a * np.exp(-np.square(h).sum(-1) / 2)", "return 1 + a * np.exp(-np.square(h).sum(-1))"),
            ("(np.subtract.outer(r, r) ** 2) / (2 * variance)", "(np.subtract.outer(r, r) ** 2) / variance"),
        ),
        ("forever",),
    ),
    Fault(
        "networks-exponent",
        "The mean over a population of networks is a sum over the root of their number.",
        "chapters/text/chaos_on_networks.md",
        (('/ design["m"] / agents[:, None]', '/ design["m"] / np.sqrt(agents)[:, None]'),),
        ("chaos_on_networks",),
    ),
    Fault(
        "curvatures",
        "The weights of agents on sharp maxima have twice the curvature that theory is told; a ridge narrows where it "
        "should widen.",
        "chapters/text/e4_convergence.md",
        (
            ("w = np.exp(-c / 2 * cloud[..., 0] ** 2)", "w = np.exp(-c * cloud[..., 0] ** 2)"),
            ("np.exp(4 * (1 - u))", "np.exp(4 * (u - 1))"),
        ),
        ("e4_convergence",),
    ),
    Fault(
        "rmsprop-exponent",
        "RMSprop divides by the second moment, not by its root.",
        "chapters/text/e2_limit.md",
        (("theta = theta - eta * m / np.sqrt(v)", "theta = theta - eta * m / v"),),
        ("e2_limit",),
    ),
    Fault(
        "best-fifth-sign",
        "The worst fifth of the agents is taken for the best, at 1,000 steps.",
        "chapters/text/e5_cartpole.md",
        (('late["fitness"] >= late["fitness"].quantile(0.8,', 'late["fitness"] <= late["fitness"].quantile(0.2,'),),
        ("e5_cartpole",),
    ),
    Fault(
        "window-error-sign",
        "The squared bias of a window is taken off its error, not added.",
        "chapters/text/cartpole_open.md",
        (("mse = variance + squared", "mse = variance - squared"),),
        ("cartpole_open",),
    ),
    Fault(
        "lineage-memory",
        "A lineage remembers the square of its share.",
        "chapters/text/05e_three_landscapes.md",
        (("theta=mean + q * (state.theta - mean) + fresh", "theta=mean + q**2 * (state.theta - mean) + fresh"),),
        ("05e_three_landscapes",),
    ),
)


def broken(fault: Fault, text: str) -> str:
    """The text of the fault's file with the fault in it.

    Raises
    ------
    ValueError
        If what the fault changes is not there exactly once.
    """
    for right, wrong in fault.changes:
        if text.count(right) != 1:
            raise ValueError(f"{fault.file} holds {right!r} {text.count(right)} times; a fault needs it once")
        text = text.replace(right, wrong)
    return text


def plant(folder: Path, fault: Fault) -> None:
    """Make a folder a copy of what pages need to be executed, with this fault; a copy that is there is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("pbtlib", "book", "data"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "vendor"))
    shutil.copytree(TWINS, folder / TWINS.relative_to(ROOT))
    shutil.copy(ROOT / "_config.yml", folder)
    path = folder / fault.file
    path.write_text(broken(fault, path.read_text(encoding="utf-8")), encoding="utf-8")


def judge(pages: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Run pages without a kernel, each cell whatever became of those before it, and return their verdicts by claim."""
    import matplotlib.pyplot as plt

    found: dict[str, list[dict[str, Any]]] = {}

    def claim(name: str, **numbers: Any) -> None:
        found.setdefault(name, []).append(asdict(claims.judge(name, **numbers)))

    claims.claim = claim  # type: ignore[assignment]  # before a page imports it
    moving.figure = lambda *_, **__: None  # what sliders would show is not asked for
    os.chdir(CHAPTERS)
    for page in pages:
        space: dict[str, Any] = {}
        for cell in code_cells(from_twin(TWINS / f"{page}.md")):
            try:
                exec(compile(cell.source, page, "exec"), space)
            except Exception as error:
                print(f"{page}: {error!r}", file=sys.stderr)
            plt.close("all")
    return found


def compiled(library: Path) -> str:
    """A mark of all that Numba compiles: what it keeps does not follow imports, so changed code needs another place."""
    nodes = (node for path in sorted(library.rglob("*.py")) for node in ast.walk(ast.parse(path.read_bytes())))
    parts = [
        ast.dump(node)
        for node in nodes
        if isinstance(node, ast.FunctionDef) and any("njit" in ast.dump(by) for by in node.decorator_list)
    ]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]


def judged(fault: Fault, folder: Path = COPY) -> dict[str, list[dict[str, Any]]]:
    """The verdicts on the fault's pages with the fault in them."""
    plant(folder / "project", fault)
    code = "import json, sys; from book.faults import judge; print(json.dumps(judge(sys.argv[1:])))"
    own = {"NUMBA_CACHE_DIR": str(folder / "numba" / compiled(folder / "project" / "pbtlib"))}
    own |= {"PYTHONPATH": str(folder / "project"), "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "-c", code, *fault.pages],
        cwd=folder / "project",
        env={**os.environ, **KERNEL_ENVIRONMENT, **own},
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=True,
    )
    found: dict[str, list[dict[str, Any]]] = json.loads(done.stdout.splitlines()[-1])
    return found


def compared(sound: dict[str, list[dict[str, Any]]], found: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    """From the claims that depend on a fault to what became of them, given the verdicts without and with it."""

    def numbers(verdicts: list[dict[str, Any]]) -> list[Any]:
        return [[verdict["measured"], verdict["predicted"]] for verdict in verdicts]

    rows = {}
    for name, verdicts in sound.items():
        if len(now := found.get(name, [])) < len(verdicts):
            rows[name] = STOPPED
        elif numbers(now) != numbers(verdicts):
            rows[name] = STOOD if all(verdict["agrees"] for verdict in now) else PARTED
    return rows


def stored() -> dict[str, dict[str, str]]:
    """The table: from faults to claims that depend on them and what became of them."""
    return dict(json.loads(TABLE.read_text(encoding="utf-8"))) if TABLE.is_file() else {}


def main() -> int:
    """Plant the faults named, or all, and write the table; returns 1 if a claim stood for no reason given."""
    parser = argparse.ArgumentParser(prog="run.py faults", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", nargs="*")
    wanted = parser.parse_args().name
    if unknown := set(wanted) - {fault.name for fault in FAULTS}:
        parser.error(f"no fault is named {', '.join(unknown)}; there are {', '.join(fault.name for fault in FAULTS)}")
    from book.build import executed  # here, so that a copy needs no Sphinx

    unexplained = []
    for fault in FAULTS:
        if wanted and fault.name not in wanted:
            continue
        sound: dict[str, list[dict[str, Any]]] = {}
        for notebook in executed(list(fault.pages), strict=True).values():
            for verdict in claims_of(notebook):
                sound.setdefault(verdict["id"], []).append(verdict)
        rows = compared(sound, judged(fault))
        table = {**stored(), fault.name: rows}
        order = [f.name for f in FAULTS if f.name in table]
        write_if_changed(TABLE, json.dumps({name: table[name] for name in order}, indent=1) + "\n")
        stood = [name for name, became in rows.items() if became == STOOD]
        unexplained += [f"{fault.name}: {name}" for name in stood if name not in fault.stood]
        print(f"{fault.name}: {len(rows)} claims depend on it, {len(stood)} stood {', '.join(stood)}")
    if unexplained:
        print("No reason is given in book/faults.py for", *unexplained, sep="\n    ")
    return 1 if unexplained else 0


if __name__ == "__main__":
    raise SystemExit(main())
