"""Data files: labelled arrays with provenance and a checksum of both, written atomically and verified on load."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pbtlib.processor import instruction_sets

if TYPE_CHECKING:  # xarray is loaded by what makes or reads a data set: a run that keeps nothing starts sooner
    import xarray as xr

__all__ = [
    "DATA", "as_json", "commit", "load", "load_arrays", "provenance", "replacing", "save", "save_arrays", "tidy",
]  # fmt: skip

_HERE = Path(__file__).resolve().parent
DATA = _HERE / "data" if (_HERE / "data").is_dir() else _HERE.parent / "data"
"""The folder of the book's data, inside an installed package, beside it in a checkout."""

_LIBRARIES = ("numpy", "scipy", "numba", "torch", "gymnasium", "pbtlib")


def provenance(
    parameters: Mapping[str, Any], *, seed: int, wall_seconds: float, planned: int = 1, made: int = 1
) -> dict[str, Any]:
    """Describe where a data file comes from.

    Parameters
    ----------
    parameters : mapping
        Everything needed to make the file again, as JSON values.
    seed : int
        Seed of the run.
    wall_seconds : float
        How long it took [s]; of the clock, unless the study says that it counts those of the processor.
    planned, made : int
        Number of runs that were planned, and that the file holds; the difference is recorded as missing.

    Returns
    -------
    dict
        JSON values: the arguments, library versions, machine, the instruction sets that the libraries computed with,
        and the commit (None outside a checkout; a trailing ``+`` says that files differed from it).

    Examples
    --------
    >>> provenance({"beta": 1.0}, seed=0, wall_seconds=2.5, planned=3, made=2)["runs"]
    {'planned': 3, 'made': 2, 'missing': 1}
    """
    if made > planned:
        raise ValueError(f"made is {made}; it must be at most planned = {planned}")
    return {
        "parameters": dict(parameters),
        "seed": int(seed),
        "wall_seconds": round(float(wall_seconds), 1),
        "runs": {"planned": planned, "made": made, "missing": planned - made},
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "instructions": instruction_sets(),
        "commit": commit(),
    }


