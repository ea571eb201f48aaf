"""The claims ledger: what is claimed, what was measured, and whether the two agree.

``claims.toml`` beside this file records every claim of the paper and of this book with its status. A chapter calls
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
from scipy.special import ndtr, stdtrit

from pbtlib.checks import check_array, check_number

__all__ = ["STATUSES", "WORDS", "ClaimError", "Record", "Verdict", "claim", "compare", "judge", "ledger"]

WORDS = {
    "verified": "Holds",
    "verified with a caveat": "Holds, with a caveat",
    "consistent with": "Consistent with",
    "disagrees": "Refuted",
    "proof only": "Proved",
    "cited, not proved": "Cited",
    "not yet": "Not yet",
}
"""What the ledger can record of a claim, and the word that the book says for it."""

STATUSES = tuple(WORDS)
"""What the ledger can record."""
COMPUTED = STATUSES[:4]
"""These rest on a computation in a chapter."""
CAVEAT_NEEDED = COMPUTED[1:]
CHOICES = {
    "status": STATUSES,
    "bound": ("", "proved", "estimated", "rounding"),
    "control": ("broken model", "rival formula"),
    "kind": ("science", "code check"),
}
OUTCOMES = {1: "holds", 0: "consistent with", -1: "fails"}
METADATA_KEY = "pbtlib.claim"
PARTED = (
    "This is not what the book records. If you changed a parameter or the code, that may be the cause; "
    "if you changed nothing, either the claim or this computation is wrong"
)
UNDECIDED = "Not told from its control by these data"
_AMBER = ' style="border-left: 0.4em solid #b07400; padding-left: 0.6em"'
_RED = (
    ' style="border-left: 0.4em solid #c4320a; padding-left: 0.6em; background: rgb(196 50 10 / 18%); font-weight: 600"'
)


class ClaimError(AssertionError):
    """Reality and the ledger part: a recorded status is not what the computation shows.

    Examples
    --------
    >>> issubclass(ClaimError, AssertionError)
    True
    """


@dataclass(frozen=True)
class Record:
    """One entry of ``claims.toml``.

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
        What to know; needed for what is computed and not simply "verified".
    depends : tuple of str
        Claims this one rests on.
    test : str
        A test that checks the same by other means, as ``tests/file.py::name``; may be empty.
    against : str
        What the paper says or supposes that this entry speaks against, in a line; empty for most.
    bound : {"", "proved", "estimated", "rounding"}
        Whether the bound on the systematic error follows from theory, is judged from the numbers, or is for rounding
        alone; "" without one.
    control : {"broken model", "rival formula"}
        What the measurement is told from: a model with a planted fault, or what another formula would give.
    kind : {"science", "code check"}
        A code check is true by construction: it can only show a fault of the program.

    Examples
    --------
    >>> record = Record("sum", "1 + 1 = 2.", source="this book", chapter="index", provenance="C: the numbers",
    ...                 assumptions="met", status="verified")
    >>> record.kind, record.control
    ('science', 'broken model')
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
    bound: str = ""
    control: str = "broken model"
    kind: str = "science"


