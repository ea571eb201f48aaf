"""Kernels from a process that has imported already what chapters import: it forks one for each of them.

The imports of a chapter cost two to four processor-seconds, and there are fifty chapters. Where forking is safe, on
Linux, Jupyter is told to start this file for a kernel. It runs no kernel: it asks the warm process for one, hands it
its output, environment and folder, passes interrupts on, and ends when the kernel does, or the kernel with it.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

KERNEL = "recorded"
SOCKET = "BOOK_WARM"
SHARED = (
    "ipykernel.kernelapp",
    "matplotlib.pyplot",
    "pbtlib.averaged",
    "pbtlib.figures",
    "pbtlib.gaussian",
    "pbtlib.loop",
    "pbtlib.moving",
    "pbtlib.problems",
    "scipy.optimize",
)
"""What is imported once; none of it starts a thread, draws a random number or reads what differs between kernels."""


@contextmanager
def kernels(arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """Let Jupyter know kernels of the name KERNEL meanwhile, beside those that it knows; begin when all is imported.

    Parameters
    ----------
    arguments : sequence of str
        What each is started with.
    environment : mapping of str to str, optional
        What the environment of all of them holds beside ours.
    """
    inherited = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder, "kernels", KERNEL, "kernel.json")
        spec.parent.mkdir(parents=True)
        start, extra, server = ["-m", "ipykernel_launcher"], {}, None
        if sys.platform == "linux":
            extra = {SOCKET: str(Path(folder, "socket"))}
            start = ["-I", "-S", __file__]
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(extra[SOCKET])
                listener.listen(64)
                words = [sys.executable, "-m", "book.warm", str(listener.fileno())]
                server = subprocess.Popen(
                    words,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**inherited, **(environment or {})},
                    pass_fds=[listener.fileno()],
                    cwd=Path(__file__).parents[1],
                )
                assert server.stdout
                server.stdout.readline()  # else the imports would count as a kernel's slow start
        words = [sys.executable, *start, "-f", "{connection_file}", *arguments]
        spec.write_text(json.dumps({"argv": words, "display_name": KERNEL, "language": "python", "env": extra}))
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("JUPYTER_PATH")]))
        try:
            yield
        finally:
            if "JUPYTER_PATH" in inherited:
                os.environ["JUPYTER_PATH"] = inherited["JUPYTER_PATH"]
            else:
                del os.environ["JUPYTER_PATH"]
            with server or nullcontext():  # its input ends, and then it does
                pass


def ask() -> None:
    """Stand where a kernel was to be started: have one forked, and wait for its end."""
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(os.environ[SOCKET])
        socket.send_fds(link, [b"."], [0, 1, 2])
        link.sendall(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode() + b"\n")
        signal.signal(signal.SIGINT, lambda *_: link.send(b"."))
        link.recv(1)


def serve(listener: socket.socket) -> None:
    """Import what is shared, then fork a kernel for each that asks, until standard input ends."""
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # as a kernel has it before its imports
    for name in SHARED:
        with suppress(Exception):  # a chapter that needs it says what is wrong with it
            importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the kernels
    print(flush=True)
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        link, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            become_a_kernel(link)
        link.close()


def become_a_kernel(link: socket.socket) -> None:
    """Be from now on the kernel that was asked for."""
    _, descriptors, _, _ = socket.recv_fds(link, 1, 3)
    arguments, environment, folder = json.loads(link.makefile("rb").readline())
    for wanted, given in enumerate(descriptors):
        os.dup2(given, wanted)
        os.close(given)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def heed() -> None:
        while link.recv(1):
            os.kill(os.getpid(), signal.SIGINT)
        os._exit(1)  # whoever asked is gone

    threading.Thread(target=heed, daemon=True).start()
    from ipykernel import kernelapp

    sys.argv = ["ipykernel_launcher", *arguments]
    kernelapp.launch_new_instance()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1] == "-f":
        ask()
    else:
        serve(socket.socket(fileno=int(sys.argv[1])))
