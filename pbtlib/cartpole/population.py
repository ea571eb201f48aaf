r"""A population of DQN agents on CartPole: the arithmetic of `pbtlib.cartpole.dqn`, compiled.

Between two evolutions the agents know nothing of each other, and the whole of one agent fits in a processor's cache.
So one compiled call trains one agent for a whole generation, and a pool of threads maps agents to cores. Every agent
has its own learning rate, exploration decay and batch size, and pays for its own batch only.

The network is Q = A₂·W₃ᵀ + b₃, A₂ = max(A₁·W₂ᵀ + b₂, 0), A₁ = max(X·W₁ᵀ + b₁, 0), where a row is one transition, so
that every inner loop runs over the 64 units of a layer. Numbers of the network are float32 as in torch, those of the
physics float64 as in Gymnasium.

max_a Q(s',a;θ⁻) of a stored transition changes only when the target network does: it is computed when the transition
is first drawn after a target update, then remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pbtlib.cartpole.product import WIDTH, product
from pbtlib.cartpole.setting import LAYERS, TINY, WEIGHTS, Setting, decode, initial_weights
from pbtlib.checks import check_array, check_memory, check_number
from pbtlib.evolution import Jump
from pbtlib.normals import COMPILE
from pbtlib.parallel import processors

__all__ = ["Population", "Trace", "copying", "new_population", "physics", "training", "window_mean"]

f32 = np.float32
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile for threads, without fastmath: no rounding may depend on what the compiler inlines."""
    njit: Any = numba.njit(nogil=True, cache=COMPILE["cache"], error_model="numpy")
    made: F = njit(function)
    return made


@dataclass(frozen=True)
class Population:
    """N agents: a row of every array belongs to one agent.

    Attributes
    ----------
    h : ndarray of float64, shape (N, 3)
        Hyperparameters in scaled coordinates, [−1, 1]³; `pbtlib.cartpole.setting.decode` gives their values.
    theta, target : ndarray of float32, shape (N, 4610)
        Weights θ and those of the target network θ⁻: W₁, b₁, W₂, b₂, W₃, b₃, matrices row by row.
    m, v : ndarray of float32, shape (N, 4610)
        Adam's running means of the gradient and its square.
    updates : ndarray of int64, shape (N, 1)
        Gradient steps since Adam was at rest.
    clock : ndarray of int64, shape (N, 1)
        Environment steps: the time of the exploration schedule (39) and of the target's updates.
    stored : ndarray of int64, shape (N, 1)
        Transitions stored since the replay was empty; number n sits in slot n mod capacity.
    observation, following : ndarray of float32, shape (N, capacity, 4)
        s and s' of the replay. Every reward is 1 in CartPole and is not stored.
    action : ndarray of uint8, shape (N, capacity)
    terminal : ndarray of bool, shape (N, capacity)

    Examples
    --------
    >>> import numpy as np
    >>> agents = new_population(np.zeros((3, 3)), np.random.default_rng(0), Setting(capacity=200))
    >>> agents.theta.shape, agents.observation.shape
    ((3, 4610), (3, 200, 4))
    """

    h: NDArray[np.float64]
    theta: NDArray[np.float32]
    target: NDArray[np.float32]
    m: NDArray[np.float32]
    v: NDArray[np.float32]
    updates: NDArray[np.int64]
    clock: NDArray[np.int64]
    stored: NDArray[np.int64]
    observation: NDArray[np.float32]
    following: NDArray[np.float32]
    action: NDArray[np.uint8]
    terminal: NDArray[np.bool_]


@dataclass(frozen=True)
class Trace:
    """Returns of the episodes that ended during one generation, in their order.

    Attributes
    ----------
    returns : ndarray of int64, shape (N, most)
        Agent i's returns are ``returns[i, :count[i]]``; zeros follow. A return is also the episode's length.
    count : ndarray of int64, shape (N,)
        Episodes that ended.

    Examples
    --------
    >>> import numpy as np
    >>> trace = Trace(returns=np.array([[12, 30, 0]]), count=np.array([2]))
    >>> trace.returns[0, : trace.count[0]].tolist()
    [12, 30]
    """

    returns: NDArray[np.int64]
    count: NDArray[np.int64]