@dataclass(frozen=True)
class Verdict:
    """Outcome of one claim: the numbers, what they and the control say, and whether the ledger records that.

    ``outcome`` and ``control_outcome`` are "holds", "consistent with" or "fails", ``factor`` says how many standard
    errors are allowed, and ``false_alarm`` bounds the probability that a true claim fails, or a false one holds, by
    chance. If ``simulated``, what is predicted is a critical value from the model's own runs, and ``false_alarm`` the
    probability that a true claim fails.

    Examples
    --------
    >>> verdict = judge("em-weak-order", measured=[1.01, 0.98], predicted=1.0, uncertainty=0.01, control=2.0)
    >>> verdict.size, verdict.shown["measured"]      # the entry that favours the claim least
    (2, 0.98)
    """

    id: str
    status: str
    measured: Any
    predicted: Any
    uncertainty: Any
    tolerance: Any
    relation: str
    control: Any
    outcome: str
    control_outcome: str
    agrees: bool
    factor: float
    replicates: int | None
    false_alarm: float
    simulated: bool = False

    @property
    def size(self) -> int:
        """How many numbers are compared."""
        return int(np.size(self._arrays()[0]))

    @property
    def draws(self) -> int:
        """Of how many of the model's own draws the critical value is the largest; 0 if it is none."""
        return round(1 / self.false_alarm) - 1 if self.simulated else 0

    @property
    def shown(self) -> dict[str, float]:
        """Measured, predicted, uncertainty, tolerance and control of the entry that favours the claim least."""
        arrays = self._arrays()
        at = _furthest(arrays[0] - arrays[1], arrays[3], self.relation)
        return dict(zip(_NUMBERS, (float(array.flat[at]) for array in arrays), strict=True))

    @property
    def caught(self) -> dict[str, float]:
        """The same of an entry where the control comes out the other way (of that entry, if it visibly does there).

        Examples
        --------
        >>> verdict = judge("em-weak-order", measured=[1, 0.98], predicted=1, uncertainty=0.01, control=[2, 0.98])
        >>> verdict.shown["control"], verdict.caught["control"]
        (0.98, 2.0)
        """
        value, arrays = self.shown, self._arrays()
        here = compare(value["control"], value["predicted"], 0.0, value["tolerance"], relation=self.relation, z=1.0)
        error = value["uncertainty"] or value["tolerance"]
        alike = in_digits(value["control"], error) == in_digits(value["measured"], error)
        if self.control_outcome != "fails" or (here < 0 and not alike):
            return value
        at = _furthest(arrays[4] - arrays[1], arrays[3], self.relation)
        return dict(zip(_NUMBERS, (float(array.flat[at]) for array in arrays), strict=True))

    def _arrays(self) -> tuple[NDArray[Any], ...]:
        return np.broadcast_arrays(*(np.asarray(getattr(self, name), float) for name in _NUMBERS))

    @property
    def numbers(self) -> str:
        """What was measured, in words and one number each."""
        record, value, caught = ledger()[self.id], self.shown, self.caught
        said, told = (
            {name: in_digits(number, entry["uncertainty"] or entry["tolerance"]) for name, number in entry.items()}
            for entry in (value, caught)
        )
        spread = f" ± {said['uncertainty']}" if value["uncertainty"] else ""
        many = f" (the least favourable of {self.size})" if self.size > 1 else ""
        other = "model of which it is true" if record.status == "disagrees" else record.control
        there = " there" if many else ""
        own = f", the largest of {self.draws} that the model itself gave" if self.draws else ""
        if caught != value:
            there = f" at another, where {SIGNS[self.relation]}{told['predicted']} is predicted"
        return (
            f"Measured {said['measured']}{spread}{many}, predicted {SIGNS[self.relation]}{said['predicted']}{own}. "
            f"A {other} gives {told['control']}{there}."
        )

    @property
    def undecided(self) -> bool:
        """Whether the measurement is as claimed but the control is too, so that these data cannot tell."""
        as_claimed = self.outcome in ("holds", self.status) and self.status != "disagrees"
        return as_claimed and self.control_outcome != "fails"

    @property
    def line(self) -> str:
        """The verdict as a line of words; when reality and record part it says where."""
        record, value = ledger()[self.id], self.shown
        if self.agrees:
            return f"{WORDS[record.status]}: {record.statement} {self.numbers}"
        if self.undecided:
            return f"{UNDECIDED}: {record.statement} {self.numbers} Recorded: {WORDS[record.status]}."
        return (
            f"✗ {self.id}: {self.numbers} Measured with tolerance {value['tolerance']:.2g}: {self.outcome}; "
            f"control: {self.control_outcome}; recorded: {record.status}. {PARTED}"
        )


_NUMBERS = ("measured", "predicted", "uncertainty", "tolerance", "control")
SIGNS = {"=": "", "<=": "at most ", ">=": "at least "}


