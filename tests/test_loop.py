"""The loop: order of operations, streams, observers, lineage, and resuming bit for bit."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbtlib import evolution
from pbtlib.evolution import GaussianMutation, Gibbs, Jump, Selection, Truncation, stream
from pbtlib.history import History
from pbtlib.loop import Lineage, evolve
from pbtlib.normals import draw_key, normals
from pbtlib.problems import LinearGaussian, Quadratic
from pbtlib.results import save_arrays
from pbtlib.training import EulerMaruyama, ExactOU, GibbsDraw, Particles, WindowMean


def now(state, trace):
    return trace.fitness[..., -1]


def setting(**changes):
    parts = {
        "train": EulerMaruyama(Quadratic(), dt=0.01, steps=5, window=3),
        "evaluate": WindowMean(),
        "select": Selection(Gibbs(), tau=0.5),
        "mutate": GaussianMutation(0.1),
        "n_updates": 6,
        "seed": 3,
    }
    return parts | changes


def start(lead=(2, 30), seed=0):
    rng = np.random.default_rng(seed)
    return Particles(rng.uniform(-5, 5, (*lead, 2)), rng.uniform(-5, 5, (*lead, 2)))


def same(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("theta", "h"))


class Count:
    """An observer that remembers which updates it saw."""

    def __init__(self):
        self.updates = []

    def __call__(self, k, *_):
        self.updates.append(k)

    def save(self):
        return {"updates": np.array(self.updates, int)}

    def restore(self, arrays):
        self.updates = arrays["updates"].tolist()


def test_the_loop_is_the_algorithm_written_out():
    parts = setting()
    state = start()
    for k in range(6):
        state, trace = parts["train"](state, stream(3, k, "train"))
        jump = Selection(Gibbs(), tau=0.5)(trace.fitness.mean(-1), stream(3, k, "select"))
        copied = evolution.copy(state, jump)
        xi = normals(draw_key(stream(3, k, "mutate")), 60, 2).T.reshape(copied.h.shape)
        state = replace(copied, h=np.where(jump.who[..., None], copied.h + 0.1 * xi, copied.h))
    np.testing.assert_allclose(evolve(start(), **parts).theta, state.theta, atol=1e-11)
    np.testing.assert_allclose(evolve(start(), **parts).h, state.h, atol=1e-11)
    assert not np.allclose(evolve(start(), **setting(seed=4)).h, state.h, atol=1e-3)


def test_any_cut_of_the_run_gives_the_same_bits():
    whole = evolve(start(), **setting())
    half = evolve(start(), **setting(n_updates=4))
    assert same(evolve(half, **setting(start=4)), whole)
    assert not same(evolve(half, **setting(start=3)), whole)


@pytest.mark.parametrize("every", [1, 2, 4])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, every):
    class KilledError(RuntimeError):
        pass

    def observers():
        return [Count(), Lineage(start().h)]

    def kill(k, *_):
        if k == 4:
            raise KilledError

    whole = observers()
    reference = evolve(start(), **setting(observe=whole))
    path = tmp_path / "run.nc"
    kept = {"checkpoint": path, "checkpoint_every": every, "identity": {}}
    with pytest.raises(KilledError):
        evolve(start(), **setting(observe=[*observers(), kill], **kept))
    resumed, done = observers(), []
    new = evolve(start(), **setting(observe=[*resumed, lambda k, *_: done.append(k)], **kept))
    assert same(new, reference)
    assert done == list(range(4 // every * every, 6))
    assert resumed[0].updates == whole[0].updates == list(range(6))
    assert np.array_equal(resumed[1].schedules(), whole[1].schedules())
    again = observers()  # a finished run is read, not made again
    assert same(evolve(start(), **setting(observe=again, **kept)), reference)
    assert again[0].updates == whole[0].updates
    longer = evolve(start(), **setting(n_updates=8, observe=observers(), **kept))
    assert same(longer, evolve(start(), **setting(n_updates=8)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "seed: 3 there, 4 here"),
        ({"start": 1}, "start: 0 there, 1 here"),
        ({"identity": {"beta": 0.0}}, r"identity\['beta'\]: 1.0 there, 0.0 here"),
        ({"identity": {"beta": 1.0, "sigma": 3.0}}, r"identity\['sigma'\]: nothing there, 3.0 here"),
        ({"identity": {}}, r"identity\['beta'\]: 1.0 there, nothing here"),
        ({"observe": ()}, r"observers: \['Lineage', 'Count'\] there, \[\] here"),
        ({"observe": (Count(), Lineage(start().h))}, r"\['Count', 'Lineage'\] here"),
        ({"n_updates": 5}, "beyond n_updates = 5"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, change, message):
    parts = {"checkpoint": tmp_path / "run.nc", "identity": {"beta": 1.0}}
    evolve(start(), **setting(observe=(Lineage(start().h), Count()), **parts))
    with pytest.raises(ValueError, match=message):
        evolve(start(), **setting(**({"observe": (Lineage(start().h), Count())} | parts | change)))


def test_a_checkpoint_of_another_population_is_refused(tmp_path):
    parts = {"checkpoint": tmp_path / "run.nc", "identity": {}}
    evolve(start(), **setting(**parts))
    with pytest.raises(ValueError, match=r"initial theta: float64 \(2, 30, 2\) .* there, float64 \(2, 31, 2\)"):
        evolve(start((2, 31)), **setting(**parts))
    with pytest.raises(ValueError, match="belongs to another run; initial theta"):
        evolve(replace(start(), theta=start().theta + 1e-12), **setting(**parts))
    save_arrays(tmp_path / "run.nc", {"h": start().h}, {"seed": 3})
    with pytest.raises(ValueError, match="nothing there"):
        evolve(start(), **setting(**parts))


@pytest.mark.parametrize("progress", [True, False])
def test_progress_is_shown_on_request_alone(capsys, progress):
    evolve(start(), **setting(progress=progress))
    assert ("6/6" in capsys.readouterr().err) == progress


def test_a_run_with_a_checkpoint_says_what_it_is(tmp_path):
    """Tuples come back from a checkpoint as lists; that makes no other run of it."""
    path = tmp_path / "run.nc"
    with pytest.raises(ValueError, match=r"identity is None, and evaluate: .* cannot describe itself"):
        evolve(start(), **setting(checkpoint=path, evaluate=lambda state, trace: trace.fitness.mean(-1)))
    with pytest.raises(TypeError, match="it must consist of JSON values"):
        evolve(start(), **setting(checkpoint=path, identity={"rule": Gibbs()}))
    assert not path.exists()
    parts = {"checkpoint": path, "identity": {"box": (-1, 1), "beta": np.float64(0.1)}}
    evolve(start(), **setting(n_updates=2, **parts))
    assert same(evolve(start(), **setting(**parts)), evolve(start(), **setting()))


def test_without_a_word_a_checkpoint_is_written_after_every_update(tmp_path):
    def kill(k, *_):
        if k == 3:
            raise InterruptedError

    kept, done = {"checkpoint": tmp_path / "run.nc", "identity": {}}, []
    with pytest.raises(InterruptedError):
        evolve(start(), **setting(observe=kill, **kept))
    evolve(start(), **setting(observe=lambda k, *_: done.append(k), **kept))
    assert done == [3, 4, 5]


def test_a_fitness_of_whole_numbers_is_selected_and_seen_as_floats():
    seen = []
    evaluate = lambda state, trace: np.arange(60).reshape(2, 30)  # noqa: E731
    evolve(start(), **setting(evaluate=evaluate, observe=lambda k, s, fitness, j: seen.append(fitness.dtype)))
    assert set(seen) == {np.dtype(np.float64)}


@dataclass(frozen=True)
class Networks:
    """What a population of networks looks like to the loop: other fields, other types, its own copy."""

    weights: np.ndarray
    steps: np.ndarray
    alive: np.ndarray
    h: np.ndarray


def test_it_serves_any_dataclass_of_arrays(tmp_path):
    def train(state, rng):
        gain = rng.normal(size=state.weights.shape).astype(np.float32)
        return replace(state, weights=state.weights + gain, steps=state.steps + 1), state.weights.mean(-1)

    def copy(state, jump):
        taken = evolution.copy(Particles(state.weights, state.h), jump)
        fresh = np.where(jump.who, 0, state.steps)
        return replace(state, weights=taken.theta, h=taken.h, steps=fresh, alive=jump.who)

    def fresh():
        return Networks(np.zeros((10, 4), np.float32), np.zeros(10, np.int32), np.zeros(10, bool), np.ones((10, 3)))

    parts = setting(train=train, evaluate=lambda s, trace: trace, copy=copy, select=Selection(Truncation(0.2)))
    whole = evolve(fresh(), **parts)
    kept = {"checkpoint": tmp_path / "n.nc", "identity": {"q": 0.2}}
    evolve(fresh(), **(parts | {"n_updates": 3}), **kept)
    resumed = evolve(fresh(), **parts, **kept)
    for name in ("weights", "steps", "alive", "h"):
        a, b = getattr(whole, name), getattr(resumed, name)
        assert a.dtype == b.dtype == getattr(fresh(), name).dtype
        np.testing.assert_array_equal(a, b)
    assert (whole.steps == 0).sum() == whole.alive.sum() == 2


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 8), updates=st.integers(0, 6), seed=st.integers(0, 10_000))
def test_lineages_are_traced_back_by_hand(n, updates, seed):
    rng = np.random.default_rng(seed)
    h = [rng.normal(size=(2, n, 1))]
    lineage, parents = Lineage(h[0]), []
    for k in range(updates):
        jump = Selection(Gibbs(), tau=0.6)(rng.normal(size=(2, n)), rng)
        h.append(rng.normal(size=(2, n, 1)))
        parents.append(jump.parent)
        lineage(k, Particles(h[-1], h[-1]), np.zeros((2, n)), jump)
    ancestors, schedules, survivors = lineage.ancestors(), lineage.schedules(), lineage.survivors()
    for r in range(2):
        for i in range(n):
            j = i
            for k in range(updates, -1, -1):
                assert ancestors[k, r, i] == j
                assert schedules[k, r, i, 0] == h[k][r, j, 0]
                j = parents[k - 1][r, j] if k else j
        assert [len(set(ancestors[k, r])) for k in range(updates + 1)] == survivors[:, r].tolist()
    assert (np.diff(survivors, axis=0) >= 0).all()


def test_one_algorithm_two_trainings_agree_with_the_exact_mean_field(seed):
    """d = p = 1, L = (θ−h)², F = −βθ², τ = 1: the law stays Gaussian, so one more line of algebra gives it exactly.

    Training maps (θ, h) linearly, selection multiplies the density by exp(−βθ²), mutation adds σ² to the variance of
    h. Algorithm 2 is the same with the memory of θ gone.
    """
    beta, s, sigma, time, n, runs, updates = 1.0, 0.6, 0.3, 0.3, 2000, 60, 4
    problem = LinearGaussian(s=s)
    rng = np.random.default_rng([seed, 1])
    first = Particles(1.5 + 0.5 * rng.standard_normal((runs, n, 1)), -1 + 0.5 * rng.standard_normal((runs, n, 1)))

    def law(decay, variance):
        mean, covariance = np.array([1.5, -1.0]), 0.25 * np.eye(2)
        step = np.array([[decay, 1 - decay], [0.0, 1.0]])
        for _ in range(updates):
            mean, covariance = step @ mean, step @ covariance @ step.T + np.diag([variance, 0.0])
            factor = covariance[:, 0] / (1 + 2 * beta * covariance[0, 0])
            mean = mean - 2 * beta * factor * mean[0]
            covariance = covariance - 2 * beta * np.outer(factor, covariance[0]) + np.diag([0.0, sigma**2])
        return mean[1], covariance[1, 1]

    decay = np.exp(-2 * time)
    for train, predicted in (
        (ExactOU(problem, time=time), law(decay, s**2 / 4 * (1 - decay**2))),
        (GibbsDraw(problem), law(0.0, s**2 / 4)),
    ):
        end = evolve(
            first,
            train=train,
            evaluate=now,
            select=Selection(Gibbs(beta)),
            mutate=GaussianMutation(sigma),
            n_updates=updates,
            seed=seed,
        ).h[..., 0]
        for found, wanted in ((end.mean(-1), predicted[0]), (end.var(-1), predicted[1])):
            error = found.std() / np.sqrt(runs)
            bias = 8 / n  # finite populations differ from the limit by O(1/N)
            assert abs(found.mean() - wanted) < 5.5 * error + bias
            assert abs(found.mean() - 1.25 * wanted) > 5.5 * error + bias


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_updates": -1}, "n_updates is -1"),
        ({"start": -1}, "start is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"checkpoint_every": 0}, "checkpoint_every is 0"),
        ({"evaluate": lambda s, t: np.full((2, 30), np.nan)}, "fitness contains nan"),
    ],
)
def test_bad_input_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        evolve(start(), **setting(**change))


def test_no_update_returns_the_state():
    state = start()
    assert evolve(state, **setting(n_updates=0)) is state


def test_neutral_lineages_coalesce_as_wright_fisher(seed):
    """With β = 0 and τ = 1 two survivors still have two ancestors g updates earlier with probability (1 − 1/N)^g."""
    n, runs, g = 20, 4000, 8
    lineage = Lineage(np.zeros((runs, n, 1)))
    state = Particles(np.zeros((runs, n, 1)), np.zeros((runs, n, 1)))
    for k in range(g):
        jump = Selection(Gibbs())(np.zeros((runs, n)), stream(seed, k, "select"))
        lineage(k, state, np.zeros((runs, n)), jump)
    ancestors = lineage.ancestors()[0]
    apart = (ancestors[:, 0] != ancestors[:, 1]).mean()
    error = 0.5 / np.sqrt(runs)
    assert abs(apart - (1 - 1 / n) ** g) < 5.5 * error
    assert abs(apart - (1 - 2 / n) ** g) > 5.5 * error  # Moran's rate
    assert isinstance(jump, Jump)


@dataclass(frozen=True)
class Cooling:
    """A mutation that is another one at every update."""

    def at(self, k):
        return GaussianMutation(0.1 / (1 + k))


def test_an_operator_that_depends_on_the_update_is_asked_for_each():
    seen = {}
    evolve(start(), **setting(mutate=Cooling(), observe=lambda k, state, *_: seen.update({k: state})))
    one = evolve(start(), **setting(n_updates=1))
    assert same(seen[0], one), "at first both mutate alike"
    assert not same(seen[1], evolve(start(), **setting(n_updates=2)))


@pytest.mark.parametrize(
    ("lead", "names"), [((4,), ()), ((2, 4), ("replicate",)), ((3, 2, 4), ("replicate", "replicate_1"))]
)
def test_a_history_names_the_axes_of_replicates(lead, names):
    history = History()
    evolve(start(lead), **setting(observe=history))
    assert history.dataset()["fitness"].dims == ("update", *names, "agent")