def new_population(h: ArrayLike, rng: np.random.Generator, setting: Setting | None = None) -> Population:
    """Return agents with these hyperparameters: weights drawn, Adam at rest, replay empty, clock at 0.

    Parameters
    ----------
    h : array_like, shape (N, 3)
        Scaled hyperparameters in [−1, 1].
    rng : numpy.random.Generator
        A fresh stream; agent i draws its weights from the stream's i-th child, as
        `pbtlib.cartpole.setting.initial_weights` does.
    setting : pbtlib.cartpole.setting.Setting, optional

    Examples
    --------
    >>> import numpy as np
    >>> agents = new_population(np.zeros((2, 3)), np.random.default_rng(0))
    >>> agents.clock.ravel().tolist(), bool((agents.theta == agents.target).all())
    ([0, 0], True)
    """
    scaled = check_array("h", h, min_ndim=2, shape=(None, 3))
    decode(scaled)
    n, capacity = len(scaled), (setting or Setting()).capacity
    check_memory(f"h has shape {scaled.shape}", n * (34.0 * capacity + 16 * WEIGHTS))
    theta = np.array([initial_weights(child) for child in rng.spawn(n)])
    return Population(
        h=scaled,
        theta=theta,
        target=theta.copy(),
        m=np.zeros((n, WEIGHTS), np.float32),
        v=np.zeros((n, WEIGHTS), np.float32),
        updates=np.zeros((n, 1), np.int64),
        clock=np.zeros((n, 1), np.int64),
        stored=np.zeros((n, 1), np.int64),
        observation=np.zeros((n, capacity, 4), np.float32),
        following=np.zeros((n, capacity, 4), np.float32),
        action=np.zeros((n, capacity), np.uint8),
        terminal=np.zeros((n, capacity), np.bool_),
    )


# ---------------------------------------------------------------------------------------------- the fast operator


def training(
    n_steps: int,
    setting: Setting | None = None,
    *,
    threads: int | None = None,
    advance: Callable[[int], object] | None = None,
) -> Callable[[Population, np.random.Generator], tuple[Population, Trace]]:
    """Build the fast operator: every agent acts and learns for one generation, starting with a new episode.

    Parameters
    ----------
    n_steps : int
        Environment steps of a generation; each is followed by one gradient step once the replay holds a batch.
    setting : pbtlib.cartpole.setting.Setting, optional
    threads : int, optional
        Agents trained at a time; all processors by default. It changes no bit of the result.
    advance : callable, optional
        Called with the number of environment steps whenever an agent has finished, from the calling thread.

    Returns
    -------
    callable
        ``train(state, rng) -> (state, trace)``; agent i draws from the i-th child of the fresh stream ``rng``.

    Examples
    --------
    >>> import numpy as np
    >>> start = new_population(np.zeros((2, 3)), np.random.default_rng(0))
    >>> state, trace = training(120)(start, np.random.default_rng(1))
    >>> state.clock.ravel().tolist(), bool((trace.count >= 1).all())
    ([120, 120], True)
    """
    check_number("n_steps", n_steps, integer=True, minimum=1)
    workers = threads if threads is not None else processors()
    check_number("threads", workers, integer=True, minimum=1)
    common = setting or Setting()
    constants = (common.gamma, common.episode_cap, common.target_period, common.bootstrap)

    def train(state: Population, rng: np.random.Generator) -> tuple[Population, Trace]:
        hyper, n = decode(state.h), len(state.h)
        check_memory(f"the population has {n:,} agents", 2.0 * sum(getattr(state, name).nbytes for name in _CHANGED))
        new = replace(state, **{name: getattr(state, name).copy() for name in _CHANGED})
        arrays = [getattr(new, name) for name in _CHANGED]
        returns, streams = np.zeros((n, n_steps), np.int64), rng.spawn(n)

        def train_one(i: int) -> int:
            own = (hyper.lr[i], hyper.decay[i], hyper.batch[i], n_steps, *constants, streams[i], returns[i])
            weights = [by_columns(array[i]) for array in arrays[:4]]
            arguments: tuple[Any, ...] = (*weights, *(array[i] for array in arrays[4:]), *own)
            episodes = _generation(*arguments)
            for array, turned in zip(arrays, weights, strict=False):
                array[i, _COLUMNS] = turned
            return episodes

        longest_first = np.argsort(-hyper.batch, kind="stable")
        count = np.zeros(n, np.int64)
        with ThreadPoolExecutor(workers) as pool:
            futures = {pool.submit(train_one, int(i)): int(i) for i in longest_first}
            for future in as_completed(futures):
                count[futures[future]] = future.result()
                if advance is not None:
                    advance(n_steps)
        return new, Trace(returns[:, : max(int(count.max()), 1)].copy(), count)

    return train


