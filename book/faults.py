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
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from book.execute import CHAPTERS, KERNEL_ENVIRONMENT, ROOT, TWINS, claims_of, code_cells, from_twin, write_if_changed
from pbtlib import claims, moving

TABLE = CHAPTERS / "faults.json"
COPY = ROOT / "_build" / "faults"
PARTED, STOOD, UNTOUCHED, STOPPED = "parted", "stood", "untouched", "stopped"
"""What becomes of a claim: another verdict than recorded, or the recorded one from other numbers, or from the same
numbers, so that it does not depend on the fault; or no verdict, as an error came first."""


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
    claims : tuple of str
        Claims that depend on it, listed before it was planted.
    true : dict
        From those of them that are true with the fault too, and so do not part, to the reason, in words.
    missed : dict
        From those that ought to part and do not to the reason.
    """

    name: str
    what: str
    file: str
    changes: tuple[tuple[str, str], ...]
    claims: tuple[str, ...]
    true: dict[str, str] = field(default_factory=dict)
    missed: dict[str, str] = field(default_factory=dict)

    @property
    def stood(self) -> dict[str, str]:
        """The claims that do not part, each with its reason."""
        return self.true | self.missed

    @property
    def pages(self) -> tuple[str, ...]:
        """The pages that hold these claims."""
        return tuple(dict.fromkeys(claims.ledger()[name].chapter for name in self.claims))


FAULTS = (
    Fault(
        "selection-off",
        "Softmax selection weighs all agents alike.",
        "pbtlib/evolution.py",
        (("return _softmax(self.beta, fitness, mass), mass", "return _softmax(0.0, fitness, mass), mass"),),
        (
            "window-h-constant",
            "effective-fitness-helps",
            "window-beats-exact",
            "eq-19-particles",
            "energy-dimension",
            "thm-10-particles",
            "sharp-contracts",
            "parents-softmax",
            "systematic-unbiased",
            "systematic-least-variance",
            "ancestors-law",
            "lineage-is-ar1",
            "error-threshold-agents",
        ),
        {
            "window-h-constant": "Without selection, too, mutation alone changes an ancestor's hyperparameters.",
        },
    ),
    Fault(
        "truncation-off",
        "Truncation takes the best and the worst by lot.",
        "pbtlib/evolution.py",
        (("(rng.random(fitness.shape), fitness, mass > 0)", "(rng.random(fitness.shape), mass > 0)"),),
        ("rank-offspring", "breeders-equation"),
    ),
    Fault(
        "mutation-doubled",
        "Mutation is twice as strong as it is told to be.",
        "pbtlib/evolution.py",
        (("h[j, c] += sigma[c] * z", "h[j, c] += 2.0 * sigma[c] * z"),),
        (
            "mutation-keeps-mean",
            "projection-moves-mean",
            "eq-19-particles",
            "energy-dimension",
            "thm-10-particles",
            "sharp-contracts",
            "window-h-constant",
            "error-threshold-agents",
        ),
        {
            "mutation-keeps-mean": "Mutation of mean zero keeps the mean at any strength.",
            "eq-19-particles": "The mean changes as (19) says at any strength of mutation.",
            "thm-10-particles": "The bound leaves room: the population obeys it at twice the strength too.",
            "window-h-constant": "At twice the strength the change is still below a twentieth.",
        },
    ),
    Fault(
        "drift-sign",
        "Training by Euler-Maruyama climbs a quadratic loss.",
        "pbtlib/training.py",
        (("np.eye(linear.d) - dt * _drift_matrix(linear)", "np.eye(linear.d) + dt * _drift_matrix(linear)"),),
        ("em-stationary-variance", "em-weak-order"),
    ),
    Fault(
        "noise-halved",
        "The noise of an Euler-Maruyama step has half its variance.",
        "pbtlib/training.py",
        (("root = np.sqrt(dt) * np.linalg.cholesky(", "root = np.sqrt(dt / 2) * np.linalg.cholesky("),),
        ("em-stationary-variance", "gibbs-state"),
    ),
    Fault(
        "exact-rate",
        "The exact transition of a linear drift has twice the rate.",
        "pbtlib/training.py",
        (("(vectors * np.exp(-rates * step)) @ vectors.T", "(vectors * np.exp(-2 * rates * step)) @ vectors.T"),),
        ("ou-exact-transition", "window-effective-size", "remark-6-current", "jump-survives"),
        {
            "window-effective-size": "It relates the spread of a mean to correlations, whatever the rate.",
        },
    ),
    Fault(
        "window-short",
        "The window mean (23) leaves out the last entry of the window.",
        "pbtlib/training.py",
        (("np.asarray(trace.fitness.mean(-1))", "np.asarray(trace.fitness[..., :-1].mean(-1))"),),
        ("window-beats-exact",),
        {
            "window-beats-exact": "The mean of nine draws beats the exact effective fitness too.",
        },
    ),
    Fault(
        "optimum-shifted",
        "The optimum of the quadratic example's fitness lies at 0.3 in each coordinate, not at 0.",
        "pbtlib/problems.py",
        (("1.2 - np.square(theta).sum(-1)", "1.2 - np.square(theta - 0.3).sum(-1)"),),
        (
            "effective-fitness-quadrature",
            "effective-fitness-monte-carlo",
            "log-mean-exp-bias",
            "window-effective-size",
            "window-smaller-pressure",
            "window-pull",
            "effective-fitness-helps",
            "window-beats-exact",
        ),
        {
            "window-effective-size": "It relates the spread of a mean to correlations, for any fitness.",
            "effective-fitness-helps": "Agents see the shifted fitness, the closed form is right: it helps still more.",
        },
    ),
    Fault(
        "pressure-exponent",
        "The closed form of the effective fitness takes the variance under half the pressure.",
        "pbtlib/problems.py",
        (("spread = 2.0 * beta * variance", "spread = beta * variance"),),
        (
            "effective-fitness-quadrature",
            "effective-fitness-monte-carlo",
            "log-mean-exp-bias",
            "window-smaller-pressure",
            "window-pull",
            "infinite-pressure-likelihood",
            "bias-buys-noise",
        ),
    ),
    Fault(
        "mean-exponent",
        "The logarithm of a mean of exponentials is divided by twice the pressure.",
        "pbtlib/bilevel.py",
        (("np.asarray(top + log_mean / beta)", "np.asarray(top + log_mean / (2 * beta))"),),
        (
            "effective-fitness-quadrature",
            "effective-fitness-monte-carlo",
            "log-mean-exp-bias",
            "window-smaller-pressure",
            "donsker-varadhan",
            "lem-8-ring",
            "lem-8-ring-rate",
        ),
    ),
    Fault(
        "time-scales",
        "The solver of (8) trains as if there were one time scale.",
        "pbtlib/kinetic.py",
        (("_factor(model, length / epsilon)", "_factor(model, length)"),),
        ("equilibrium-ansatz", "next-order"),
    ),
    Fault(
        "growth-exponent",
        "The growth rate of a lineage (Theorem E1) is that under twice the pressure.",
        "pbtlib/inheritance.py",
        (("root = np.exp(0.5 * beta * (F - F.max()))", "root = np.exp(beta * (F - F.max()))"),),
        ("longer-training-less-luck",),
    ),
    Fault(
        "seeds-mixed",
        "The file of the CartPole experiment is read with the parents of another seed.",
        "pbtlib/studies/sweep.py",
        (('"parent": data["parent"].transpose(', '"parent": data["parent"].roll(seed=1).transpose('),),
        ("fig-7-mutation-budget", "cartpole-fast-die-out"),
    ),
    Fault(
        "sgd-rate",
        "Minibatch SGD takes steps of twice the learning rate.",
        "chapters/text/e2_mechanism.md",
        (
            (
                'theta = theta - eta / M * np.einsum("cb,cbd->cd", residual, x[i])\n        if k > burn',
                'theta = theta - 2 * eta / M * np.einsum("cb,cbd->cd", residual, x[i])\n        if k > burn',
            ),
        ),
        ("sgd-weights-law", "sgd-large-steps", "sgd-not-gibbs"),
        {
            "sgd-not-gibbs": "It is true at any learning rate.",
        },
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
        (
            "remark-6-drift",
            "remark-6-slow-ring",
            "hk-energy-identity",
            "degenerate-noise-no-gibbs",
            "degenerate-noise-equilibrium",
            "degenerate-noise-averaged",
        ),
    ),
    Fault(
        "ring-rate",
        "The loss about the ring of minimisers is half as lopsided.",
        "chapters/text/e3_1_bilevel.md",
        (("exponent = alpha * (1 + tilt * cosine)", "exponent = alpha * (1 + tilt / 2 * cosine)"),),
        ("lem-8-ring", "lem-8-ring-rate"),
    ),
    Fault(
        "peaks-curvature",
        "The two peaks are twice as sharp as theory is told.",
        "chapters/text/two_peaks.md",
        (("return height - curvature / 2 * (h - centre) ** 2", "return height - curvature * (h - centre) ** 2"),),
        ("survival-of-the-flattest", "two-peaks-pressure"),
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
        ("uniform-in-time", "error-threshold-bounds", "error-threshold", "error-threshold-agents"),
    ),
    Fault(
        "networks-exponent",
        "The mean over a population of networks is a sum over the root of their number.",
        "chapters/text/chaos_on_networks.md",
        (('/ design["m"] / agents[:, None]', '/ design["m"] / np.sqrt(agents)[:, None]'),),
        ("networks-scatter",),
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
        ("sharp-few-parents", "one-peak-two-modes"),
    ),
    Fault(
        "rmsprop-exponent",
        "RMSprop divides by the second moment, not by its root.",
        "chapters/text/e2_limit.md",
        (("theta = theta - eta * m / np.sqrt(v)", "theta = theta - eta * m / v"),),
        ("rmsprop-temperature",),
    ),
    Fault(
        "best-fifth-sign",
        "The worst fifth of the agents is taken for the best, at 1,000 steps.",
        "chapters/text/e5_cartpole.md",
        (('late["fitness"] >= late["fitness"].quantile(0.8,', 'late["fitness"] <= late["fitness"].quantile(0.2,'),),
        ("fig-7-at-1000-steps",),
        missed={
            "fig-7-at-1000-steps": "By then the worst fifth is as concentrated: it is true of everybody.",
        },
    ),
    Fault(
        "window-error-sign",
        "The squared bias of a window is taken off its error, not added.",
        "chapters/text/cartpole_open.md",
        (("mse = variance + squared", "mse = variance - squared"),),
        ("window-optimum-law", "window-accuracy-saturates"),
        missed={
            "window-accuracy-saturates": "Recorded as consistent only, it fails beyond the tolerance, just missed.",
        },
    ),
    Fault(
        "lineage-memory",
        "A lineage remembers the square of its share.",
        "chapters/text/05e_three_landscapes.md",
        (
            ("fresh = spread * np.sqrt(1 - q**2)", "fresh = spread * np.sqrt(1 - q**4)"),
            ("theta=mean + q * (state.theta - mean) + fresh", "theta=mean + q**2 * (state.theta - mean) + fresh"),
        ),
        ("inherited-fitness-wins", "slow-learners-win", "noise-pays-early"),
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


def judge(wanted: list[str]) -> dict[str, dict[str, Any]]:
    """Run the pages of claims without a kernel, each cell whatever became of those before it; the verdicts by claim."""
    import matplotlib.pyplot as plt

    found: dict[str, dict[str, Any]] = {}

    def claim(name: str, **numbers: Any) -> None:
        found[name] = asdict(claims.judge(name, **numbers))

    claims.claim = claim  # type: ignore[assignment]  # before a page imports it
    moving.figure = lambda *_, **__: None  # type: ignore[assignment]  # what sliders show is not asked for
    os.chdir(CHAPTERS)
    for page in dict.fromkeys(claims.ledger()[name].chapter for name in wanted):
        space: dict[str, Any] = {}
        for cell in code_cells(from_twin(TWINS / f"{page}.md")):
            try:
                exec(compile(cell.source, page, "exec"), space)
            except Exception as error:
                print(f"{page}: {error!r}", file=sys.stderr)
            plt.close("all")
            if all(name in found for name in wanted if claims.ledger()[name].chapter == page):
                break
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


def judged(fault: Fault, folder: Path = COPY) -> dict[str, dict[str, Any]]:
    """The verdicts by claim on the fault's pages with the fault in them."""
    plant(folder / "project", fault)
    code = "import json, sys; from book.faults import judge; print(json.dumps(judge(sys.argv[1:])))"
    own = {"NUMBA_CACHE_DIR": str(folder / "numba" / compiled(folder / "project" / "pbtlib"))}
    own |= {"PYTHONPATH": str(folder / "project"), "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "-c", code, *fault.claims],
        cwd=folder / "project",
        env={**os.environ, **KERNEL_ENVIRONMENT, **own},
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=True,
    )
    found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def compared(names: tuple[str, ...], sound: dict[str, Any], found: dict[str, Any]) -> dict[str, str]:
    """What became of each of these claims, given the verdicts by claim without the fault and with it."""
    rows = {}
    for name in names:
        if name not in found:
            rows[name] = STOPPED
        elif all(found[name][number] == sound[name][number] for number in ("measured", "predicted")):
            rows[name] = UNTOUCHED
        else:
            rows[name] = STOOD if found[name]["agrees"] else PARTED
    return rows


