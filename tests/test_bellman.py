"""Appendix D on random decision problems: every policy enumerated, and Q-learning with three kinds of steps."""

from itertools import product

import numpy as np
import pytest
from chapter_code import defined


@pytest.fixture
def problem(rng):
    """Transition probabilities, rewards and discount of a problem with four states and three actions."""
    return rng.dirichlet(np.full(4, 0.6), (4, 3)), rng.uniform(-1, 1, (4, 3)), 0.7


@pytest.fixture
def bellman(problem):
    """The chapter's operator, told of another problem."""
    (found,) = defined("d_reinforcement_learning", "bellman")
    found.__globals__.update(zip(("P", "r", "gamma"), problem, strict=True))
    return found


def by_hand(Q, P, r, gamma):
    """(37) in words: reward and discounted expectation of the best next value, state by state and action by action."""

    def entry(s, a):
        return r[s, a] + gamma * sum(P[s, a, t] * max(Q[t]) for t in range(len(r)))

    return np.array([[entry(s, a) for a in range(r.shape[1])] for s in range(len(r))])


def test_the_bellman_operator_contracts_by_the_discount_and_no_better(problem, bellman, rng):
    P, r, gamma = problem
    Q, R = rng.normal(0, 5, (2, 4, 3))
    np.testing.assert_allclose(bellman(Q, gamma), by_hand(Q, P, r, gamma), atol=1e-12)
    for _ in range(100):
        Q, R = rng.normal(0, 5, (2, 4, 3))
        assert np.abs(bellman(Q, gamma) - bellman(R, gamma)).max() <= gamma * np.abs(Q - R).max() + 1e-12
    shifted = np.abs(bellman(Q + 1, gamma) - bellman(Q, gamma)).max()
    assert shifted == pytest.approx(gamma), "a constant shift attains it"
    assert np.abs(bellman(Q + 1, 1.0) - bellman(Q, 1.0)).max() > gamma


def values(policy, P, r, gamma, terms=120):
    """Expected discounted reward of each first action under a policy of one action a state, as a sum over time."""
    best = r[np.arange(4), policy]
    move, now, total = P[np.arange(4), policy], np.eye(4), np.zeros(4)
    for _ in range(terms):
        total, now = total + now @ best, gamma * now @ move
    return r + gamma * P @ total


def test_the_fixed_point_is_the_best_of_all_policies_in_every_state_and_action(problem, bellman):
    P, r, gamma = problem
    every = np.array([values(np.array(policy), P, r, gamma) for policy in product(range(3), repeat=4)])
    best = every.max(0)
    Q = np.zeros((4, 3))
    for _ in range(120):
        Q = bellman(Q, gamma)
    np.testing.assert_allclose(Q, best, atol=1e-10)
    np.testing.assert_allclose(bellman(best, gamma), best, atol=1e-10)
    assert np.abs(bellman(np.median(every, 0), gamma) - np.median(every, 0)).max() > 1e-3


def test_q_learning_keeps_falling_with_steps_that_sum_up_and_shrink_and_with_others_it_stops(rng):
    """Two states and two actions, mean largest error over fifty runs after all steps over that after a quarter."""
    P = np.array([[[0.8, 0.2], [0.3, 0.7]], [[0.5, 0.5], [0.1, 0.9]]])
    r, gamma = np.array([[0.2, 0.8], [0.6, 0.1]]), 0.7
    exact = np.zeros((2, 2))
    for _ in range(200):
        exact = by_hand(exact, P, r, gamma)

    def fall(step, n=4000, runs=50):
        Q, visits, s = np.zeros((runs, 2, 2)), np.zeros((runs, 2, 2)), np.zeros(runs, int)
        each, errors = np.arange(runs), []
        for _ in range(n):
            u = rng.random((4, runs))
            a = np.where(u[0] < 0.3, (2 * u[1]).astype(int), Q[each, s].argmax(-1))
            after = (u[2] > P[s, a, 0]).astype(int)
            visits[each, s, a] += 1
            target = r[s, a] + u[3] - 0.5 + gamma * Q[each, after].max(-1)
            Q[each, s, a] += step(visits[each, s, a]) * (target - Q[each, s, a])
            s = after
            errors.append(np.abs(Q - exact).max((1, 2)).mean())
        tail = n // 20
        return np.mean(errors[-tail:]) / np.mean(errors[n // 4 - tail : n // 4])

    assert fall(lambda k: k**-0.7) < 0.75
    assert fall(lambda k: k**-2.0) > 0.8
    assert fall(lambda k: 0.3) > 0.8