_REPLAY = ("observation", "following", "action", "terminal")
_CHANGED = ("theta", "target", "m", "v", "updates", "clock", "stored", *_REPLAY)


_COLUMNS = np.arange(WEIGHTS)
_COLUMNS[:256] = _COLUMNS[:256].reshape(LAYERS[0]).T.ravel()
_COLUMNS[320:4416] = _COLUMNS[320:4416].reshape(LAYERS[1]).T.ravel()


def by_columns(theta: F32) -> F32:
    """Copy a vector of 4610 into the order in which agents are trained: W₁ and W₂ column by column."""
    return theta[_COLUMNS]


def window_mean(m: int) -> Callable[[Population, Trace], NDArray[np.float64]]:
    """Build the fitness (23): the mean of an agent's last m returns.

    Parameters
    ----------
    m : int
        Length of the window. A generation in which m episodes of full length fit ends with a full window, so no
        return from before a copy is ever needed.

    Returns
    -------
    callable
        ``evaluate(state, trace)``, the fitness of shape (N,). It raises ValueError if an agent ended fewer than m
        episodes.

    Examples
    --------
    >>> import numpy as np
    >>> window_mean(2)(None, Trace(np.array([[10, 20, 30], [5, 15, 0]]), np.array([3, 2]))).tolist()
    [25.0, 10.0]
    """
    check_number("m", m, integer=True, minimum=1)

    def evaluate(state: Population, trace: Trace) -> NDArray[np.float64]:
        if trace.count.min() < m:
            raise ValueError(f"m is {m}; an agent ended only {trace.count.min()} episodes, m must be at most that")
        last = trace.count[:, None] - np.arange(1, m + 1)
        mean: F64 = np.take_along_axis(trace.returns, last, axis=1).mean(axis=1)
        return mean

    return evaluate


