r"""One DQN agent on CartPole in torch and Gymnasium, written to be read.

The algorithm of Section 5.2 and Appendix D of the paper, in its letters: (37)-(41). The compiled population of
`pbtlib.cartpole.population` does the same arithmetic for many agents; this file is what it is tested against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    import gymnasium as gym
    import torch
    from torch import Tensor, nn
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{error}; agents in torch need pbtlib with the extra 'cartpole'", name=error.name
    ) from error

from pbtlib.cartpole.population import Population, Trace
from pbtlib.cartpole.setting import LAYERS, TINY, Hyperparameters, Setting, decode, exploration

__all__ = ["Agent", "Replay", "pack", "q_network", "revive", "td_loss", "train", "training", "unpack"]


@dataclass
class Replay:
    """The last transitions (s, a, r, s', terminal) an agent saw; transition number n sits in slot n mod capacity.

    Attributes
    ----------
    observation, following : ndarray of float32, shape (capacity, 4)
        s and s'.
    action : ndarray of uint8, shape (capacity,)
    reward : ndarray of float32, shape (capacity,)
    terminal : ndarray of bool, shape (capacity,)
    stored : int
        Transitions stored since the replay was empty.

    Examples
    --------
    >>> import numpy as np
    >>> replay = Replay(np.zeros((2, 4)), np.zeros(2), np.zeros(2), np.zeros((2, 4)), np.zeros(2))
    >>> for reward in (1.0, 2.0, 3.0):
    ...     replay.store(np.zeros(4), 0, reward, np.zeros(4), False)
    >>> len(replay), replay.reward.tolist()      # the oldest went
    (2, [3.0, 2.0])
    """

    observation: NDArray[np.float32]
    action: NDArray[np.uint8]
    reward: NDArray[np.float32]
    following: NDArray[np.float32]
    terminal: NDArray[np.bool_]
    stored: int = 0

    def __len__(self) -> int:
        return min(self.stored, len(self.action))

    def store(
        self, observation: NDArray[Any], action: int, reward: float, following: NDArray[Any], terminal: bool
    ) -> None:
        """Store one transition, over the oldest if the replay is full."""
        slot = self.stored % len(self.action)
        self.observation[slot], self.action[slot], self.reward[slot] = observation, action, reward
        self.following[slot], self.terminal[slot] = following, terminal
        self.stored += 1

    def sample(self, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Draw that many different transitions, every subset equally likely: tensors s, a, r, s', terminal."""
        slots = rng.choice(len(self), size, replace=False)
        return (
            torch.as_tensor(self.observation[slots]),
            torch.as_tensor(self.action[slots], dtype=torch.int64),
            torch.as_tensor(self.reward[slots]),
            torch.as_tensor(self.following[slots]),
            torch.as_tensor(self.terminal[slots], dtype=torch.float32),
        )


@dataclass
class Agent:
    """A Q-network that learns, and what it needs for that.

    Attributes
    ----------
    network, target : torch.nn.Sequential
        Q(·,·;θ) and Q(·,·;θ⁻).
    adam : torch.optim.Adam
        The optimiser of θ.
    replay : Replay
    clock : int
        Environment steps so far: the time of the exploration schedule (39) and of the target's updates.

    Examples
    --------
    >>> import numpy as np
    >>> from pbtlib.cartpole.population import new_population
    >>> agent = revive(new_population([[0.0, 0.0, 0.0]], np.random.default_rng(0)), 0)
    >>> agent.clock, len(agent.replay)
    (0, 0)
    """

    network: nn.Sequential
    target: nn.Sequential
    adam: torch.optim.Adam
    replay: Replay
    clock: int = 0


def q_network(theta: NDArray[np.float32]) -> nn.Sequential:
    """Return the network 4-64-64-2 with ReLU: observation in, the values Q(s,·) of both actions out.

    Examples
    --------
    >>> import numpy as np
    >>> tuple(q_network(np.zeros(4610, np.float32))(torch.zeros(3, 4)).shape)
    (3, 2)
    """
    network = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), unpack(theta), strict=True):
            parameter.copy_(value)
    return network


def act(network: nn.Sequential, observation: NDArray[np.float32], epsilon: float, rng: np.random.Generator) -> int:
    """Choose an action ε-greedily: random with probability ε, else (38), argmax_a Q(s,a)."""
    if rng.random() < epsilon:
        return int(rng.random() < 0.5)
    with torch.no_grad():
        return int(network(torch.as_tensor(observation)).argmax())