@cache
def code(path: Path) -> str:
    """The code of a file of the library or of a page: no docstring, no comment, no prose, which change no number."""
    if path.suffix == ".md":
        return "\n".join(cell.source for cell in code_cells(from_twin(path)))
    text = path.read_text(encoding="utf-8")
    said: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            said.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = (line for number, line in enumerate(text.splitlines(), 1) if number not in said)
    return "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#"))


def made_of(fault: Fault) -> dict[str, str]:
    """What a row follows from: a hash of the code of the fault's file and of each of its pages."""
    paths = dict.fromkeys([ROOT / fault.file, *(TWINS / f"{page}.md" for page in fault.pages)])
    return {path.relative_to(ROOT).as_posix(): hashlib.sha256(code(path).encode()).hexdigest()[:16] for path in paths}


def table() -> dict[str, dict[str, dict[str, str]]]:
    """The table: from faults to ``of``, as `made_of` gives it, and ``claims``, what became of each."""
    return dict(json.loads(TABLE.read_text(encoding="utf-8"))) if TABLE.is_file() else {}


def stored() -> dict[str, dict[str, str]]:
    """From faults to claims that depend on them and what became of them."""
    return {name: row["claims"] for name, row in table().items()}


def missing() -> list[str]:
    """The faults whose rows are not there, or are about other claims."""
    rows = stored()
    return [fault.name for fault in FAULTS if [*rows.get(fault.name, ())] != [*fault.claims]]


