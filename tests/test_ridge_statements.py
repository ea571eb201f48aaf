"""What the pages say of penalties on the penguins: grids, populations and inherited weights, in plain NumPy."""

import numpy as np
import pytest
from chapter_code import defined
from plain import follow, parents


def chosen(h, F, beta, sigma, low, high, rng):
    """Parents by the softmax, and mutated h projected on the box."""
    parent = parents(np.exp(beta * (F - F.max(1, keepdims=True))), rng)
    return parent, np.clip(follow(h, parent) + sigma * rng.standard_normal(h.shape), low, high)


# ---------------------------------------------------------------------------------------------- inherited weights


@pytest.fixture(scope="module")
def birds():
    """Of forty splits that the page does not use: curvatures, pull, validation data, in eigenvectors of XᵀX/n."""
    (split,) = defined("luck_and_tuning", "split")
    rows = []
    for key in range(200, 240):
        (X, y), (V, w) = split(key)
        a, U = np.linalg.eigh(X.T @ X / len(y))
        rows.append((a, U.T @ X.T @ y / len(y), V @ U, w))
    return [np.array(part) for part in zip(*rows, strict=True)]


def mislead(birds, n, rounds, rng, agents=50, noise=0.03, low=-6.0, high=2.0):
    """Shares of the splits where the own weights validate better, and where the penalty is five per cent off."""
    a, b, V, w = birds
    dt = 1 / (a[:, -1] + np.exp(high))

    def error(theta):
        return np.square(np.einsum("snd,svd->snv", theta, V) - w[:, None]).mean(-1)

    h, theta, reported = rng.uniform(low, high, (len(a), agents, 1)), 0.0, []
    for _ in range(rounds):
        rate = a[:, None] + np.exp(h)
        q, goal = 1 - dt[:, None, None] * rate, b[:, None] / rate
        left = q**n
        width = noise * np.sqrt(dt[:, None, None] * (1 - left**2) / (1 - q**2))
        theta = goal + left * (theta - goal) + width * rng.standard_normal(goal.shape)
        F = -error(theta)
        parent, h = chosen(h, F, 50.0, 0.3, low, high, rng)
        theta = follow(theta, parent)
        reported.append(h.mean((1, 2)))
    penalty = np.exp(np.mean(reported[-max(2, rounds // 4) :], 0))[:, None]
    anew = error((b / (a + penalty))[:, None])[:, 0]
    axis = np.exp(np.linspace(low, high, 161))[:, None]
    least = np.min([error((b / (a + p))[:, None])[:, 0] for p in axis], 0)
    return (anew > -F.mean(1)).mean(), (anew / least > 1.05).mean()


def test_inherited_weights_flatter_on_three_splits_of_ten_and_mislead_on_one_and_fresh_ones_do_not(birds, rng):
    own, off = mislead(birds, 20, 200, rng)
    fresh_own, fresh_off = mislead(birds, 10**6, 60, rng)
    assert own > 0.3
    assert off > 0.1
    assert fresh_own < 0.1
    assert fresh_off < 0.1


# ---------------------------------------------------------------------------------------------- your problem


@pytest.fixture(scope="module")
def splits():
    """Of the page's 64 splits: Gram matrix, pull, validation data, and the degree of each weight."""
    ridge, degree_of, d = defined("your_problem", "ridge", "degree_of", "d")
    models = [ridge(key, np.zeros(d, int)) for key in range(64)]
    gram = np.array([m.X.T @ m.X / len(m.y) for m in models])
    pull = np.array([m.X.T @ m.y / len(m.y) for m in models])
    return gram, pull, np.array([m.V for m in models]), np.array([m.w for m in models]), degree_of - 1


def validation(theta, V, w):
    return np.square(theta @ V.swapaxes(1, 2) - w[:, None]).mean(-1)


def regrets(splits, group, runs, methods, rng, low=-6.0, high=2.0):
    """Of each method the excess validation error of what it chooses over the smallest possible, a mean over runs."""
    gram, pull, V, w, _ = splits
    top, p, at = gram[:, None] + np.exp(high) * np.eye(gram.shape[1]), group.max() + 1, np.arange(len(gram))
    dt = 1 / np.linalg.eigvalsh(top)[..., -1:]

    def curvature(h):
        return gram[:, None] + np.exp(h)[..., group][..., None] * np.eye(gram.shape[1])

    def goal(h):
        return np.linalg.solve(curvature(h), pull[:, None, :, None])[..., 0]

    def descend(theta, h, steps, noise):
        """So many noisy steps at once: in eigenvectors, by the law of what they sum to."""
        a, U = np.linalg.eigh(curvature(h))
        q, end = 1 - dt * a, goal(h)
        left = q**steps
        width = noise * np.sqrt(dt * (1 - left**2) / (1 - q**2))
        x = left * ((theta - end)[..., None, :] @ U)[..., 0, :] + width * rng.standard_normal(theta.shape)
        return end + (U @ x[..., None])[..., 0]

    h, best, size = np.zeros(p), np.inf, 1.0
    trial = np.stack(np.meshgrid(*[np.linspace(low, high, 13)] * p, indexing="ij"), -1)
    trial = np.tile(trial.reshape(1, -1, p), (len(gram), 1, 1))
    for _ in range(60):  # the smallest possible error: on a grid, and by random search that narrows
        values = validation(goal(trial), V, w)
        h = np.where((values.min(1) < best)[:, None, None], trial[at, values.argmin(1)][:, None], h)
        best = np.minimum(best, values.min(1))
        trial = np.clip(h + size * rng.standard_normal((len(gram), 50, p)), low, high)
        size *= 0.88
    found = [np.stack([method(p, descend, rng) for _ in range(runs)], 1) for method in methods]
    return [(validation(goal(h), V, w) / best[:, None] - 1).mean(1) for h in found]


def grid_search(cells, steps, V, w, low=-6.0, high=2.0):
    """A shifted grid whose points are trained without noise; the best by validation is chosen."""

    def method(p, descend, rng):
        corner = np.stack(np.meshgrid(*[np.arange(cells)] * p, indexing="ij"), -1).reshape(-1, p)
        h = low + (high - low) * (corner + rng.random((len(V), 1, p))) / cells
        theta = descend(np.zeros((*h.shape[:2], V.shape[-1])), h, steps, 0.0)
        return h[np.arange(len(V)), validation(theta, V, w).argmin(1)]

    return method


def population(agents, steps, updates, V, w, beta=200.0, low=-6.0, high=2.0):
    def method(p, descend, rng):
        h = rng.uniform(low, high, (len(V), agents, p))
        theta = np.zeros((*h.shape[:2], V.shape[-1]))
        for _ in range(updates):
            theta = descend(theta, h, steps, 0.01)
            parent, h = chosen(h, -validation(theta, V, w), beta, 0.3, low, high, rng)
            theta = follow(theta, parent)
        return h.mean(1)

    return method


def test_with_one_penalty_twenty_trained_points_are_near_the_best_four_are_not_and_populations_are_further(splits, rng):
    V, w, degree = splits[2:]
    methods = grid_search(20, 1280, V, w), grid_search(4, 400, V, w), population(20, 100, 13, V, w)
    grid, few, pops = regrets(splits, np.zeros_like(degree), 2, methods, rng)
    assert grid.mean() < 0.005 < few.mean()
    assert np.log2(pops / grid).mean() > 0


def test_with_a_penalty_for_each_degree_a_population_is_nearer_to_the_best_than_a_grid_and_without_selection_not(
    splits, rng
):
    V, w, degree = splits[2:]
    methods = grid_search(5, 400, V, w), population(50, 50, 20, V, w), population(50, 50, 20, V, w, beta=0.0)
    grid, pops, blind = regrets(splits, degree, 1, methods, rng)
    assert np.log2(pops / grid).mean() < 0 < np.log2(blind / grid).mean()
