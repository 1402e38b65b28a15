"""Closes an idle connection so that a request that its client sends at the same moment is never reset."""

from __future__ import annotations

import asyncio
import select

LINGER_S = 2.0
"""Time for which the other direction stays open: two slow round trips. A client that sends nothing more has closed by then."""


def end_sending(transport: asyncio.Transport) -> bool:
    """Ends the sending direction of an idle connection.

    A close while unread bytes are in the socket, or before more arrive, resets the connection, and a client cannot tell whether its request
    was read. With its end alone, the client sees that there is no response. The caller drops whatever still comes, and closes the
    transport after LINGER_S. TLS has no such end: its transport sends a notification, and waits for that of the client.

    Returns:
        False if bytes wait to be read; then nothing was done.
    """
    waiting = select.poll()
    waiting.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    if waiting.poll(0):
        return False
    if transport.can_write_eof():
        transport.write_eof()
    else:
        transport.close()
    return True
