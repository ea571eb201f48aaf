"""Sharp pictures that weigh little: loaded into the kernel of a chapter.

Figures are drawn with twice the dots, for good screens, in at most 256 colours, which are all that a chart has; and
once: pyplot would draw each at the end of its cell, for a window that is not there, and matplotlib would draw it a
second time, to see how far it reaches when its layout is made.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

FREQUENT = 192
"""How many colours of a palette are the most frequent ones of the picture."""


def load_ipython_extension(shell: Any) -> None:
    """Let each figure that is shown from now on be one with twice the dots and a palette."""
    from IPython.core import pylabtools

    draw: Callable[..., Any] = pylabtools.print_figure
    shell.config.InlineBackend.figure_formats = {"retina"}

    def print_figure(fig: Any, *words: Any, **named: Any) -> Any:
        packed_later = {"compress_level": 1}
        picture = draw(fig, *words, **named | {"bbox_inches": arranged(fig)}, pil_kwargs=packed_later)
        return with_palette(picture) if isinstance(picture, bytes) else picture

    def draw_only_for_pictures(_: object) -> None:
        pyplot: Any = sys.modules.get("matplotlib.pyplot")
        if pyplot is not None:
            pyplot.draw_all = lambda force=False: None

    pylabtools.print_figure = print_figure
    shell.events.register("pre_run_cell", draw_only_for_pictures)


def arranged(fig: Any) -> Any:
    """Lay a figure out for twice its dots, as a picture has, and return what it covers with a margin [inches]."""
    from matplotlib import rcParams

    dots, engine = fig.dpi, fig.get_layout_engine()
    fig.set_dpi(2 * dots)
    if engine is not None:
        engine.execute(fig)
        fig.set_layout_engine("none")
    covered = fig.get_tightbbox().padded(rcParams["savefig.pad_inches"])
    fig.set_dpi(dots)
    return covered


def with_palette(picture: bytes) -> bytes:
    """Return a PNG with its colours in a palette: the most frequent ones, then those that are furthest from all these.

    A mark of its own colour keeps it, however small it is; shades at the edges of letters give way.

    Parameters
    ----------
    picture : bytes
        A PNG without transparency, whose density is kept.
    """
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as opened:
        dots, rgb = opened.info.get("dpi"), np.asarray(opened.convert("RGB"))
    codes, place, count = np.unique(rgb @ np.array([1, 256, 65536]), return_inverse=True, return_counts=True)
    colours = np.stack([codes & 255, codes >> 8 & 255, codes >> 16], -1)
    nearest, away = np.zeros(len(codes), np.uint8), np.full(len(codes), 1 << 30)
    kept = [*np.argsort(-count, kind="stable")[:FREQUENT]]
    for k in range(256):
        if k >= len(kept):
            kept.append(away.argmax())
        other = np.square(colours - colours[kept[k]]).sum(-1)
        nearest[other < away], away = k, np.minimum(away, other)
    few = Image.fromarray(nearest[place].reshape(rgb.shape[:2]), "P")
    few.putpalette(colours[kept].astype(np.uint8).tobytes())
    out = io.BytesIO()
    few.save(out, "png", optimize=True, dpi=dots)
    return out.getvalue()
