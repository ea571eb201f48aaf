"""A run in one call, its history, schedules, and agents that diverge: promises to who has a problem of their own."""

import pickle
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

import pbtlib
from pbtlib import (
    Box,
    EulerMaruyama,
    GaussianMutation,
    Gibbs,
    History,
    Last,
    Lineage,
    Particles,
    Problem,
    Quadratic,
    Removal,
    Schedule,
    Selection,
    Truncation,
    WindowMean,
    evolve,
    pbt,
)
from pbtlib.evolution import copy, stream
from pbtlib.values import describe

ROOT = Path(__file__).parents[1]
TOY = Problem(
    loss=lambda theta, h: (h * theta**2).sum(-1),
    gradient=lambda theta, h: 2 * h * theta,
    fitness=lambda theta, h: 1.2 - (theta**2).sum(-1),
    noise=lambda h: np.zeros(h.shape[:-1]),
)


def some(**changes):
    parts = {"theta": [3.0, 3.0], "box": ([-2, -2], [2, 2]), "n_agents": 40, "sigma": 0.1, "dt": 0.01, "steps": 20}
    return pbt(Quadratic(), **(parts | {"n_updates": 6} | changes))


def weights_only(state, jump):
    return replace(copy(state, jump), h=state.h)


def test_the_toy_problem_of_the_original_paper(seed):
    """Jaderberg et al. (2017), Figure 2: each worker alone stays at 1.2 − 0.9² = 0.39, together they reach 1.2."""
    two = Particles(np.full((2, 2), 0.9), np.eye(2))
    grid = EulerMaruyama(TOY, dt=0.02, steps=400)(two, stream(0, 0, "train"))[1].fitness
    np.testing.assert_allclose(grid, 0.39, atol=1e-6)
    end = evolve(
        two,
        train=EulerMaruyama(TOY, dt=0.02, steps=4),
        evaluate=Last(),
        select=Selection(Truncation(0.5)),
        copy=weights_only,
        mutate=GaussianMutation(0.0),
        n_updates=200,
        seed=seed,
    )
    np.testing.assert_allclose(TOY.fitness(end.theta, end.h).max(), 1.2, atol=1e-3)


def test_one_call_is_the_loop_written_out():
    run = some(tau=0.5, window=3, evaluate=WindowMean(), rule=Removal(0.01), seed=5, lineage=True)
    start = Particles(np.full((40, 2), 3.0), stream(5, 0, "start").uniform(-2, 2, (40, 2)))
    end = evolve(
        start,
        train=EulerMaruyama(Quadratic(), dt=0.01, steps=10, window=3),  # τ times 20
        evaluate=WindowMean(),
        select=Selection(Removal(0.01), tau=0.5),
        mutate=GaussianMutation(0.1, Box([-2, -2], [2, 2])),
        n_updates=6,
        seed=5,
    )
    assert np.array_equal(run.state.theta, end.theta)
    assert np.array_equal(run.state.h, end.h)
    assert run.lineage.schedules().shape == (7, 40, 2)
    assert not np.array_equal(some(tau=0.5).state.h, end.h)


def test_populations_side_by_side_are_independent_and_each_is_selected_by_itself():
    h = np.stack([np.full((15, 2), 2.0), np.full((15, 2), -2.0), np.full((15, 2), 2.0)])
    run = pbt(Quadratic(), theta=np.ones((15, 2)), h=h, sigma=0.0, dt=0.01, steps=20, n_updates=4)
    assert run.state.theta.shape == (3, 15, 2)
    assert np.array_equal(run.state.h, h), "copied from a population to another"
    assert not np.array_equal(run.state.theta[0], run.state.theta[2])
    assert run.history.dataset()["h"].dims == ("update", "replicate", "agent", "hyperparameter")


