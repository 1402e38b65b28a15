"""The reports of a front door while its parent does not read them."""

from __future__ import annotations

import asyncio
import socket

from base.ipc.control import ControlStream
from base.ipc.front_door_control import RequestsSent
from runtime.front.control_channel import ParentChannel
from runtime.front.reporter import FrontReporter

SOCKETS = 20


def test_reports_to_a_parent_that_does_not_read_are_summed_in_one_that_waits() -> None:
    """However often there is something to report, one report waits; a parent that reads again gets the sums of everything."""
    ours, theirs = socket.socketpair()

    async def run() -> dict[str, int]:
        ours.setblocking(False)
        theirs.setblocking(False)
        channel, loop, stream = ParentChannel(ours), asyncio.get_running_loop(), ControlStream()
        reporter = FrontReporter(channel, None)
        filler = b"\n" * 65536
        while True:  # until the socket is full
            try:
                ours.send(filler)
            except BlockingIOError:
                break
        for number in range(1000):
            reporter.on_worker_event(RequestsSent(f"w{number % SOCKETS}.sock", 1))
            await asyncio.sleep(0)
        assert len(channel._background) <= 2
        found: dict[str, int] = {}
        while sum(found.values()) < 1000:
            data = (
                (await asyncio.wait_for(loop.sock_recv(theirs, 65536), 10)).lstrip(b"\n")
                if not found
                else await loop.sock_recv(theirs, 65536)
            )
            for message in stream.feed_bytes(data):
                assert isinstance(message, RequestsSent)
                found[message.socket] = found.get(message.socket, 0) + message.requests
        return found

    with ours, theirs:
        assert asyncio.run(run()) == {f"w{number}.sock": 1000 // SOCKETS for number in range(SOCKETS)}