@cache
def commit() -> str | None:
    """Return the commit of the checkout that this library is in, with ``+`` if files differ from it.

    None outside a checkout, and in a copy that some other repository merely surrounds. A process asks once: it runs
    what it has loaded.

    Examples
    --------
    >>> commit() is None or len(commit().rstrip("+")) == 12
    True
    """
    here = Path(__file__).resolve()

    def git(*words: str) -> str:
        command = ["git", "-C", str(here.parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if git("ls-files", "--full-name", "--error-unmatch", here.name) != f"{here.parent.name}/{here.name}":
            return None
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def as_json(value: Any) -> Any:
    """Return what is left of a value after it was stored in JSON, where tuples are lists.

    Examples
    --------
    >>> as_json({"window": (1, 2)})
    {'window': [1, 2]}
    """
    return json.loads(json.dumps(value))


def save(path: str | Path, data: xr.Dataset, meta: Mapping[str, Any], *, compress: bool = True) -> None:
    """Write a data set with its provenance to a NetCDF file, all or nothing.

    Parameters
    ----------
    path : path-like
        The file, ``~`` being the home directory; it is replaced only when the new one is complete. What is being
        written has a hidden name beside it, which a killed process leaves behind: the next `save` removes it.
    data : xarray.Dataset
        Labelled arrays of numbers, booleans or strings.
    meta : mapping
        JSON values, such as `provenance` returns.
    compress : bool
        Whether numbers are deflated.

    Raises
    ------
    OSError
        If it could not be written, such as on a full disk or into a read-only folder; an old file stays.

    Examples
    --------
    >>> import tempfile
    >>> import xarray as xr
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/a.nc", xr.Dataset({"score": ("agent", [0.5, 0.7])}), {"seed": 3})
    ...     load(f"{folder}/a.nc")["score"].values.tolist()
    [0.5, 0.7]
    """
    out = data.copy(deep=False)
    described = json.dumps(meta, sort_keys=True)
    out.attrs = {"meta": described, "checksum": _checksum(data, described)}
    packed = {"zlib": True, "complevel": 6, "shuffle": True}
    encoding = {name: packed for name, v in out.variables.items() if compress and v.dtype.kind in "fiub" and v.ndim}
    size = len(described) + sum(v.nbytes * (1 if v.dtype.kind in "fiub" else 8) for v in out.variables.values())
    with replacing(path) as scratch:
        _find_room(scratch, size + 16_000 * (4 + len(out.variables) + len(out.dims)))
        out.to_netcdf(scratch, engine="h5netcdf", encoding=encoding)


def _find_room(path: Path, size: int) -> None:
    """Raise OSError unless a file may grow so large: HDF5 ends the process, not the call, on a disk that fills up."""
    if hasattr(os, "posix_fallocate"):
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Write a file whole or not at all: what is written to the path that this gives takes the file's place at the end.

    Parameters
    ----------
    path : path-like
        The file, ``~`` being the home directory. What killed processes left half written of it is removed.

    Raises
    ------
    OSError
        If it could not be written; nothing is left of the attempt.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(f"{folder}/a.txt") as scratch:
    ...         _ = scratch.write_text("whole")
    ...     print([file.name for file in Path(folder).iterdir()])
    ['a.txt']
    """
    target = Path(path).expanduser()
    scratch = target.with_name(f"{_scratch(target)}{os.getpid()}-{uuid.uuid4().hex}.part")  # no other thread's
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        tidy(target)
        yield scratch
        os.replace(scratch, target)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(error.errno, f"path is {str(target)!r}; the file could not be written: {why}") from error
    finally:
        with suppress(OSError):  # a read-only folder says so even of a file that is not there
            scratch.unlink()


def tidy(path: str | Path) -> None:
    """Remove what killed processes of this machine left half written of a file.

    What a process that runs is writing stays, and what other machines wrote. So does all of it where a system cannot be
    asked harmlessly which processes run (Windows).

    Parameters
    ----------
    path : path-like
        The file that `save` was writing.

    Examples
    --------
    >>> tidy("results.nc")      # nothing was left here
    """
    target = Path(path).expanduser()
    for left in target.parent.iterdir() if target.parent.is_dir() else ():
        process = left.name.removeprefix(_scratch(target)).partition("-")[0]
        if left.name.startswith(_scratch(target)) and process.isdecimal() and not _runs(int(process)):
            left.unlink(missing_ok=True)


def load(path: str | Path) -> xr.Dataset:
    """Read a data set written by `save`, verify its checksum, and put its provenance into ``attrs``.

    A relative path that leads nowhere from the working directory is looked for by its name in `DATA`, so that a
    notebook runs from any folder.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file cannot be read, was not written by `save`, or its data or provenance were altered since.

    Examples
    --------
    >>> load("cartpole_frozen.nc").attrs["runs"]["missing"]      # found in the book's data
    0
    """
    import xarray as xr

    source = Path(path).expanduser()
    if not source.is_file() and not source.is_absolute() and (kept := DATA / source.name).is_file():
        source = kept
    if not source.is_file():
        raise FileNotFoundError(
            f"path is {str(source)!r}; there is no such data file there, nor of that name in {str(DATA)!r}. The book's "
            "data files are in the folder data/ of its project, and come with pbtlib when it is installed from there"
        )
    try:
        with xr.open_dataset(source, engine="h5netcdf") as opened:
            data = opened.load()
    except Exception as error:  # h5netcdf, h5py and xarray raise many kinds on a damaged file
        raise ValueError(f"path is {str(source)!r}; the file is damaged or no NetCDF file ({error})") from error
    attributes = data.attrs
    if not {"meta", "checksum"} <= attributes.keys():
        raise ValueError(f"path is {str(source)!r}; the file carries no provenance, so it was not written by save()")
    data.attrs = {}
    if _checksum(data, str(attributes["meta"])) != attributes["checksum"]:
        if _checksum(data, "") == attributes["checksum"]:
            raise ValueError(
                f"path is {str(source)!r}; the file was written by an early pbtlib 0.1.0: its data match its checksum, "
                "which did not yet cover the provenance. Take a newer file, or read it with the version that wrote it"
            )
        raise ValueError(f"path is {str(source)!r}; the file's contents do not match its checksum: it was altered")
    data.attrs = json.loads(attributes["meta"])
    return data


def save_arrays(path: str | Path, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
    """Write plain arrays, such as a checkpoint, as `save` does (without compression).

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_arrays(f"{folder}/state.nc", {"h": np.ones((3, 2))}, {"next_update": 7})
    ...     load_arrays(f"{folder}/state.nc")[1]
    {'next_update': 7}
    """
    import xarray as xr

    labelled = {
        name: (tuple(f"{name}_{axis}" for axis in range(np.ndim(a))), np.asarray(a)) for name, a in arrays.items()
    }
    save(path, xr.Dataset(labelled), meta, compress=False)


def load_arrays(path: str | Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read what `save_arrays` wrote: the arrays and the meta data. Raises as `load` does.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_arrays(f"{folder}/state.nc", {"h": np.ones((3, 2))}, {"next_update": 7})
    ...     load_arrays(f"{folder}/state.nc")[0]["h"].shape
    (3, 2)
    """
    data = load(path)
    return {str(name): v.to_numpy() for name, v in data.variables.items()}, data.attrs


def _checksum(data: xr.Dataset, meta: str) -> str:
    digest = hashlib.sha256(meta.encode(errors="surrogateescape"))  # a damaged text is altered, not an error
    for name in sorted(map(str, data.variables)):
        values = np.ascontiguousarray(data[name].to_numpy())
        if values.dtype.kind in "OUT":
            digest.update(json.dumps([name, list(map(str, data[name].dims)), values.astype(str).tolist()]).encode())
        else:
            digest.update(
                f"{name} {data[name].dims} {values.dtype.str} {values.shape}".encode(errors="surrogateescape")
            )
            digest.update(values.tobytes())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    """The versions of those libraries that are installed: torch and Gymnasium are extras."""
    found = {}
    for name in _LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _scratch(target: Path) -> str:
    """How the names begin that this machine gives to files which are being written."""
    return f".{target.name}.{re.sub(r'[^A-Za-z0-9]+', '_', platform.node())}-"


def _runs(process: int) -> bool:
    """Whether a process of this machine runs; True where that is not known."""
    try:
        if os.name == "posix":
            os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
