"""What the evidence says of minibatch SGD for least squares, against all the batches there are."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy.linalg import solve_continuous_lyapunov


@pytest.fixture
def regression(rng):
    """Five examples in two dimensions: inputs, minimum, Hessian, covariance of one gradient at the minimum."""
    x, y = rng.standard_normal((5, 2)), rng.standard_normal(5)
    hessian = x.T @ x / 5
    best = np.linalg.solve(hessian, x.T @ y / 5)
    each = x * (x @ best - y)[:, None]
    return x, each, hessian, each.T @ each / 5


def batches(kind, B):
    """All batches of this size of five examples, equally likely."""
    return np.array([*(product(range(5), repeat=B) if kind == "with" else combinations(range(5), B))])


@pytest.mark.parametrize("B", [1, 2, 4])
def test_batches_without_replacement_are_quieter_by_n_minus_b_over_n_minus_1(regression, B):
    _, each, _, noise = regression
    for kind, factor in (("with", 1.0), ("without", (5 - B) / 4)):
        gradient = each[batches(kind, B)].mean(1)
        np.testing.assert_allclose(gradient.mean(0), 0, atol=1e-12)
        np.testing.assert_allclose(gradient.T @ gradient / len(gradient), factor * noise / B, atol=1e-12)


def discrete(x, hessian, noise, eta, B):
    """Fixed point of the covariance under SGD, as the evidence solves it."""
    fourth = np.einsum("ni,nj,nk,nl->ijkl", x, x, x, x).reshape(4, 4) / len(x)
    step = np.kron(*[np.eye(2) - eta * hessian] * 2) + eta**2 / B * (fourth - np.kron(hessian, hessian))
    return np.linalg.solve(np.eye(4) - step, (eta**2 / B * noise).ravel()).reshape(2, 2)


@pytest.mark.parametrize("B", [1, 3])
def test_one_step_over_all_batches_leaves_the_covariance_of_sgd_as_it_is(regression, B):
    x, each, hessian, noise = regression
    eta = 0.1 / np.linalg.norm(x, axis=1).max() ** 2

    def after_a_step(V):
        total = np.zeros((2, 2))
        for i in (drawn := batches("with", B)):
            shrink = np.eye(2) - eta * x[i].T @ x[i] / B
            kick = eta * each[i].mean(0)
            total += (shrink @ V @ shrink + np.outer(kick, kick)) / len(drawn)
        return total

    V = discrete(x, hessian, noise, eta, B)
    np.testing.assert_allclose(after_a_step(V), V, rtol=1e-10, atol=1e-14)
    diffusion = solve_continuous_lyapunov(hessian, eta / B * noise)
    assert not np.allclose(after_a_step(diffusion), diffusion, rtol=1e-10, atol=1e-14)


def test_the_diffusion_is_the_limit_of_small_learning_rates(regression):
    """The relative difference halves with the learning rate; without the batch size it does not vanish."""
    x, _, hessian, noise = regression

    def gap(eta, size):
        diffusion = solve_continuous_lyapunov(hessian, eta / size * noise)
        return np.abs(discrete(x, hessian, noise, eta, 2) - diffusion).max() / np.abs(diffusion).max()

    assert gap(5e-4, 2) / gap(1e-3, 2) == pytest.approx(0.5, abs=0.01)
    assert gap(5e-4, 1) / gap(1e-3, 1) == pytest.approx(1, abs=0.01)
