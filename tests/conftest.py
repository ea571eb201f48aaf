"""What tests share: one seed, ``pytest --seed n`` (``make test SEED=n``); the built pages, the executed
chapters, and a mark."""

import os
import subprocess
import sys
from functools import cache

import numpy as np
import pytest

from book import build
from book.browser import NONE, chromium_path
from book.build import BUILD
from book.execute import ROOT
from book.takeaway import chromium

LONGEST = ("test_takeaway.py", "test_browser.py")


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


@pytest.fixture(autouse=True)
def _no_cluster_stays_the_default():
    """Whoever writes a file afterwards would ask it for a lock, and wait for ever if it is gone."""
    yield
    if "dask" in sys.modules:
        assert sys.modules["dask"].config.get("scheduler", None) is None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark the tests of the built pages, the same on every processor (``-m 'not pages'``), and those that another seed
    changes (``-m drawn``); the longest files go first.

    Files are shared out between two workers whole and in this order: a long one at the end would run alone.
    """
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    for item in items:
        asked = {*getattr(item, "fixturenames", ())}
        if "pages" in asked:
            item.add_marker("pages")
        if asked & {"seed", "rng"} or hasattr(getattr(item, "obj", None), "hypothesis"):
            item.add_marker("drawn")


@pytest.fixture(scope="session")
def installed():
    """A machine with a Chromium."""
    if chromium_path() is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have a Chromium for the tests of the pages")
        pytest.skip(NONE)


@pytest.fixture(scope="session")
def pages(installed):
    """The built pages, on a machine with a browser to look at them."""
    if not (BUILD / "html" / "index.html").is_file():
        pytest.fail("the book is not built; run `make book` first")


@pytest.fixture(scope="module")
def browser(installed):
    """A headless Chromium that runs."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def rerun():
    """Execute the chapters that changed since they were last executed on this machine, in a process of its own."""
    words = [sys.executable, "-m", "book.build", "run"]
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, "PBTLIB_STRICT": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return cache(lambda name: build.executed([name], strict=True)[name])