def test_algorithm_2_and_what_is_minimised():
    up = pbt(Quadratic(), h=np.full((200, 2), 2.0), sigma=0.2, n_updates=30)
    assert np.abs(up.state.h.mean(0)).max() < 1
    cost = replace(TOY, fitness=lambda theta, h: (theta**2).sum(-1))
    down = pbt(cost, theta=[0.9, 0.9], box=(0, 1), sigma=0.1, dt=0.1, steps=10, n_updates=20, maximise=False)
    fitness = down.history.dataset()["fitness"]
    assert fitness.isel(update=-1).mean() < 1e-3 < fitness.isel(update=0).mean()
    assert (fitness >= 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 3, "tau": 0.5}, r"tau times steps is 1\.5"),
        ({"dt": None}, "Algorithm 1 needs theta, dt and steps"),
        ({"theta": None}, "Algorithm 1 needs theta"),
        ({"box": None}, "h is None and box is None"),
        ({"h": [[0.0, 3.0]]}, r"h contains 3, outside the box from \(-2.0, -2.0\) to"),
        ({"box": ([-1, -1, -1], 1), "h": [[0.0, 0.0]]}, "lower of the box has 3 entries; h has p = 2"),
        ({"sigma": [0.1, 0.1, 0.1]}, "sigma has 3 entries; h has p = 2"),
        ({"n_agents": 0}, "n_agents is 0"),
        ({"theta": np.ones((5, 2)), "h": np.ones((6, 2))}, r"theta has shape \(5, 2\), h \(6, 2\)"),
        ({"theta": np.ones((5, 6, 2)), "h": np.ones((4, 6, 2))}, r"theta has shape \(5, 6, 2\), h \(4, 6, 2\)"),
        ({"maximise": True, "diverged": "hide"}, "diverged is 'hide'"),
    ],
)
def test_bad_input_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        some(**change)


def test_a_wrong_gradient_is_refused_before_it_runs_away():
    wrong = replace(TOY, gradient=lambda theta, h: -2 * h * theta)
    with pytest.raises(ValueError, match="gradient has the wrong sign"):
        pbt(wrong, theta=[0.9, 0.9], box=(0.5, 1), sigma=0.1, dt=0.1, steps=10, n_updates=20)


def test_a_start_outside_the_box_is_refused_by_the_loop_too():
    parts = {"train": EulerMaruyama(Quadratic(), dt=0.01, steps=2), "evaluate": Last(), "select": Selection(Gibbs())}
    with pytest.raises(ValueError, match="h contains 5, outside the box"):
        evolve(Particles(np.zeros((3, 2)), np.full((3, 2), 5.0)), **parts, mutate=GaussianMutation(0.1, Box(-1, 1)),
               n_updates=1, seed=0)  # fmt: skip
    bad = replace(parts["train"](Particles(np.zeros((3, 2)), np.zeros((3, 2))), stream(0, 0, "x"))[0])
    object.__setattr__(bad, "h", np.zeros(3))
    with pytest.raises(ValueError, match=r"h of the state has shape \(3,\); jumps need \(3, components\)"):
        copy(bad, Selection(Gibbs())(np.zeros(3), stream(0, 0, "y")))


# ---------------------------------------------------------------------------------------------- history


def test_the_history_is_labelled_bounded_and_drawn(tmp_path):
    history = History(("fitness", "h", "theta", "parent"), limit=5)
    start = Particles(np.zeros((2, 10, 2)), np.ones((2, 10, 2)))
    parts = {"train": EulerMaruyama(Quadratic(), dt=0.01, steps=2), "evaluate": Last(), "select": Selection(Gibbs()),
             "mutate": GaussianMutation(0.1), "seed": 1}  # fmt: skip
    seen = {}

    def watch(k, state, fitness, jump):
        seen[k + 1] = (state, fitness, jump)

    evolve(start, **parts, n_updates=37, observe=[history, watch], checkpoint=tmp_path / "c.nc")
    data = history.dataset()
    assert data["update"].values.tolist() == [1, 9, 17, 25, 33]
    assert data["fitness"].dims == ("update", "replicate", "agent")
    assert data["h"].dims == ("update", "replicate", "agent", "hyperparameter")
    assert data["theta"].dims[-1] == "parameter"
    for update in (9, 33):
        state, fitness, jump = seen[update]
        now = data.sel(update=update)
        assert np.array_equal(now["h"], state.h)
        assert np.array_equal(now["fitness"], fitness)
        assert np.array_equal(now["parent"], jump.parent)
        assert np.array_equal(now["jumped"], jump.who.sum(-1))
    again = History(("fitness", "h", "theta", "parent"), limit=5)
    evolve(start, **parts, n_updates=37, observe=[again, watch], checkpoint=tmp_path / "c.nc")
    assert again.dataset().identical(data)
    figure = history.plot()
    assert [axis.get_ylabel() for axis in figure.axes] == ["fitness", "h"]
    medians = [line.get_ydata() for line in figure.axes[1].lines]
    rest = [dim for dim in data["h"].dims if dim not in ("update", "hyperparameter")]
    np.testing.assert_allclose(medians, data["h"].median(rest).transpose("hyperparameter", "update"))
    plt.close(figure)
    with pytest.raises(ValueError, match="the history is empty"):
        History().dataset()


