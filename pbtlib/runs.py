r"""Read the record of a run of population-based training: a tidy table, or a directory of Ray Tune results.

Both become the same labelled arrays, and nothing is dropped in silence: whatever could not be read, had to be guessed
or was superseded is counted and named in ``attrs["counted"]``. No pickle is ever read.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pbtlib.checks import LARGEST

__all__ = ["UNKNOWN", "read", "summary"]

UNKNOWN = -1
"""Parent of a trial whose past is not known."""

_HOUSEKEEPING = {
    "done", "training_iteration", "trial_id", "date", "timestamp", "time_this_iter_s", "time_total_s", "pid",
    "hostname", "node_ip", "time_since_restore", "iterations_since_restore", "timesteps_since_restore",
    "timesteps_total", "episodes_total", "experiment_id", "experiment_tag", "warmup_time", "should_checkpoint",
    "checkpoint_dir_name",
}  # fmt: skip
"""Columns that Ray writes itself: none of them is a score."""


@dataclass
class _Row:
    """One result of a trial."""

    time: float
    score: float
    place: str
    config: dict[str, Any] | None = None
    parent: str | None = None


@dataclass
class _Copy:
    """One line of ``pbt_global.txt``."""

    order: int
    source: int
    replaced_at: int
    source_at: int
    source_config: dict[str, Any]
    config: dict[str, Any]


@dataclass
class _Counted:
    """What was omitted, guessed or superseded: places by kind."""

    kinds: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, place: str) -> None:
        self.kinds.setdefault(kind, []).append(place)


def read(
    source: Any,
    *,
    score: str | None = None,
    time: str | None = None,
    trial: str = "trial",
    parent: str = "parent",
    mode: str = "max",
) -> xr.Dataset:
    r"""Read the record of one run.

    Parameters
    ----------
    source : path-like or pandas.DataFrame
        A tidy table, one row per trial and result in the order in which they came: a CSV file or anything with
        ``columns`` and ``to_dict("records")``. Or the directory of one Ray Tune experiment: ``pbt_global.txt`` and a
        folder per trial with ``progress.csv`` (complete, so read first) or ``result.json`` (which may have holes),
        wherever below the directory they lie.
    score : str, optional
        Column of the score: ``"score"`` in a table; Ray's metric, which must be named if there is more than one.
    time : str, optional
        Column of the time: ``"time"`` in a table, ``"training_iteration"`` for Ray.
    trial : str
        Column of a table that names the trial.
    parent : str
        Column of a table that names the trial whose state was copied into this one *after* this result; its own name
        or nothing if it went on by itself. Without the column all parents are unknown.
    mode : {"max", "min"}
        Whether large scores are good. With ``"min"`` the score's sign is turned, so that in the result more is better.

    Returns
    -------
    xarray.Dataset
        Dimensions ``trial`` (coordinate: the names, in order of creation) and ``interval`` (from 1).

        - ``score`` (trial, interval): NaN where there is none, it is no number, or beyond 10¹⁵⁰ in size, as those of
          trials that diverge are; more is better.
        - ``time`` (trial, interval): as reported; NaN where there is no result.
        - ``parent`` (trial, interval): position of the trial that it was copied from after the interval, itself if it
          went on, −1 if unknown.
        - one array (trial, interval) for each hyperparameter that is not the same everywhere: what the interval
          trained with; numbers, NaN if unknown, or text, empty if unknown.

        ``attrs``: ``layout`` ("table" or "Ray Tune"), ``mode``, ``hyperparameters`` (names), ``constant`` (those that
        never differ), ``synchronous`` (whether intervals do not overlap in time, so that one is a cross-section of
        the population), and ``counted``: from a kind of omission or repair to the tuple of the places.

    Raises
    ------
    FileNotFoundError
        If the path leads nowhere, or to a directory without results.
    ValueError
        If a column is missing or there twice, time goes back in a table where nothing was copied, a name is given to
        two trials, or no row can be read.
    TypeError
        If the source is neither a path nor a table.

    Examples
    --------
    >>> rows = {"trial": ["a", "b"] * 2, "time": [1, 1, 2, 2], "score": [0.1, 0.4, 0.5, 0.6], "lr": [1, 2, 3, 2],
    ...         "parent": ["b", "b", "a", "b"]}
    >>> import pandas as pd
    >>> run = read(pd.DataFrame(rows))
    >>> run["parent"].values.tolist()
    [[1, 0], [1, 1]]
    """
    if mode not in ("max", "min"):
        raise ValueError(f"mode is {mode!r}; allowed are 'max' and 'min'")
    counted = _Counted()
    if hasattr(source, "columns") and hasattr(source, "to_dict"):
        columns = [str(name) for name in source.columns]
        _check_names(columns)
        rows = source.to_dict("records")
        places = [f"row {i}" for i in range(len(rows))]
    elif isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        if path.is_dir():
            trials = _ray(path, score, time or "training_iteration", counted)
            return _labelled(trials, mode, "Ray Tune", counted)
        if not path.is_file():
            raise FileNotFoundError(f"source is {str(path)!r}; there is no such file or directory")
        columns, rows, places = _csv(path, counted, ends_in_newline=False)
        _check_names(columns)
    else:
        raise TypeError(f"source is a {type(source).__name__}; it must be a path or a table with named columns")
    names = (trial, time or "time", score or "score")
    trials = _table(columns, rows, places, *names, parent, counted)
    return _labelled(trials, mode, "table", counted)


def summary(run: xr.Dataset) -> str:
    """Say in a few lines what was read, and what was not.

    Parameters
    ----------
    run : xarray.Dataset
        As `read` returns.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = {"trial": ["a", "b"], "time": [1, 1], "score": [0.1, 0.4], "lr": [1, 2], "parent": ["b", "b"]}
    >>> print(summary(read(pd.DataFrame(rows))))
    table: 2 trials, 1 intervals (synchronous)
    2 scores, 1 copies, parents known at 2 results
    hyperparameters: lr
    """
    kind = "synchronous" if run.attrs["synchronous"] else "asynchronous: interval k is no cross-section"
    told = int((run["parent"] != UNKNOWN).sum())
    own = np.arange(run.sizes["trial"])[:, None]
    copies = int(((run["parent"] != own) & (run["parent"] != UNKNOWN)).sum())
    lines = [
        f"{run.attrs['layout']}: {run.sizes['trial']} trials, {run.sizes['interval']} intervals ({kind})",
        f"{int(run['score'].notnull().sum())} scores, {copies} copies, parents known at {told} results",
        "hyperparameters: " + (", ".join(run.attrs["hyperparameters"]) or "none that differ"),
    ]
    for kind, places in run.attrs["counted"].items():
        shown = "; ".join(places[:3]) + ("; …" if len(places) > 3 else "")
        lines.append(f"{len(places)} × {kind}: {shown}")
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------- tables


def _csv(path: Path, counted: _Counted, *, ends_in_newline: bool) -> tuple[list[str], list[dict[str, str]], list[str]]:
    """Read a CSV file: columns, rows and where each stands. A line with too few or too many fields is counted."""
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    lines = list(csv.reader(text.replace("\0", "").splitlines()))
    if not lines or not any(lines[0]):
        return [], [], []
    columns, rows, places = lines[0], [], []
    whole = len(lines) if text.endswith("\n") or not ends_in_newline else len(lines) - 1
    for number, fields in enumerate(lines[1:], 2):
        place = f"{path.parent.name}/{path.name} line {number}"
        if not fields:
            continue
        if len(fields) != len(columns) or number > whole:
            counted.add("line cut off or malformed, omitted", place)
            continue
        rows.append(dict(zip(columns, fields, strict=True)))
        places.append(place)
    return columns, rows, places


def _check_names(columns: list[str]) -> None:
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise ValueError(f"source has the columns {twice} twice; every column needs its own name")


def _table(
    columns: list[str],
    rows: Sequence[Mapping[Any, Any]],
    places: Sequence[str],
    trial: str,
    time: str,
    score: str,
    parent: str,
    counted: _Counted,
) -> dict[str, list[_Row]]:
    for argument, name in (("trial", trial), ("time", time), ("score", score)):
        if name not in columns:
            raise ValueError(f"{argument} is {name!r}; the table has no such column, only {', '.join(columns)}")
    rest = [name for name in columns if name not in (trial, time, score, parent)]
    trials: dict[str, list[_Row]] = {}
    for row, place in zip(rows, places, strict=True):
        name, when = _text(row[trial]), _number(row[time])
        if not name or when is None or not math.isfinite(when):
            counted.add("row without trial or time, omitted", place)
            continue
        value = _score(row[score], place, counted)
        config = {key: _value(row[key]) for key in rest}
        follows = (_text(row[parent]) or name) if parent in columns else None
        trials.setdefault(name, []).append(_Row(when, value, place, config, follows))
    for name, own in trials.items():
        for before, after in pairwise(own):
            if after.time <= before.time and before.parent in (None, name):
                what = "stands still" if after.time == before.time else "goes back"
                raise ValueError(
                    f"time of trial {name!r} {what} from {before.time:g} ({before.place}) to {after.time:g} "
                    f"({after.place}), and nothing was copied there; sort the rows by time, give two trials two "
                    "names, and of a restarted trial keep what counted"
                )
        for row_ in own:
            if row_.parent is not None and row_.parent not in trials:
                counted.add(f"parent that is no trial of the table ({row_.parent}), unknown", row_.place)
                row_.parent = None
    return trials


# ------------------------------------------------------------------------------------------------- Ray Tune


def _ray(folder: Path, score: str | None, time: str, counted: _Counted) -> dict[str, list[_Row]]:
    found = {p.parent for name in ("progress.csv", "result.json") for p in folder.rglob(name)}
    if not found:
        raise FileNotFoundError(f"source is {str(folder)!r}; no progress.csv and no result.json lies below it")
    logs = sorted(folder.rglob("pbt_global.txt"))
    if len(logs) > 1:
        raise ValueError(f"source holds {len(logs)} files pbt_global.txt; name the directory of one experiment")
    trials: dict[str, list[_Row]] = {}
    index: dict[int, str] = {}
    last: dict[str, dict[str, Any] | None] = {}
    where: dict[str, Path] = {}
    for place in sorted(found):
        if (place / "error.txt").is_file():
            failures = (place / "error.txt").read_text(errors="replace").count("Failure #")
            counted.add("trial that failed", f"{place.name} ({failures} failures)")
        rows, name, number = _trial(place, score, time, counted)
        if not rows:
            counted.add("trial without a result, omitted", place.name)
            continue
        twin = name if name in trials else index.get(number) if number is not None else None
        if twin is not None:
            other = where[twin]
            raise ValueError(f"{place.name!r} and {other.name!r} are both trial {name!r}; keep one of the folders")
        trials[name], where[name] = rows, place
        if number is not None:
            index[number] = name
        last[name] = _json_file(place / "params.json")
    if not trials:
        raise ValueError(f"source is {str(folder)!r}; no result in it could be read")
    if len(index) < len(trials):
        for name in sorted(set(trials) - set(index.values())):
            counted.add("trial without an index, whose copies cannot be placed", name)
    order = sorted(index)
    trials = {index[i]: trials[index[i]] for i in order} | {n: r for n, r in trials.items() if n not in index.values()}
    copies = _copies(logs[0], counted) if logs else {}
    if not logs:
        counted.add("no pbt_global.txt, parents unknown", folder.name)
    initial = _initial(copies)
    for number in sorted(set(copies) - set(index)):
        counted.add("copies into a trial without results, omitted", f"trial {number}: {len(copies[number])}")
    for number, name in index.items():
        trials[name] = _placed(name, trials[name], copies.get(number, []) if logs else None, index, counted)
        first = last[name] if not copies.get(number) else initial.get(number)
        _fill(trials[name], name, first, counted)
    return trials


def _trial(place: Path, score: str | None, time: str, counted: _Counted) -> tuple[list[_Row], str, int | None]:
    """Results of one folder in the order in which they were written, its name and its index."""
    table = place / "progress.csv"
    _, records, places = _csv(table, counted, ends_in_newline=True) if table.is_file() else ([], [], [])
    lines = _json_lines(place / "result.json", counted)
    known = {**(lines[0][0] if lines else {}), **(records[0] if records else {})}
    if not known:
        return [], place.name, None
    score = score or _metric(known)
    for argument, column in (("score", score), ("time", time)):
        if column not in known:
            raise ValueError(
                f"{argument} is {column!r}; {place.name} has no such column, only {', '.join(sorted(known))}"
            )
    rows = [row for r, at in zip(records, places, strict=True) if (row := _result(r, score, time, at, counted))]
    told = [(row, r) for r, at in lines if (row := _result(r, score, time, at, counted if not records else None))]
    if not table.is_file() or not rows:
        for row, r in told:
            row.config = _flat(r.get("config"))
        rows = [row for row, _ in told]
        if rows:
            counted.add("trial without progress.csv, read from result.json", place.name)
    else:
        at = 0
        for row, r in told:
            hit = next((j for j in range(at, len(rows)) if _same(rows[j], row)), None)
            if hit is not None:
                rows[hit].config, at = _flat(r.get("config")), hit + 1
            elif row.time > rows[-1].time:
                row.config = _flat(r.get("config"))
                rows.append(row)
                at = len(rows)
                counted.add("result that only result.json holds", row.place)
            else:
                counted.add("result of result.json that fits nowhere, omitted", row.place)
        lost = sum(row.config is None for row in rows) if (place / "result.json").is_file() else 0
        if lost:
            counted.add("results that result.json lost, read from progress.csv", f"{place.name}: {lost}")
    name = str(known.get("trial_id") or place.name)
    tag = str(known.get("experiment_tag") or "")
    hit_ = (
        re.search(r"_(\d{5})$", name)
        or re.match(r"(\d+)(?:_|$)", tag)
        or re.search(r"(?:^|_)(\d+)_[A-Za-z][^=,]*=", place.name)
    )
    return rows, name, int(hit_.group(1)) if hit_ else None


def _metric(known: Mapping[str, Any]) -> str:
    numbers = [
        name for name, v in known.items()
        if name not in _HOUSEKEEPING and not name.startswith("config/") and _number(v) is not None
        and not isinstance(v, bool)
    ]  # fmt: skip
    if len(numbers) != 1:
        raise ValueError(f"score is None; name Ray's metric, one of {', '.join(numbers) or 'no column of numbers'}")
    return numbers[0]


def _result(r: Mapping[str, Any], score: str, time: str, place: str, counted: _Counted | None) -> _Row | None:
    when = _number(r.get(time))
    if when is None or not math.isfinite(when):
        if counted:
            counted.add("result without time, omitted", place)
        return None
    return _Row(when, _score(r.get(score), place, counted or _Counted()), place)


def _same(a: _Row, b: _Row) -> bool:
    return a.time == b.time and (a.score == b.score or (math.isnan(a.score) and math.isnan(b.score)))


def _json_lines(path: Path, counted: _Counted) -> list[tuple[dict[str, Any], str]]:
    if not path.is_file():
        return []
    out = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        place = f"{path.parent.name}/{path.name} line {number}"
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            out.append((value, place))
        elif line.strip():
            counted.add("line cut off or malformed, omitted", place)
    return out


def _json_file(path: Path) -> dict[str, Any] | None:
    try:
        return _flat(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _copies(path: Path, counted: _Counted) -> dict[int, list[_Copy]]:
    """Lines of ``pbt_global.txt`` by the replaced trial's index."""
    out: dict[int, list[_Copy]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            tag, source, at, source_at, before, after = json.loads(line)
            copy = _Copy(number, _index(source), int(at), int(source_at), _flat(before) or {}, _flat(after) or {})
            out.setdefault(_index(tag), []).append(copy)
        except (ValueError, TypeError):
            counted.add("line cut off or malformed, omitted", f"{path.name} line {number}")
    return out


def _index(tag: str) -> int:
    return int(str(tag).split("_", 1)[0])


def _initial(copies: Mapping[int, list[_Copy]]) -> dict[int, dict[str, Any]]:
    """Initial configurations that the log gives away: of trials that were parents before they were replaced."""
    every = sorted((copy for some in copies.values() for copy in some), key=lambda copy: copy.order)
    first = {number: some[0].order for number, some in copies.items()}
    out: dict[int, dict[str, Any]] = {}
    for copy in every:
        if copy.order < first.get(copy.source, math.inf):
            out.setdefault(copy.source, copy.source_config)
    return out


def _placed(
    name: str, rows: list[_Row], copies: list[_Copy] | None, index: Mapping[int, str], counted: _Counted
) -> list[_Row]:
    """Give each copy its place between two results, and omit what a restart superseded.

    The log has no update number. A copy is written with the replaced trial's iteration, or one less if that trial was
    the last to arrive, and the next result goes on from the parent's. The places that fit best, in order, are found by
    dynamic programming; a configuration in `result.json` decides where there is one.
    """
    if copies is None:
        return _without_restarts(name, rows, counted)
    n = len(rows)
    best = [[0.0] * (n + 1)]
    for copy in copies:
        previous, now = best[-1], [0.0] * (n + 1)
        for r in range(n):
            take = previous[r] + _fits(copy, rows, r)
            now[r + 1] = max(now[r], previous[r + 1], take)
        best.append(now)
    c, r = len(copies), n
    while c and r:
        if best[c][r] == best[c][r - 1]:
            r -= 1
        elif best[c][r] == best[c - 1][r]:
            counted.add("copy that fits no result, omitted", f"pbt_global.txt line {copies[c - 1].order}")
            c -= 1
        else:
            copy = copies[c - 1]
            rows[r - 1].parent = index.get(copy.source, "")
            if r < n and rows[r].config is None:
                rows[r].config = copy.config
            c, r = c - 1, r - 1
    for copy in copies[:c]:
        counted.add("copy that fits no result, omitted", f"pbt_global.txt line {copy.order}")
    for row in rows:
        if row.parent is None:
            row.parent = name
        elif row.parent == "":
            row.parent = None
            counted.add("parent without results, unknown", row.place)
    return _without_restarts(name, rows, counted)


def _fits(copy: _Copy, rows: list[_Row], r: int) -> float:
    """Weight of a copy after result r; minus infinity where it cannot be."""
    at = rows[r].time - copy.replaced_at
    if at not in (0, 1):
        return -math.inf
    weight = 1.1 if at == 0 else 1.0
    if r + 1 == len(rows):
        return weight
    step = rows[r + 1].time - copy.source_at
    told = next((row.config for row in rows[r + 1 :] if row.config is not None), None)
    if told == copy.config:
        return weight + 1.0 + (0.2 if step == 1 else 0.0)
    if rows[r + 1].config is not None or step not in (1, 2):
        return -math.inf
    return weight + (0.2 if step == 1 else 0.0)


def _without_restarts(name: str, rows: list[_Row], counted: _Counted) -> list[_Row]:
    """Omit results that a trial made twice since it was last replaced, because it was started again."""
    kept: list[_Row] = []
    for row in rows:
        while kept and kept[-1].parent in (None, name) and row.time <= kept[-1].time:
            counted.add("result superseded when the trial was started again, omitted", kept[-1].place)
            kept.pop()
        kept.append(row)
    for before, after in pairwise(kept):
        if before.parent in (None, name) and after.time > before.time + 1 and float(before.time).is_integer():
            counted.add("results missing", f"{name}: from time {before.time + 1:g} to {after.time - 1:g}")
    return kept


def _fill(rows: list[_Row], name: str, first: dict[str, Any] | None, counted: _Counted) -> None:
    """Hyperparameters are constant between two copies: give every result those of its stretch."""
    start = 0
    for end in range(1, len(rows) + 1):
        if end < len(rows) and rows[end - 1].parent == name:
            continue
        stretch = rows[start:end]
        config = next((row.config for row in stretch if row.config is not None), first if start == 0 else None)
        if config is None:
            counted.add("results with unknown hyperparameters", f"{name}: {len(stretch)}")
        for row in stretch:
            row.config = row.config or config
        start = end


# ------------------------------------------------------------------------------------------------- arrays


def _labelled(trials: dict[str, list[_Row]], mode: str, layout: str, counted: _Counted) -> xr.Dataset:
    if not trials:
        raise ValueError("source holds no row that could be read")
    names = list(trials)
    position = {name: i for i, name in enumerate(names)}
    column = _columns(trials)
    shape = (len(names), 1 + max(max(c) for c in column))
    time, score = np.full(shape, np.nan), np.full(shape, np.nan)
    parent = np.full(shape, UNKNOWN)
    keys = list(dict.fromkeys(key for rows in trials.values() for row in rows for key in row.config or {}))
    values: dict[str, Any] = {key: np.full(shape, None, object) for key in keys}
    for i, rows in enumerate(trials.values()):
        for k, row in zip(column[i], rows, strict=True):
            time[i, k], score[i, k] = row.time, row.score
            if row.parent is not None:
                parent[i, k] = position[row.parent]
            for key, value in (row.config or {}).items():
                values[key][i, k] = value
        if rows and column[i][-1] + 1 < shape[1]:
            counted.add("trial that ended early", f"{names[i]}: {len(rows)} of {shape[1]} results")
    arrays = {key: _typed(cells) for key, cells in values.items()}
    for key, cells in arrays.items():
        if cells.dtype.kind == "f" and (beyond := np.abs(cells) > LARGEST).any():
            cells[beyond] = np.nan
            for i, k in np.argwhere(beyond):
                counted.add(
                    f"hyperparameter beyond {LARGEST:g} in size, unknown", f"{key} of {names[i]}, result {k + 1}"
                )
    constant = {key: _only(cells) for key, cells in arrays.items() if _only(cells) is not None}
    differ = [key for key in keys if key not in constant]
    clash = sorted({"score", "time", "parent", "trial", "interval"} & set(differ))
    if clash:
        raise ValueError(f"hyperparameters are called {clash}; these names are taken, rename the columns")
    latest, earliest = np.fmax.reduce(time, 0), np.fmin.reduce(time, 0)
    forward = all(a.time < b.time for rows in trials.values() for a, b in pairwise(rows))
    dims = ("trial", "interval")
    return xr.Dataset(
        {
            "score": (dims, score if mode == "max" else -score),
            "time": (dims, time),
            "parent": (dims, parent),
            **{key: (dims, arrays[key]) for key in differ},
        },
        coords={"trial": names, "interval": np.arange(1, shape[1] + 1)},
        attrs={
            "layout": layout,
            "mode": mode,
            "hyperparameters": tuple(differ),
            "constant": constant,
            "synchronous": bool(forward and (latest[:-1] <= earliest[1:]).all()),
            "counted": {kind: tuple(places) for kind, places in sorted(counted.kinds.items())},
        },
    )


def _columns(trials: Mapping[str, list[_Row]]) -> list[list[int]]:
    """Interval of each result: by its time if the trials share their times, else by its number."""
    times = sorted({row.time for rows in trials.values() for row in rows})
    forward = all(a.time < b.time for rows in trials.values() for a, b in pairwise(rows))
    if forward and len(times) <= 1.5 * max(map(len, trials.values())):
        at = {when: k for k, when in enumerate(times)}
        return [[at[row.time] for row in rows] for rows in trials.values()]
    return [list(range(len(rows))) for rows in trials.values()]


def _typed(cells: Any) -> Any:
    """Numbers if all that are known are numbers, else text."""
    known = [v for v in cells.flat if v is not None]
    if all(isinstance(v, (int, float, np.number)) and not isinstance(v, (bool, np.bool_)) for v in known):
        return np.array([[np.nan if v is None else float(v) for v in row] for row in cells])
    return np.array([["" if v is None else str(v) for v in row] for row in cells])


def _only(cells: Any) -> Any:
    """The one value that all known cells have, or None."""
    known = cells[cells != ""] if cells.dtype.kind == "U" else cells[~np.isnan(cells)]
    return known[0].item() if known.size and (known == known[0]).all() else None


def _flat(config: Any, prefix: str = "") -> dict[str, Any] | None:
    """Nested configuration with keys joined by a slash; lists as text."""
    if not isinstance(config, dict):
        return None
    out: dict[str, Any] = {}
    for key, value in config.items():
        inner = _flat(value, f"{prefix}{key}/")
        out |= inner if inner is not None else {f"{prefix}{key}": _value(value)}
    return out


def _value(cell: Any) -> Any:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)) or cell == "":
        return None
    if isinstance(cell, (list, tuple)):
        return json.dumps(cell)
    number = None if isinstance(cell, (bool, np.bool_)) else _number(cell)
    return cell if number is None else number


def _number(cell: Any) -> float | None:
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError):
        return None


def _text(cell: Any) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    return str(cell).strip()


def _score(cell: Any, place: str, counted: _Counted) -> float:
    value = _number(cell)
    if value is None or not math.isfinite(value):
        counted.add("score that is no finite number, NaN", place)
        return math.nan
    if abs(value) > LARGEST:
        counted.add(f"score beyond {LARGEST:g} in size, whose trial diverged, NaN", place)
        return math.nan
    return value
