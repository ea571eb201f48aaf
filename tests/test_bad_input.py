"""Every public function names what is wrong with an argument, or gives a finite answer of the right shape."""

import dataclasses
import inspect
import re

import numpy as np
import pytest

from pbtlib import (
    algorithms,
    averaged,
    bilevel,
    distances,
    estimates,
    evolution,
    gaussian,
    inheritance,
    kinetic,
    moving,
    normals,
    problems,
    training,
)
from pbtlib.cartpole import experiment, setting
from pbtlib.checks import as_real, check_array, check_number
from pbtlib.evolution import Box, Gibbs
from pbtlib.studies import chaos, cluster, digits, equivalence, frozen, ray_tune, wells

GRID = averaged.Grid(-2.0, 2.0, 9)
BLUR = averaged.mutation_kernel(GRID, 0.6)
EVEN = np.full(9, 1 / 9)
HILL = -(GRID.points**2)
BOUNDED = bilevel.Assumption9(centre=0.0, eta=1.0, nu=0.5, F_inf=1.0, c_u=1.0, c_l=1.0, M=1.0)
PLANE = kinetic.model(
    GRID, GRID, loss=lambda x, h: (x - h) ** 2, fitness=lambda x, h: -(x**2), noise=1.0, sigma=0.6, rule=Gibbs()
)
JOINT = PLANE.equilibrium / 9
SDE = gaussian.langevin([[2.0]], [[1.0]], 0.6)
TWO = gaussian.Gaussian([1.0, 0.0], [[1.0, 0.0], [0.0, 1.0]])
BOWL = gaussian.QuadraticFitness([[2.0, 0.0], [0.0, 1.0]])
QUADRATIC = problems.Quadratic()


def square(x):
    return x**2


