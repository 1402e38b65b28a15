"""Connections that are closed while their clients still send, over real sockets."""

import asyncio
import socket
import ssl
import threading
from contextlib import asynccontextmanager

import pytest
import uvloop

from certificates import Authority
from runtime.http import lingering
from runtime.http.acceptor import Acceptor
from runtime.http.lingering import LingeringTransport, has_unread_data

DEADLINE_S = 20
RESPONSE = bytes(range(256)) * 1000
MORE = b"x" * 100_000


class Responding(asyncio.Protocol):
    """Sends one response, and closes."""

    def __init__(self):
        self.lost = asyncio.Event()
        self.received = 0

    def connection_made(self, transport):
        self.transport = LingeringTransport(transport, self)

    def data_received(self, data):
        assert not self.received, "data after the end"
        self.received += len(data)
        self.transport.write(RESPONSE)
        self.transport.close()
        self.transport.close()
        assert self.transport.is_closing()
        self.transport.write(b"too late")

    def connection_lost(self, _):
        self.lost.set()


@asynccontextmanager
async def responding(context=None):
    """Yields an address, and the list of connections that clients have made."""
    made = []

    def make():
        made.append(Responding())
        return made[-1]

    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = Acceptor(listener, make, context, handshake_s=DEADLINE_S)
        acceptor.start(8)
        try:
            yield listener.getsockname(), made
        finally:
            acceptor.stop()


def read_all(client):
    return b"".join(iter(lambda: client.recv(65536), b""))


def send_and_read(address, wrap):
    """Sends a request and much more, which is not a part of it, and only then reads everything until the end."""
    with wrap(socket.create_connection(address, timeout=DEADLINE_S)) as client:
        client.sendall(b"request")
        first = client.recv(1)
        sending = threading.Thread(target=client.sendall, args=(MORE,))
        sending.start()
        sending.join()
        return first + read_all(client)


def serve(main):
    uvloop.run(asyncio.wait_for(main(), DEADLINE_S))


@pytest.fixture
def tls(tmp_path):
    """The TLS context of a server, and the function with which a client wraps its socket."""
    authority = Authority(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("server"))
    return context, lambda sock: authority.client().wrap_socket(sock, server_hostname="127.0.0.1", suppress_ragged_eofs=False)


@pytest.mark.parametrize("secure", [False, True])
def test_a_client_that_sends_more_gets_the_whole_response_and_no_reset(tls, secure):
    """Without lingering, the kernel answers its data with a reset, and drops what it has not read."""
    context, wrap = tls if secure else (None, lambda sock: sock)

    async def main():
        async with responding(context) as (address, made):
            assert await asyncio.to_thread(send_and_read, address, wrap) == RESPONSE
            await made[0].lost.wait()

    serve(main)


def test_a_client_that_does_not_end_its_tls_connection_is_not_waited_for(tls):
    """A client that keeps its connection for later looks at it only then. The loop itself would wait for half a minute."""
    context, wrap = tls

    def ask(address):
        client = wrap(socket.create_connection(address, timeout=DEADLINE_S))
        client.sendall(b"request")
        client.recv(1)
        return client

    async def main():
        async with responding(context) as (address, made):
            with await asyncio.to_thread(ask, address):
                await made[0].lost.wait()

    serve(main)


def test_unread_data_is_noticed():
    """A connection that seems idle may have got a request just now."""

    async def main():
        async with responding() as (address, made):
            with socket.create_connection(address, timeout=DEADLINE_S) as client:
                while not made:  # noqa: ASYNC110 - the protocol is not there before
                    await asyncio.sleep(0.001)
                transport = made[0].transport
                transport.pause_reading()
                assert not has_unread_data(transport)
                await asyncio.to_thread(client.sendall, b"request")
                assert has_unread_data(transport)
                transport.resume_reading()
                assert await asyncio.to_thread(read_all, client) == RESPONSE
            await made[0].lost.wait()

    serve(main)


def test_a_connection_ends_as_soon_as_its_client_has_ended_it(monkeypatch):
    """Nothing more can come."""
    monkeypatch.setattr(lingering, "LINGER_S", 1000)

    async def main():
        async with responding() as (address, made):
            with socket.create_connection(address, timeout=DEADLINE_S) as client:
                client.sendall(b"request")
                assert await asyncio.to_thread(read_all, client) == RESPONSE
                assert not made[0].lost.is_set()
            await made[0].lost.wait()

    serve(main)


def test_a_connection_ends_after_a_while_if_its_client_does_not(monkeypatch):
    """A client may keep its end forever."""
    monkeypatch.setattr(lingering, "LINGER_S", 0.1)

    async def main():
        async with responding() as (address, made):
            with socket.create_connection(address, timeout=DEADLINE_S) as client:
                client.sendall(b"request")
                assert await asyncio.to_thread(read_all, client) == RESPONSE
                await made[0].lost.wait()

    serve(main)
