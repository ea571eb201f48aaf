"""One seed for every statistical test: ``pytest --seed n`` (``make test SEED=n``)."""

import numpy as np
import pytest


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, default=20260, help="seed of the statistical tests")


@pytest.fixture
def seed(request):
    return request.config.getoption("--seed")


@pytest.fixture
def rng(seed, request):
    """A generator of this test's own: keyed by the seed and the test's name."""
    return np.random.default_rng([seed, *request.node.nodeid.encode()])


@pytest.fixture(autouse=True)
def _numpy_errors_raise():
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        yield
