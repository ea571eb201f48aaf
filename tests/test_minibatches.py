"""What the evidence says of minibatch SGD for least squares, against all the batches there are.

The functions are the chapter's own; they see five examples instead of its birds.
"""

from itertools import combinations, product

import numpy as np
import pytest
from chapter_code import defined

BATCHES = {
    "with": lambda B: product(range(5), repeat=B),
    "without": lambda B: combinations(range(5), B),
}
"""All batches of this size of five examples, equally likely."""


@pytest.fixture
def regression(rng):
    """Five examples in two dimensions: inputs, minimum, Hessian, covariance of one gradient at the minimum."""
    x, y = rng.standard_normal((5, 2)), rng.standard_normal(5)
    hessian = x.T @ x / 5
    best = np.linalg.solve(hessian, x.T @ y / 5)
    each = x * (x @ best - y)[:, None]
    return {"x": x, "each": each, "hessian": hessian, "noise": each.T @ each / 5, "n": 5, "d": 2}


@pytest.fixture
def formulas(regression):
    """The chapter's formulas by name."""
    names = ("batch_noise", "discrete", "diffusion")
    found = dict(zip(names, defined("e2_mechanism", *names), strict=True))
    for function in found.values():
        function.__globals__.update(regression)
    return found


@pytest.mark.parametrize("B", [1, 2, 4])
def test_batches_without_replacement_are_quieter_by_n_minus_b_over_n_minus_1(regression, formulas, B):
    found = {}
    for how, batches in BATCHES.items():
        gradient = regression["each"][np.array([*batches(B)])].mean(1)
        np.testing.assert_allclose(gradient.mean(0), 0, atol=1e-12)
        found[how] = gradient.T @ gradient / len(gradient) * B
        np.testing.assert_allclose(formulas["batch_noise"](B, how), found[how], atol=1e-12)
    assert B == 1 or not np.allclose(*found.values(), atol=1e-12)


@pytest.mark.parametrize("B", [1, 3])
def test_one_step_over_all_batches_leaves_the_covariance_of_sgd_as_it_is(regression, formulas, B):
    x, each = regression["x"], regression["each"]
    eta = 0.1 / np.linalg.norm(x, axis=1).max() ** 2

    def after_a_step(V):
        drawn = np.array([*BATCHES["with"](B)])
        total = np.zeros((2, 2))
        for i in drawn:
            shrink = np.eye(2) - eta * x[i].T @ x[i] / B
            kick = eta * each[i].mean(0)
            total += (shrink @ V @ shrink + np.outer(kick, kick)) / len(drawn)
        return total

    V, diffusion = (formulas[name](eta, B) for name in ("discrete", "diffusion"))
    np.testing.assert_allclose(after_a_step(V), V, rtol=1e-10, atol=1e-14)
    assert not np.allclose(after_a_step(diffusion), diffusion, rtol=1e-10, atol=1e-14)


def test_the_diffusion_is_the_limit_of_small_learning_rates(formulas):
    """The relative difference halves with the learning rate; without the batch size it does not vanish."""

    def gap(eta, size):
        diffusion = formulas["diffusion"](eta, size)
        return np.abs(formulas["discrete"](eta, 2) - diffusion).max() / np.abs(diffusion).max()

    assert gap(5e-4, 2) / gap(1e-3, 2) == pytest.approx(0.5, abs=0.01)
    assert gap(5e-4, 1) / gap(1e-3, 1) == pytest.approx(1, abs=0.01)
