r"""What the record of a run can say about it, and what it cannot: findings with error bars, verdicts and claims.

Let :math:`F_{j,i}` be the score of trial i at update j, :math:`p_j(i)` its parent there (itself if it went on) and
:math:`h_{j+1,i}` what it trained with next. Four facts carry everything here.

1. *Selection on a regressor does no harm.* Who is copied depends on :math:`F_j`, so a regression of the next score
   on :math:`F_j` estimates the same conditional mean as without selection. The slopes of different intervals have
   errors that are uncorrelated, since each interval's noise is new given the past: Student's interval over them.
2. *Mutation is a randomised experiment.* :math:`\delta` is drawn by lot given the parent, so if the next score of
   copies depends on :math:`\delta` then h matters, whatever luck the copies inherited and whoever their relatives
   are; and its scores are uncorrelated even between siblings.
3. *Without heritable success trials are exchangeable.* Deal the scores of every update to the trials at random, apply
   the run's own rule, ties included: that is a run in which nothing is inherited but the family name.
4. *If training forgets, the order of two readings does not matter.* Of a trial that kept its h, the scores of the last
   update and of the one before predict the next equally well; memory makes the last one better.

What cannot be identified from a record: luck that is *not* forgotten within the intervals looks like tuning. Only
weights trained anew tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from pbtlib.checks import check_number
from pbtlib.runs import UNKNOWN

__all__ = ["LEVEL", "MIN_TRIALS", "MIN_UPDATES", "Diagnosis", "Finding", "diagnose"]

Array = NDArray[np.float64]

LEVEL = 0.01
"""Two-sided error probability of every interval, and of every test."""

MIN_TRIALS = 16
"""With fewer trials nothing is said, since a regression with three coefficients and its error needs about as many."""

MIN_UPDATES = 6
"""With fewer intervals between updates nothing is said, since Student's interval is four standard errors wide here."""

FORGETS = 0.2
"""Training counts as relaxed if at most this part of a lead in luck is left after an interval."""

CANNOT = "cannot tell"


@dataclass(frozen=True)
class Finding:
    """One answer.

    Attributes
    ----------
    name : str
        Short name; of findings about one hyperparameter with its name after a colon.
    question : str
        What was asked, to be answered by yes or no.
    verdict : str
        "yes", "no" or "cannot tell".
    value, low, high : float
        The measured number and its interval at the level `LEVEL`; NaN where there is none.
    meaning : str
        What the number is.
    claim : str
        Id in the ledger of the statement that this rests on.
    reason : str
        Why this verdict, and its limit.

    Examples
    --------
    >>> answer = Finding("grid", "Is it more than a grid?", "no", 0.5, 0.4, 0.6, "gain", "a-claim", "Measured.")
    >>> print(answer)
    Is it more than a grid? NO. gain: 0.5 [0.4, 0.6]. Measured. (a-claim)
    """

    name: str
    question: str
    verdict: str
    value: float
    low: float
    high: float
    meaning: str
    claim: str
    reason: str

    def __str__(self) -> str:
        number = ""
        if np.isfinite(self.value):
            band = f" [{self.low:.2g}, {self.high:.2g}]" if np.isfinite([self.low, self.high]).any() else ""
            number = f" {self.meaning}: {self.value:.2g}{band}."
        return f"{self.question} {self.verdict.upper()}.{number} {self.reason} ({self.claim})"


