"""Sharp pictures that weigh little: loaded into the kernel of a chapter.

Figures are drawn with twice the dots, for good screens, in at most 256 colours, which are all that a chart has; and
once: pyplot alone would draw each at the end of its cell, for a window that is not there, before its picture is made.
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
        picture = draw(fig, *words, **named, pil_kwargs={"compress_level": 1})  # packed well only once, below
        return with_palette(picture) if isinstance(picture, bytes) else picture

    def draw_only_for_pictures(_: object) -> None:
        pyplot: Any = sys.modules.get("matplotlib.pyplot")
        if pyplot is not None:
            pyplot.draw_all = lambda force=False: None

    pylabtools.print_figure = print_figure
    shell.events.register("pre_run_cell", draw_only_for_pictures)


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