def copying(
    *, adam: bool = False, replay: bool = False, clock: bool = True
) -> Callable[[Population, Jump], Population]:
    """Build the copy of (2) for agents that are more than (θ, h).

    An agent that is replaced takes its parent's θ and h, and θ⁻ = θ. Of the rest it takes what is asked for; else
    it starts afresh. As the defaults have it, so does the authors' code.

    Parameters
    ----------
    adam : bool
        Take the parent's running means and their count (else Adam is at rest).
    replay : bool
        Take the parent's replay (else it is empty, and learning pauses until it holds a batch).
    clock : bool
        Let the exploration clock run on: all agents take the same number of steps, so the replaced agent's clock and
        its parent's show the same time, and ε changes through the mutated ε_decay only. Else the clock restarts at 0,
        and the copy first explores at random again.

    Returns
    -------
    callable
        ``copy(state, jump)``, a new state; the snapshot before the jumps is the source of every copy.

    Examples
    --------
    >>> import numpy as np
    >>> agents = new_population([[0.5, 0.0, 0.0], [-0.5, 0.0, 0.0]], np.random.default_rng(0))
    >>> copied = copying()(agents, Jump(who=np.array([True, False]), parent=np.array([1, 1])))
    >>> copied.h[:, 0].tolist(), bool((copied.theta[0] == agents.theta[1]).all())
    ([-0.5, -0.5], True)
    """

    def copy(state: Population, jump: Jump) -> Population:
        who, parent = jump.who, jump.parent

        def replaced(name: str, taken: bool) -> NDArray[Any]:
            array = getattr(state, name)
            new: NDArray[Any] = array[parent] if taken else np.where(who[:, None], array.dtype.type(0), array)
            return new

        theta = state.theta[parent]
        return replace(
            state,
            h=state.h[parent],
            theta=theta,
            target=np.where(who[:, None], theta, state.target),
            **{name: replaced(name, adam) for name in ("m", "v", "updates")},
            clock=replaced("clock", clock),
            stored=replaced("stored", replay),
            **({name: getattr(state, name)[parent] for name in _REPLAY} if replay else {}),
        )

    return copy


@compiled
def _generation(
    theta: F32, target: F32, m: F32, v: F32, updates: I64, clock: I64, stored: I64,
    observation: F32, following: F32, action: NDArray[np.uint8], terminal: NDArray[np.bool_],
    lr: float, decay: float, batch: int, n_steps: int,
    gamma: float, episode_cap: int, target_period: int, bootstrap: bool, rng: np.random.Generator, returns: I64,
) -> int:  # fmt: skip
    """Train one agent for a generation, in place; return the number of episodes that ended."""
    capacity = len(action)
    value = np.empty(capacity, np.float32)  # max_a Q(s',a;θ⁻) of a stored transition ...
    known = np.zeros(capacity, np.bool_)  # ... where it is known
    drawn = np.full(capacity, -1)  # the last step at which a transition was drawn
    slots = np.empty(batch, np.int64)
    state, length, episodes = reset(rng), 0, 0
    for step in range(n_steps):
        epsilon = 0.01 + 0.99 * np.exp(-clock[0] / decay)
        a = act(theta, state, epsilon, rng)
        new_state, terminated = physics(state, a)
        length += 1
        truncated = length == episode_cap

        slot = stored[0] % capacity
        observation[slot], action[slot], following[slot] = state, a, new_state
        terminal[slot] = terminated or (truncated and not bootstrap)
        known[slot] = False
        stored[0] += 1

        if min(stored[0], capacity) >= batch:
            sample(slots, drawn, min(stored[0], capacity), step, rng)
            evaluate_new(value, known, slots, target, following)
            learn(theta, m, v, updates, slots, observation, action, terminal, value, lr, gamma)
        clock[0] += 1
        if clock[0] % target_period == 0:
            target[:] = theta
            known[:] = False
        state = new_state
        if terminated or truncated:
            returns[episodes] = length
            episodes += 1
            state, length = reset(rng), 0
    return episodes


# ---------------------------------------------------------------------------------------------- environment


@compiled
def reset(rng: np.random.Generator) -> F64:
    """Return the state (x, ẋ, angle, angular velocity) in which an episode starts: uniform in ±0.05."""
    state = np.empty(4)
    for i in range(4):
        state[i] = -0.05 + 0.1 * rng.random()
    return state


