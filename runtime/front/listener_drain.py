"""How a front door stops listening without losing a connection that the kernel has made already.

A listening socket that is closed resets every connection whose handshake is over and which nobody has accepted. So the kernel is told
to ignore new handshakes first; what waits, and what is on its way, is accepted as before; then there is nothing left to reset. Whoever
knocks meanwhile knocks again a second later, and is refused.
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
"""Of <asm-generic/socket.h>; Python does not name it."""

HANDSHAKES_S = 0.1
"""A handshake that had begun is over by then, unless its client is very far away."""

# Classic BPF over a TCP segment: whether the flags in byte 13 have SYN; then keep 0 bytes of it, which drops it, else all.
_NO_SYN = b"".join(struct.pack("HBBI", *each) for each in [(0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF)])


async def accepted_rest(listeners: Iterable[socket.socket]) -> None:
    """Have no more handshakes begun, and wait until the loop, which still listens, has accepted all that were.

    The filter belongs to the socket: whoever else has a descriptor of it begins no handshakes either.
    """
    listeners = list(listeners)
    for listener in listeners:
        _ignore_handshakes(listener)
    loop = asyncio.get_running_loop()
    end_s = loop.time() + HANDSHAKES_S
    await asyncio.sleep(HANDSHAKES_S)
    while loop.time() < end_s + HANDSHAKES_S and select.select(listeners, [], [], 0)[0]:  # noqa: ASYNC110 - no event says so
        await asyncio.sleep(0)  # the loop accepts some each turn


def _ignore_handshakes(listener: socket.socket) -> None:
    program = ctypes.create_string_buffer(_NO_SYN, len(_NO_SYN))
    # Without it, on a kernel that has no filters, a connection that comes within the next moment may be reset.
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_NO_SYN) // 8, ctypes.addressof(program)))