@dataclass(frozen=True)
class Diagnosis:
    """All findings about one run; prints as a list of sentences.

    Attributes
    ----------
    findings : tuple of Finding
    trials, updates : int
        How many trials, and how many updates at which something was copied.
    logarithmic : tuple of str
        Hyperparameters that were taken by their decimal logarithm.

    Examples
    --------
    >>> answer = Finding("grid", "Is it more than a grid?", "no", 0.5, 0.4, 0.6, "gain", "a-claim", "Measured.")
    >>> Diagnosis((answer,), trials=20, updates=9, logarithmic=())["grid"].verdict
    'no'
    """

    findings: tuple[Finding, ...]
    trials: int
    updates: int
    logarithmic: tuple[str, ...]

    def __getitem__(self, name: str) -> Finding:
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(f"name is {name!r}; there are {', '.join(f.name for f in self.findings)}")

    def __str__(self) -> str:
        scale = f"; by their logarithm: {', '.join(self.logarithmic)}" if self.logarithmic else ""
        head = f"{self.trials} trials, {self.updates} updates{scale}"
        return "\n".join([head, *(str(finding) for finding in self.findings)])

    def plot(self, ax: Any) -> None:
        """Draw values and intervals of the findings that have them, one line each, with the verdicts.

        Parameters
        ----------
        ax : matplotlib.axes.Axes
        """
        look = {"yes": ("C0", "o"), "no": ("C3", "s"), CANNOT: ("0.45", "D")}
        for row, finding in enumerate(self.findings):
            colour, marker = look[finding.verdict]
            if np.isfinite([finding.value, finding.low, finding.high]).all():
                ends = [[finding.low], [finding.high]]
                ax.plot([e[0] for e in ends], [row, row], color=colour, linestyle="-", label="_")
                ax.plot([finding.value], [row], color=colour, marker=marker, linestyle="none", label=finding.name)
            ax.text(1.01, row, finding.verdict, color=colour, va="center", transform=ax.get_yaxis_transform())
        ax.set_yticks(range(len(self.findings)), [finding.name.replace(":", " of ") for finding in self.findings])
        ax.set(ylim=(len(self.findings) - 0.5, -0.5), xlabel="value and its 99 % interval")


@dataclass(frozen=True)
class _Lines:
    """Scores, parents and hyperparameters at the updates."""

    score: Array  # (J + 1, N): before update j, the last one at the end
    parent: NDArray[np.intp]  # (J, N)
    h: dict[str, Array]  # each (J + 1, N): what led to score j
    rows: NDArray[np.intp]  # interval of each
    text: tuple[str, ...]

    @property
    def own(self) -> NDArray[np.bool_]:
        """Who went on by itself, (J, N)."""
        same: NDArray[np.bool_] = self.parent == np.arange(self.parent.shape[1])
        return same

    def before(self, values: Array) -> Array:
        """Values of the parents, (J, N)."""
        return np.take_along_axis(values[:-1], self.parent, 1)


def diagnose(run: xr.Dataset, *, retrained: ArrayLike | None = None, draws: int = 999, seed: int = 0) -> Diagnosis:
    r"""Ask a record what it can tell.

    Parameters
    ----------
    run : xarray.Dataset
        As `pbtlib.runs.read` returns.
    retrained : array_like, shape (N,), optional
        Scores of the trials' last hyperparameters with weights trained anew, for as long as the run; NaN where that
        was not done. Only they tell luck that is still there from tuning.
    draws : int
        Number of lotteries, at least 199.
    seed : int
        Seed of the lotteries.

    Returns
    -------
    Diagnosis
        Findings ``relaxed``, ``luck``, ``window``, ``families``, ``grid``, and for each hyperparameter of numbers
        ``variety:NAME``, ``schedule:NAME``, ``mutation:NAME``. Each says "yes" wrongly with a probability of about
        `LEVEL`, and "no" too, except that the "no" of ``families`` says only that a lottery concentrates as much.
        With fewer than `MIN_TRIALS` trials or `MIN_UPDATES` intervals after updates, and of asynchronous runs, all
        say "cannot tell" (but for ``grid``, which is arithmetic).

    Raises
    ------
    ValueError
        If the run is no such data set, the draws are too few, or ``retrained`` has another length.

    Examples
    --------
    >>> import pandas as pd
    >>> from pbtlib import runs
    >>> rows = {"trial": ["a", "b"] * 2, "time": [1, 1, 2, 2], "score": [0.1, 0.4, 0.5, 0.6], "lr": [1, 2, 3, 2],
    ...         "parent": ["b", "b", "a", "b"]}
    >>> answer = diagnose(runs.read(pd.DataFrame(rows)))["luck"]
    >>> answer.verdict, answer.reason
    ('cannot tell', '2 trials are too few; at least 16 are needed.')
    """
    check_number("draws", draws, integer=True, minimum=199)
    if not {"score", "parent", "time"} <= set(run.data_vars) or "hyperparameters" not in run.attrs:
        raise ValueError(f"run holds {', '.join(map(str, run.data_vars))}; it must be what runs.read returns")
    anew = None if retrained is None else np.asarray(retrained, float)
    if anew is not None and anew.shape != (run.sizes["trial"],):
        raise ValueError(f"retrained has shape {anew.shape}; it must be ({run.sizes['trial']},), one score a trial")
    lines, logarithmic = _lines(run)
    silent = _silence(run, lines)
    numbers = [name for name in run.attrs["hyperparameters"] if name not in lines.text]
    lots = None if silent else _lotteries(lines, numbers, draws, np.random.default_rng(seed))
    relaxed = _relaxed(lines, silent)
    findings = [relaxed, _luck(lines, anew, silent), _window(run, lines, silent), _families(lines, lots, silent)]
    for name in numbers:
        effect = None if silent else _mutation_effect(lines, name)
        findings.append(_variety(name, lots, silent))
        findings.append(_schedule(lines, name, lots, effect, relaxed.verdict, silent))
        findings.append(_mutation(lines, name, effect, relaxed.verdict, silent))
    findings.append(_grid(run.sizes["trial"], max(1, len(run.attrs["hyperparameters"]))))
    return Diagnosis(tuple(findings), run.sizes["trial"], len(lines.parent), logarithmic)


