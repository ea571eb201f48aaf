"""Python imports this by itself if the folder is on its path: no process may then reach another machine.

What is raised is no `Exception`, so a library that would do without a network too does not pass over it in silence.
"""

import socket
import sys


class WayOut(BaseException):
    """A connection to another machine was asked for."""


def closed(event, given):
    if event == "socket.connect" and given[0].family in (socket.AF_INET, socket.AF_INET6):
        host = str(given[1][0])
        if given[0].type == socket.SOCK_STREAM and not host.startswith("127.") and host not in ("::1", "localhost"):
            raise WayOut(f"a connection to {given[1]} was asked for")


sys.addaudithook(closed)
