"""The claims ledger: what is claimed, what was measured, and whether the two agree.

`claims.toml` beside this file records every claim of the paper and of this book with its status. A chapter calls
`claim` next to the computation; the verdict is printed there, kept in the notebook's output for the ledger page, and
compared with the recorded status.
"""

from __future__ import annotations

import os
import sys
import tomllib
from dataclasses import asdict, dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pbtlib.checks import check_array, check_number

__all__ = ["STATUSES", "ClaimError", "Record", "Verdict", "claim", "compare", "judge", "ledger"]

STATUSES = (
    "verified",
    "verified with a caveat",
    "disagrees",
    "proof only",
    "cited, not proved",
    "not yet",
)
"""What the ledger can record of a claim. The first three rest on a computation in a chapter."""

COMPUTED = STATUSES[:3]
METADATA_KEY = "pbtlib.claim"
PARTED = (
    "This is not what the book records. If you changed a parameter or the code, that may be the cause; "
    "if you changed nothing, either the claim or this computation is wrong"
)
_RED = "border-left: 0.4em solid #c4320a; padding-left: 0.6em; background: rgb(196 50 10 / 18%); font-weight: 600"


class ClaimError(AssertionError):
    """Reality and the ledger part: a recorded status is not what the computation shows."""


@dataclass(frozen=True)
class Record:
    """One entry of `claims.toml`.

    Attributes
    ----------
    id : str
        Short name, the entry's key.
    statement : str
        The claim in a line.
    source : str
        Where the paper says it, or ``this book``.
    chapter : str
        File name (without ending) of the chapter that shows it.
    provenance : str
        S (stated), R (restored) or C (chosen) for the values it rests on, with a word on which.
    assumptions : str
        Whether the test case meets the theorem's assumptions.
    status : str
        One of `STATUSES`.
    caveat : str
        What to know; needed for "verified with a caveat" and "disagrees".
    depends : tuple of str
        Claims this one rests on.
    test : str
        A test that checks the same by other means, as ``tests/file.py::name``; may be empty.
    against : str
        What the paper says or supposes that this entry speaks against, in a line; empty for most.
    """

    id: str
    statement: str
    source: str
    chapter: str
    provenance: str
    assumptions: str
    status: str
    caveat: str = ""
    depends: tuple[str, ...] = ()
    test: str = ""
    against: str = ""


@dataclass(frozen=True)
class Verdict:
    """Outcome of one claim: the numbers, whether they and the control hold, and whether the ledger records that."""

    id: str
    status: str
    measured: Any
    predicted: Any
    uncertainty: Any
    tolerance: Any
    relation: str
    control: Any
    holds: bool
    control_holds: bool
    agrees: bool
    line: str


@cache
def ledger() -> dict[str, Record]:
    """Read `claims.toml`.

    Returns
    -------
    dict
        From id to `Record`, in the file's order.

    Raises
    ------
    ValueError
        If an entry has an unknown field or status, lacks a caveat it needs, or depends on an unknown claim.
    """
    with (Path(__file__).parent / "claims.toml").open("rb") as file:
        return parse_ledger(tomllib.load(file))


def parse_ledger(entries: dict[str, dict[str, Any]]) -> dict[str, Record]:
    """Check the entries of a ledger file and return them as records; raises as `ledger` does."""
    records = {}
    for name, entry in entries.items():
        try:
            record = Record(id=name, **{**entry, "depends": tuple(entry.get("depends", ()))})
        except TypeError as error:
            raise ValueError(f"claim {name!r} of claims.toml is malformed: {error}") from error
        if record.status not in STATUSES:
            raise ValueError(f"claim {name!r} has status {record.status!r}; allowed are {', '.join(STATUSES)}")
        if record.status in ("verified with a caveat", "disagrees") and not record.caveat:
            raise ValueError(f"claim {name!r} is recorded as {record.status!r}; it must say why in 'caveat'")
        unknown = [other for other in record.depends if other not in entries]
        if unknown:
            raise ValueError(f"claim {name!r} depends on {unknown}, which claims.toml does not hold")
        records[name] = record
    return records


