"""One visual style for the book. Plotting only: nothing here computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    import matplotlib.pyplot as plt
    import seaborn as sns
    from cycler import cycler
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}; figures need pbtlib with the extra 'plots'", name=error.name) from error
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["LINES", "PALETTE", "band", "history", "style"]

PALETTE = sns.color_palette(["#0173b2", "#cf8000", "#008c67", "#b33c00", "#cc78bc", "#7a5230", "#333333", "#8c8c8c"])
"""Seaborn's palette for colour-blind readers, darkened to three to one or more against white, paired with `LINES`."""

LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 3)), (0, (3, 3)))
"""Line styles, one for each colour, so that a figure is legible in greyscale."""


def style() -> None:
    """Set the style of all figures that follow: opaque, legible at half a page, colour and line style paired.

    Examples
    --------
    >>> with plt.rc_context():
    ...     style()
    ...     plt.rcParams["axes.grid"]
    True
    """
    sns.set_theme(context="notebook", style="ticks", palette=PALETTE, font="DejaVu Sans")
    plt.rcParams.update(
        {
            "figure.figsize": (7.0, 3.6),
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": cycler(color=PALETTE) + cycler(linestyle=LINES),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "legend.frameon": False,
            "mathtext.fontset": "dejavusans",
        }
    )


def band(
    ax: Axes, x: ArrayLike, low: ArrayLike, middle: ArrayLike, high: ArrayLike, label: str, index: int = 0
) -> None:
    """Draw a line with the band around it, in the colour and line style of this index.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    x : array_like, shape (n,)
        Abscissa.
    low, middle, high : array_like, shape (n,)
        Lower edge, line and upper edge.
    label : str
        Name in the legend.
    index : int
        Position in the palette.

    Examples
    --------
    >>> ax = Figure().subplots()
    >>> band(ax, [0, 1], [0, 0], [1, 1], [2, 2], "median")
    >>> ax.get_legend_handles_labels()[1]
    ['median']
    """
    colour, line = PALETTE[index % len(PALETTE)], LINES[index % len(LINES)]
    ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    ax.plot(x, middle, color=colour, linestyle=line, label=label)


def history(data: xr.Dataset) -> Figure:
    """Draw the fitness and the hyperparameters of a run against its updates: median and middle 80 per cent.

    Parameters
    ----------
    data : xarray.Dataset
        What `pbtlib.history.History.dataset` returns, with fitness and h; replicates are drawn together.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import xarray as xr
    >>> fitness, h = [[0.0, 1.0], [2.0, 3.0]], [[[1.0, 5.0], [1.0, 5.0]], [[2.0, 6.0], [2.0, 6.0]]]
    >>> axes = ("update", "agent", "hyperparameter")
    >>> data = xr.Dataset({"fitness": (axes[:2], fitness), "h": (axes, h)}, coords={"update": [1, 2]})
    >>> figure = history(data)
    >>> [[line.get_ydata().tolist() for line in ax.lines] for ax in figure.axes]      # medians
    [[[0.5, 2.5]], [[1.0, 2.0], [5.0, 6.0]]]
    >>> plt.close(figure)
    """
    shown = [name for name in ("fitness", "h") if name in data]
    if not shown:
        raise ValueError(f"the history holds {', '.join(map(str, data))}; a picture needs fitness or h")
    figure, axes = plt.subplots(1, len(shown), figsize=(4 * len(shown), 3.2), squeeze=False, layout="constrained")
    for axis, name in zip(axes[0], shown, strict=True):
        columns = range(data.sizes["hyperparameter"]) if name == "h" else (None,)
        for i in columns:
            values = data[name] if i is None else data[name].isel(hyperparameter=i)
            rest = [dim for dim in values.dims if dim != "update"]
            low, middle, high = values.quantile([0.1, 0.5, 0.9], rest, skipna=True).to_numpy()
            label = "fitness" if i is None else f"h{i + 1}"
            band(axis, data["update"], low, middle, high, label, i or 0)
        axis.set(xlabel="updates", ylabel=name)
        axis.legend()
    return figure