def _lines(run: xr.Dataset) -> tuple[_Lines, tuple[str, ...]]:
    parent = run["parent"].to_numpy().T
    copied = ((parent != np.arange(parent.shape[1])) & (parent != UNKNOWN)).any(1)
    rows = np.append(np.flatnonzero(copied[:-1]), len(parent) - 1)
    at, text, logarithmic = {}, [], []
    for name in run.attrs["hyperparameters"]:
        values = run[name].to_numpy().T[rows]
        if values.dtype.kind == "U":
            text.append(name)
            at[name] = np.unique(values, return_inverse=True)[1].reshape(values.shape).astype(float)
            continue
        known = values[np.isfinite(values)]
        if known.size and known.min() > 0 and known.max() >= 30 * known.min():
            logarithmic.append(name)
            values = np.log10(values)
        at[name] = values
    score = run["score"].to_numpy().T[rows]
    return _Lines(score, parent[rows[:-1]], at, rows, tuple(text)), tuple(logarithmic)


def _silence(run: xr.Dataset, lines: _Lines) -> str:
    """Why nothing can be said, or nothing."""
    trials, updates = run.sizes["trial"], len(lines.parent)
    if not run.attrs["synchronous"]:
        return "Asynchronous run: an interval is no cross-section of the population."
    if trials < MIN_TRIALS:
        return f"{trials} trials are too few; at least {MIN_TRIALS} are needed."
    if (run["parent"] == UNKNOWN).all():
        return "The table does not say who was copied from whom."
    if updates < MIN_UPDATES:
        return f"{updates} updates are too few; at least {MIN_UPDATES} are needed."
    if (lines.parent == UNKNOWN).any():
        return f"{int((lines.parent == UNKNOWN).sum())} parents are unknown."
    return ""


def _unable(name: str, question: str, claim: str, reason: str) -> Finding:
    return Finding(name, question, CANNOT, np.nan, np.nan, np.nan, "", claim, reason)


# ------------------------------------------------------------------------------------------------- regressions


def _slopes(target: Array, wanted: list[Array], control: list[Array], use: NDArray[np.bool_]) -> Array:
    """Least-squares coefficients of the wanted columns, interval by interval: (intervals that allow it, wanted)."""
    out = []
    for j in range(len(target)):
        columns = np.stack([*(x[j] for x in wanted), *(x[j] for x in control)], -1)
        keep = use[j] & np.isfinite(target[j]) & np.isfinite(columns).all(-1)
        design = columns[keep]
        if len(design) < design.shape[1] + 6:
            continue
        design = design - design.mean(0)
        spread = design.std(0)
        alive = spread > 1e-12 * (1 + np.abs(columns[keep]).max(0))
        if not alive[: len(wanted)].all():
            continue
        scaled = design[:, alive] / spread[alive]
        y = target[j][keep] - target[j][keep].mean()
        found = np.linalg.lstsq(scaled, y, rcond=1e-8)[0] / spread[alive]
        out.append(found[: len(wanted)])
    return np.array(out).reshape(-1, len(wanted))


