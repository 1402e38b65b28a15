"""Closes connections so that their clients can read everything that was sent to them, and never get a reset.

A socket that is closed before everything was read, or while the client still sends, is reset by the kernel. Then the client may lose
responses that it has not read yet, and cannot tell whether a request was read (RFC 9112, 9.6).
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Any

LINGER_S = 1.0
"""Time for which a connection is read after our end of it, in seconds: several slow round trips. Most clients end it sooner."""


def has_unread_data(transport: asyncio.Transport) -> bool:
    """Returns whether bytes, or the client's end, wait in the socket. They may be a request that was sent to an idle connection."""
    waiting = select.poll()
    waiting.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(waiting.poll(0))


def linger(transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
    """Sends what waits to be sent, and closes the transport once the client has ended its direction, or after LINGER_S.

    What the client sends meanwhile is dropped. TLS cannot end one direction: its transport sends a notification, and waits for that of the
    client.

    Args:
        transport: The transport to close. From now on it must not be written to.
        protocol: The protocol of the connection. It gets no more data, but still learns when everything is over.
    """
    if transport.can_write_eof():
        transport.set_protocol(_Lingering(transport, protocol))
        transport.write_eof()
        transport.resume_reading()
    else:
        transport.close()


class LingeringTransport:
    """A transport whose `close` lingers. Its user need not know: it is closing from then on, and drops what is written.

    Everything else is done by the wrapped transport. What requests call are attributes, so that a call costs nothing more.

    Args:
        transport: The transport to wrap.
        protocol: The protocol of the connection.
    """

    def __init__(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        self._transport = transport
        self._protocol = protocol
        self._lingers = True
        self.write: Callable[[bytes], None] = transport.write
        self.writelines: Callable[[list[bytes]], None] = transport.writelines
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        """Sends what waits to be sent, and closes the connection once the client has ended its direction, or after LINGER_S."""
        if not self._lingers:
            self._transport.close()
        elif not self.is_closing():
            linger(self._transport, self._protocol)
            self.write = self.writelines = self.pause_reading = _do_nothing
            self.is_closing = _return_true

    def linger_no_more(self) -> None:
        """Makes `close` wait for nothing but unsent data, since the client has ended its direction, or is not worth a descriptor."""
        self._lingers = False


class _Lingering(asyncio.Protocol):
    """Drops what comes, and closes the transport at the end of data or after LINGER_S. Data that is not sent by then is waited for."""

    def __init__(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        self._transport = transport
        self._protocol = protocol
        self._timer = asyncio.get_running_loop().call_later(LINGER_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Handles the end of the connection."""
        self._timer.cancel()
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """Handles a client that does not read."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Handles a client that reads again."""
        self._protocol.resume_writing()


def _do_nothing(*_: object) -> None:
    pass


def _return_true() -> bool:
    return True
