"""Kernels that are forked from a process with the imports done are kernels like others."""

import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

from book.warm import KERNEL, kernels

pytestmark = [
    pytest.mark.words,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere kernels start as Jupyter starts them"),
]


@contextmanager
def running(**more):
    """A client of a kernel, and its manager."""
    manager, client = start_new_kernel(kernel_name=KERNEL, **more)
    try:
        yield client, manager
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def said(client, code):
    """What a kernel prints, and what goes wrong there."""
    words = []

    def note(message):
        content = message["content"]
        words.append(content.get("text") or content.get("ename") or "")

    client.execute_interactive(code, output_hook=note, timeout=60)
    return "".join(words).strip()


def test_a_kernel_has_its_own_folder_environment_and_names(tmp_path):
    code = "import os; print(os.getcwd(), os.environ['WHO'], os.environ.get('ONCE')); import numpy; numpy.left = 1"
    other = "import numpy; print(hasattr(numpy, 'left'), 'matplotlib.pyplot' in __import__('sys').modules)"
    with kernels(environment={"ONCE": "no"}):
        with running(cwd=str(tmp_path), env={**os.environ, "WHO": "me"}) as (client, _):
            assert said(client, code) == f"{tmp_path} me None"
        with running() as (client, _):
            assert said(client, other) == "False True"
    assert KERNEL not in os.environ.get("JUPYTER_PATH", "")


def test_a_kernel_can_be_interrupted_and_goes_on():
    with kernels(), running() as (client, manager):
        # what is asked while an error is dealt with would be aborted
        asked = client.execute("print(1); import time; time.sleep(60)", stop_on_error=False)
        while client.get_iopub_msg(timeout=60)["header"]["msg_type"] != "stream":
            pass
        manager.interrupt_kernel()
        while (answer := client.get_shell_msg(timeout=30))["parent_header"]["msg_id"] != asked:
            pass
        assert answer["content"]["ename"] == "KeyboardInterrupt"
        assert said(client, "print(1)") == "1"


def test_a_kernel_that_is_killed_leaves_no_process():
    with kernels():
        with running() as (client, _):
            process = Path("/proc", said(client, "import os; print(os.getpid())"))
            assert process.exists()
        for _ in range(100):
            if not process.exists():
                return
            time.sleep(0.1)
    pytest.fail(f"{process} is still there")


def test_imports_are_done_before_a_kernel_is_asked_for(tmp_path):
    """They take longer than a kernel may on a machine that has other work."""
    (tmp_path / "seaborn.py").write_text("import time; time.sleep(3)")
    begun = time.monotonic()
    with kernels(environment={"PYTHONPATH": str(tmp_path)}):
        assert time.monotonic() - begun > 3


def test_a_module_that_cannot_be_imported_is_told_by_who_needs_it(tmp_path):
    (tmp_path / "seaborn.py").write_text("raise RuntimeError")
    broken = {"PYTHONPATH": str(tmp_path)}
    with kernels(environment=broken), running(env={**os.environ, **broken}) as (client, _):
        assert said(client, "import numpy; print(1)") == "1"
        assert said(client, "import seaborn") == "RuntimeError"