CALLS = {
    averaged.Grid: {"lower": 0.0, "upper": 1.0, "n": 4},
    averaged.jump: {"mass": EVEN, "fitness": HILL, "rule": Gibbs(), "kernels": [BLUR], "tau": 0.5},
    averaged.log_rayleigh: {"mass": EVEN, "exponent": HILL, "kernels": [BLUR]},
    averaged.march: {"mass": EVEN, "times": [0.5, 1.0], "dt": 0.5, "step": lambda law, dt: law * (1 - dt)},
    averaged.mutation_kernel: {"grid": GRID, "sigma": 0.6},
    averaged.replicator_mutator: {
        "mass": EVEN,
        "fitness": HILL,
        "grids": [GRID],
        "sigma": 1.5,
        "times": 1.0,
        "dt": 0.1,
    },
    averaged.semigroup: {"mass": EVEN, "exponent": HILL, "kernels": [BLUR], "times": 1.0},
    averaged.slow_operator: {"mass": EVEN, "fitness": HILL, "rule": Gibbs(), "kernels": [BLUR]},
    averaged.solve: {"mass": EVEN, "fitness": HILL, "rule": Gibbs(), "kernels": [BLUR], "times": 1.0, "dt": 0.1},
    averaged.steady_state: {"exponent": HILL, "kernels": [BLUR], "k": 2},
    bilevel.Assumption9: {"centre": 0.0, "eta": 1.0, "nu": 0.5, "F_inf": 1.0, "c_u": 1.0, "c_l": 1.0, "M": 1.0},
    bilevel.donsker_varadhan: {"fitness": [0.0, 1.0], "prior": [0.5, 0.5], "nu": [0.25, 0.75]},
    bilevel.effective_fitness: {"fitness": lambda x: -(x**2), "loss": square, "alpha": 2.0, "centre": 0.0, "beta": 1.0},
    bilevel.energy_bound: {"assumption": BOUNDED, "energy": 1.0, "sigma": 0.1, "p": 1, "horizon": 1.0},
    bilevel.energy_constants: {"assumption": BOUNDED, "beta": 1.0},
    bilevel.estimate: {"values": [1.0, 3.0], "beta": 1.0},
    bilevel.gauss_hermite: {"mean": [0.0], "covariance": [[4.0]], "n": 3},
    bilevel.laplace_bound: {
        "assumption": BOUNDED,
        "beta": [10.0, 20.0],
        "q": 0.01,
        "F_r": 0.0,
        "ball_mass": 0.1,
        "distance": 1.0,
    },
    bilevel.log_mean_exp: {"values": [0.0, 1.0], "beta": 1.0, "weights": [0.5, 0.5]},
    bilevel.mass_bound: {"assumption": BOUNDED, "r": 0.1, "energy": 1.0, "sigma": 0.1, "p": 1},
    bilevel.penalised_fitness: {"fitness": lambda x: x, "loss": square, "alpha": 1.0, "centre": 0.0},
    bilevel.pressure: {
        "assumption": BOUNDED,
        "delta": 0.2,
        "horizon": 1.0,
        "energy": 1.0,
        "sigma": 0.1,
        "p": 1,
        "radius": np.sqrt,
        "ball_mass": lambda r: r / 4,
    },
    bilevel.pressure_without_growth: {
        "assumption": BOUNDED,
        "delta": 0.2,
        "horizon": 1.0,
        "distance": 1.0,
        "sigma": 0.1,
        "p": 1,
        "radius": np.sqrt,
        "ball_mass": lambda r: r / 4,
    },
    bilevel.soft_minimum: {"loss": square, "alpha": 1.0, "centre": 0.0},
    distances.bounded_lipschitz: {"x": [[0.0], [1.0]], "y": [[0.5], [2.0]], "x_mass": [0.5, 0.5], "y_mass": [0.5, 0.5]},
    distances.wasserstein_1: {"x": [0.0, 1.0], "y": [1.0, 2.0], "x_mass": [0.5, 0.5], "y_mass": [0.5, 0.5]},
    distances.wasserstein_1_grid: {"first": [1.0, 0.0], "second": [0.0, 1.0], "step": 0.5},
    estimates.autocorrelation: {"x": [[1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]},
    estimates.effective_sample_size: {"series": np.random.default_rng(0).normal(size=400)},
    estimates.effective_size: {"rho": [1.0, 0.5, 0.0], "m": 3},
    estimates.fit_rate: {"x": [10.0, 100.0, 1000.0], "errors": [1.0, 0.1, 0.01]},
    evolution.Box: {"lower": [-1.0, -1.0], "upper": [1.0, 2.0]},
    evolution.Explore: {"box": Box(0.0, 1.0), "resample": 0.25, "factors": (0.8, 1.2)},
    evolution.GaussianMutation: {"sigma": 0.1},
    evolution.Gibbs: {"beta": 1.0},
    evolution.Removal: {"beta": 1.0},
    evolution.Selection: {"rule": Gibbs(), "tau": 0.5},
    evolution.Threshold: {"k": 1.0, "gap": 0.1},
    evolution.Truncation: {"q": 0.2},
    gaussian.Gaussian: {"mean": [0.0, 1.0], "cov": [[1.0, 0.0], [0.0, 2.0]]},
    gaussian.Kernel: {"matrix": [[0.5]], "shift": [0.0], "cov": [[1.0]]},
    gaussian.LinearSDE: {"matrix": [[-2.0]], "shift": [0.0], "diffusion": [[1.0]]},
    gaussian.Mixture: {"weights": [0.5, 0.5], "means": [[-1.0], [1.0]], "covs": [[[1.0]], [[1.0]]]},
    gaussian.QuadraticFitness: {"curvature": [[1.0]], "centre": [0.5], "slope": [0.1]},
    gaussian.averaged_mixture: {"law": TWO, "fitness": BOWL, "sigma": 0.5, "time": 1.0, "beta": 1.0},
    gaussian.chain: {"sde": SDE, "dt": 0.1, "steps": 2},
    gaussian.contraction: {"curvature": [2.0, 3.0], "sigma": [0.5, 0.5]},
    gaussian.effective_curvature: {"beta": [2.0], "variance": [0.5], "window": 4.0},
    gaussian.equilibrium: {"sde": SDE, "p": 1, "dt": 0.01},
    gaussian.flow: {"sde": SDE, "time": 1.0},
    gaussian.generation_weights: {"log_z": [0.0] * 40, "time": 1.0},
    gaussian.langevin: {"hessian": [[2.0]], "coupling": [[1.0]], "noise": 0.6, "offset": [0.1], "covariance": [[1.0]]},
    gaussian.log_growth: {"curvature": [2.0, 2.0], "sigma": 0.5, "height": 0.1},
    gaussian.mean_field_law: {
        "law": TWO,
        "training": gaussian.equilibrium(SDE, 1),
        "fitness": BOWL,
        "sigma": 0.3,
        "p": 1,
        "n_updates": 3,
        "beta": 1.0,
        "tau": 1.0,
    },
    gaussian.mutate: {"law": TWO, "sigma": 0.5, "p": 1},
    gaussian.replicator_mutator: {
        "mean": [2.0],
        "variance": [1.0],
        "curvature": 4.0,
        "centre": 0.0,
        "sigma": 1.0,
        "time": [0.5],
    },
    gaussian.select: {"law": TWO, "fitness": BOWL, "beta": 1.0},
    gaussian.stationary_variance: {"curvature": [2.0], "sigma": [0.5]},
    inheritance.from_series: {"fitness": np.sin(np.arange(80.0)).reshape(20, 4), "beta": 0.5, "steps": 2},
    inheritance.gaussian: {"offset": [0.5], "variance": [0.1], "memory": [0.6], "beta": 1.0},
    inheritance.lazy: {"law": [0.5, 0.5], "fitness": [0.0, 1.0], "memory": 0.5, "beta": 1.0},
    inheritance.perron: {"kernel": [[0.5, 0.5], [0.5, 0.5]], "law": [0.5, 0.5], "fitness": [0.0, 1.0], "beta": 1.0},
    kinetic.algorithm_1: {"mass": JOINT, "model": PLANE, "n_updates": 2, "tau": 0.5, "inner_time": 0.2},
    kinetic.effective_fitness: {"model": PLANE, "beta": 1.0},
    kinetic.propagator: {"model": PLANE, "time": 0.5},
    kinetic.relax: {"mass": JOINT, "model": PLANE, "time": 0.5, "steps": 2},
    kinetic.solve: {"mass": JOINT, "model": PLANE, "times": [0.1, 0.2], "dt": 0.1, "epsilon": 0.5},
    moving.curve: {"label": "half", "x": [0.0, 1.0], "y": [0.0, 0.5]},
    normals.normals: {"key": 7, "agents": 3, "count": 2, "agent": 1, "first": 1},
    setting.decode: {"h": [[0.0, 0.1, -0.2]]},
    setting.exploration: {"t": [0.0, 10.0], "decay": [1000.0, 500.0]},
    setting.multiply: {"h": [[0.0, 0.1, -0.2]], "factor": 1.2},
    experiment.Experiment: {"n_agents": 10, "n_steps": 500, "generations": 2, "m": 5, "q": 0.2, "sigma": 0.1},
    chaos.Design: {"n_steps": 100, "generations": 6, "m": 2, "q": 0.2, "beta": 0.1, "sigma": 0.1, "episode_cap": 50},
    equivalence.Design: {"n_agents": 30, "n_steps": 250, "generations": 6},
    frozen.Design: {"n_agents": 14, "n_steps": 20000, "initial": 20, "late": 8, "seed": 8},
    frozen.latest: {"returns": [10, 20, 30, 0], "age": 35.0, "m": 2},
    frozen.local_mean: {"returns": [10, 20, 30, 0], "low": 0.0, "high": 25.0},
    frozen.relaxation_time: {"times": [0.0, 1.0, 2.0], "curve": [5.0, 3.0, 1.0], "level": 1.0, "tolerance": 0.2},
    frozen.window_errors: {"estimate": [1.0, 3.0], "reference": [1.0, 1.0]},
    cluster.Size: {"workers": 2, "tasks": 20, "seconds": 0.02},
    digits.Setting: {
        "updates": 20,
        "readings": 4,
        "steps": 10,
        "batch": 8,
        "hidden": 32,
        "q": 0.2,
        "sigma": 0.2,
        "train": 300,
        "valid": 300,
    },
    ray_tune.Design: {"trials": 32, "intervals": 10, "quantile": 0.25},
    wells.Setting: {
        "agents": 10,
        "updates": 5,
        "beta": 1.0,
        "sigma": 0.1,
        "tau": 1.0,
        "steps": 3,
        "dt": 0.001,
        "box": 5.0,
        "replicates": 100,
    },
    wells.basin: {"theta": [[3.0, 2.0], [-2.8, 3.1]]},
    training.EulerChain: {"problem": QUADRATIC, "dt": 0.01, "steps": 5},
    training.EulerMaruyama: {"problem": QUADRATIC, "dt": 0.01, "steps": 5, "window": 2, "path_every": 1},
    training.ExactOU: {"problem": QUADRATIC, "time": 0.5, "steps": 2, "window": 1, "path_every": 1},
    training.GibbsDraw: {"problem": QUADRATIC, "window": 2},
    training.LogMeanExp: {"beta": 1.0},
    training.Particles: {"theta": np.zeros((3, 2)), "h": np.ones((3, 1))},
    training.Underdamped: {"problem": QUADRATIC, "dt": 0.01, "steps": 5, "friction": 1.0, "window": 1},
    training.UnderdampedParticles: {"theta": np.zeros((3, 2)), "momentum": np.zeros((3, 2)), "h": np.ones((3, 1))},
    algorithms.pbt: {
        "problem": QUADRATIC,
        "n_updates": 2,
        "sigma": 0.1,
        "theta": np.zeros((6, 2)),
        "h": np.ones((6, 2)),
        "dt": 0.1,
        "steps": 2,
        "seed": 0,
        "tau": 0.5,
    },
    problems.check: {"problem": QUADRATIC, "theta": np.full((2, 2), 0.5), "h": np.ones((2, 2))},
    problems.Quadratic: {"d": 2},
}


ODD_NUMBERS = (np.nan, np.inf, -np.inf, -1.0, 0, 1e308, -1e308, 1e-308, 2.5, 10**400)
NO_NUMBERS = ("text", None, [1.0, 2.0], 1j, object())


def odd_arrays(good):
    """Copies of an array with something wrong, and whether any answer to them can be right."""
    a = np.asarray(good, dtype=float)
    for value in (np.nan, np.inf, -np.inf, -1e308, 1e308):
        changed = a.copy()
        changed.flat[-1] = value
        yield f"with {value}", changed, False
    if a.ndim:
        yield "empty", a[..., :0], True
        yield "longer", np.concatenate([a, a[..., :1]], -1), False
        yield "shorter", a[..., :-1], False
    if a.ndim > 1:
        yield "with a row more", np.concatenate([a, a[..., :1, :]], -2), False
        yield "with a row less", a[..., :-1, :], a.shape[-2] == 1
    yield "with another axis", np.stack([a, a, a]), False
    yield "of objects", np.full(a.shape, object()), True
    yield "complex", a * (1 + 1j), True
    yield "text", "text", True
    yield "ragged", [[1.0], [1.0, 2.0]], True
    yield "a number", 0.5, False


def is_array(value):
    return not isinstance(value, str) and np.asarray(value).dtype.kind in "fi" and np.ndim(value) > 0


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def odd_calls(function, good):
    """All calls with one argument changed: what was done, the arguments, and whether any answer can be right."""
    known = inspect.signature(function).parameters
    optional = {name for name, parameter in known.items() if parameter.default is None}
    lists = {name for name, parameter in known.items() if re.search("Array|Any", str(parameter.annotation))}
    for name, value in good.items():
        if is_number(value):
            for odd in ODD_NUMBERS:
                yield f"{name} = {odd if abs(odd) != 10**400 else '10^400'}", {**good, name: odd}, False
            for odd in NO_NUMBERS:
                if not (name in optional and odd is None) and not (name in lists and isinstance(odd, list)):
                    yield f"{name} = {odd!r}", {**good, name: odd}, True
        elif is_array(value):
            for what, odd, hopeless in odd_arrays(value):
                yield f"{name} {what}", {**good, name: odd}, hopeless


def numbers(answer):
    """All numbers in an answer, one flat array each."""
    if answer is None or isinstance(answer, str):
        return
    if dataclasses.is_dataclass(answer):
        for field in dataclasses.fields(answer):
            yield from numbers(getattr(answer, field.name))
    elif isinstance(answer, (tuple, list)):
        for part in answer:
            yield from numbers(part)
    elif isinstance(answer, (int, float, np.generic, np.ndarray)):
        array = np.asarray(answer)
        yield array.astype(float).ravel() if array.dtype.kind in "fiub" else np.array([np.nan])


def fault(function, arguments, hopeless, extreme, changed=None):
    """What is wrong with how a call ends, or nothing; a message names the argument that was changed, or its partner."""
    names = PARTNERS.get((function, changed), {changed}) if changed else inspect.signature(function).parameters
    known = re.compile(rf"\b({'|'.join(names)})\b")
    try:
        with np.errstate(all="ignore"):
            answer = function(**arguments)
    except problems.ProblemError:
        return None  # it names the problem's function
    except (TypeError, ValueError) as error:
        return None if known.search(str(error)) else f"{type(error).__name__} does not name the argument: {error}"
    except Exception as error:  # any other is a fault, whatever it is
        return f"{type(error).__name__}: {error}"
    if hopeless:
        return f"was taken for {answer!r}"
    if function in UNKNOWN:
        answer = UNKNOWN[function](answer)
    found = np.concatenate([np.empty(0), *numbers(answer)])
    if np.isnan(found).any() or (np.isinf(found).any() and not extreme):
        return f"gave {answer!r} without a word"
    return None


DIVERGED = {training.Particles, training.UnderdampedParticles}
"""What holds NaN and infinite agents on purpose: see `pbtlib.evolution.diverged`."""
UNKNOWN = {
    bilevel.Assumption9: lambda it: it if it.c_u < np.inf else dataclasses.replace(it, c_u=it.c_l),
    estimates.fit_rate: lambda rate: (rate.slope, rate.intercept),
    frozen.latest: lambda window: window[~np.isnan(window)],
    frozen.local_mean: lambda mean: mean[~np.isnan(mean)],
    frozen.relaxation_time: lambda time: time[time < np.inf],
}
"""What says "unknown" or "never" by a value that is not finite, as its text explains: the answer without that value."""
PARTNERS = {
    (bilevel.pressure, "delta"): {"delta", "ball_mass"},
    (bilevel.pressure_without_growth, "delta"): {"delta", "ball_mass"},
}
"""What a message may name in place of the argument that was changed: the mass of a ball whose radius follows from δ."""
EACH = pytest.mark.parametrize("function", CALLS, ids=lambda f: f"{f.__module__.removeprefix('pbtlib.')}.{f.__name__}")


@EACH
def test_a_sound_call_is_answered(function):
    assert fault(function, CALLS[function], hopeless=False, extreme=False) is None


@EACH
def test_odd_input_is_named_or_answered(function):
    found = {}
    for what, arguments, hopeless in odd_calls(function, CALLS[function]):
        if function in DIVERGED and re.search(r"with (nan|-?inf)", what):
            continue
        extreme = "e+308" in what or "e-308" in what or "inf" in what
        if said := fault(function, arguments, hopeless, extreme, changed=what.split()[0]):
            found[what] = said[:150]
    assert not found


FORMS = {
    "read-only": lambda a: np.lib.stride_tricks.as_strided(a, writeable=False),
    "reversed in memory": lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1] if a.ndim else a,
    "in Fortran's order": np.asfortranarray,
    "every other of a longer one": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
    "in single precision": lambda a: a.astype(np.float32) if (a.astype(np.float32) == a).all() else a,
}


