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
    """Return a PNG with its colours in a palette.

    Parameters
    ----------
    picture : bytes
        A PNG without transparency, whose density is kept.
    """
    from PIL import Image

    out = io.BytesIO()
    with Image.open(io.BytesIO(picture)) as opened:
        few = opened.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        few.save(out, "png", optimize=True, dpi=opened.info.get("dpi"))
    return out.getvalue()