@cache
def ledger() -> dict[str, Record]:
    """Read ``claims.toml``.

    Returns
    -------
    dict
        From id to `Record`, in the file's order.

    Raises
    ------
    ValueError
        If an entry has an unknown field, status or kind, lacks a caveat it needs, or depends on an unknown claim.

    Examples
    --------
    >>> ledger()["em-weak-order"].chapter
    'e2_mechanism'
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
        for field, allowed in CHOICES.items():
            if (value := getattr(record, field)) not in allowed:
                raise ValueError(f"claim {name!r} has {field} {value!r}; allowed are {', '.join(map(repr, allowed))}")
        if record.status in CAVEAT_NEEDED and not record.caveat:
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
    exact: bool = False,
) -> NDArray[np.int_]:
    """Say entry by entry whether a measurement agrees with a prediction: 1 if it does, -1 if not, 0 if it cannot tell.

    An equality holds within its tolerance, z standard errors and the bound. An inequality holds, or fails, by more
    than its tolerance; within it the measurement is consistent with the inequality and with its opposite. If the bound
    is rounding alone, equality belongs to the inequality, and a measurement within the bound of it does too.

    Parameters
    ----------
    measured, predicted : array_like
        Broadcast against each other.
    uncertainty : array_like
        Standard error of the measurement, at least 0.
    bound : array_like
        A bound on its systematic error (rounding, quadrature, discretisation), at least 0.
    relation : {"=", "<=", ">="}
        How the measurement should stand to the prediction.
    z : float
        How many standard errors are allowed.
    exact : bool
        Whether the bound is rounding alone.

    Examples
    --------
    >>> compare([1.0, 2.0], 1.1, uncertainty=0.05, relation="=", z=5).tolist()
    [1, -1]
    """
    difference = np.asarray(measured, float) - np.asarray(predicted, float)
    tolerance = z * np.asarray(uncertainty, float) + np.asarray(bound, float)
    if relation == "=":
        return np.where(np.abs(difference) <= tolerance, 1, -1)
    if relation in ("<=", ">="):
        margin = difference if relation == ">=" else -difference
        needed = tolerance - (2 if exact else 0) * np.asarray(bound, float)
        return np.where(margin >= needed, 1, np.where(margin >= -tolerance, 0, -1))
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
    replicates: int | None = None,
    false_alarm: float | None = None,
) -> None:
    """Hold a measurement against a prediction, show the verdict, and compare it with the ledger.

    Takes the arguments of `judge` and raises what it raises, and besides:

    Raises
    ------
    ClaimError
        In strict mode (environment variable ``PBTLIB_STRICT=1``, as in CI), if reality and record part. Otherwise
        the verdict is shown, in red or, where these data cannot tell it from its control, in amber, and work goes on.

    Examples
    --------
    >>> claim("em-weak-order", measured=1.01, predicted=1.0, uncertainty=0.01, control=2.0)  # doctest: +ELLIPSIS
    Holds: ... Measured 1.010 ± 0.010, predicted 1.000. A broken model gives 2.000.
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
        replicates=replicates,
        false_alarm=false_alarm,
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
    replicates: int | None = None,
    false_alarm: float | None = None,
) -> Verdict:
    """Hold a measurement against a prediction and the outcome against the ledger.

    Parameters
    ----------
    id : str
        Key of ``claims.toml``.
    measured, predicted : array_like
        What the computation gave and what the theory says; with arrays every entry must agree.
    control : array_like
        The same measurement on a model that is deliberately broken: it must come out the other way. For a claim that
        is recorded as "disagrees" that is a model for which the statement is true.
    uncertainty : array_like
        Standard error of the measurement.
    bound : array_like
        A bound on its systematic error; the ledger says whether it is proved or estimated.
    relation : {"=", "<=", ">="}
        How measured should stand to predicted.
    z : float
        Standard errors allowed. At the default 5 a right Gaussian measurement fails with probability 6e-7.
    replicates : int, optional
        Number of independent replicates, at least 2, if the uncertainty was estimated from few: Student's quantile of
        the same probability then takes the place of z.
    false_alarm : float, optional
        If ``predicted`` is a critical value from the model's own runs: the probability, between 0 and 1, that a right
        measurement exceeds it, such as 1/1000 for the largest of 999 independent draws. It takes the place of the
        normal law's; the chance that the draws differ is in it, so an uncertainty is refused.

    Returns
    -------
    Verdict

    Raises
    ------
    KeyError
        If the ledger has no such claim.
    ValueError
        If the recorded status says that nothing is computed, or on NaN, negative uncertainty, empty input, or an
        uncertainty beside a false_alarm.

    Examples
    --------
    >>> verdict = judge("em-weak-order", measured=1.01, predicted=1.0, uncertainty=0.01, control=2.0)
    >>> verdict.outcome, verdict.control_outcome, verdict.agrees
    ('holds', 'fails', True)
    """
    if id not in ledger():
        raise KeyError(f"id is {id!r}; claims.toml has no such claim")
    record = ledger()[id]
    if record.status not in COMPUTED:
        raise ValueError(f"claim {id!r} is recorded as {record.status!r}; a measured claim is one of {COMPUTED}")
    check_number("z", z, minimum=0, open_minimum=True)
    if replicates is not None:
        check_number("replicates", replicates, integer=True, minimum=2)
    if false_alarm is not None:
        check_number("false_alarm", false_alarm, minimum=0, maximum=1, open_minimum=True, open_maximum=True)
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
    if false_alarm is not None and (np.any(error > 0) or replicates is not None):
        raise ValueError(
            f"claim {id!r} has a false_alarm and an uncertainty or replicates; only one can say what chance does"
        )
    tail = float(ndtr(-z))
    factor = z if replicates is None else -float(stdtrit(replicates - 1, tail))
    exact = record.bound == "rounding"
    outcome, other = (
        int(compare(array, want, error, slack, relation=relation, z=factor, exact=exact).min())
        for array in (got, broken)
    )
    if record.status == "disagrees":
        agrees = outcome < 0 <= other
    else:  # a claim that is only consistent with what was seen promises less than one that holds
        agrees = other < 0 and outcome >= (0 if record.status == "consistent with" else 1)
    uncertain = np.broadcast_arrays(got, want, error)[2] > 0
    chance = min(1.0, tail * (2 if relation == "=" else 1) * int(uncertain.sum()))
    return Verdict(
        id=id,
        status=record.status,
        measured=_plain(got),
        predicted=_plain(want),
        uncertainty=_plain(error),
        tolerance=_plain(factor * error + slack),
        relation=relation,
        control=_plain(broken),
        outcome=OUTCOMES[outcome],
        control_outcome=OUTCOMES[other],
        agrees=agrees,
        factor=float(f"{factor:.9g}"),
        replicates=replicates,
        false_alarm=float(f"{chance if false_alarm is None else false_alarm:.2g}"),
        simulated=false_alarm is not None,
    )


