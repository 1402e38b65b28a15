"""The control socket of a front door, for messages to and from its parent."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine, Iterable

import msgspec

from base.errors import PeerError
from base.ipc.control import ControlMessage, ControlStream, decode_message, encode_message
from base.ipc.front_door_control import Ping, Pong, Route, RoutingTable
from base.ipc.release_spec import ReleaseSpec

log = logging.getLogger(__name__)

_TABLE = b'{"type":"routing_table",'

_LONG_BYTES = 64 * 1024
"""Size from which a message is decoded on a thread. A routing table may have megabytes, each of which takes 5 ms."""


class _RawRoute(Route, frozen=True):
    release: msgspec.Raw  # type: ignore[assignment]


class _RawTable(RoutingTable, frozen=True, tag="routing_table", tag_field="type"):
    routes: list[_RawRoute]  # type: ignore[assignment]


class TableReader:
    """Decodes messages, and of a long routing table one release at a time, so that other threads run in between.

    A release that is as in the previous table is not decoded again, and is the same object.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, ReleaseSpec] = {}  # by encoded form; those of the last table
        self._tables = msgspec.json.Decoder(_RawTable)
        self._releases = msgspec.json.Decoder(ReleaseSpec)

    def decode(self, line: bytes) -> ControlMessage:
        """Returns the message of a line. Raises the errors of msgspec."""
        if len(line) < _LONG_BYTES or not line.startswith(_TABLE):
            return decode_message(line)
        table = self._tables.decode(line)
        known, self._known = self._known, {}
        routes = []
        for route in table.routes:
            encoded = bytes(route.release)
            release = self._known[encoded] = known.get(encoded) or self._releases.decode(encoded)
            routes.append(Route(**msgspec.structs.asdict(route) | {"release": release}))
        return RoutingTable(**msgspec.structs.asdict(table) | {"routes": routes})


class ParentChannel:
    """Reads and writes control messages. Each may take several writes, but the bytes of two messages never mix.

    Args:
        sock: Our end of the parent's socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._received: asyncio.Queue[ControlMessage | None] = asyncio.Queue(maxsize=64)
        self._writing = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begins to read messages."""
        self._sock.setblocking(False)
        self._reading = asyncio.get_running_loop().create_task(self._read_all())

    def close(self) -> None:
        """Stops reading."""
        if self._reading is not None:
            self._reading.cancel()

    async def receive(self) -> ControlMessage | None:
        """Returns the next message; None once the parent is gone."""
        return await self._received.get()

    async def send(self, message: ControlMessage) -> None:
        """Sends one message. Logs a warning if the parent cannot be reached."""
        async with self._writing:
            await self._write(message)

    async def send_all(self, take_messages: Callable[[], Iterable[ControlMessage]]) -> None:
        """Sends messages. Takes each one only when it can be sent, so that none pile up while the parent does not read."""
        async with self._writing:
            for message in take_messages():
                await self._write(message)
                await asyncio.sleep(0)  # requests come first

    def run_in_background(self, work: Coroutine[None, None, None]) -> None:
        """Runs a coroutine that sends something when it is done."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _read_all(self) -> None:
        loop, stream = asyncio.get_running_loop(), ControlStream(TableReader().decode)
        try:
            while data := await loop.sock_recv(self._sock, 65536):
                is_long = stream.buffered_bytes >= _LONG_BYTES and b"\n" in data
                messages = await asyncio.to_thread(stream.feed_bytes, data) if is_long else stream.feed_bytes(data)
                for message in messages:
                    if isinstance(message, Ping):  # answered here, since a routing table may take the process seconds to apply
                        self.run_in_background(self.send(Pong()))
                    else:
                        await self._received.put(message)
        except (OSError, PeerError) as exc:
            log.warning("cannot read the control socket: %s", exc)
        await self._received.put(None)

    async def _write(self, message: ControlMessage) -> None:
        try:
            await asyncio.get_running_loop().sock_sendall(self._sock, encode_message(message))
        except OSError as exc:
            log.warning("cannot send %s to the parent: %s", type(message).__name__, exc)
