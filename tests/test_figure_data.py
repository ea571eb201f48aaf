"""The data files of figures hold what matplotlib drew, for every kind of artist, and the kernel writes them unasked."""

import csv

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from book.execute import ARGUMENTS, METADATA, execute
from book.figure_data.kernel import LONG, as_csv

mpl.use("agg")


@pytest.fixture
def axes():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def table(axes, **options):
    """Rows of the data file of a figure, numbers as floats, beside its header."""
    axes.figure.canvas.draw()
    lines = as_csv(axes.figure, **options).splitlines()
    head = [line for line in lines if line.startswith("#")]
    rows = list(csv.DictReader(lines[len(head) :]))
    numbers = [{k: (v if k in ("series", "kind") else float(v or "nan")) for k, v in row.items()} for row in rows]
    return head, numbers


def column(rows, name, kind):
    return np.array([row[name] for row in rows if row["kind"] == kind])


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 2), min_size=2, max_size=20))
def test_lines_and_points_survive_the_round_trip(points):
    figure, axes = plt.subplots()
    x, y = np.array(points).T
    axes.plot(x, y, label="a, b")
    axes.scatter(y, x, c=x)
    _, rows = table(axes)
    plt.close(figure)
    for kind, xs, ys in (("line", x, y), ("points", y, x)):
        np.testing.assert_allclose(column(rows, "x", kind), xs, rtol=1e-5)
        np.testing.assert_allclose(column(rows, "y", kind), ys, rtol=1e-5)
    assert {row["series"] for row in rows} == {"a, b", "points 1"}
    np.testing.assert_allclose(column(rows, "value", "points"), x, rtol=1e-5)


def test_bands_bars_and_error_bars(axes):
    x = np.linspace(0, 1, 7)
    axes.fill_between(x, x - 1, x**2 + 1, label="tube")
    axes.errorbar(x, x, 0.25, fmt="o", capsize=2, label="measured")
    counts, edges, _ = axes.hist([0.1, 0.2, 0.2, 0.9], 3, label="counts")
    _, rows = table(axes)
    for kind, low, high in (("band", x - 1, x**2 + 1), ("error bars", x - 0.25, x + 0.25)):
        np.testing.assert_allclose(column(rows, "x", kind), x, atol=1e-5)
        np.testing.assert_allclose(column(rows, "y_low", kind), low, atol=1e-5)
        np.testing.assert_allclose(column(rows, "y_high", kind), high, atol=1e-5)
    np.testing.assert_allclose(column(rows, "y_high", "bars"), counts)
    np.testing.assert_allclose(column(rows, "x_low", "bars"), edges[:-1], rtol=1e-5)
    assert {row["series"] for row in rows} == {"tube", "measured", "counts"}


def test_a_missing_value_an_inset_and_hexagons(axes):
    axes.errorbar([1, 2, 3], [1, np.nan, 2], 0.1, label="gap")
    axes.inset_axes([0.5, 0.5, 0.4, 0.4]).plot([1, 2], [3, 4], label="inside")
    axes.hexbin(np.arange(50.0), np.arange(50.0) % 7, gridsize=5)
    head, rows = table(axes)
    np.testing.assert_array_equal(column(rows, "y_high", "error bars"), [1.1, np.nan, 2.1])
    assert [row["y"] for row in rows if row["series"] == "inside"] == [3, 4]
    assert head[-1] == "# not listed: 1 hexbin"


def test_shared_axes_are_named_by_their_row_and_column():
    figure, grid = plt.subplots(2, 2, sharex=True, sharey=True)
    for k in range(2):
        grid[k, 0].set_ylabel(f"row {k}")
        grid[1, k].set_xlabel(f"column {k}")
    grid[0, 0].set_yticks([0, 1], ["none", "all"])
    head, _ = table(grid[0, 0])
    plt.close(figure)
    named = ", 0: none, 1: all"
    assert head == [f"# panel {2 * i + j + 1}: x = column {j}; y = row {i}{named}" for i in range(2) for j in range(2)]