def _furthest(difference: NDArray[Any], tolerance: NDArray[Any], relation: str) -> int:
    """Index of the entry that is worst for the relation, in units of its tolerance."""
    wrong = {"=": np.abs(difference), "<=": difference, ">=": -difference}[relation]
    return int(np.argmax(wrong / np.where(tolerance > 0, tolerance, 1e-300)))


def in_digits(value: float, scale: float) -> str:
    """A number to two digits of its scale, such as its standard error, with a power of ten if it needs one."""
    digits = 1 - int(np.floor(np.log10(scale) + 1e-6)) if scale > 0 else 7
    short = f"{value:.{max(digits, 0)}f}" if digits <= 6 and abs(value) < 1e6 else f"{value:.4g}"
    number, _, power = short.replace("-", "−").partition("e")
    exponent = str(int(power.replace("−", "-"))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")) if power else ""
    return f"{number} × 10{exponent}" if exponent else number


def _plain(values: NDArray[Any]) -> Any:
    return np.vectorize(lambda v: float(f"{v:.9g}"), otypes=[float])(values).tolist()


def _show(verdict: Verdict) -> None:
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        print(verdict.line.encode(encoding, "namereplace").decode(encoding))  # not every terminal has a check mark
        return
    kind, style = "claim-ok", ""  # there is no CSS in a lab
    if not verdict.agrees:
        kind, style = ("claim-open", _AMBER) if verdict.undecided else ("claim-bad", _RED)
    shell.display_pub.publish(
        data={
            "text/plain": verdict.line,
            "text/html": f'<p class="claim {kind}" id="claim-{verdict.id}"{style}>{escape(verdict.line)}</p>',
        },
        metadata={METADATA_KEY: asdict(verdict)},
    )