def older(faults: Iterable[Fault] = FAULTS) -> list[str]:
    """Of these faults, those whose rows were made before the last change of the code they break or judge."""
    rows = table()
    return [fault.name for fault in faults if fault.name in rows and rows[fault.name]["of"] != made_of(fault)]


def write(rows: dict[str, dict[str, dict[str, str]]]) -> None:
    """Store the table, in the order of the faults."""
    order = [fault.name for fault in FAULTS if fault.name in rows]
    write_if_changed(TABLE, json.dumps({name: rows[name] for name in order}, indent=1) + "\n")


def main() -> int:
    """Plant the faults named, or all, and write the table; returns 1 unless each claim parted or is known to stand."""
    parser = argparse.ArgumentParser(prog="run.py faults", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", nargs="*")
    wanted = parser.parse_args().name
    if unknown := set(wanted) - {fault.name for fault in FAULTS}:
        parser.error(f"no fault is named {', '.join(unknown)}; there are {', '.join(fault.name for fault in FAULTS)}")
    from book.build import executed  # here, so that a copy needs no Sphinx

    open_ = []
    for fault in FAULTS:
        if wanted and fault.name not in wanted:
            continue
        sound = {v["id"]: v for page in executed(list(fault.pages), strict=True).values() for v in claims_of(page)}
        rows = compared(fault.claims, sound, judged(fault))
        write({**table(), fault.name: {"of": made_of(fault), "claims": rows}})
        print(f"{fault.name}: {', '.join(f'{name} {became}' for name, became in rows.items())}", flush=True)
        open_ += [name for name, became in rows.items() if became != (STOOD if name in fault.stood else PARTED)]
    if open_:
        print("Not as book/faults.py has it:", *open_, sep="\n    ")
    return 1 if open_ else 0


if __name__ == "__main__":
    raise SystemExit(main())
