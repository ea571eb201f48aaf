"""What a figure draws, as a table: loaded into the kernel of a chapter, it keeps the numbers of every figure shown.

`book.execute` starts the kernel with this extension. Whenever IPython makes a picture of a matplotlib figure, the
data of its artists are written as CSV into the folder that the environment variable ``BOOK_RECORDS`` names; so the
chapters' authors have nothing to do. matplotlib is imported by the chapter or not at all.
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

COLUMNS = ("part", "x", "y", "x_low", "x_high", "y_low", "y_high", "value")
MOST_ROWS = 5000
LONG = 100

Table = dict[str, NDArray[np.float64]]
Series = tuple[int, str, str, Table]
"""Panel, kind, name and columns of one artist."""


def load_ipython_extension(shell: Any) -> None:
    """Write the table of each figure of which a picture is made from now on, as ``CELL-NUMBER.csv``."""
    from IPython.core import pylabtools

    folder = Path(os.environ["BOOK_RECORDS"])
    draw: Callable[..., Any] = pylabtools.print_figure
    cell, shown = 0, 0

    def begin(_: object) -> None:
        nonlocal cell, shown
        cell, shown = cell + 1, 0

    def print_figure(fig: Any, *words: Any, **named: Any) -> Any:
        nonlocal shown
        picture = draw(fig, *words, **named)
        if picture is not None:
            shown += 1
            (folder / f"{cell}-{shown}.csv").write_text(as_csv(fig))
        return picture

    shell.events.register("pre_run_cell", begin)
    pylabtools.print_figure = print_figure


def as_csv(fig: Any, most_rows: int = MOST_ROWS) -> str:
    """Return all that a figure draws as CSV.

    Lines that begin with ``#`` say what the panels' axes are, what was thinned and what is not listed. Each row is a
    point of a series (a line, a band, a set of bars, ...) in a panel; numbers have six significant digits.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
        After it was drawn.
    most_rows : int
        Longer tables are thinned, evenly within each long series, and say so.
    """
    every = [axis for outer in fig.axes for axis in (outer, *outer.child_axes)]
    panels = [axis for axis in every if not hasattr(axis, "_colorbar")]
    head = [_describe(number, axis) for number, axis in enumerate(panels, 1)]
    head += [f"colours: {bar.get_ylabel() or bar.get_xlabel() or 'see value'}" for bar in every if bar not in panels]
    series: list[Series] = []
    missing: Counter[str] = Counter()
    for number, axis in enumerate(panels, 1):
        series += [(number, *found) for found in _artists(axis, missing)]
    series = [(panel, kind, name, _finite(table)) for panel, kind, name, table in series]
    total = sum(_length(table) for *_, table in series)
    if total > most_rows:
        step = -(-total // most_rows)
        series = [(panel, kind, name, _thinned(table, step)) for panel, kind, name, table in series]
        left = sum(_length(table) for *_, table in series)
        head.append(
            f"thinned: {left} of {total} rows are here; of series longer than {LONG} points every {step}th and the last"
        )
    if missing:
        head.append("not listed: " + ", ".join(f"{n} {kind}" for kind, n in sorted(missing.items())))
    used = [c for c in COLUMNS if any(c in table and not np.isnan(table[c]).all() for *_, table in series)]
    out = io.StringIO()
    out.writelines(f"# {line}\n" for line in head)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["panel", "series", "kind", *used])
    for panel, kind, name, table in series:
        empty = np.full(_length(table), np.nan)
        for row in zip(*(table.get(c, empty) for c in used), strict=True):
            writer.writerow([panel, name, kind, *("" if np.isnan(v) else f"{v:.6g}" for v in row)])
    return out.getvalue()


def _describe(number: int, axis: Any) -> str:
    def one(name: str) -> str:
        label, scale = getattr(axis, f"get_{name}label")(), getattr(axis, f"get_{name}scale")()
        if not label:  # a shared axis bears its label on one panel only, of the same row (y) or column (x)
            mates = getattr(axis, f"get_shared_{name}_axes")().get_siblings(axis)
            lines = sorted((mate for mate in mates if mate is not axis), key=lambda mate: not in_line(mate, name))
            label = next((text for mate in lines if (text := getattr(mate, f"get_{name}label")())), "")
        said = f"{name} = {label or 'no label'}" + (f" ({scale})" if scale != "linear" else "")
        return said + ticks(getattr(axis, f"{name}axis"))

    def in_line(mate: Any, name: str) -> bool:
        """Whether another panel stands in the same row (of y) or column (of x)."""
        here, there = axis.get_subplotspec(), mate.get_subplotspec()
        side = "rowspan" if name == "y" else "colspan"
        return None not in (here, there) and getattr(here, side) == getattr(there, side)

    def ticks(side: Any) -> str:
        """What ticks are called that were given names in place of numbers."""
        from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter

        how, places = side.get_major_formatter(), side.get_major_locator()
        if not isinstance(how, (FixedFormatter, FuncFormatter)) or not isinstance(places, FixedLocator):
            return ""
        at = list(places())
        return "".join(f", {v:g}: {text}" for v, text in zip(at, how.format_ticks(at), strict=True) if text)

    title = axis.get_title()
    return f"panel {number}{f' ({title})' if title else ''}: {one('x')}; {one('y')}".replace("\n", " ")


# ---------------------------------------------------------------------------------------------- one artist at a time


def _artists(axis: Any, missing: Counter[str]) -> Iterator[tuple[str, str, Table]]:
    """Kind, name and table of every artist of a panel that shows data."""
    from matplotlib import collections, container, contour, image, lines, patches, quiver, spines, text

    polygons, seen = collections.PolyCollection, set[int]()
    numbers: Counter[str] = Counter()

    def named(artist: Any, kind: str) -> str:
        label = str(artist.get_label() or "_")
        if not label.startswith("_"):
            return label.replace("\n", " ")
        numbers[kind] += 1
        return f"{kind} {numbers[kind]}"

    for box in axis.containers:
        if isinstance(box, container.ErrorbarContainer):
            line, caps, bars = box
            seen |= {id(part) for part in (line, *caps, *bars) if part is not None}
            yield "error bars", named(box, "error bars"), _error_bars(box)
        elif isinstance(box, container.BarContainer):
            seen |= {id(part) for part in (*box.patches, box.errorbar) if part is not None}
            owner = box if not str(box.get_label() or "_").startswith("_") else next(iter(box.patches), box)
            yield "bars", named(owner, "bars"), _boxes(list(box.patches))
    loose: dict[Any, list[Any]] = {}
    for artist in axis.get_children():
        if id(artist) in seen or not artist.get_visible() or artist is axis.patch or isinstance(artist, spines.Spine):
            continue
        if isinstance(artist, lines.Line2D):
            table = _in_data(axis, artist, _columns(x=artist.get_xdata(orig=False), y=artist.get_ydata(orig=False)))
            if table:
                style = artist.get_linestyle() in ("None", "none", "", " ")
                kind = ("points" if style else "line") if len(table) > 1 else f"line at {next(iter(table))}"
                yield kind, named(artist, kind), table
        elif isinstance(artist, contour.ContourSet):
            filled = bool(artist.filled)
            yield ("filled contours" if filled else "contours"), named(artist, "contours"), _contours(artist)
        elif isinstance(artist, collections.QuadMesh):
            yield "mesh", named(artist, "mesh"), _mesh(artist)
        elif isinstance(artist, image.AxesImage):
            yield "image", named(artist, "image"), _image(artist)
        elif isinstance(artist, collections.FillBetweenPolyCollection):
            yield "band", named(artist, "band"), _band(artist)
        elif isinstance(artist, quiver.Quiver):
            x, y = np.asarray(artist.XY, float).T
            yield "arrows", named(artist, "arrows"), _columns(x=x, y=y, x_high=x + artist.U, y_high=y + artist.V)
        elif isinstance(artist, collections.PathCollection):
            offsets: Any = np.ma.asarray(artist.get_offsets(), float)
            value = artist.get_array()
            table = _columns(x=offsets[:, 0], y=offsets[:, 1])
            yield "points", named(artist, "points"), table if value is None else table | _columns(value=value)
        elif isinstance(artist, polygons) and len(np.asarray(artist.get_offsets())) > len(artist.get_paths()):
            missing["hexbin"] += 1
        elif isinstance(artist, (collections.LineCollection, polygons)):
            kind = "lines" if isinstance(artist, collections.LineCollection) else "polygons"
            table = _in_data(axis, artist, _paths(artist.get_paths(), artist.get_array()))
            if table:
                yield kind, named(artist, kind), table
        elif isinstance(artist, (patches.FancyArrowPatch, collections.Collection)):
            missing[type(artist).__name__] += 1
        elif isinstance(artist, patches.Patch):
            loose.setdefault((type(artist), artist.get_facecolor()), []).append(artist)
        elif isinstance(artist, text.Text) and getattr(artist, "arrow_patch", None) is not None:
            missing["arrow"] += 1
    for alike in loose.values():
        table = _in_data(axis, alike[0], _boxes(alike))
        if table:
            yield "areas", named(alike[0], "areas"), table


def _columns(**values: ArrayLike) -> Table:
    return {name: np.ma.filled(np.ma.asarray(v, float), np.nan).ravel() for name, v in values.items()}


def _length(table: Table) -> int:
    return len(next(iter(table.values()), ()))


def _finite(table: Table) -> Table:
    """Without the rows that show nothing."""
    keep = ~np.all([np.isnan(column) for name, column in table.items() if name != "part"], axis=0)
    return {name: column[keep] for name, column in table.items()}


def _thinned(table: Table, step: int) -> Table:
    n = _length(table)
    keep = np.unique(np.r_[np.arange(0, n, step), n - 1]) if n > LONG else np.arange(n)
    return {name: column[keep] for name, column in table.items()}


def _in_data(axis: Any, artist: Any, table: Table) -> Table:
    """Only those coordinates that are data; the other one of a line across the panel is not."""
    of_x, of_y = artist.get_transform().contains_branch_seperately(axis.transData)
    kept = {name: v for name, v in table.items() if (of_x or name[0] != "x") and (of_y or name[0] != "y")}
    if not any(name[0] in "xy" for name in kept):
        return {}
    if of_x != of_y and set(kept) <= {"x", "y"}:  # axvline and axhline: two ends at one value
        return {name: np.unique(v) for name, v in kept.items()}
    return kept


def _error_bars(box: Any) -> Table:
    line, _, bars = box
    nothing = np.full((2, 2), np.nan)  # where a value is missing the stretch has fewer than two ends
    stretches = [
        np.array([s if len(s) == 2 else nothing for s in bar.get_segments()], float).reshape(-1, 2, 2) for bar in bars
    ]
    directions = [0] * bool(box.has_xerr) + [1] * bool(box.has_yerr)
    table: Table = {}
    for axis, ends in zip(directions, stretches, strict=True):
        name = "xy"[axis]
        table |= {f"{name}_low": ends[:, 0, axis], f"{name}_high": ends[:, 1, axis]}
        table.setdefault("xy"[1 - axis], ends[:, 0, 1 - axis])
    if line is not None:
        table |= _columns(x=line.get_xdata(orig=False), y=line.get_ydata(orig=False))
    longest = max(map(len, table.values()))
    return {name: np.pad(v, (0, longest - len(v)), constant_values=np.nan) for name, v in table.items()}


def _boxes(patches: list[Any]) -> Table:
    """Extents of patches; of a bar also where it stands and its height, of a curved outline its points."""
    from matplotlib.patches import Rectangle

    if all(isinstance(patch, Rectangle) for patch in patches):
        low = np.array([patch.get_xy() for patch in patches], float).reshape(-1, 2)
        size = np.array([(patch.get_width(), patch.get_height()) for patch in patches], float).reshape(-1, 2)
        (a, b), (c, d) = low.T, (low + size).T
        return {
            "x_low": np.minimum(a, c),
            "x_high": np.maximum(a, c),
            "y_low": np.minimum(b, d),
            "y_high": np.maximum(b, d),
        }
    return _paths([patch.get_path().transformed(patch.get_patch_transform()) for patch in patches], None)


def _paths(paths: Iterable[Any], values: Any) -> Table:
    parts = [path.vertices for path in paths]
    if not parts:
        return _columns(x=[], y=[])
    lengths = [len(part) for part in parts]
    table = _columns(part=np.repeat(np.arange(1, len(parts) + 1), lengths))
    table |= dict(zip("xy", np.concatenate(parts).astype(float).T, strict=True))
    if values is not None and np.size(values) == len(parts):
        table["value"] = np.repeat(np.ma.filled(np.ma.asarray(values, float), np.nan).ravel(), lengths)
    return table if len(parts) > 1 else {name: v for name, v in table.items() if name != "part"}


def _band(area: Any) -> Table:
    """Edges of the area between two curves, from the outline start, first curve, end, second curve backwards."""
    rows = []
    for path in area.get_paths():
        outline = path.vertices[:-1] if len(path.vertices) % 2 else path.vertices
        half = len(outline) // 2
        first, second = outline[1:half], outline[half + 1 :][::-1]
        rows.append(np.c_[first, second])
    both = np.concatenate(rows) if rows else np.empty((0, 4))
    along, across = ("y", "x") if area.t_direction == "y" else ("x", "y")
    at = 1 if along == "y" else 0
    edges = both[:, [1 - at, 3 - at]]
    return {
        along: both[:, at],
        f"{across}_low": edges.min(1, initial=np.inf),
        f"{across}_high": edges.max(1, initial=-np.inf),
    }


def _contours(drawn: Any) -> Table:
    lines, part = [], 0
    for level, path in zip(drawn.levels, drawn.get_paths(), strict=False):
        for outline in path._iter_connected_components():
            part += 1
            lines.append(np.c_[np.full((len(outline.vertices), 2), (part, level)), outline.vertices])
    rows = np.concatenate(lines) if lines else np.empty((0, 4))
    return {"part": rows[:, 0], "x": rows[:, 2], "y": rows[:, 3], "value": rows[:, 1]}


def _mesh(mesh: Any) -> Table:
    """Middles of the cells and their values."""
    corners, values = np.asarray(mesh.get_coordinates(), float), np.ma.filled(mesh.get_array().astype(float), np.nan)
    shape = (corners.shape[0] - 1, corners.shape[1] - 1)
    if values.size != np.prod(shape):  # smooth shading: values belong to the corners
        return _columns(x=corners[..., 0], y=corners[..., 1], value=values)
    middles = (corners[1:, 1:] + corners[:-1, :-1]) / 2
    return _columns(x=middles[..., 0], y=middles[..., 1], value=values)


def _image(image: Any) -> Table:
    """Middles of the pixels and their values; of a picture in colours the mean over red, green and blue."""
    values = np.ma.filled(image.get_array().astype(float), np.nan)
    if values.ndim == 3:
        values = values[..., :3].mean(-1)
    left, right, bottom, top = image.get_extent()
    rows, columns = values.shape
    x = left + (np.arange(columns) + 0.5) / columns * (right - left)
    first, last = (top, bottom) if image.origin == "upper" else (bottom, top)
    y = first + (np.arange(rows) + 0.5) / rows * (last - first)
    grid = np.meshgrid(x, y)
    return _columns(x=grid[0], y=grid[1], value=values)