@EACH
def test_the_form_in_which_numbers_come_changes_nothing(function):
    good = CALLS[function]
    arrays = {name: np.array(value, dtype=float) for name, value in good.items() if is_array(value)}
    if not arrays or function is gaussian.generation_weights:  # takes a list that grows
        return
    plain = list(numbers(function(**{**good, **arrays})))
    for form, make in FORMS.items():
        given = {name: make(array.copy()) for name, array in arrays.items()}
        for found, expected in zip(numbers(function(**{**good, **given})), plain, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12, err_msg=form)
        for name, array in arrays.items():
            np.testing.assert_array_equal(given[name], array, err_msg=f"{name} was written to")


def public():
    """All public functions and classes that take numbers or arrays."""
    numeric = re.compile(r"\b(float|int|ArrayLike|Array)\b")
    for module in (averaged, bilevel, distances, estimates, evolution, gaussian, inheritance, kinetic, training):
        for name in module.__all__:
            thing = getattr(module, name)
            if (inspect.isclass(thing) or inspect.isfunction(thing)) and numeric.search(str(inspect.signature(thing))):
                yield thing


def test_no_public_function_of_the_method_is_left_out():
    results = {
        averaged.SteadyState,
        bilevel.Estimate,
        estimates.Rate,
        inheritance.Ladder,
        kinetic.Model,
        training.Trace,
    }
    otherwise = {
        evolution.diverged,
        averaged.cell_masses,
        averaged.tabulate,
        distances.two_sample_floor,
        evolution.stream,
        kinetic.model,
    }
    assert {thing.__qualname__ for thing in {*public()} - {*CALLS} - results - otherwise} == set()


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda x: np.log(np.asarray(x)), "without a word"),
        (lambda x: 1 / 0, "ZeroDivisionError"),
        (lambda x: float("text"), "does not name the argument"),
        (lambda x: 1.0, "was taken for"),
    ],
)
def test_faults_are_found(broken, said):
    calls = odd_calls(broken, {"x": 1.0})
    found = [fault(broken, arguments, hopeless, False, changed="x") for _, arguments, hopeless in calls]
    assert any(said in (one or "") for one in found)


