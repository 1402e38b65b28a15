"""Pauses reading from one connection, and keeps what was read but not parsed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.flow_control import FlowControl


class ReadFlowControl(FlowControl):
    """Pauses and resumes reading. Bytes that were already read are parsed before later bytes.

    Args:
        read_on: Parses `unread`.

    Attributes:
        unread: Bytes that were read but not parsed.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, read_on: Callable[[], None]) -> None:
        super().__init__(transport)
        self._loop = loop
        self._read_on = read_on
        self.unread = b""

    def resume_reading(self) -> None:
        """Resumes reading, but only once `unread` is parsed: this may be called while something is being parsed."""
        if self.unread:
            self._loop.call_soon(self._read_on)
        else:
            super().resume_reading()
