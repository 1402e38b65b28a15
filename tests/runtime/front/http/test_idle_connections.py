"""Connections over which nothing comes, or nothing more, end in their time, and no request that races with the end is reset."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from contextlib import ExitStack

import pytest

from base.ipc.front_door_control import Configure, TlsFiles
from certificates import Authority
from counting_front import CountingService, serve
from rawhttp import Raw, chunked, get, post
from runtime.http.lingering import LINGER_S, has_unread_data
from runtime.settings import Settings

SHORT_S, LONG_S = 1.0, 600.0
PLAIN, CHUNKED = post("/plain/a", []), chunked("/plain/a", [])

SILENT = {
    "head_timeout_s": {b"": 0, b"\r\n\r\n": 0, PLAIN[:30]: 0, PLAIN + PLAIN[:30]: 1, CHUNKED + PLAIN[:30]: 1},
    "request_timeout_s": {PLAIN[:-1]: 0, CHUNKED[:-8]: 1, PLAIN + PLAIN[:-1]: 1},
    "keep_alive_s": {PLAIN: 1, CHUNKED: 1, get("/livez"): 1, PLAIN + CHUNKED + PLAIN: 3},
}
"""The bytes that a client sends before it stays silent, and the number of responses to them, by the setting that limits the time."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


def limits(setting: str, tls: TlsFiles | None = None) -> Configure:
    """Returns limits of which only this one is short."""
    times = dict.fromkeys(SILENT, LONG_S) | {setting: SHORT_S}
    return Configure(**times, tls=tls)


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("setting", SILENT)
def test_a_silent_connection_ends_in_the_time_of_its_setting(authority: Authority, setting: str, *, secured: bool) -> None:
    """It does not end before, and other settings have no effect."""

    def talk(address: str, _: CountingService) -> None:
        with ExitStack() as stack:
            silent = []
            for data, responses in SILENT[setting].items():
                since_s = time.monotonic()
                raw = stack.enter_context(Raw(address, authority.client() if secured else None))
                if data:
                    raw.send(data)
                for _ in range(responses):
                    assert raw.answer().status in (200, 503)
                silent.append((raw, since_s))
            for raw, since_s in silent:
                assert raw.ended()
                assert time.monotonic() - since_s > SHORT_S

    serve(talk, limits(setting, TlsFiles(*map(str, authority.issue("door"))) if secured else None))


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("request_", [PLAIN, CHUNKED], ids=["fast", "slow"])
def test_a_request_at_the_moment_of_an_idle_close_is_answered_or_never_read(
    authority: Authority, request_: bytes, *, secured: bool
) -> None:
    """Many connections are used again just before, at and just after their end. None is reset, and no request is lost that was taken."""
    count, first_s, last_s = 60, 0.8 * SHORT_S, 1.8 * SHORT_S
    outcomes = {"answered": 0, "ended": 0, "late": 0}

    def talk(address: str, door: CountingService) -> None:
        with ExitStack() as stack:
            used = []
            for number in range(count):
                raw = stack.enter_context(Raw(address, authority.client() if secured else None))
                since_s = time.monotonic()
                raw.send(request_)
                assert raw.answer().status == 503
                used.append((raw, since_s, since_s + first_s + (last_s - first_s) * number / count))
            for raw, since_s, due_s in used:
                time.sleep(max(0.0, due_s - time.monotonic()))
                outcomes[_use_again(raw, request_, since_s)] += 1
        assert door.calls + door.submitted == count + outcomes["answered"]

    serve(talk, limits("keep_alive_s", TlsFiles(*map(str, authority.issue("door"))) if secured else None))
    assert sum(outcomes.values()) == count


def _use_again(raw: Raw, request: bytes, since_s: float) -> str:
    """Returns the outcome of another request on the connection, sent in two pieces. A reset raises an error while none may come."""
    try:
        raw.send(request, len(request) // 2 + 1)
        assert raw.answer().status == 503
    except (EOFError, ssl.SSLEOFError):
        return "ended"
    except OSError:
        if time.monotonic() - since_s < SHORT_S + LINGER_S:
            raise
        return "late"  # this machine stalled
    return "answered"


@pytest.mark.parametrize("request_", [PLAIN, CHUNKED], ids=["fast", "slow"])
def test_a_request_that_is_in_the_socket_when_the_server_stops_is_answered(request_: bytes) -> None:
    """The connection seems idle to the server, which has not read it yet."""

    def talk(address: str, door: CountingService) -> None:
        with Raw(address) as raw:
            raw.send(request_)
            assert raw.answer().status == 503

            async def send_and_shut_down() -> None:
                (connection,) = door.server.server_state.connections
                raw.send(request_)
                while not has_unread_data(connection.transport):
                    pass
                connection.shutdown()

            asyncio.run_coroutine_threadsafe(send_and_shut_down(), door.loop).result()
            answer = raw.answer()
            assert (answer.status, answer.headers["connection"]) == (503, "close")
            assert raw.ended()

    serve(talk)


def test_a_client_that_ends_its_side_meanwhile_ends_the_connection_at_once() -> None:
    """It does not stay for the time in which more might come."""

    def talk(address: str, door: CountingService) -> None:
        with Raw(address) as raw:
            raw.send(PLAIN)
            assert raw.answer().status == 503
            assert raw.ended()
            raw.socket.shutdown(socket.SHUT_WR)
            assert raw.socket.recv(1) == b""

    serve(talk, limits("keep_alive_s"))


def test_connections_are_kept_for_longer_than_common_proxies_keep_theirs_by_default() -> None:
    """They keep them for 60 s, and must be the side that closes. A head has 5 s, as the documentation says."""
    settings = Settings()
    assert settings.keep_alive_s > 60
    assert settings.head_timeout_s == 5