# ---------------------------------------------------------------------------------------------- values, schedules


@dataclass(frozen=True)
class Annealed:
    """A pressure that grows with the update."""

    rate: float

    def at(self, k):
        return Selection(Gibbs(self.rate * k))


VALUES = [
    Gibbs(2.0), Removal(0.5), Truncation(0.2), Selection(Gibbs(0.1), tau=0.5, resampling="systematic"), Box(-1, [1, 2]),
    GaussianMutation([0.1, 0.2], Box(-1, 1)), Schedule({0: Selection(Gibbs(0.1)), 3: Selection(Truncation(0.2))}),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_operators_are_values(value):
    assert value == pickle.loads(pickle.dumps(value)) == eval(repr(value))
    assert hash(value) == hash(eval(repr(value)))
    described = [describe(other) for other in VALUES]
    assert described.count(describe(value)) == 1
    assert type(value).__name__ in repr(value)


@pytest.mark.parametrize("select", [Schedule({0: Selection(Gibbs(0.1)), 3: Selection(Gibbs(5.0))}), Annealed(0.3)])
def test_a_schedule_resumes_to_the_same_bits_and_is_part_of_the_identity(tmp_path, select):
    parts = {"train": EulerMaruyama(Quadratic(), dt=0.01, steps=5), "evaluate": Last(),
             "mutate": GaussianMutation(0.1), "seed": 1}  # fmt: skip
    start = Particles(np.zeros((30, 2)), np.ones((30, 2)))
    whole = evolve(start, **parts, select=select, n_updates=8)
    by_hand = start
    for k in range(8):
        by_hand = evolve(by_hand, **parts, select=select.at(k), start=k, n_updates=k + 1)
    assert np.array_equal(whole.h, by_hand.h)
    assert not np.array_equal(whole.h, evolve(start, **parts, select=select.at(0), n_updates=8).h)
    path = tmp_path / "run.nc"
    evolve(start, **parts, select=select, n_updates=4, checkpoint=path)
    with pytest.raises(ValueError, match=r"select.*: .* there, .* here"):
        evolve(start, **parts, select=Annealed(0.4), n_updates=8, checkpoint=path)
    assert np.array_equal(evolve(start, **parts, select=select, n_updates=8, checkpoint=path).h, whole.h)


def test_what_a_run_is_follows_from_its_operators(tmp_path):
    path = tmp_path / "run.nc"
    some(checkpoint=path)
    for change, message in (
        ({"sigma": 0.2}, "mutate.sigma: 0.1 there, 0.2 here"),
        ({"rule": Gibbs(3.0)}, "select.rule.beta: 1.0 there, 3.0 here"),
        ({"dt": 0.02}, "train.dt: 0.01 there, 0.02 here"),
    ):
        with pytest.raises(ValueError, match=message):
            some(checkpoint=path, **change)
    assert np.array_equal(some(checkpoint=path, n_updates=9).state.h, some(n_updates=9).state.h)


@pytest.mark.parametrize("pieces", [{}, {1: Last()}, [(0, Last()), (0, Last())]])
def test_a_schedule_has_an_operator_for_every_update(pieces):
    with pytest.raises(ValueError, match="they must begin at 0 and increase"):
        Schedule(pieces)


def test_nan_in_an_identity_is_the_same_nan(tmp_path):
    for n in (6, 7):
        evolve(Particles(np.zeros((9, 2)), np.ones((9, 2))), train=EulerMaruyama(Quadratic(), dt=0.01, steps=5),
               evaluate=Last(), select=Selection(Gibbs()), mutate=GaussianMutation(0.1), n_updates=n, seed=0,
               checkpoint=tmp_path / "run.nc", identity={"p": float("nan")})  # fmt: skip


def test_what_is_not_said_is_a_hundred_agents_every_update_and_none_of_them_made():
    assert (some(n_updates=0).state.theta == 3.0).all()
    free = {"problem": Quadratic(), "sigma": 0.1, "theta": [1.0, 1.0], "dt": 0.01, "steps": 2}
    for box in ((-np.ones(2), np.ones(2)), Box(-np.ones(2), np.ones(2))):
        run = pbt(**free, box=box, n_updates=3)
        assert run.state.h.shape == (100, 2)
        assert run.history.dataset()["update"].values.tolist() == [1, 2, 3]


def test_functions_and_methods_are_described_by_their_names():
    box = Box(-1, 1)
    assert describe(copy) == "pbtlib.evolution.copy"
    assert describe(len) == "builtins.len"
    assert describe(np.maximum) == "numpy.maximum"
    assert describe(box.check) == {"type": "method", "name": "check", "of": describe(box)}


# ---------------------------------------------------------------------------------------------- diverged agents


class Fragile(Quadratic):
    """Whoever has h₁ > 1 diverges."""

    def fitness(self, theta, h=None):
        return np.where(h[..., 0] > 1, np.nan, super().fitness(theta))


def fragile(**changes):
    parts = {"train": EulerMaruyama(Fragile(), dt=0.01, steps=5), "evaluate": Last(), "mutate": GaussianMutation(0.3),
             "select": Selection(Gibbs(1.0), tau=0.5, diverged="replace"), "n_updates": 12, "seed": 2}  # fmt: skip
    h = np.linspace(0.0, 0.9, 60).reshape(2, 30, 1).repeat(2, -1)
    return evolve(Particles(np.ones((2, 30, 2)), h), **(parts | changes))


def test_who_diverged_is_named_with_the_update(tmp_path):
    with pytest.raises(ValueError, match=r"update \d+: \d+ of 60 agents diverged, the first is agent \d+ of repl.*nan"):
        fragile(select=Selection(Gibbs(1.0), tau=0.5))
    path = tmp_path / "run.nc"  # and the run goes on under the other policy, to the same bits
    with pytest.raises(ValueError, match='diverged="replace"'):
        fragile(select=Selection(Gibbs(1.0), tau=0.5), checkpoint=path)
    assert path.exists()
    assert np.array_equal(fragile(checkpoint=path).h, fragile().h)


@pytest.mark.parametrize("rule", [Gibbs(1.0), Removal(0.1), Truncation(0.1)])
@pytest.mark.parametrize("resampling", ["multinomial", "systematic"])
@pytest.mark.parametrize("lost", [np.nan, -np.inf])
def test_diverged_agents_are_replaced_by_finite_ones(rule, resampling, lost, rng):
    select = Selection(rule, tau=0.3, resampling=resampling, diverged="replace")
    for _ in range(50):
        fitness = rng.normal(size=(3, 20))
        dead = rng.random((3, 20)) < 0.4
        dead[:, 0], dead[1, 1:] = False, True  # in one population a single agent is left
        jump = select(np.where(dead, lost, fitness), rng)
        assert jump.who[dead].all()
        assert not np.take_along_axis(dead, jump.parent, -1).any()
    calm = Selection(rule, tau=0.3, resampling=resampling)
    finite = rng.normal(size=(3, 20))
    a, b = select(finite, stream(0, 0, "s")), calm(finite, stream(0, 0, "s"))
    assert np.array_equal(a.parent, b.parent)
    with pytest.raises(ValueError, match="nobody left"):
        select(np.full((2, 4), lost), rng)
    with pytest.raises(ValueError, match="fitness contains inf"):
        select([1.0, np.inf], rng)


def test_diverged_agents_are_counted():
    history = History()
    seen = []
    fragile(observe=[history, lambda k, state, fitness, jump: seen.append(np.isnan(fitness).sum(-1))])
    total = np.cumsum(seen, 0)
    assert total[-1].min() > 0
    assert np.array_equal(history.dataset()["diverged"], total)
    plt.close(history.plot())


def test_a_rule_that_copies_the_dead_is_refused(rng):
    class Careless:
        def __call__(self, fitness, mass, rng=None):
            return np.full(fitness.shape, 1 / fitness.shape[-1]), mass

    with pytest.raises(ValueError, match="makes parents of agents without mass"):
        Selection(Careless(), diverged="replace")([1.0, np.nan], rng)


# ---------------------------------------------------------------------------------------------- the front door


def test_import_is_light_and_shows_what_people_need():
    code = "import sys, pbtlib; print([m for m in ('torch', 'gymnasium', 'pandas', 'seaborn', 'matplotlib', 'numba') " \
           "if m in sys.modules], 'pbt' in dir(pbtlib))"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] True"
    for name in pbtlib.__all__:
        assert getattr(pbtlib, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'pbtt'"):
        _ = pbtlib.pbtt
    assert pbtlib.Lineage is Lineage


def test_the_lines_of_the_readme_run(monkeypatch, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(code.strip().splitlines()) <= 14
    monkeypatch.chdir(tmp_path)
    space = {}
    exec(code, space)
    assert list(tmp_path.iterdir())
    assert np.median(space["run"].state.theta) == pytest.approx(1, abs=0.2)
    plt.close("all")
