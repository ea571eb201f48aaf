"""Threads over blocks: everything is done once, however it is cut, also in a child process."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from pbtlib import parallel
from pbtlib.parallel import in_blocks


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("count", "block"), [(1, 10), (10, 3), (100, 7)])
def test_every_item_is_worked_on_once(count, block, threads):
    done = np.zeros(count, int)

    def work(a, b):
        done[a:b] += 1

    in_blocks(work, count, block, threads)
    assert (done == 1).all()


@pytest.mark.parametrize(("threads", "count"), [(1, 100), (3, 100), (3, 2)])
def test_no_more_threads_are_given_work_than_asked_for(threads, count, monkeypatch):
    given = []

    class Pool:
        def submit(self, work):
            given.append(work)
            return SimpleNamespace(result=lambda: None)

    monkeypatch.setattr(parallel, "_pool", lambda workers: Pool())
    in_blocks(lambda a, b: None, count, 7, threads)
    assert len(given) == (threads - 1 if count > 7 else 0), "the caller is one of them, and one block needs no other"


def test_as_many_threads_as_the_process_may_use_and_as_it_is_told():
    """Confined to one processor, it has one thread; told a number, it has that many."""
    ask = "from pbtlib.parallel import processors; print(processors())"

    def asked(before="", **environment):
        kept = {name: value for name, value in os.environ.items() if name != "NUMBA_NUM_THREADS"}
        words = [sys.executable, "-c", f"import os; {before}; {ask}" if before else ask]
        return int(subprocess.run(words, env=kept | environment, capture_output=True, check=True).stdout)

    assert asked(NUMBA_NUM_THREADS="3") == 3
    if hasattr(os, "sched_setaffinity"):
        assert asked() == len(os.sched_getaffinity(0))
        assert asked(f"os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}})") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_has_threads_of_its_own():
    """The parent's pool comes without its threads; work given to it would wait for ever."""
    script = (
        "import os\n"
        "from pbtlib.parallel import in_blocks\n"
        "done = set()\n"
        "in_blocks(lambda a, b: done.add(a), 10, 2, 2)\n"
        "child = os.fork()\n"
        "done.clear()\n"
        "in_blocks(lambda a, b: done.add(a), 10, 2, 2)\n"
        "if child:\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
        "assert done == {0, 2, 4, 6, 8}, done\n"
    )
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", script], start_new_session=True) as process:
        try:
            assert process.wait(timeout=30) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9)
