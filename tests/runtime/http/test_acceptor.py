"""Accepting, with real sockets on the loop of a front door, whose turns are counted."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

import pytest
import uvloop

from runtime.http.acceptor import ACCEPTS_PER_TURN, Acceptor

MANY = 4 * ACCEPTS_PER_TURN


async def turns_until_all_are_connected(count: int) -> int:
    """How often the others of a loop have their turn before the last of `count`, who all wait when it begins, is a connection."""
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
        accepting = Acceptor(listener, Protocol, None)
        accepting.start(backlog=count)
        await asyncio.wait_for(others(), 20)
        accepting.stop()
    return turns


@pytest.mark.parametrize("count", [ACCEPTS_PER_TURN // 2, MANY])
def test_who_comes_at_once_is_connected_within_some_turns(count):
    """One a turn would have the last one wait until all before it were answered as often as there are connections."""
    turns = uvloop.run(turns_until_all_are_connected(count))
    assert turns <= 8 * count / ACCEPTS_PER_TURN + 8


def test_who_is_connected_has_turns_while_others_come():
    """A flood of connections must not keep the loop to itself."""
    assert uvloop.run(turns_until_all_are_connected(MANY)) >= MANY / ACCEPTS_PER_TURN
