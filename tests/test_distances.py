"""Distances against closed forms and the dual linear program."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.spatial.distance import cdist

from pbtlib import distances as D  # noqa: N812
from pbtlib.estimates import fit_rate

keys = st.integers(0, 10**6)


def atoms(key, dimension, spread):
    r = np.random.default_rng(key)
    x, y = spread * r.normal(size=(5, dimension)), spread * r.normal(size=(7, dimension))
    return x, y, r.dirichlet(np.ones(5)), r.dirichlet(np.ones(7))


def dual(x, y, u, v, *, sum_norm=False):
    """sup ∫φ d(μ − ν) over Lip φ ≤ 1, ‖φ‖_∞ ≤ 1, or over ‖φ‖_∞ + Lip φ ≤ 1; a linear program."""
    points = np.concatenate([x, y])
    n = len(points)
    distance = cdist(points, points)
    first, second = np.nonzero(~np.eye(n, dtype=bool))
    rows = np.zeros((len(first), n + 2))
    rows[np.arange(len(first)), first] = 1
    rows[np.arange(len(first)), second] = -1
    rows[:, n] = -distance[first, second]
    cap = np.hstack([np.vstack([np.eye(n), -np.eye(n)]), np.zeros((2 * n, 1)), -np.ones((2 * n, 1))])
    total = np.concatenate([np.zeros(n), [1, 1]])[None]
    bounds = [(None, None)] * n + ([(0, 1), (0, 1)] if sum_norm else [(1, 1), (1, 1)])
    inequalities = np.vstack([rows, cap, total]) if sum_norm else np.vstack([rows, cap])
    limits = np.concatenate([np.zeros(len(rows) + 2 * n), [1.0] if sum_norm else []])
    objective = -np.concatenate([u, -v, [0, 0]])
    return -linprog(objective, A_ub=inequalities, b_ub=limits, bounds=bounds).fun


@settings(max_examples=25, deadline=None)
@given(keys, st.integers(1, 4), st.sampled_from([0.3, 1.0, 3.0]))
def test_bounded_lipschitz_is_the_dual_linear_program(key, dimension, spread):
    x, y, u, v = atoms(key, dimension, spread)
    assert D.bounded_lipschitz(x, y, u, v) == pytest.approx(dual(x, y, u, v), abs=1e-8)


def test_the_dual_tells_the_norms_apart():
    x, y, u, v = atoms(3, 2, 3.0)
    truncated = D.bounded_lipschitz(x, y, u, v)
    assert dual(x, y, u, v, sum_norm=True) < truncated - 0.05
    far = D.bounded_lipschitz(10 * x, 10 * y, u, v)
    assert far == pytest.approx(2.0)
    assert dual(10 * x, 10 * y, u, v) < 10


@settings(max_examples=25, deadline=None)
@given(keys, st.sampled_from([0.1, 1.0, 4.0]))
def test_bounded_lipschitz_and_wasserstein_on_the_line(key, spread):
    x, y, u, v = atoms(key, 1, spread)
    w1, bl = D.wasserstein_1(x[:, 0], y[:, 0], u, v), D.bounded_lipschitz(x, y, u, v)
    assert bl <= w1 + 1e-12
    if np.ptp(np.concatenate([x, y])) <= 2:
        assert bl == pytest.approx(w1, abs=1e-10)


@settings(max_examples=15, deadline=None)
@given(keys, st.integers(1, 3))
def test_bounded_lipschitz_is_a_metric(key, dimension):
    x, y, _, _ = atoms(key, dimension, 1.0)
    z = x[:3] + 0.5
    assert D.bounded_lipschitz(x, x) == 0
    assert D.bounded_lipschitz(x, y) == pytest.approx(D.bounded_lipschitz(y, x), abs=1e-12)
    assert D.bounded_lipschitz(x, y) <= D.bounded_lipschitz(x, z) + D.bounded_lipschitz(z, y) + 1e-12


@settings(max_examples=15, deadline=None)
@given(keys, st.integers(1, 40), st.sampled_from([0.3, 1.0, 3.0]))
def test_samples_of_one_size_are_as_far_apart_as_with_their_masses_written_out(key, n, spread):
    """Equal masses in words go through the solver for any masses, no word about them through an assignment."""
    x, y = spread * np.random.default_rng(key).normal(size=(2, n, 2))
    equal = np.ones(n)
    assert D.bounded_lipschitz(x, y) == pytest.approx(D.bounded_lipschitz(x, y, equal, equal), abs=1e-12)
    as_they_come = np.minimum(np.linalg.norm(x - y, axis=1), 2).mean()
    assert D.bounded_lipschitz(x, y) <= as_they_come + 1e-12


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9])
def test_near_laws_far_from_the_origin_are_told_apart_to_the_last_digits(gap):
    """A cost by |x|² + |y|² − 2xy, the shortcut through a matrix product, cancels here."""
    x = np.random.default_rng(4).uniform(-3, 3, (20, 3))
    y = x + np.array([gap, 0.0, 0.0])
    assert D.bounded_lipschitz(x, y) == pytest.approx(np.abs(y - x)[:, 0].mean(), rel=1e-12, abs=0)
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
    shortcut = np.sqrt(np.maximum(squares.diagonal(), 0)).mean()
    assert shortcut != pytest.approx(np.abs(y - x)[:, 0].mean(), rel=1e-12, abs=0)


@pytest.mark.parametrize("gap", [0.0, 0.4, 1.9, 2.1, 50.0])
def test_two_atoms(gap):
    assert D.bounded_lipschitz([[0.0, 0.0]], [[0.0, gap]]) == pytest.approx(min(gap, 2.0))


@settings(max_examples=25, deadline=None)
@given(keys, st.floats(0.01, 3))
def test_grid_version_agrees_with_atoms(key, step):
    r = np.random.default_rng(key)
    a, b = r.dirichlet(np.ones(9), size=2)
    at = step * np.arange(9)
    assert float(D.wasserstein_1_grid(a, b, step)) == pytest.approx(D.wasserstein_1(at, at, a, b), abs=1e-12)


def test_wasserstein_of_a_shift_and_of_a_dilation(rng):
    x = rng.standard_normal(500)
    assert D.wasserstein_1(x, x + 0.7) == pytest.approx(0.7)
    assert D.wasserstein_1(x, 3 * x) == pytest.approx(2 * np.abs(x).mean())


def test_samples_on_the_line_differ_by_the_inverse_root(rng):
    sizes = [64, 256, 1024]

    def draw(generator, n):
        return generator.random(n)

    errors = np.stack([D.two_sample_floor(draw, n, rng, distance=D.wasserstein_1, repeats=150) for n in sizes], 1)
    rate = fit_rate(sizes, errors, rng)
    assert abs(rate.slope + 0.5) < 5 * rate.standard_error
    assert abs(rate.slope + 1 / 4) > 5 * rate.standard_error


def test_samples_in_four_dimensions_are_further_apart(rng):
    """In D = 4 the floor falls like N^{-1/4}: measurably slower than on the line."""
    sizes = [32, 128, 512]

    def draw(generator, n):
        return generator.random((n, 4))

    errors = np.stack([D.two_sample_floor(draw, n, rng, repeats=12) for n in sizes], 1)
    rate = fit_rate(sizes, errors, rng)
    assert rate.slope > -0.5 + 5 * rate.standard_error


def test_distances_do_not_load_torch():
    code = (
        "import sys; from pbtlib.distances import bounded_lipschitz as d; d([[0.0]], [[1.0], [2.0]]);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: D.wasserstein_1([], [1.0]), "x has shape"),
        (lambda: D.wasserstein_1([np.inf], [1.0]), "x contains inf"),
        (lambda: D.bounded_lipschitz([[1.0]], [[1.0, 2.0]]), "must be .N, D. and .M, D."),
        (lambda: D.bounded_lipschitz([[1.0]], [[1.0]], [-1.0]), "x_mass contains -1"),
        (lambda: D.bounded_lipschitz([[1.0]], [[1.0]], [0.0]), "sums to (0|zero)"),
        (lambda: D.wasserstein_1_grid([0.5, 0.5], [1.0, 0.0], 0.0), "step is 0.0"),
        (lambda: D.wasserstein_1_grid(np.zeros(2), [1.0, 0.0], 0.1), "first sums to (0|zero)"),
        (lambda: D.wasserstein_1_grid([1.0, 0.0], [[1.0, 0.0], [0.0, 0.0]], 0.1), "second sums to (0|zero)"),
        (lambda: D.two_sample_floor(lambda r, n: r.random(n), 0, np.random.default_rng(1)), "n is 0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