@compiled
def physics(state: F64, action: int) -> tuple[F64, bool]:
    """Advance the cart and pole by 0.02 s, as Gymnasium's CartPole-v1 does (explicit Euler).

    Parameters
    ----------
    state : ndarray of float64, shape (4,)
        Position [m], velocity [m/s], angle [rad], angular velocity [rad/s].
    action : int
        0 pushes to the left, 1 to the right, by 10 N.

    Returns
    -------
    state : ndarray of float64, shape (4,)
    terminated : bool
        Whether the cart is further out than 2.4 m or the pole further down than 12 degrees.

    Examples
    --------
    >>> import numpy as np
    >>> state, terminated = physics(np.zeros(4), 1)      # the cart moves to the right, the pole falls to the left
    >>> bool(state[1] > 0 > state[3]), bool(terminated)
    (True, False)
    """
    gravity, cart, pole, half_length, push, dt = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
    total = cart + pole
    x, x_dot, angle, angle_dot = state
    force = push if action == 1 else -push
    cosine, sine = np.cos(angle), np.sin(angle)
    temp = (force + pole * half_length * angle_dot**2 * sine) / total
    angle_acc = (gravity * sine - cosine * temp) / (half_length * (4 / 3 - pole * cosine**2 / total))
    x_acc = temp - pole * half_length * angle_acc * cosine / total
    new = np.array([x + dt * x_dot, x_dot + dt * x_acc, angle + dt * angle_dot, angle_dot + dt * angle_acc])
    return new, abs(new[0]) > 2.4 or abs(new[2]) > 12 * 2 * np.pi / 360


@compiled
def act(theta: F32, state: F64, epsilon: float, rng: np.random.Generator) -> int:
    """Choose an action ε-greedily: random with probability ε, else (38), argmax_a Q(s,a)."""
    if rng.random() < epsilon:
        return int(rng.random() < 0.5)
    X = np.empty((1, 4), np.float32)
    X[0] = state
    Q = forward(theta, X)[2]
    return int(Q[0, 1] > Q[0, 0])


# ---------------------------------------------------------------------------------------------- learning


@compiled
def sample(slots: I64, drawn: I64, held: int, step: int, rng: np.random.Generator) -> None:
    """Draw len(slots) different numbers below ``held``, every subset equally likely, by Floyd's algorithm.

    ``drawn`` marks with ``step``, a number that no earlier call used, what this call has drawn.
    """
    size = len(slots)
    for i in range(size):
        last = held - size + i
        slot = int((last + 1) * rng.random())
        if drawn[slot] == step:
            slot = last
        drawn[slot] = step
        slots[i] = slot


@compiled
def gather(states: F32, slots: I64) -> F32:
    """Return the input of the network for these transitions, one per row."""
    X = np.empty((len(slots), 4), np.float32)
    for b, slot in enumerate(slots):
        for i in range(4):
            X[b, i] = states[slot, i]
    return X


@compiled
def layers(theta: F32) -> tuple[F32, F32, F32, F32, F32, F32]:
    """View weights in the order of `by_columns` as W₁ᵀ, b₁, W₂ᵀ, b₂, W₃, b₃."""
    V1, b1 = theta[:256].reshape(4, 64), theta[256:320]
    V2, b2 = theta[320:4416].reshape(64, 64), theta[4416:4480]
    W3, b3 = theta[4480:4608].reshape(2, 64), theta[4608:]
    return V1, b1, V2, b2, W3, b3


@compiled
def forward(theta: F32, X: F32) -> tuple[F32, F32, F32]:
    """Return both hidden layers A₁, A₂, of shape (batch, 64), and Q, of shape (batch, 2)."""
    V1, b1, V2, b2, W3, b3 = layers(theta)
    A1 = hidden(X, V1, b1)
    A2 = hidden(A1, V2, b2)
    V3, Q = np.zeros((64, WIDTH), np.float32), np.empty((len(X), WIDTH), np.float32)
    V3[:, :2] = W3.T  # a product has so many columns at least
    product(A2, V3, Q)
    Q[:, :2] += b3
    return A1, A2, Q[:, :2]


@compiled
def hidden(X: F32, V: F32, b: F32) -> F32:
    """Return max(X·V + b, 0)."""
    A = np.empty((len(X), 64), np.float32)
    product(X, V, A)
    for j in range(len(A)):
        for i in range(64):
            A[j, i] = max(A[j, i] + b[i], f32(0))
    return A


