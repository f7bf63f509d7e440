"""The port that the server listens on: a store has its own, as a browser keeps unsaved changes by address."""

import errno
import hashlib
import os
import socket
from pathlib import Path

from sigmoid_vit.errors import UserError

PORTS = range(61000, 65500)  # registered for nobody, above those that Linux gives to outgoing connections
TRIES = 100


def usual_port(store: str | Path) -> int:
    """The port of the editor of a store, the same at every start."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(store))).digest()
    return PORTS[int.from_bytes(digest[:8], "big") % len(PORTS)]


def listen_near(host: str, usual: int) -> socket.socket:
    """Listen on the port `usual`, or on the next one that is free.

    Raises:
        UserError: the host is none of this computer, or all of TRIES ports are taken.
    """
    for i in range(TRIES):
        try:
            return listen(host, PORTS[(usual - PORTS.start + i) % len(PORTS)])
        except UserError as error:
            taken = error
            if getattr(error.__cause__, "errno", None) != errno.EADDRINUSE:
                raise
    raise taken


def listen(host: str, port: int) -> socket.socket:
    """Listen on this port (0: any free one).

    Raises:
        UserError: the port is taken, or the host is none of this computer.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
        # each connection inherits it: head and body of a response are two writes, and the second would wait
        # for the browser to acknowledge the first, 40 ms
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise UserError(
            f"port {port} of {host} cannot be used ({error.strerror or error}); if another editor has it, "
            "end that one or choose another with --port (0: any free one)"
        ) from error