@pytest.mark.parametrize(
    "odd", [10**5000, -(10**5000), [10**5000], [[1.0], [10**5000]]], ids=["n", "-n", "[n]", "rags"]
)
@pytest.mark.parametrize("check", [check_number, check_array, as_real])
def test_an_integer_that_python_refuses_to_print_is_named(check, odd):
    with pytest.raises(
        (TypeError, ValueError), match=r"^size (is too large, of 5001 digits|is a list|contains|is \[\[).*must be"
    ):
        check("size", odd)


def test_what_is_too_large_is_told_the_largest():
    with pytest.raises(ValueError, match=r"^size contains 1e\+151; entries must be at most 1e\+150 in size$"):
        check_array("size", [1.0, 1e151])


def test_a_message_about_another_argument_is_found():
    def halved(x, y):
        check_number("y", y, maximum=x)
        return x - y

    assert fault(halved, {"x": 1.0, "y": 2.0}, hopeless=False, extreme=False, changed="y") is None
    assert "does not name" in fault(halved, {"x": 1.0, "y": 2.0}, hopeless=False, extreme=False, changed="x")


@pytest.mark.parametrize("change", [{"returns": [np.nan, 1.0]}, {"age": np.inf}, {"m": 0}])
def test_unknown_is_no_excuse_for_bad_input(change):
    arguments = CALLS[frozen.latest] | change
    assert fault(frozen.latest, arguments, hopeless=True, extreme=False, changed=next(iter(change))) is None
    assert fault(lambda **_: np.array([np.nan]), arguments, hopeless=False, extreme=False), "NaN of others is none"