def td_loss(network: nn.Sequential, target: nn.Sequential, batch: tuple[Tensor, ...], gamma: float) -> Tensor:
    """Return the mean squared temporal-difference error (41) of a batch.

    Examples
    --------
    >>> import numpy as np
    >>> network = q_network(np.zeros(4610, np.float32))      # Q = 0, so the error is the reward
    >>> batch = torch.zeros(5, 4), torch.zeros(5, dtype=torch.int64), torch.ones(5), torch.zeros(5, 4), torch.zeros(5)
    >>> td_loss(network, network, batch, gamma=0.99).item()
    1.0
    """
    s, a, r, s_next, terminal = batch
    q = network(s).gather(1, a[:, None]).squeeze(1)
    with torch.no_grad():
        y = r + gamma * (1 - terminal) * target(s_next).max(dim=1).values
    return nn.functional.mse_loss(q, y)


def learn(agent: Agent, size: int, gamma: float, rng: np.random.Generator) -> None:
    """Take one step of Adam on a batch of this size from the replay; its means up to `TINY` are set to zero."""
    loss = td_loss(agent.network, agent.target, agent.replay.sample(size, rng), gamma)
    agent.adam.zero_grad()
    loss.backward()
    agent.adam.step()
    for memory in agent.adam.state.values():
        for name in ("exp_avg", "exp_avg_sq"):
            memory[name] = nn.functional.hardshrink(memory[name], TINY)


def train(
    agent: Agent,
    h: Hyperparameters,
    n_steps: int,
    rng: np.random.Generator,
    setting: Setting = Setting(),  # noqa: B008 (frozen)
) -> list[float]:
    """Let an agent act and learn for some environment steps, starting with a new episode. The agent is changed.

    Parameters
    ----------
    agent : Agent
    h : Hyperparameters
        The agent's own learning rate, exploration decay and batch size.
    n_steps : int
        Environment steps; each is followed by one gradient step as soon as the replay holds a batch.
    rng : numpy.random.Generator
        The only source of randomness, of the environment too.
    setting : pbtlib.cartpole.setting.Setting

    Returns
    -------
    list of float
        Returns (summed rewards) of the episodes that ended, in their order. The last, unfinished episode has none.

    Examples
    --------
    >>> import numpy as np
    >>> from pbtlib.cartpole.population import new_population
    >>> agent = revive(new_population([[0.0, 0.0, 0.0]], np.random.default_rng(0)), 0)
    >>> returns = train(agent, decode([0.0, 0.0, 0.0]), 120, np.random.default_rng(1))
    >>> agent.clock, len(returns) >= 1
    (120, True)
    """
    env = gym.make("CartPole-v1", max_episode_steps=setting.episode_cap)
    env.unwrapped.np_random = rng
    agent.adam.param_groups[0]["lr"] = float(h.lr)
    returns, total = [], 0.0
    observation, _ = env.reset()
    for _ in range(n_steps):
        action = act(agent.network, observation, float(exploration(agent.clock, h.decay)), rng)
        following, reward, terminated, truncated, _ = env.step(action)
        terminal = terminated or (truncated and not setting.bootstrap)
        agent.replay.store(observation, action, float(reward), following, terminal)
        if len(agent.replay) >= h.batch:
            learn(agent, int(h.batch), setting.gamma, rng)
        agent.clock += 1
        if agent.clock % setting.target_period == 0:
            agent.target.load_state_dict(agent.network.state_dict())
        observation, total = following, total + float(reward)
        if terminated or truncated:
            returns.append(total)
            observation, total = env.reset()[0], 0.0
    env.close()
    return returns


def pack(tensors: Iterable[Tensor]) -> NDArray[np.float32]:
    """Join W₁, b₁, W₂, b₂, W₃, b₃ (or anything of these shapes) to one vector of 4610.

    Examples
    --------
    >>> import numpy as np
    >>> theta = np.arange(4610, dtype=np.float32)
    >>> bool((pack(unpack(theta)) == theta).all())
    True
    """
    return torch.cat([tensor.detach().ravel() for tensor in tensors]).numpy()