def compare(
    measured: ArrayLike,
    predicted: ArrayLike,
    uncertainty: ArrayLike = 0.0,
    bound: ArrayLike = 0.0,
    *,
    relation: str,
    z: float,
) -> NDArray[np.bool_]:
    """Say entry by entry whether a measurement agrees with a prediction.

    Parameters
    ----------
    measured, predicted : array_like
        Broadcast against each other.
    uncertainty : array_like
        Standard error of the measurement, at least 0.
    bound : array_like
        A proved bound on its systematic error (rounding, quadrature, discretisation), at least 0.
    relation : {"=", "<=", ">="}
        How the measurement should stand to the prediction.
    z : float
        How many standard errors are allowed.
    """
    difference = np.asarray(measured, float) - np.asarray(predicted, float)
    tolerance = z * np.asarray(uncertainty, float) + np.asarray(bound, float)
    if relation == "=":
        return np.asarray(np.abs(difference) <= tolerance)
    if relation == "<=":
        return np.asarray(difference <= tolerance)
    if relation == ">=":
        return np.asarray(difference >= -tolerance)
    raise ValueError(f"relation is {relation!r}; allowed are '=', '<=' and '>='")


def claim(
    id: str,
    *,
    measured: ArrayLike,
    predicted: ArrayLike,
    control: ArrayLike,
    uncertainty: ArrayLike = 0.0,
    bound: ArrayLike = 0.0,
    relation: str = "=",
    z: float = 5.0,
) -> None:
    """Hold a measurement against a prediction, show the verdict, and compare it with the ledger.

    Takes the arguments of `judge` and raises what it raises, and besides:

    Raises
    ------
    ClaimError
        In strict mode (environment variable ``PBTLIB_STRICT=1``, as in CI), if reality and record part. Otherwise
        the verdict is shown in red and work goes on.
    """
    verdict = judge(
        id,
        measured=measured,
        predicted=predicted,
        control=control,
        uncertainty=uncertainty,
        bound=bound,
        relation=relation,
        z=z,
    )
    _show(verdict)
    if not verdict.agrees and os.environ.get("PBTLIB_STRICT") == "1":
        raise ClaimError(verdict.line)


def judge(
    id: str,
    *,
    measured: ArrayLike,
    predicted: ArrayLike,
    control: ArrayLike,
    uncertainty: ArrayLike = 0.0,
    bound: ArrayLike = 0.0,
    relation: str = "=",
    z: float = 5.0,
) -> Verdict:
    """Hold a measurement against a prediction and the outcome against the ledger.

    Parameters
    ----------
    id : str
        Key of `claims.toml`.
    measured, predicted : array_like
        What the computation gave and what the theory says; with arrays every entry must agree.
    control : array_like
        The same measurement on a model that is deliberately broken: it must come out the other way. For a claim that
        is recorded as "disagrees" that is a model for which the statement is true.
    uncertainty : array_like
        Standard error of the measurement.
    bound : array_like
        A proved bound on its systematic error.
    relation : {"=", "<=", ">="}
        How measured should stand to predicted.
    z : float
        Standard errors allowed. At the default 5 a right Gaussian measurement fails with probability 6e-7.

    Returns
    -------
    Verdict

    Raises
    ------
    KeyError
        If the ledger has no such claim.
    ValueError
        If the recorded status says that nothing is computed, or on NaN, negative uncertainty or empty input.
    """
    if id not in ledger():
        raise KeyError(f"id is {id!r}; claims.toml has no such claim")
    record = ledger()[id]
    if record.status not in COMPUTED:
        raise ValueError(f"claim {id!r} is recorded as {record.status!r}; a measured claim is one of {COMPUTED}")
    check_number("z", z, minimum=0, open_minimum=True)
    got, want, broken = (
        check_array(n, v) for n, v in (("measured", measured), ("predicted", predicted), ("control", control))
    )
    error, slack = check_array("uncertainty", uncertainty, minimum=0), check_array("bound", bound, minimum=0)
    try:
        np.broadcast_shapes(got.shape, want.shape, error.shape, slack.shape, broken.shape)
    except ValueError as mismatch:
        shapes = {"measured": got, "predicted": want, "uncertainty": error, "bound": slack, "control": broken}
        found = ", ".join(f"{name} {array.shape}" for name, array in shapes.items())
        raise ValueError(f"claim {id!r} has shapes that do not fit each other: {found}") from mismatch
    holds, control_holds = (
        bool(compare(array, want, error, slack, relation=relation, z=z).all()) for array in (got, broken)
    )
    expected = record.status != "disagrees"
    agrees = holds == expected and control_holds != expected
    tolerance = z * error + slack
    return Verdict(
        id=id,
        status=record.status,
        measured=_plain(got),
        predicted=_plain(want),
        uncertainty=_plain(error),
        tolerance=_plain(tolerance),
        relation=relation,
        control=_plain(broken),
        holds=holds,
        control_holds=control_holds,
        agrees=agrees,
        line=_line(record, got, want, error, tolerance, broken, relation, holds, control_holds, agrees),
    )