def _student(values: Array) -> tuple[float, float, float]:
    """Mean and its interval at LEVEL; NaN if there are too few."""
    n = len(values)
    if n < MIN_UPDATES:
        return np.nan, np.nan, np.nan
    middle, half = values.mean(), stats.t.isf(LEVEL / 2, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return float(middle), float(middle - half), float(middle + half)


def _landscape(lines: _Lines, after: slice) -> list[Array]:
    """Columns of a quadratic in the hyperparameters; indicators of text."""
    out: list[Array] = []
    numbers = [v for name, v in lines.h.items() if name not in lines.text]
    for i, values in enumerate(numbers):
        x = values[after]
        x = x - np.nanmean(x)
        out += [x, *(x * (other[after] - np.nanmean(other[after])) for other in numbers[i:])]
    for name in lines.text:
        codes = lines.h[name]
        out += [(codes[after] == code).astype(float) for code in np.unique(codes)[1:]]
    return out


def _survival(lines: _Lines) -> Array:
    """Slope of the next score on the parent's, by interval, given who was copied: copies alone pay for mutation."""
    copied = (~lines.own).astype(float)
    return _slopes(lines.score[1:], [lines.before(lines.score)], [copied], np.ones_like(lines.own))[:, 0]


def _growth(lines: _Lines) -> str:
    """Say where trials that kept their h improved most, if that is significant among so many intervals; or nothing."""
    best, said = LEVEL / 2 / len(lines.parent), ""
    for j, stayed in enumerate(lines.own):
        change = (lines.score[j + 1] - lines.score[j])[stayed]
        change = change[np.isfinite(change)]
        if len(change) < 10 or not change.std() > 0:
            continue
        error = change.std(ddof=1) / np.sqrt(len(change))
        p = float(stats.t.sf(change.mean() / error, len(change) - 1))
        if p < best:
            best = p
            said = (
                f"Trials that kept their h still improve, by {change.mean():.2g} ± {error:.1g} in the interval after "
                f"update {j + 1}."
            )
    return said


def _relaxed(lines: _Lines, silent: str) -> Finding:
    r"""Say whether the memory of luck is short against an interval.

    The value is the slope m of the next score on the parent's, given a quadratic in the copy's h: of a lead that h
    does not explain, the part that is left. What the quadratic misses of the landscape adds to m, so m is an upper
    estimate of the memory, and only a small one decides. "No" rests on two tests that need no landscape: trials that
    kept their h must not improve on average in any interval (selection makes their last score too good, if anything),
    and of their last two scores neither must be the better predictor.
    """
    name, question, claim = "relaxed", "Is training relaxed between updates?", "jump-survives"
    if silent:
        return _unable(name, question, claim, silent)
    everyone = np.ones_like(lines.own)
    columns = _landscape(lines, slice(1, None))
    memory = _student(_slopes(lines.score[1:], [lines.before(lines.score)], columns, everyone)[:, 0])
    grown = _growth(lines)
    thrice = lines.own[1:] & lines.own[:-1]
    pair = _slopes(lines.score[2:], [lines.score[1:-1], lines.score[:-2]], [], thrice)
    order = _student(pair[:, 0] - pair[:, 1])
    meaning = "share of an unexplained lead that survives an interval (upper estimate)"
    if grown:
        verdict, reason = "no", grown
    elif order[1] > 0:
        verdict, reason = "no", "A trial's last score predicts the next better than the one before: training remembers."
    elif memory[2] < FORGETS:
        verdict, reason = "yes", "Of a lead that h does not explain, hardly anything survives an interval."
    else:
        verdict, reason = CANNOT, "A lead may last through the weights, or because a quadratic in h misses something."
    return Finding(name, question, verdict, *memory, meaning, claim, reason)


def _luck(lines: _Lines, anew: Array | None, silent: str) -> Finding:
    r"""Say how much of a score is luck of the weights.

    From the record: the slope b of the next score on the parent's, given who was copied. 1 − b of a lead is lost within
    one interval; it was luck. The rest is tuning, or luck that lasts longer. With weights trained anew: the mean of own
    minus new score, which is the premium at vanishing pressure.
    """
    name, question, claim = "luck", "Is a lead in score partly luck?", "breeders-equation"
    if silent:
        return _unable(name, question, claim, silent)
    if anew is not None:
        paired = (lines.score[-1] - anew)[np.isfinite(lines.score[-1] - anew)]
        value = _student(paired)
        small = 0.25 * float(np.nanstd(lines.score[-1]))
        verdict = "yes" if value[1] > 0 else "no" if value[2] < small else CANNOT
        reason = f"{len(paired)} trials against weights trained anew; below {small:.2g}, a quarter of the spread: no."
        return Finding(name, question, verdict, *value, "own score minus that of new weights", claim, reason)
    slope = _student(_survival(lines))
    value = (1 - slope[0], 1 - slope[2], 1 - slope[1])
    verdict = "yes" if value[1] > 0.1 else CANNOT
    reason = "A lower bound: luck that lasts longer looks like tuning, and only retraining tells the two apart."
    return Finding(name, question, verdict, *value, "share of a lead lost within an interval", claim, reason)


def _window(run: xr.Dataset, lines: _Lines, silent: str) -> Finding:
    r"""Say how many readings a score should average.

    Within an interval nobody is selected, so a straight line through the L ≥ 3 readings of each trial gives the
    variance v of a reading (residuals) and the square of the growth per reading, g² = slope² − v/Σ(t − t̄)². The best
    window is (2v/g²)^(1/3), with means of v and g² over trials; its error by the jackknife over intervals.
    """
    name, question, claim = "window", "Would averaging several readings rank trials better?", "window-optimum-law"
    if silent:
        return _unable(name, question, claim, silent)
    score, parts = run["score"].to_numpy().T, []
    for start, stop in zip(np.append(-1, lines.rows[:-1]), lines.rows, strict=True):
        block = score[start + 1 : stop + 1]
        block = block[:, np.isfinite(block).all(0)]
        if len(block) < 3 or block.shape[1] < 4:
            continue
        t = np.arange(len(block)) - (len(block) - 1) / 2
        slope = t @ block / (t @ t)
        rest = block - block.mean(0) - t[:, None] * slope
        variance = (rest**2).sum(0) / (len(block) - 2)
        parts.append((variance.mean(), (slope**2 - variance / (t @ t)).mean()))
    if len(parts) < MIN_UPDATES:
        return _unable(name, question, claim, "At least three results between two updates are needed.")
    v, g2 = np.array(parts).T
    out = np.array([[np.delete(v, k).mean(), np.delete(g2, k).mean()] for k in range(len(v))])
    if (out[:, 1] <= 0).any() or (out[:, 0] <= 0).any():
        return _unable(name, question, claim, "No growth within intervals is seen: the longer the window the better.")
    left = np.log(2 * out[:, 0] / out[:, 1]) / 3
    middle = np.log(2 * v.mean() / g2.mean()) / 3
    error = np.sqrt((len(v) - 1) / len(v) * ((left - left.mean()) ** 2).sum())
    half = stats.t.isf(LEVEL / 2, len(v) - 1) * error
    value, low, high = np.exp([middle, middle - half, middle + half])
    verdict = "yes" if low > 1.5 else "no" if high < 1.5 else CANNOT
    reason = "If readings are independent; luck that they share makes the best window shorter."
    return Finding(
        name, question, verdict, float(value), float(low), float(high), "best window in readings", claim, reason
    )


# ------------------------------------------------------------------------------------------------- lotteries


@dataclass(frozen=True)
class _Lots:
    """Outcomes of the lotteries, first entry the run itself."""

    identity: Array  # (1 + draws,): mean probability that two trials belong to one family
    spread: dict[str, Array]  # last over first standard deviation
    path: dict[str, Array]  # (1 + draws, J): mean minus the first mean
    shared: tuple[float, float]  # probability per update that two trials share a parent, and its error
    ties: int


def _truncates(lines: _Lines) -> bool:
    """Whether every update replaced the worst, in a stable order, by copies out of as many best."""
    for score, parent, own in zip(lines.score[:-1], lines.parent, lines.own, strict=True):
        order = np.argsort(np.where(np.isnan(score), np.inf, score), kind="stable")
        order = order[: np.isfinite(score).sum()]
        m = int((~own).sum())
        if 2 * m > len(order) or set(np.flatnonzero(~own)) != set(order[:m]):
            return False
        if not set(parent[~own]) <= set(order[len(order) - m :]):
            return False
    return True


def _drift(lines: _Lines, name: str) -> tuple[float, float]:
    """Slope and constant of a mutation's step against the parent's value, over all copies."""
    before = lines.before(lines.h[name])
    step = lines.h[name][1:] - before
    use = ~lines.own & np.isfinite(step)
    if use.sum() < 10 or not before[use].std() > 0:
        return 0.0, 0.0
    slope, constant = np.polyfit(before[use], step[use], 1)
    return float(slope), float(constant)


def _lotteries(lines: _Lines, numbers: list[str], draws: int, rng: np.random.Generator) -> _Lots:
    """Deal the scores anew at every update and apply the run's own rule: parents, families, hyperparameters.

    Truncation is applied to the dealt scores, ties in order of creation; of any other rule the jumps are dealt. The
    mutations are the run's own, dealt among the copies: what a straight line in the parent's value leaves, since fresh
    draws and a box pull towards the middle. All lotteries run side by side; the first is the run itself.
    """
    J, n = lines.parent.shape
    truncation, rows = _truncates(lines), np.arange(1 + draws)[:, None]
    family = np.tile(np.arange(n), (1 + draws, 1))
    at = {name: np.tile(lines.h[name][0], (1 + draws, 1)) for name in numbers}
    first = {name: np.nanstd(lines.h[name][0]) for name in numbers}
    path = {name: np.zeros((1 + draws, J)) for name in numbers}
    drift = {name: _drift(lines, name) for name in numbers}
    identity, shared, ties = np.zeros(1 + draws), [], 0
    for j in range(J):
        who, score = np.flatnonzero(~lines.own[j]), lines.score[j]
        alive = np.flatnonzero(np.isfinite(score))
        parent = np.tile(np.arange(n), (1 + draws, 1))
        into = np.tile(who, (1 + draws, 1))
        parent[0] = lines.parent[j]
        if truncation:
            dealt = rng.permuted(np.tile(score[alive], (draws, 1)), axis=1)
            order = alive[np.argsort(dealt, 1, kind="stable")]
            m, edge = len(who), np.sort(score[alive])
            ties += int(edge[m - 1] == edge[m] or edge[-m] == edge[-m - 1])
            into[1:] = order[:, :m]
            best = order[:, order.shape[1] - m :]
            parent[rows[1:], into[1:]] = np.take_along_axis(best, rng.integers(m, size=(draws, m)), 1)
        else:
            name_of = rng.permuted(np.tile(np.arange(n), (draws, 1)), axis=1)
            into[1:] = name_of[:, who]
            parent[rows[1:], into[1:]] = name_of[:, lines.parent[j][who]]
        counts = np.bincount(lines.parent[j], minlength=n)
        shared.append((counts * (counts - 1)).sum() / (n * (n - 1)))
        family = np.take_along_axis(family, parent, 1)
        sizes = np.bincount((rows * n + family).ravel(), minlength=(1 + draws) * n).reshape(-1, n)
        identity += (sizes * (sizes - 1)).sum(1) / (n * (n - 1)) / J
        for name in numbers:
            pull, shift = drift[name]
            step = lines.h[name][j + 1][who] - shift - (1 + pull) * lines.h[name][j][lines.parent[j][who]]
            moved = np.take_along_axis(at[name], parent, 1)
            order_ = rng.permuted(np.tile(np.arange(len(who)), (1 + draws, 1)), axis=1)
            order_[0] = np.arange(len(who))
            moved[rows, into] = shift + (1 + pull) * moved[rows, into] + np.nan_to_num(step)[order_]
            at[name] = moved
            path[name][:, j] = np.nanmean(moved, 1) - np.nanmean(lines.h[name][0])
    spread = {name: np.nanstd(at[name], 1) / (first[name] or 1.0) for name in numbers}
    error = np.std(shared, ddof=1) / np.sqrt(J)
    return _Lots(identity, spread, path, (float(np.mean(shared)), float(error)), ties)


def _families(lines: _Lines, lots: _Lots | None, silent: str) -> Finding:
    """Does success run in families? Probability that two trials share a founder, mean over updates, by lottery."""
    name, question, claim = "families", "Do families concentrate more than in a lottery?", "coalescence-rate"
    if silent or lots is None:
        return _unable(name, question, claim, silent)
    run, null = lots.identity[0], lots.identity[1:]
    p = float((1 + (null >= run).sum()) / (1 + len(null)))
    low, high = np.quantile(null, [1 - LEVEL / 2, LEVEL / 2])
    verdict = "yes" if p <= LEVEL else "no" if p > 10 * LEVEL else CANNOT
    rate, error = lots.shared
    tied = f" At {lots.ties} updates ties decided who was replaced." if lots.ties else ""
    reason = (
        f"Two trials share a parent with probability {rate:.3g} ± {error:.1g} per update; {p:.1%} of the lotteries "
        f"concentrate as much.{tied} A successful family may owe it to tuning or to inherited weights."
    )
    mean = "kinship relative to a lottery"
    return Finding(name, question, verdict, run / null.mean(), run / low, run / high, mean, claim, reason)


def _variety(name: str, lots: _Lots | None, silent: str) -> Finding:
    """Is the spread of h at least half of what it was? It scatters as in lotteries, whose trials have kin too."""
    label, question, claim = f"variety:{name}", f"Is variety in {name} kept?", "fig-7-concentrates"
    if silent or lots is None:
        return _unable(label, question, claim, silent)
    value, null = float(lots.spread[name][0]), lots.spread[name][1:]
    few, many = np.quantile(null, [LEVEL / 2, 1 - LEVEL / 2])
    if not few > 0:
        return _unable(label, question, claim, "By a lottery alone all trials may come to share one value.")
    low, high = value * np.median(null) / many, value * np.median(null) / few
    verdict = "yes" if low > 0.5 else "no" if high < 0.5 else CANNOT
    reason = f"It counts as kept above one half; a lottery with the same mutations gives {few:.2g} to {many:.2g}."
    return Finding(label, question, verdict, value, low, high, "last spread over the first", claim, reason)


# ------------------------------------------------------------------------------------------------- mutations


@dataclass(frozen=True)
class _Effect:
    """What mutations of one hyperparameter did to the next score of the copies."""

    copies: int
    p: float  # of no effect at all
    slope: float  # per unit of h
    slope_error: float
    cost: float  # of a mutation by its size, in score
    cost_error: float


def _mutation_effect(lines: _Lines, name: str) -> _Effect | None:
    r"""Regress the next score of copies on their mutation, linear and quadratic.

    Columns :math:`\delta` and :math:`h'^2 - h^2` for the copy's h' and its parent's h, given interval, parent's score,
    h and h². Their errors are White's, which are right under the null because :math:`\delta` is independent from
    copy to copy. The mean cost of mutation is −(coefficient of the square)·E[δ²]. Where trials keep their h when they
    are copied into, nothing was drawn, and there is no experiment.
    """
    if (lines.h[name][1:] == lines.h[name][:-1]).all():
        return None
    before, after = lines.before(lines.h[name]), lines.h[name][1:]
    centre = np.nanmean(lines.h[name][:-1])  # of all intervals: each its own would bias the square where the mean moves
    x, y = before - centre, after - centre
    delta = after - before
    use = ~lines.own & np.isfinite(lines.score[1:]) & np.isfinite(lines.before(lines.score)) & np.isfinite(delta)
    use &= use.sum(1, keepdims=True) >= 3
    n = int(use.sum())
    size = float(np.sqrt(np.mean(delta[use] ** 2))) if n else 0.0
    if n < 50 or size == 0:
        return None
    columns = np.stack(
        [delta / size, (y**2 - x**2) / size**2, lines.before(lines.score), x / size, (x / size) ** 2, lines.score[1:]],
        -1,
    )
    within = np.concatenate([columns[j][use[j]] - columns[j][use[j]].mean(0) for j in range(len(use)) if use[j].any()])
    design, target = within[:, :-1], within[:, -1]
    scale = np.where(design.std(0) > 0, design.std(0), 1.0)
    design = design / scale
    inverse = np.linalg.pinv(design.T @ design)
    found = inverse @ design.T @ target
    rest = target - design @ found
    leverage = np.minimum(np.einsum("ij,jk,ik->i", design, inverse, design), 0.9)
    meat = design * (rest / (1 - leverage))[:, None]
    covariance = (inverse @ (meat.T @ meat) @ inverse)[:2, :2]
    wald = float(found[:2] @ np.linalg.pinv(covariance) @ found[:2])
    both, errors = found[:2] / scale[:2], np.sqrt(np.diag(covariance)) / scale[:2]
    p = float(stats.f.sf(wald / 2, 2, n - 5 - use.any(1).sum()))
    return _Effect(n, p, both[0] / size, errors[0] / size, -both[1], errors[1])


def _schedule(
    lines: _Lines, name: str, lots: _Lots | None, effect: _Effect | None, relaxed: str, silent: str
) -> Finding:
    """Say whether the way of the mean was selected, from a lottery and from the mutations.

    The lottery shows how far the mean goes by chance. Alone it would not do: h rides along with lucky weights of its
    family. Mutations alone would not do either: h may matter and the mean yet wander. "No" needs relaxed training,
    since else h shows its effect only later.
    """
    label, question, claim = f"schedule:{name}", f"Was the schedule of {name} selected?", "lineage-is-ar1"
    if silent or lots is None:
        return _unable(label, question, claim, silent)
    path = lots.path[name] - lots.path[name].mean(0)
    error = path.std(0)
    if not (error > 0).all():
        return _unable(label, question, claim, "Nothing was mutated and nothing moves.")
    furthest = (np.abs(path) / error).max(1)
    p = float((1 + (furthest[1:] >= furthest[0]).sum()) / len(furthest))
    at = int((np.abs(path[0]) / error).argmax())
    value, half = float(path[0, at] / error[at]), float(np.quantile(furthest[1:], 1 - LEVEL))
    low, high = value - half, value + half
    meaning = f"largest shift of the mean, after update {at + 1}, in standard deviations of a lottery"
    lot = f"A lottery shifts it as far with probability {p:.1%}"
    if effect is None:
        reason = f"{lot}; too few mutated copies to say whether {name} matters."
        return Finding(label, question, CANNOT, value, low, high, meaning, claim, reason)
    spread = float(np.nanmean(np.nanstd(lines.h[name], 1)))
    reach = spread * (abs(effect.slope) + stats.norm.isf(LEVEL / 2) * effect.slope_error)
    small = 0.25 * float(np.nanmean(np.nanstd(lines.score, 1)))
    chance = f"p = {effect.p:.1g}" if effect.p >= 1e-6 else "p < 1e-6"  # no more digits than every processor gives
    matters = f"mutations of {name} change the next score: {chance}"
    if effect.p <= LEVEL and p <= LEVEL:
        verdict, reason = "yes", f"{lot}; {matters}."
    elif effect.p > 10 * LEVEL and p > 10 * LEVEL and reach < small and relaxed == "yes":
        verdict, reason = "no", f"{lot}, and {name} changes the next score by less than a quarter of its spread."
    else:
        verdict, reason = CANNOT, f"{lot}; {matters}."
    return Finding(label, question, verdict, value, low, high, meaning, claim, reason)


def _mutation(lines: _Lines, name: str, effect: _Effect | None, relaxed: str, silent: str) -> Finding:
    """Say whether a mutation costs more than half of what choosing the parent gained and kept."""
    label, claim = f"mutation:{name}", "late-teeth-repay-mutation"
    question = f"Does mutation of {name} eat up what selection gains?"
    if silent:
        return _unable(label, question, claim, silent)
    if effect is None:
        return _unable(label, question, claim, "Fewer than 50 copies were mutated.")
    lead = lines.before(lines.score) - np.nanmean(lines.score[:-1], 1, keepdims=True)
    chosen = np.array([np.nanmean(row[copied]) for row, copied in zip(lead, ~lines.own, strict=True)])
    (choice, least, _), (kept, low, high) = _student(chosen), _student(_survival(lines))
    if not (least > 0 and low > 0):
        return _unable(label, question, claim, "No gain of selection is seen to last an interval.")
    gain = kept * choice
    error = np.hypot(effect.cost_error, effect.cost * (high - kept) / stats.norm.isf(LEVEL / 2) / kept)
    half = stats.norm.isf(LEVEL / 2) * error
    value, low, high = ((effect.cost + s * half) / gain for s in (0, -1, 1))
    verdict = "yes" if low > 0.5 else "no" if high < 0.5 and relaxed == "yes" else CANNOT
    meaning = "cost of a mutation relative to the gain that lasts"
    if relaxed != "yes":
        reason = "Training is not known to be relaxed, and a mutation may show only later."
    else:
        reason = "Above one half a smaller mutation would pay; this says nothing about crossing valleys."
    return Finding(label, question, verdict, value, low, high, meaning, claim, reason)


def _grid(trials: int, dimensions: int) -> Finding:
    """Arithmetic: the same training buys as many independent trials of the same length, points on a grid."""
    points = float(trials ** (1 / dimensions))
    verdict = "yes" if dimensions == 1 and points >= 20 else "no" if points < 3 else CANNOT
    reason = (
        f"The same training buys {trials} independent trials of full length: random search, or a grid with this many "
        "points per hyperparameter. No grid finds a schedule."
    )
    return Finding(
        "grid",
        "Would a grid at the same cost have done?",
        verdict,
        points,
        np.nan,
        np.nan,
        "grid points per hyperparameter",
        "own-one-penalty-grid-is-safe",
        reason,
    )
