"""Stops listening without losing a connection that the kernel has established.

Closing a listening socket resets every connection that is established and not yet accepted. So the kernel is first made to ignore new
handshakes, while the loop accepts the connections in the backlog and those whose handshake has begun. Then none is left to reset. A client
that connects meanwhile retries a second later, and is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import select
import socket
import struct
from collections.abc import Iterable

_SO_ATTACH_FILTER = 26
"""From <asm-generic/socket.h>; Python has no name for it."""

HANDSHAKES_S = 0.1
"""Time in which a handshake that has begun completes, unless its client is very far away, in seconds."""

# Classic BPF over a TCP segment: if the flags in byte 13 have SYN, keep 0 bytes of the segment, which drops it; else keep all.
_NO_SYN = b"".join(struct.pack("HBBI", *each) for each in [(0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF)])


async def drain_listeners(listeners: Iterable[socket.socket]) -> None:
    """Ignores new handshakes, and returns when the loop, which still listens, has accepted all established connections.

    The filter belongs to the socket, so other processes that have a descriptor of this socket get no new connections either.
    """
    listeners = list(listeners)
    for listener in listeners:
        _ignore_handshakes(listener)
    loop = asyncio.get_running_loop()
    end_s = loop.time() + HANDSHAKES_S
    await asyncio.sleep(HANDSHAKES_S)
    while loop.time() < end_s + HANDSHAKES_S and select.select(listeners, [], [], 0)[0]:  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(0)  # the loop accepts some connections in each iteration


def _ignore_handshakes(listener: socket.socket) -> None:
    program = ctypes.create_string_buffer(_NO_SYN, len(_NO_SYN))
    # On a kernel without filters, a connection that is established just now may be reset.
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_NO_SYN) // 8, ctypes.addressof(program)))
