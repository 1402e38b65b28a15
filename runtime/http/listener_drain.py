"""Stops listening without losing a connection that the kernel has established.

Closing a listening socket resets every connection that is established and not yet accepted. So new clients are refused first, while those
in the backlog, and those whose handshake has begun, are still accepted. Then none is left to reset.

The kernel refuses new clients once the listening socket is bound to a network interface that does not exist: a SYN finds no listener, while
a handshake that has begun finds its own socket, and the accepted connection belongs to no interface. This needs no capability, unlike a
filter. A handshake with a SYN cookie is refused as well, since the kernel keeps nothing about it; cookies are sent only in a SYN flood.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Iterable
from pathlib import Path

log = logging.getLogger(__name__)

SO_BINDTOIFINDEX = 62
"""From <asm-generic/socket.h>; Python has no name for it. Linux 5.7 allows it without a capability to a socket that has no interface."""

_NO_INTERFACE = 0x7FFFFFFF
"""The highest index. Linux numbers interfaces from 1."""

HANDSHAKES_MAX_S = 1.5
"""Time limit for handshakes that have begun, in seconds: the kernel repeats a lost SYN-ACK after one, and a round trip follows."""

_CHECK_S = 0.02
"""Interval between two looks at handshakes, in seconds. A SYN that is handled on another processor during the first look is found then."""


def refuse_connections(listeners: Iterable[socket.socket]) -> None:
    """Refuses new clients of these sockets in all processes that have them. Established connections can still be accepted. Idempotent.

    Sockets that share a port must be passed together, since the kernel gives a client of one to another that accepts no longer.
    """
    for listener in listeners:
        try:
            if not listener.getsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX):
                listener.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, _NO_INTERFACE)
        except OSError as exc:
            log.warning("connections that are made just now may be reset: the kernel cannot refuse new ones first (%s)", exc.strerror)
            return


async def wait_for_handshakes(listener: socket.socket) -> None:
    """Waits, for HANDSHAKES_MAX_S at most, until each handshake that has begun on the port of this socket is complete or given up."""
    loop = asyncio.get_running_loop()
    port = listener.getsockname()[1]
    end_s = loop.time() + HANDSHAKES_MAX_S
    is_waiting = True
    while is_waiting and loop.time() < end_s:
        await asyncio.sleep(_CHECK_S)
        is_waiting = await asyncio.to_thread(_has_handshake, port)


def _has_handshake(port: int) -> bool:
    """Returns whether the kernel lists a socket in the state SYN_RECV (3) with this local port. Reading may take milliseconds."""
    half_open = re.compile(rb":%04X [0-9A-F]+:[0-9A-F]{4} 03 " % port)
    tables = (path for path in map(Path, ("/proc/net/tcp", "/proc/net/tcp6")) if path.exists())
    return any(half_open.search(path.read_bytes()) for path in tables)
