"""Listening sockets that refuse new clients, with real sockets and real handshakes."""

import asyncio
import socket
from contextlib import ExitStack

import pytest

from runtime.http import listener_drain
from runtime.http.listener_drain import refuse_connections, wait_for_handshakes

WAITING = 50


@pytest.fixture(params=["127.0.0.1", "::1"])
def host(request):
    return request.param


def listening(host, port=0, **options):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=WAITING, **options)


def accepted_by(listener):
    """Returns how many connections wait in the backlog, after accepting them."""
    count = 0
    listener.setblocking(False)
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def test_new_clients_are_refused_and_those_in_the_backlog_are_kept(host):
    """Their connections are established, so closing the socket at once would reset them all."""
    with ExitStack() as stack:
        listener = stack.enter_context(listening(host))
        for _ in range(WAITING):
            stack.enter_context(socket.create_connection(listener.getsockname()[:2]))
        refuse_connections([listener])
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(listener.getsockname()[:2])
        assert accepted_by(listener) == WAITING


def test_sockets_that_share_a_port_refuse_together():
    """The kernel would pass clients of one on to another."""
    with ExitStack() as stack:
        first = stack.enter_context(listening("127.0.0.1", reuse_port=True))
        others = [stack.enter_context(listening("127.0.0.1", first.getsockname()[1], reuse_port=True)) for _ in range(3)]
        for _ in range(WAITING):
            stack.enter_context(socket.create_connection(first.getsockname()))
        refuse_connections([first, *others])
        for _ in range(WAITING):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(first.getsockname())
        assert sum(map(accepted_by, [first, *others])) == WAITING


def test_a_handshake_that_has_begun_is_waited_for_and_its_connection_works(host):
    """The client sees a connection already, while the kernel waits for its first bytes, as it does for a lost acknowledgement."""

    async def main():
        with listening(host) as listener:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 10)
            with socket.create_connection(listener.getsockname()[:2]) as client:
                refuse_connections([listener])
                waiting = asyncio.create_task(wait_for_handshakes(listener))
                assert not (await asyncio.wait({waiting}, timeout=5 * listener_drain._CHECK_S))[0]
                client.sendall(b"question")
                await waiting
                listener.setblocking(False)
                with listener.accept()[0] as server:
                    server.setblocking(True)
                    assert server.recv(100) == b"question"
                    server.sendall(b"answer")
                assert client.recv(100) == b"answer"

    asyncio.run(main())


def test_a_handshake_that_never_completes_is_not_waited_for_in_vain(monkeypatch):
    """Anybody can begin handshakes."""
    monkeypatch.setattr(listener_drain, "HANDSHAKES_MAX_S", 0.2)
    with listening("127.0.0.1") as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
        with socket.create_connection(listener.getsockname()):
            asyncio.run(asyncio.wait_for(wait_for_handshakes(listener), 20))
            assert accepted_by(listener) == 0


def test_a_refusal_may_be_repeated(caplog):
    """Supervisor and front door both refuse, and the kernel would want a capability for a second change."""
    with listening("127.0.0.1") as listener:
        refuse_connections([listener])
        refuse_connections([listener])
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(listener.getsockname())
    assert not caplog.records


def test_a_kernel_that_cannot_refuse_is_reported(caplog):
    """It is no reason to stop serving, but connections may be lost, and nobody would know why."""
    closed = listening("127.0.0.1")
    closed.close()
    refuse_connections([closed])
    assert "may be reset" in caplog.text
