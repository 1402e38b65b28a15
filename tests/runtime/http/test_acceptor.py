"""The acceptor, with real sockets on the loop of a front door, whose iterations are counted."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

import pytest
import uvloop

from runtime.http.acceptor import ACCEPTS_PER_TURN, Acceptor

MANY = 4 * ACCEPTS_PER_TURN


async def turns_until_all_are_connected(count: int) -> int:
    """Returns how often other tasks run before all of `count` clients, which wait from the beginning, are connected."""
    made: list[asyncio.Protocol] = []
    connected = asyncio.Event()

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(self)
            transport.close()
            if len(made) == count:
                connected.set()

    turns = 0

    async def others() -> None:
        nonlocal turns
        while not connected.is_set():
            turns += 1
            await asyncio.sleep(0)

    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=count))
        for _ in range(count):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        acceptor = Acceptor(listener, Protocol, None, handshake_s=1)
        acceptor.start(backlog=count)
        await asyncio.wait_for(others(), 20)
        acceptor.stop()
    return turns


@pytest.mark.parametrize("count", [ACCEPTS_PER_TURN // 2, MANY])
def test_simultaneous_clients_are_connected_within_a_few_turns(count):
    """With one a turn, the last client would wait while those before it are answered again and again."""
    turns = uvloop.run(turns_until_all_are_connected(count))
    assert turns <= 8 * count / ACCEPTS_PER_TURN + 8


def test_open_connections_get_their_turn_while_others_connect():
    """A flood of connections must not occupy the loop."""
    assert uvloop.run(turns_until_all_are_connected(MANY)) >= MANY / ACCEPTS_PER_TURN


def test_a_drain_accepts_every_client_that_waits_and_refuses_later_ones():
    """There are more of them than are accepted in one iteration of the loop."""

    class Greeting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:
            transport.write(b"hello")
            transport.close()

    async def main() -> None:
        with ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=MANY))
            acceptor = Acceptor(listener, Greeting, None, handshake_s=1)
            acceptor.start(backlog=MANY)
            clients = [stack.enter_context(socket.create_connection(listener.getsockname())) for _ in range(MANY)]
            await acceptor.drain()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(listener.getsockname())
            listener.close()
            await acceptor.wait_connected(20)
            assert [await asyncio.to_thread(client.recv, 10) for client in clients] == [b"hello"] * MANY

    uvloop.run(main())
