"""The end of an idle connection, over real sockets and on the loop of the front door."""

from __future__ import annotations

import asyncio
import socket

import uvloop

from runtime.http.idle_close import end_sending


async def connected(listener: socket.socket) -> tuple[socket.socket, asyncio.Transport]:
    """Returns both ends of a connection, the second of which reads only when it is told to."""
    loop = asyncio.get_running_loop()
    client = socket.create_connection(listener.getsockname(), timeout=20)
    sock, _ = listener.accept()
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, sock)
    transport.pause_reading()
    return client, transport


def test_a_connection_with_bytes_that_nobody_has_read_stays_open() -> None:
    """They may be a request. Without them, the client sees the end, and what it sends then is not reset."""

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client, transport = await connected(listener)
            with client:
                client.sendall(b"a request")
                assert not end_sending(transport)
                transport.write(b"a response")
                assert await asyncio.to_thread(client.recv, 100) == b"a response"
                transport.close()
            client, transport = await connected(listener)
            with client:
                assert end_sending(transport)
                transport.resume_reading()
                assert await asyncio.to_thread(client.recv, 100) == b""
                client.sendall(b"a late request")
                client.sendall(b"and another")
                client.shutdown(socket.SHUT_WR)
                assert await asyncio.to_thread(client.recv, 100) == b""

    uvloop.run(scenario())
