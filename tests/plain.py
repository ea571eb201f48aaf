"""The paper's quadratic example in plain NumPy, many populations at once: a second way to what the library computes."""

import numpy as np


def parents(weight, rng):
    """For each agent the index of a parent drawn with these weights, (populations, agents)."""
    edges = np.cumsum(weight, 1)
    row = np.arange(len(weight))[:, None]
    flat = (edges / edges[:, -1:] + row).ravel()
    found = flat.searchsorted((rng.random(weight.shape) + row).ravel(), side="right").reshape(weight.shape)
    return np.minimum(found - row * weight.shape[1], weight.shape[1] - 1)


def follow(values, parent):
    return np.take_along_axis(values, parent[..., None], 1)


def trained(theta, h, steps, dt, rng):
    """θ after so many Euler-Maruyama steps of (24), in one draw; None: the equilibrium of (25)."""
    if steps is None:
        memory, variance = 0.0, 0.25
    else:
        memory, keep = (1 - 2 * dt) ** steps, (1 - 2 * dt) ** 2
        variance = dt * (1 - memory**2) / (1 - keep)
    kick = np.abs(h[..., 1:]) * np.sqrt(variance) * rng.standard_normal(theta.shape)
    return h[..., :1] + memory * (theta - h[..., :1]) + kick


def quadratic(rng, runs, agents, updates, *, steps=50, dt=0.01, sigma=0.1, beta=1.0, low=-5.0, tau=1.0, floor=None):
    """Yield θ as it is judged, h before the copying, the parents, and h after the update.

    h starts uniform on [low, 5]². With tau below one agents jump with that probability in each update; floor is the
    least h₂ allowed.
    """
    theta, h = rng.uniform(-5, 5, (runs, agents, 2)), rng.uniform(low, 5, (runs, agents, 2))
    if floor is not None:
        h[..., 1] = np.abs(h[..., 1])
    for _ in range(updates):
        theta = trained(theta, h, steps, dt, rng)
        parent = parents(np.exp(-beta * np.square(theta).sum(-1)), rng)
        stays = rng.random(parent.shape) >= tau
        parent = np.where(stays, np.arange(agents), parent)
        moved = follow(h, parent) + sigma * np.where(stays[..., None], 0, rng.standard_normal(h.shape))
        if floor is not None:
            moved[..., 1] = np.maximum(moved[..., 1], floor)
        yield theta, h, parent, moved
        theta, h = follow(theta, parent), moved
