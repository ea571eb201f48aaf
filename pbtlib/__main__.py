"""The long computations behind the stored data: ``python -m pbtlib --help``.

``list`` shows the studies, or the runs of one; ``make`` makes the runs of a study that are missing and packs all of
them into one file, and killed and started again it goes on; ``verify`` reads data files and checks that they are whole,
and on request that a slice of each can be made again.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import joblib

from pbtlib import results
from pbtlib.parallel import processors
from pbtlib.studies import chaos, cluster, digits, equivalence, frozen, perturbation, ray_tune, sweep, wells
from pbtlib.studies.study import SCALES, Study

ROOT = Path(__file__).parent.parent
STUDIES = {
    module.STUDY.name: module.STUDY
    for module in (sweep, wells, frozen, equivalence, perturbation, ray_tune, chaos, digits, cluster)
}


def main(words: Sequence[str] | None = None) -> int:
    """Parse a command line, run the command, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pbtlib", description="Make and check the stored data.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    listing = commands.add_parser("list", help="list the studies, or which runs of one are made")
    listing.add_argument("name", nargs="?", choices=STUDIES, help="list the runs of this study")
    making = commands.add_parser("make", help="make the runs of a study that are missing, then pack all of them")
    making.add_argument("name", choices=STUDIES, help="which study")
    for command, scale in ((listing, "paper"), (making, "quick")):
        command.add_argument("--scale", choices=SCALES, default=scale, help=f"size (default: {scale})")
        where = "_build/studies/NAME/SCALE"
        command.add_argument("--directory", type=Path, help=f"results and checkpoints of runs (default: {where})")
    how = making.add_mutually_exclusive_group()
    how.add_argument("--jobs", type=_positive, help="processes (default: one per processor)")
    how.add_argument("--dask", metavar="ADDRESS", help="scheduler of a Dask cluster whose workers see the directory")
    how.add_argument("--pack", action="store_true", help="only pack what has been made so far")
    making.add_argument("--output", type=Path, help="packed data (default: data.nc in the directory)")
    checking = commands.add_parser("verify", help="check that data files are whole and list what they hold")
    checking.add_argument("files", nargs="*", type=Path, help="files (default: all of data/)")
    checking.add_argument("--remake", action="store_true", help="also make a slice of each study's file again")
    a = parser.parse_args(words)
    if a.command == "verify":
        files = a.files or sorted(results.DATA.glob("*.nc"))
        return verify(files) or (a.remake and remake(files))
    if a.name is None and a.directory is not None:
        parser.error("--directory belongs to one study; name it")
    try:
        if a.command == "make":
            return make(STUDIES[a.name], a.scale, a.directory, a.jobs, a.output, pack_only=a.pack, dask=a.dask)
        return list_studies(a.scale) if a.name is None else list_runs(STUDIES[a.name], a.scale, a.directory)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1


def place(study: Study, scale: str) -> Path:
    """Where the runs of a study are kept: in the checkout, or beside where one works if there is none."""
    root = ROOT if (ROOT / "pyproject.toml").is_file() else Path()
    return root / "_build" / "studies" / study.name / scale


def list_studies(scale: str) -> int:
    """Print a line for every study: its runs, those in the data file and those in the default directory, its time."""
    print(f"{'study':<12} {'planned':>7} {'stored':>7} {'missing':>7} {'at work':>7} {'time':>7}  file, page")
    for name, study in STUDIES.items():
        runs = study.runs(scale)
        stored = study.stored(runs, results.DATA / study.file)
        missing = len(runs) - (stored or 0)
        at_work = len(study.made(runs, place(study, scale)))
        print(
            f"{name:<12} {len(runs):>7} {'-' if stored is None else stored:>7} {missing:>7} {at_work:>7} "
            f"{_duration(study.seconds[scale]):>7}  data/{study.file}, {study.page}: {study.title}"
        )
    print(f"Time at the scale {scale}, on one processor. At work: runs made in _build/studies, not yet in the file.")
    return 0


def list_runs(study: Study, scale: str, directory: Path | None) -> int:
    """Print the runs of a study and whether each is made in a directory."""
    runs, directory = study.runs(scale), directory or place(study, scale)
    made = study.made(runs, directory)
    for run in runs:
        print(f"{'made' if run in made else '-':<5} {run.name}")
    print(f"{study.title}: {len(runs)} runs planned, {len(made)} made in {directory}, {len(runs) - len(made)} missing")
    return 0


def make(
    study: Study,
    scale: str,
    directory: Path | None,
    n_jobs: int | None,
    output: Path | None,
    *,
    pack_only: bool = False,
    dask: str | None = None,
) -> int:
    """Make what is missing of a study, here or by the workers of a Dask cluster, pack it, and say what it holds."""
    runs, directory = study.runs(scale), directory or place(study, scale)
    output = (output or directory / "data.nc").expanduser()
    if study.stored(runs, output) == len(runs):
        print("Every planned run is in the file; nothing is left to be made.")
        return verify([output])
    if dask is not None:
        with _cluster(dask):
            study.make_all(runs, directory.expanduser().resolve(), progress=True)
    elif not pack_only:
        study.make_all(runs, directory, n_jobs=n_jobs or processors(), progress=True)
    data, meta = study.collect(runs, directory)
    if (before := study.stored(runs, output) or 0) > meta["runs"]["made"]:
        raise ValueError(f"output is {str(output)!r}, which holds {before} runs, more than are made; it stays as it is")
    results.save(output, data, meta)
    return verify([output])


def remake(files: Sequence[Path]) -> int:
    """Make a slice of every file of a study again and print how much of it agrees; return 1 if one does not."""
    faults = 0
    for path in files:
        for study in STUDIES.values():
            if study.file == path.name:
                share = study.again(path)
                faults += share < study.agreement
                verdict = "made again" if share >= study.agreement else f"NOT made again ({study.agreement:.0%} needed)"
                print(f"{path.name}: a slice is {verdict}; {share:.0%} of it agrees")
    return 1 if faults else 0


@contextmanager
def _cluster(address: str) -> Iterator[None]:
    """Send what joblib maps to the workers of a Dask cluster."""
    from distributed import Client
    from distributed.comm.core import connect

    async def answers() -> None:
        await (await connect(address)).close()

    try:
        asyncio.run(answers())  # not by a client: one that fails cleans up when it is collected, and may then block
    except (OSError, ValueError) as error:
        raise ValueError(f"--dask is {address!r}; no scheduler answers there: {error}") from error
    with Client(address, set_as_default=False) as client:  # as the default it would lock files of this process too
        if (threads := sum(client.ncores().values())) < 2:  # for a single one joblib does not ask Dask
            raise ValueError(f"--dask is {address!r}; its workers have {threads} threads in all, it needs at least 2")
        with joblib.parallel_config("dask", client=client):
            yield


def _positive(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


def _duration(seconds: float) -> str:
    return (
        f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds} s"
    )


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
        except (OSError, ValueError) as error:
            faults += 1
            print(f"{path.name}: {error}", file=sys.stderr)
            continue
        print(f"{path.name}: whole; runs planned {runs['planned']}, made {runs['made']}, missing {runs['missing']}")
        for name in meta.get("missing", []):
            print(f"   missing: {name}")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