def unpack(theta: NDArray[np.float32]) -> list[Tensor]:
    """Cut a vector of 4610 into W₁, b₁, W₂, b₂, W₃, b₃: the inverse of `pack`.

    Examples
    --------
    >>> import numpy as np
    >>> [tuple(piece.shape) for piece in unpack(np.zeros(4610, np.float32))]
    [(64, 4), (64,), (64, 64), (64,), (2, 64), (2,)]
    """
    shapes = [shape for outputs, inputs in LAYERS for shape in ((outputs, inputs), (outputs,))]
    pieces = torch.tensor(theta).split([math.prod(shape) for shape in shapes])
    return [piece.reshape(shape).clone() for piece, shape in zip(pieces, shapes, strict=True)]


# ---------------------------------------------------------------------------------------------- a few such agents


def training(
    n_steps: int, setting: Setting | None = None
) -> Callable[[Population, np.random.Generator], tuple[Population, Trace]]:
    """Build the fast operator that trains every agent of a small population with the code above, one after another.

    It takes and returns what `pbtlib.cartpole.population.training` does, so that the same loop, selection, copy and
    mutation serve torch agents and compiled ones.

    Parameters
    ----------
    n_steps : int
        Environment steps of a generation.
    setting : pbtlib.cartpole.setting.Setting, optional

    Returns
    -------
    callable
        ``train(state, rng) -> (state, trace)``; agent i draws from the i-th child of the fresh stream ``rng``.

    Examples
    --------
    >>> import numpy as np
    >>> from pbtlib.cartpole.population import new_population
    >>> two = new_population([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]], np.random.default_rng(0))
    >>> training(100)(two, np.random.default_rng(1))[0].updates.ravel().tolist()      # a batch of 32, none of 128
    [69, 0]
    """
    common = setting or Setting()

    def train_all(state: Population, rng: np.random.Generator) -> tuple[Population, Trace]:
        hyper, n = decode(state.h), len(state.h)
        agents = [revive(state, i) for i in range(n)]
        streams = rng.spawn(n)
        ended = [train(agents[i], hyper.agent(i), n_steps, streams[i], common) for i in range(n)]
        count = np.array([len(returns) for returns in ended])
        padded = [returns + [0.0] * (max(1, *count) - len(returns)) for returns in ended]
        rows = [_record(agent) for agent in agents]
        new = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        return replace(state, **new), Trace(np.array(padded, np.int64), count)

    return train_all


def revive(state: Population, i: int) -> Agent:
    """Return agent i of a population in torch, with arrays of its own.

    Examples
    --------
    >>> import numpy as np
    >>> from pbtlib.cartpole.population import new_population
    >>> agent = revive(new_population([[0.0, 0.0, 0.0]], np.random.default_rng(0)), 0)
    >>> agent.network[0].weight.requires_grad, agent.target[0].weight.requires_grad
    (True, False)
    """
    network, target = q_network(state.theta[i]), q_network(state.target[i]).requires_grad_(False)
    adam = torch.optim.Adam(network.parameters())
    for parameter, m, v in zip(network.parameters(), unpack(state.m[i]), unpack(state.v[i]), strict=True):
        step = torch.tensor(float(state.updates[i, 0]))
        adam.state[parameter] = {"step": step, "exp_avg": m, "exp_avg_sq": v}
    observation, action = state.observation[i].copy(), state.action[i].copy()
    following, terminal = state.following[i].copy(), state.terminal[i].copy()
    reward = np.ones(len(action), np.float32)
    replay = Replay(observation, action, reward, following, terminal, int(state.stored[i, 0]))
    return Agent(network, target, adam, replay, int(state.clock[i, 0]))


def _record(agent: Agent) -> dict[str, NDArray[Any]]:
    """Return the rows of a population that hold this agent."""
    parameters, replay = list(agent.network.parameters()), agent.replay
    memory = [agent.adam.state[parameter] for parameter in parameters]
    return {
        "theta": pack(parameters),
        "target": pack(agent.target.parameters()),
        "m": pack(entry["exp_avg"] for entry in memory),
        "v": pack(entry["exp_avg_sq"] for entry in memory),
        "updates": np.array([int(memory[0]["step"])]),
        "clock": np.array([agent.clock]),
        "stored": np.array([replay.stored]),
        "observation": replay.observation,
        "following": replay.following,
        "action": replay.action,
        "terminal": replay.terminal,
    }
