"""Ports for servers in processes of their own."""

from __future__ import annotations

import socket
from contextlib import suppress
from itertools import count
from random import SystemRandom

_FIRST, _MANY = 20_000, 12_000  # below those that systems give to clients
_following = count(SystemRandom().randrange(_MANY))


def free_port() -> int:
    """Return a port on which nobody listens.

    The system would give the one that it calls free to the next test that asks, or to a client,
    before the server of this test listens on it.
    """
    while True:
        port = _FIRST + next(_following) % _MANY
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
