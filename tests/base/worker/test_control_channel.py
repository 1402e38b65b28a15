"""The control channel of a worker, over a real socket. The test acts as the parent."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from base.ipc.cache_control import CacheEntries, CacheRequest, CacheState, ListCacheEntries
from base.ipc.control import ControlStream, Drain, encode_message
from base.ipc.front_door_control import TableApplied
from base.worker.control_channel import ControlChannel

WITHIN_S = 10


@pytest.fixture
def worker() -> Iterator[SimpleNamespace]:
    """Yields a worker that records its calls, and the parent's end of its control socket."""
    ours, theirs = socket.socketpair()
    drained, disconnected = threading.Event(), threading.Event()

    def answer(request: CacheRequest) -> CacheEntries:
        return CacheEntries(request.request_id, [])

    channel = ControlChannel(theirs, answer, drained.set, disconnected.set)
    channel.start()
    ours.settimeout(WITHIN_S)
    with ours, theirs:
        yield SimpleNamespace(channel=channel, socket=ours, drained=drained, disconnected=disconnected)
        channel.close()


def receive_messages(worker: SimpleNamespace, count: int) -> list[object]:
    stream, messages = ControlStream(), []
    while len(messages) < count:
        messages += stream.feed_bytes(worker.socket.recv(65536))
    return messages


def test_requests_are_answered_in_order_however_their_bytes_arrive(worker: SimpleNamespace) -> None:
    """One and a half in one piece, the rest later."""
    data = encode_message(ListCacheEntries(1)) + encode_message(ListCacheEntries(2))
    worker.socket.sendall(data[:-5])
    assert receive_messages(worker, 1) == [CacheEntries(1, [])]
    worker.socket.sendall(data[-5:])
    assert receive_messages(worker, 1) == [CacheEntries(2, [])]


def test_it_drains_on_request_and_keeps_reading(worker: SimpleNamespace) -> None:
    """A worker that drains still answers cache requests."""
    worker.socket.sendall(encode_message(Drain()))
    assert worker.drained.wait(WITHIN_S)
    worker.socket.sendall(encode_message(ListCacheEntries(1)))
    assert receive_messages(worker, 1) == [CacheEntries(1, [])]
    assert not worker.disconnected.is_set()


@pytest.mark.parametrize("data", [b"", b"nonsense\n", encode_message(TableApplied(1))])
def test_a_parent_that_is_gone_or_sends_an_invalid_message_counts_as_gone(worker: SimpleNamespace, data: bytes) -> None:
    """Both stop the worker."""
    worker.socket.sendall(data)
    if not data:
        worker.socket.shutdown(socket.SHUT_WR)
    assert worker.disconnected.wait(WITHIN_S)
    assert not worker.drained.is_set()


def test_a_closed_channel_still_sends(worker: SimpleNamespace) -> None:
    """It reads nothing more, and does not report that the parent is gone."""
    threads = threading.active_count()
    worker.channel.close()
    assert threading.active_count() == threads - 1
    assert not worker.disconnected.is_set()
    worker.channel.send(TableApplied(1))
    assert receive_messages(worker, 1) == [TableApplied(1)]
    worker.channel.close()


def test_messages_of_several_threads_do_not_mix(worker: SimpleNamespace) -> None:
    """Each message is longer than the buffer of the socket."""
    messages = [CacheEntries(number, [CacheState("x" * 1_000_000, "", 0, [])]) for number in range(4)]
    threads = [threading.Thread(target=worker.channel.send, args=(message,)) for message in messages]
    for thread in threads:
        thread.start()
    received = receive_messages(worker, len(messages))
    for thread in threads:
        thread.join()
    assert sorted(received, key=lambda message: message.request_id) == messages


def test_sending_to_a_parent_that_is_gone_raises_nothing(worker: SimpleNamespace) -> None:
    """The thread that reads finds out that the parent is gone."""
    os.close(worker.socket.detach())
    worker.channel.send(TableApplied(1))
    assert worker.disconnected.wait(WITHIN_S)
    worker.channel.send(TableApplied(2))