@compiled
def evaluate_new(value: F32, known: NDArray[np.bool_], slots: I64, target: F32, following: F32) -> None:
    """Put max_a Q(s',a;θ⁻) into ``value`` for those of the transitions where it is not yet known."""
    new = slots[~known[slots]]
    if len(new) > 0:
        Q = forward(target, gather(following, new))[2]
        for b, slot in enumerate(new):
            value[slot] = max(Q[b, 0], Q[b, 1])
            known[slot] = True


@compiled
def gradient(theta: F32, X: F32, a: NDArray[np.uint8], y: F32) -> F32:
    """Return the gradient of (41), the mean over the batch of (y − Q(s,a;θ))², by the chain rule.

    Parameters
    ----------
    theta : ndarray of float32, shape (4610,)
        Weights in the order of `by_columns`.
    X : ndarray of float32, shape (B, 4)
        The states s, as `gather` returns them.
    a : ndarray of uint8, shape (B,)
    y : ndarray of float32, shape (B,)
        The targets r + γ(1 − terminal)·max_a' Q(s',a';θ⁻).

    Returns
    -------
    ndarray of float32, shape (4610,)
        In the same order.
    """
    _, _, V2, _, W3, _ = layers(theta)
    A1, A2, Q = forward(theta, X)
    g = np.zeros_like(theta)
    G1, g1, G2, g2, G3, g3 = layers(g)
    B = len(X)
    D2, D1 = np.empty_like(A2), np.empty_like(A1)  # the derivatives of the loss by the inputs of the ReLUs
    for b in range(B):
        d = f32(2) / f32(B) * (Q[b, a[b]] - y[b])  # the derivative by Q
        w, g_w = W3[a[b]], G3[a[b]]
        g3[a[b]] += d
        for i in range(64):
            g_w[i] += d * A2[b, i]
            D2[b, i] = d * w[i] if A2[b, i] > 0 else f32(0)
            g2[i] += D2[b, i]
    product(D2, V2.T.copy(), D1)
    for b in range(B):
        for i in range(64):
            D1[b, i] = D1[b, i] if A1[b, i] > 0 else f32(0)
            g1[i] += D1[b, i]
    product(A1.T, D2, G2)
    product(X.T, D1, G1)
    return g


@compiled
def adam(theta: F32, m: F32, v: F32, g: F32, lr: float, t: int) -> None:
    """Take the t-th step of Adam, with torch's defaults (β₁ = 0.9, β₂ = 0.999, 1e-8), in place.

    Means up to `TINY` are set to zero.
    """
    rate = f32(lr / (1 - 0.9**t))
    root = f32(np.sqrt(1 - 0.999**t))
    for i in range(len(theta)):
        mean = m[i] + f32(0.1) * (g[i] - m[i])
        square = f32(0.999) * v[i] + f32(0.001) * (g[i] * g[i])
        m[i] = mean if abs(mean) > f32(TINY) else f32(0)
        v[i] = square if square > f32(TINY) else f32(0)
        theta[i] -= rate * (m[i] / (np.sqrt(v[i]) / root + f32(1e-8)))


@compiled
def learn(
    theta: F32, m: F32, v: F32, updates: I64, slots: I64, observation: F32,
    action: NDArray[np.uint8], terminal: NDArray[np.bool_], value: F32, lr: float, gamma: float,
) -> None:  # fmt: skip
    """Take one step of Adam on the transitions in these slots."""
    y = np.empty(len(slots), np.float32)
    for b, slot in enumerate(slots):
        y[b] = f32(1) + f32(gamma) * (f32(0) if terminal[slot] else value[slot])
    updates[0] += 1
    adam(theta, m, v, gradient(theta, gather(observation, slots), action[slots], y), lr, updates[0])
