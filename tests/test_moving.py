"""Moving figures keep what a cell draws, once where it stands still, and refuse what a page could not draw."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell

from book.moving import kernel
from pbtlib.moving import Axis, Moving, Panel, Slider, curve, figure, whole

PANEL = Panel("panel", Axis("x", 0, 1), Axis("y", 0, 1, log=True))
WORDS = {"title": "Title", "alt": "Words."}


def restored(shown):
    """For each position the whole of each curve, as the script of the page puts it together."""
    data = json.loads(shown.to_json())
    return [[{**c, **part} for c, part in zip(data["curves"], f["curves"], strict=True)] for f in data["frames"]]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=3, max_size=3), min_size=1, max_size=4))
def test_what_is_drawn_comes_back_whole(positions):
    """Still or moving, every coordinate of every curve is there at every position."""

    def draw(i):
        return f"{i}.", [
            curve("a", [0, 1, 2], positions[i]),
            curve("b", positions[i], [1, 1, 1], "band", high=[2, 2, 2]),
        ]

    sliders = [Slider("i", range(len(positions)), start=0)]
    found = restored(figure("f", draw, sliders=sliders, panels=[PANEL], **WORDS))
    for (a, b), values in zip(found, positions, strict=True):
        assert (a["x"], a["y"]) == ([0, 1, 2], values)
        assert (b["x"], b["y"], b["high"]) == (values, [1, 1, 1], [2, 2, 2])


def test_the_last_slider_is_the_fastest_and_curves_know_their_panel():
    def draw(a, b):
        return f"{a} {b}.", [curve("l", [0], [a])], [curve("r", [0], [b], style=2)]

    sliders = [Slider("a", (1, 2), start=2), Slider("b", (3, 1000), start=3)]
    data = figure("f", draw, sliders=sliders, panels=[PANEL, PANEL], **WORDS).data
    assert [frame["says"] for frame in data["frames"]] == ["1 3.", "1 1000.", "2 3.", "2 1000."]
    assert [slider["start"] for slider in data["sliders"]] == [1, 0]
    assert data["sliders"][1]["values"] == ["3", "1,000"]
    assert [(c["panel"], c["style"]) for c in data["curves"]] == [(0, 0), (1, 2)]


def test_bars_have_an_edge_more_than_heights_and_other_curves_have_not():
    assert curve("c", [0, 1, 2], [1, 1], "bars").data["x"] == [0, 1, 2]
    for x, y, kind in (([0, 1], [1, 1], "bars"), ([0, 1, 2], [1, 1], "line"), ([0, 1, 2, 3], [1, 1], "bars")):
        with pytest.raises(ValueError, match="of different lengths"):
            curve("c", x, y, kind)


def test_whole_numbers_are_the_nearest_in_units_of_the_scale():
    assert whole([0.4, 1.6, -2.0]) == [0, 2, -2]
    assert whole([[0.4, 1.6]], scale=10) == [[4, 16]]


def test_what_stands_still_is_kept_once():
    data = figure(
        "f", lambda k: ("It.", [curve("a", [0, 1], [k, k])]), sliders=[Slider("k", (1, 2), 1)], panels=[PANEL], **WORDS
    ).data
    assert data["curves"][0]["x"] == [0, 1]
    assert [frame["curves"] for frame in data["frames"]] == [[{"y": [1, 1]}], [{"y": [2, 2]}]]


@pytest.mark.parametrize(
    ("draw", "start", "said"),
    [
        (lambda k: ("It.", [curve("a", [0], [k])] * k), 1, "the same curves"),
        (lambda k: ("It.", [curve(f"{k}", [0], [k])]), 1, "the same curves"),
        (lambda k: ("It.", [curve("a", [0], [k])], []), 1, None),
        (lambda k: ("It.", [curve("a", [0], [k])], [curve("b", [0], [k])]), 1, "same 1 panels"),
        (lambda k: ("It.", [curve("a", [0], [k])]), 3, "starts at 3"),
        (lambda k: ("It.", [curve("a", [0], [np.nan])]), 1, "y of 'a'"),
        (lambda k: ("It.", [curve("a", [0, 1], [k])]), 1, "different lengths"),
        (lambda k: ("It.", [curve("a", [0], [k], "dots")]), 1, "kind is 'dots'"),
    ],
)
def test_what_a_page_could_not_draw_is_refused(draw, start, said):
    def make():
        return figure("f", draw, sliders=[Slider("k", (1, 2), start)], panels=[PANEL], **WORDS)

    if said is None:
        make()
    else:
        with pytest.raises(ValueError, match=said):
            make()


def test_whole_numbers_are_within_half_a_unit(rng):
    values = rng.standard_normal((4, 3))
    assert np.abs(np.array(whole(values, 100)) / 100 - values).max() <= 0.005 + 1e-12


def test_the_kernel_records_what_a_cell_ends_with_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("BOOK_RECORDS", str(tmp_path))
    shell = InteractiveShell()
    kernel.load_ipython_extension(shell)
    shown, _ = shell.display_formatter.format(Moving("spiral", {"title": "Spiral", "θ": [1, 2]}))
    assert shown["text/plain"] == "spiral: moves on the built page"
    shell.display_formatter.format({"title": "no figure"})
    assert [path.name for path in tmp_path.iterdir()] == ["spiral.json"]
    assert json.loads((tmp_path / "spiral.json").read_text()) == {"title": "Spiral", "θ": [1, 2]}