def test_fields_are_values_at_points(axes):
    field = np.arange(12.0).reshape(3, 4)
    axes.imshow(field, extent=(0, 4, 0, 3), origin="lower")
    axes.pcolormesh(np.arange(5), np.arange(4), field)
    axes.contour(np.arange(4), np.arange(3), field, levels=[2.5])
    _, rows = table(axes)
    for kind in ("image", "mesh"):
        x, y, value = (column(rows, name, kind) for name in ("x", "y", "value"))
        np.testing.assert_allclose(value, 4 * (y - 0.5) + x - 0.5)
        assert len(value) == 12
    x, y, value = (column(rows, name, "contours") for name in ("x", "y", "value"))
    np.testing.assert_allclose(4 * y + x, 2.5)
    assert set(value) == {2.5}


def test_lines_across_a_panel_have_one_coordinate(axes):
    axes.plot([0, 1], [0, 1])
    axes.axvline(0.5)
    axes.axhline(0.25)
    axes.axvspan(0.1, 0.2)
    _, rows = table(axes)
    assert list(column(rows, "x", "line at x")) == [0.5]
    assert list(column(rows, "y", "line at y")) == [0.25]
    assert np.isnan(column(rows, "y", "line at x")).all()
    assert (column(rows, "x_low", "areas"), column(rows, "x_high", "areas")) == ([0.1], [0.2])


def test_the_header_names_axes_and_owns_up_to_what_it_leaves_out(axes):
    axes.plot(np.arange(1000), np.arange(1000))
    axes.plot(np.arange(LONG), np.arange(LONG))
    axes.set(xlabel="time", ylabel="fitness", yscale="log", title="panel")
    axes.annotate("", (0, 1), (1, 1), arrowprops={"arrowstyle": "->"})
    head, rows = table(axes, most_rows=500)
    assert head[0] == "# panel 1 (panel): x = time; y = fitness (log)"
    assert head[1].startswith(f"# thinned: {len(rows)} of {1000 + LONG} rows")
    assert head[2] == "# not listed: 1 arrow"
    x = column(rows, "x", "line")
    assert (x[0], x[len(x) - LONG - 1]) == (0, 999)
    assert list(x[-LONG:]) == list(range(LONG))
    assert "thinned" not in "".join(table(axes)[0])


@pytest.mark.words
def test_a_notebook_leaves_the_data_of_every_figure_it_shows():
    sources = [
        "import matplotlib.pyplot as plt\nimport numpy as np",
        "x = np.linspace(0, 1, 5)\nplt.plot(x, x**2, label='square');",
        "plt.plot(x, 1 - x)\nplt.show()\nfigure, axis = plt.subplots()\naxis.plot(x, 2 * x);",
        "print('no figure')",
    ]
    runs = []
    for _ in range(2):
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        cells[1].metadata["mystnb"] = {"figure": {"name": "square", "caption": "A square."}}
        notebook = nbformat.v4.new_notebook(cells=cells, metadata=METADATA)
        execute(notebook)
        runs.append(dict(notebook.metadata["pbtlib"]["figures"]))
    assert runs[0] == runs[1]
    assert list(runs[0]) == ["square", "cell-3", "cell-3-2"]
    assert runs[0]["square"].splitlines()[2:] == [f"1,square,line,{x:g},{x * x:g}" for x in np.linspace(0, 1, 5)]
    assert runs[0]["cell-3-2"].endswith("1,line 1,line,1,2\n")


@pytest.mark.words
@pytest.mark.parametrize(("as_the_book_does", "times"), [(True, 1), (False, 3)])
def test_a_figure_is_drawn_for_its_picture_alone(as_the_book_does, times, monkeypatch):
    """Once; matplotlib would draw it to measure it first, and pyplot at the end of its cell."""
    if not as_the_book_does:
        monkeypatch.setattr("book.execute.ARGUMENTS", [word for word in ARGUMENTS if "pictures" not in word])
    counted = "class Counted(plt.Figure):\n    drawn = []\n    def draw(self, renderer):\n"
    counted += "        self.drawn.append(1)\n        super().draw(renderer)"
    sources = ["import matplotlib.pyplot as plt", counted, "plt.figure(FigureClass=Counted).subplots();"]
    cells = [nbformat.v4.new_code_cell(source) for source in [*sources, "print(len(Counted.drawn))"]]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=METADATA)
    execute(notebook)
    assert cells[-1].outputs[0].text == f"{times}\n"