def _line(
    record: Record, got: Any, want: Any, error: Any, tolerance: Any, broken: Any, relation: str, *outcome: bool
) -> str:
    holds, control_holds, agrees = outcome
    got_, want_, error_, tolerance_, broken_ = np.broadcast_arrays(got, want, error, tolerance, broken)
    at, off = (_furthest(a - want_, tolerance_, relation) for a in (got_, broken_))
    scale = float(tolerance_.flat[at])
    measured, predicted = (_round(float(a.flat[at]), scale) for a in (got_, want_))
    many = f" (worst of {got_.size})" if got_.size > 1 else ""
    spread = f" ± {float(error_.flat[at]):.1g}" if error_.flat[at] > 0 else ""
    control = _round(float(broken_.flat[off]), float(tolerance_.flat[off]))
    sign = {"=": "", "<=": "at most ", ">=": "at least "}[relation]
    mark = "✓" if agrees else "✗"
    parted = "" if agrees else f". {PARTED}"
    return (
        f"{mark} {record.id}: measured {measured}{spread}{many}, predicted {sign}{predicted}, tolerance {scale:.2g}: "
        f"{'holds' if holds else 'fails'}; control {control}: {'holds' if control_holds else 'fails'}; "
        f"recorded: {record.status}{parted}"
    )


def _furthest(difference: NDArray[Any], tolerance: NDArray[Any], relation: str) -> int:
    """Index of the entry that is worst for the relation, in units of its tolerance."""
    wrong = {"=": np.abs(difference), "<=": difference, ">=": -difference}[relation]
    return int(np.argmax(wrong / np.where(tolerance > 0, tolerance, 1e-300)))


def _round(value: float, scale: float) -> str:
    if scale <= 0:
        return f"{value:.6g}"
    digits = 1 - int(np.floor(np.log10(scale)))
    return f"{value:.{digits}f}" if 0 <= digits <= 6 else f"{value:.3g}"


def _plain(values: NDArray[Any]) -> Any:
    return np.vectorize(lambda v: float(f"{v:.9g}"), otypes=[float])(values).tolist()


def _show(verdict: Verdict) -> None:
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        print(verdict.line.encode(encoding, "namereplace").decode(encoding))  # not every terminal has a check mark
        return
    kind, style = ("claim-ok", "") if verdict.agrees else ("claim-bad", f' style="{_RED}"')  # there is no CSS in a lab
    shell.display_pub.publish(
        data={
            "text/plain": verdict.line,
            "text/html": f'<p class="claim {kind}" id="claim-{verdict.id}"{style}>{escape(verdict.line)}</p>',
        },
        metadata={METADATA_KEY: {k: v for k, v in asdict(verdict).items() if k != "line"}},
    )
