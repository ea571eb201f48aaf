"""How fast the compiled CartPole population is: against the torch agent, against the processor, in N and threads.

``python -m benchmarks.cartpole`` takes some minutes, with ``--quick`` less than one. Speeds drift with what else the
machine does: compare numbers of one run only, and those per processor second first.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import numba
import numpy as np
import scipy.linalg.cython_blas
import torch

from pbtlib.cartpole import dqn, population
from pbtlib.cartpole.experiment import initial_population, prepare
from pbtlib.cartpole.setting import LAYERS, WEIGHTS, decode
from pbtlib.evolution import stream

__all__ = ["main"]


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    """Wall seconds and processor seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def best(call: Callable[[int], Any], repeats: int, rounds: int = 7) -> float:
    """Processor seconds of one repeat in the best of some rounds."""
    call(1)
    return min(timed(lambda: call(repeats))[1] for _ in range(rounds)) / repeats


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep OpenBLAS, which serves the compiled products of matrices, on one core."""
    blas = ctypes.CDLL(scipy.linalg.cython_blas.__file__)
    names = [prefix for prefix in ("scipy_openblas", "openblas") if hasattr(blas, f"{prefix}_set_num_threads")]
    for prefix in names[:1]:
        before = getattr(blas, f"{prefix}_get_num_threads")()
        getattr(blas, f"{prefix}_set_num_threads")(1)
    yield
    for prefix in names[:1]:
        getattr(blas, f"{prefix}_set_num_threads")(before)


@numba.njit(nogil=True)
def products(A, B, C, repeats):
    for _ in range(repeats):
        np.dot(A, B, C)


def sgemm(m: int, k: int, n: int, seconds: float = 2.0) -> float:
    """Flop per second of one core on float32 products of this shape: the mean over some seconds, no burst."""
    rng = np.random.default_rng(0)
    A, B, C = (rng.random(shape, dtype=np.float32) for shape in ((m, k), (k, n), (m, n)))
    repeats = max(1, int(seconds * 8e10 / (2 * m * k * n)))
    with one_blas_thread():
        products(A, B, C, 1)
        return 2 * m * k * n * repeats / timed(lambda: products(A, B, C, repeats))[1]


def beside_sgemm(work: Callable[[], Any]) -> tuple[float, float, float]:
    """Wall and processor seconds of a call, and what large products reached before and after it [flop/s], on average.

    They take turns because a processor that others use too drifts within seconds by half.
    """
    before = sgemm(512, 512, 512)
    wall, cpu = timed(work)
    return wall, cpu, (before + sgemm(512, 512, 512)) / 2


def flop(state: population.Population, n_steps: int) -> float:
    """Flop of a generation that starts from this state.

    Per sample of a batch one forward pass, as much again for the gradient of the weights, and for that of the
    activations as much less the first layer; one forward pass per action; one per target value computed, which is
    when a transition is first drawn since the target network changed (expected number).
    """
    batch = decode(state.h).batch.astype(float)
    first = LAYERS[0][0] * (LAYERS[0][1] + 1)
    stored, capacity = state.stored[:, 0], state.action.shape[1]
    learned, targets, known = np.zeros((3, len(batch)))
    for step in range(1, n_steps + 1):
        held = np.minimum(stored + step, capacity)
        learns = np.where(held >= batch, batch, 0.0)
        new = learns * (1 - known / held)
        learned, targets = learned + learns, targets + new
        known = known + new if step % 100 else np.zeros(len(batch))
    return float(2 * np.sum(learned * (3 * WEIGHTS - first) + WEIGHTS * (n_steps + targets)))


def phases(size: int = 80) -> dict[str, float]:
    """Microseconds of the parts of an agent-step at the middle batch size, each timed alone on one thread."""
    rng = np.random.default_rng(0)
    state, _ = population.training(500, threads=1)(population.new_population(np.zeros((1, 3)), rng), rng)
    theta, target, m, v = (population.by_columns(getattr(state, name)[0]) for name in ("theta", "target", "m", "v"))
    observation, following, action = state.observation[0], state.following[0], state.action[0, :size]
    slots, drawn, y = np.arange(size), np.full(5000, -1), np.ones(size, np.float32)
    X, X_next = population.gather(observation, slots), population.gather(following, slots[: size // 3])
    g = population.gradient(theta, X, action, y)
    parts = {
        "choose an action": (population.act, (theta, np.full(4, 0.01), 0.05, rng)),
        "physics": (population.physics, (np.full(4, 0.01), 1)),
        "sample a batch": (population.sample, (slots, drawn, 500, 0, rng)),
        "gather a batch": (population.gather, (observation, np.arange(size))),
        "target values of a third": (population.forward, (target, X_next)),
        "forward and backward": (population.gradient, (theta, X, action, y)),
        "Adam": (population.adam, (theta.copy(), m.copy(), v.copy(), g, 1e-9, 100)),
    }
    times = {}
    for name, (function, arguments) in parts.items():

        @numba.njit(nogil=True)
        def repeat(count, arguments, function=function):
            for _ in range(count):
                function(*arguments)

        times[name] = 1e6 * best(lambda count, repeat=repeat, arguments=arguments: repeat(count, arguments), 2000)
    return times


def ageing(n: int, generations: int, n_steps: int = 500) -> None:
    """Print the speed of generations without evolution, on one thread.

    An agent-step costs more as the replay fills: learning starts at once, and a larger replay has more transitions
    whose target values are not yet known. So flop per second tell whether the processor slows down.
    """
    state, train = initial_population(n, 0), population.training(n_steps, threads=1)
    print(f"\n{n} agents without evolution\ngeneration   agent-steps per CPU s   Mflop per step    GF/s  of the bound")
    speeds = []
    for k in range(generations):
        work, made = flop(state, n_steps), []
        _, cpu, peak = beside_sgemm(
            lambda state=state, k=k, made=made: made.append(train(state, stream(0, k, "train"))[0])
        )
        (state,) = made
        steps = n * n_steps
        speeds.append((steps / cpu, work / cpu / peak))
        speed = f"{work / cpu / 1e9:7.1f} {work / cpu / peak:13.0%}"
        print(f"{k + 1:10d} {steps / cpu:23,.0f} {work / steps / 1e6:16.2f} {speed}")
    (first, early), (last, late) = speeds[0], speeds[-1]
    print(f"the last against the first: {last / first:.2f} in agent-steps, {late / early:.2f} of the bound")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="N up to 200 and one round")
    quick = parser.parse_args(arguments).quick
    cores = os.cpu_count() or 1
    torch.set_num_threads(1)
    print(f"compiling or loading from the cache: {prepare():.1f} s")

    n, n_steps = (100 if quick else 500), 500
    state = initial_population(n, 0)
    peak, small, parts = sgemm(512, 512, 512), sgemm(64, 65, 80), phases()
    work = flop(state, n_steps) / (n * n_steps)
    print(f"sgemm on one core: {peak / 1e9:.0f} GF/s (512 x 512 x 512), {small / 1e9:.0f} GF/s (64 x 65 x 80)")
    print(
        f"an agent-step of this population: {work / 1e6:.2f} Mflop, so at most {peak / work:,.0f} a second and core\n"
    )

    chosen = np.argsort(state.h[:, 2])[np.linspace(n // 10, n - 1 - n // 10, 8).astype(int)]
    few = replace(state, **{f.name: getattr(state, f.name)[chosen] for f in fields(state)})
    wall, cpu = timed(lambda: dqn.training(n_steps)(few, stream(0, 0, "train")))
    oracle = (len(chosen) * n_steps / wall, len(chosen) * n_steps / cpu)
    print("agent-steps per second     N  threads       wall    x torch    per CPU s    x torch  of the bound")
    print(f"torch, one after another{len(chosen):4d}        1 {oracle[0]:10,.0f}             {oracle[1]:12,.0f}")
    for threads in range(1, cores + 1):
        shares = []
        for _ in range(1 if quick else 5):
            train = population.training(n_steps, threads=threads)
            wall, cpu, rate = beside_sgemm(lambda train=train: train(state, stream(0, 0, "train")))
            speed, per_cpu = n * n_steps / wall, n * n_steps / cpu
            shares.append(per_cpu * work / rate)
            print(
                f"compiled population {n:8d} {threads:8d} {speed:10,.0f} {speed / oracle[0]:10.1f} {per_cpu:12,.0f}"
                f" {per_cpu / oracle[1]:10.1f} {shares[-1]:12.0%}"
            )
        print(f"{'':66s}median of the bound {np.median(shares):12.0%}")

    ageing(20 if quick else 100, 8)

    print("\nmicroseconds of an agent-step with a batch of 80")
    for name, microseconds in parts.items():
        print(f"  {name:28s}{microseconds:8.2f}{microseconds / sum(parts.values()):8.0%}")

    print("\nscaling: generations of 200 steps")
    print("      N   wall s    CPU s   CPU microseconds per agent-step   MB per agent held   at most while training")
    for size in (50, 200) if quick else (50, 500, 5000):
        state = initial_population(size, 0)
        held = sum(getattr(state, f.name).nbytes for f in fields(state)) / size
        train = population.training(200)
        wall, cpu = timed(lambda state=state, train=train: train(state, stream(0, 0, "train")))
        tracemalloc.start()
        train(state, stream(0, 0, "train"))
        most = held + tracemalloc.get_traced_memory()[1] / size
        tracemalloc.stop()
        print(
            f"{size:7d} {wall:8.2f} {cpu:8.2f} {1e6 * cpu / (size * 200):33.1f} {held / 1e6:19.3f} {most / 1e6:24.3f}"
        )


if __name__ == "__main__":
    main()
