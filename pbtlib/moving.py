"""Figures with sliders: what is drawn at each of their positions, as data that a page shows without a kernel."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pbtlib.checks import check_array

__all__ = ["Axis", "Curve", "Moving", "Panel", "Slider", "curve", "figure", "whole"]

KINDS = ("line", "points", "bars", "band", "mark")
DIGITS = 4


@dataclass(frozen=True)
class Slider:
    """A slider over these values, at first at ``start``.

    Examples
    --------
    >>> Slider("β", (0.1, 1.0, 10.0), start=1.0).values
    (0.1, 1.0, 10.0)
    """

    label: str
    values: Sequence[float]
    start: float


@dataclass(frozen=True)
class Axis:
    """An axis with its limits, the same at all positions, so that what moves is the curve.

    Examples
    --------
    >>> Axis("time", 0, 10).log
    False
    """

    label: str
    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Panel:
    """A panel with its title and its two axes.

    Examples
    --------
    >>> Panel("a line", Axis("x", 0, 1), Axis("y", 0, 2)).y.high
    2
    """

    title: str
    x: Axis
    y: Axis


@dataclass(frozen=True)
class Curve:
    """What is drawn under one label; see `curve`.

    Examples
    --------
    >>> curve("half", [0, 1], [0, 1 / 2], kind="points").kind
    'points'
    """

    label: str
    kind: str
    style: int
    data: dict[str, list[float]]


def curve(
    label: str, x: ArrayLike, y: ArrayLike, kind: str = "line", *, high: ArrayLike | None = None, style: int = 0
) -> Curve:
    """Return a curve, its numbers rounded to four digits.

    Parameters
    ----------
    label : str
        Its name in the legend.
    x, y : array_like, shape (n,)
        Its points; bars have one edge more in x.
    kind : str
        line, points, bars, mark (large points), or band (between y and high).
    high : array_like, shape (n,), optional
        Upper edge of a band.
    style : int
        Place in the palette, 0 to 2; −1 is grey.

    Examples
    --------
    >>> curve("half", [0, 1], [0, 1 / 2]).data
    {'x': [0.0, 1.0], 'y': [0.0, 0.5]}
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}")
    data = {"x": x, "y": y, **({} if high is None else {"high": high})}
    arrays = {name: check_array(f"{name} of {label!r}", values, min_ndim=1) for name, values in data.items()}
    sizes = {name: len(array) - (name == "x" and kind == "bars") for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"the curve {label!r} has coordinates of different lengths: {sizes}")
    return Curve(label, kind, style, {name: [_rounded(v) for v in array] for name, array in arrays.items()})


@dataclass(frozen=True)
class Moving:
    """A moving figure: its name and all its data, as JSON holds them.

    Examples
    --------
    >>> Moving("tilt", {"title": "Tilt"}).to_json(page="index")
    '{"title":"Tilt","page":"index"}'
    """

    name: str
    data: dict[str, Any]

    def __repr__(self) -> str:
        """Say where it moves: a notebook shows the last value of a cell."""
        return f"{self.name}: moves on the built page"

    def to_json(self, **more: str) -> str:
        """Return the data, with more of it, as compact JSON."""
        return json.dumps({**self.data, **more}, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def figure(
    name: str,
    draw: Callable[..., tuple[Any, ...]],
    *,
    title: str,
    alt: str,
    sliders: Sequence[Slider],
    panels: Sequence[Panel],
) -> Moving:
    """Draw every combination of slider positions; a cell that ends with this records it for the built page.

    Parameters
    ----------
    name : str
        What ``<div class="moving" data-name="...">`` on a page calls it.
    draw : callable
        Takes a value of each slider and returns a sentence that says what is to be seen, then for each panel a list of
        curves, of the same labels at every position.
    title, alt : str
        Its heading, and its description for those who do not see it.
    sliders, panels : sequence of Slider, of Panel
        The controls, the last one fastest in the data, and the axes.

    Raises
    ------
    ValueError
        If a slider does not start at one of its values, or curves come and go.

    Examples
    --------
    >>> tilt = Slider("slope", (1, 2), start=2)
    >>> line = Panel("a line", Axis("x", 0, 1), Axis("y", 0, 2))
    >>> def draw(slope):
    ...     return f"Slope {slope}.", [curve("line", [0, 1], [0, slope])]
    >>> shown = figure("tilt", draw, title="Tilt", alt="A line.", sliders=[tilt], panels=[line])
    >>> [frame["curves"] for frame in shown.data["frames"]]
    [[{'y': [0.0, 1.0]}], [{'y': [0.0, 2.0]}]]
    """
    for slider in sliders:
        if slider.start not in slider.values:
            raise ValueError(f"slider {slider.label!r} starts at {slider.start}; it must be one of {slider.values}")
    says, states = [], []
    for values in product(*(slider.values for slider in sliders)):
        sentence, *drawn = draw(*values)
        says.append(sentence)
        states.append([(panel, one) for panel, curves in enumerate(drawn) for one in curves])
    fixed, *others = [[(panel, one.label, one.kind, one.style, one.data.keys()) for panel, one in s] for s in states]
    if any(other != fixed for other in others) or {panel for panel, *_ in fixed} != set(range(len(panels))):
        raise ValueError(f"figure {name!r}: each position must draw the same curves in the same {len(panels)} panels")
    still = [  # what is the same at every position is kept once
        {key for key in one.data if all(state[i][1].data[key] == one.data[key] for state in states)}
        for i, (_, one) in enumerate(states[0])
    ]
    return Moving(
        name,
        {
            "title": title,
            "alt": alt,
            "sliders": [
                {"label": s.label, "values": [f"{v:,g}" for v in s.values], "start": list(s.values).index(s.start)}
                for s in sliders
            ],
            "panels": [asdict(panel) for panel in panels],
            "curves": [
                {"panel": panel, "label": one.label, "kind": one.kind, "style": one.style}
                | {key: one.data[key] for key in sorted(keep)}
                for (panel, one), keep in zip(states[0], still, strict=True)
            ],
            "frames": [
                {
                    "says": sentence,
                    "curves": [
                        {key: values for key, values in one.data.items() if key not in keep}
                        for (_, one), keep in zip(state, still, strict=True)
                    ],
                }
                for sentence, state in zip(says, states, strict=True)
            ],
        },
    )


def whole(values: ArrayLike, scale: float = 1.0) -> Any:
    """Return values in whole units of 1/scale, as nested lists: short in a file, exact enough for a picture.

    Examples
    --------
    >>> whole([0.5, 0.254], scale=100)
    [50, 25]
    """
    return np.rint(scale * np.asarray(values)).astype(int).tolist()


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
