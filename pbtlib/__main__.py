"""The long computations behind the stored data: ``python -m pbtlib --help``.

``cartpole`` makes the runs of Section 5.2 and packs them into one file; killed and started again it goes on.
``experiments`` lists what that is, ``verify`` reads data files and checks that they are whole.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pbtlib import results
from pbtlib.cartpole import sweep

ROOT = Path(__file__).parent.parent


def main(words: Sequence[str] | None = None) -> int:
    """Parse a command line, run the command, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pbtlib", description="Make and check the stored data.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    listing = commands.add_parser("experiments", help="list the planned CartPole runs and which of them are made")
    making = commands.add_parser("cartpole", help="make the CartPole runs that are missing, then pack all of them")
    for command in (listing, making):
        command.add_argument("--scale", choices=sweep.SCALES, default="quick", help="size (default: quick)")
        command.add_argument("--directory", type=Path, help="results and checkpoints (default: _build/cartpole/SCALE)")
    making.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: one per processor)")
    making.add_argument("--output", type=Path, help="packed data (default: data.nc in the directory)")
    making.add_argument("--pack", action="store_true", help="only pack what has been made so far")
    checking = commands.add_parser("verify", help="check that data files are whole and list what they hold")
    checking.add_argument("files", nargs="*", type=Path, help="files (default: all of data/)")
    a = parser.parse_args(words)
    if a.command == "verify":
        return verify(a.files or sorted(results.DATA.glob("*.nc")))
    tasks, directory = sweep.plan(a.scale), a.directory or ROOT / "_build" / "cartpole" / a.scale
    if a.command == "experiments":
        return experiments(tasks, directory)
    if not a.pack:
        sweep.sweep(tasks, directory, n_jobs=a.jobs, progress=True)
    output = a.output or directory / "data.nc"
    results.save(output, *sweep.collect(tasks, directory))
    return verify([output])


def experiments(tasks: Sequence[sweep.Run], directory: Path) -> int:
    """Print the parameters of every experiment and the seeds that are made."""
    print(f"{'run':<16} {'steps':>5} {'m':>3} {'sigma':>6}  {'mode':<13} seeds made (of those planned)")
    for name, e in {task.name: task.experiment for task in tasks}.items():
        of_this = [task for task in tasks if task.name == name]
        made = [str(task.seed) for task in of_this if sweep.finished(task, directory) is not None]
        seeds = f"{' '.join(made) or 'none'} (of {len(of_this)})"
        print(f"{name:<16} {e.n_steps:>5} {e.m:>3} {e.sigma:>6}  {e.mode:<13} {seeds}")
    return 0


def verify(files: Sequence[Path]) -> int:
    """Print the state of every file; return 1 if one is damaged, altered or not there, or if there is none."""
    if not files:
        print(f"There is no data file in {results.DATA}: nothing was verified.", file=sys.stderr)
        return 1
    faults = 0
    for path in files:
        try:
            runs = (meta := results.load(path.resolve()).attrs).get("runs")  # this very file, no other of its name
            if runs is None:
                raise ValueError("the file counts no runs; it is a checkpoint or other work in progress, no data file")
        except (FileNotFoundError, ValueError) as error:
            faults += 1
            print(f"{path.name}: {error}", file=sys.stderr)
            continue
        print(f"{path.name}: whole; runs planned {runs['planned']}, made {runs['made']}, missing {runs['missing']}")
        for name in meta.get("missing", []):
            print(f"   missing: {name}")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
