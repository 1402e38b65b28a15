"""A worker's parent, whose part the test plays over a real socket."""

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
    """A worker that notes what it is told, and the parent's end of its control socket."""
    ours, theirs = socket.socketpair()
    drained, gone = threading.Event(), threading.Event()

    def answer(question: CacheRequest) -> CacheEntries:
        return CacheEntries(question.request_id, [])

    parent = ControlChannel(theirs, answer, drained.set, gone.set)
    parent.start()
    ours.settimeout(WITHIN_S)
    with ours, theirs:
        yield SimpleNamespace(parent=parent, socket=ours, drained=drained, gone=gone)
        parent.close()


def heard(worker: SimpleNamespace, count: int) -> list[object]:
    lines, words = ControlStream(), []
    while len(words) < count:
        words += lines.feed_bytes(worker.socket.recv(65536))
    return words


def test_questions_are_answered_in_order_however_their_bytes_arrive(worker: SimpleNamespace) -> None:
    """One and a half in one piece, the rest later."""
    data = encode_message(ListCacheEntries(1)) + encode_message(ListCacheEntries(2))
    worker.socket.sendall(data[:-5])
    assert heard(worker, 1) == [CacheEntries(1, [])]
    worker.socket.sendall(data[-5:])
    assert heard(worker, 1) == [CacheEntries(2, [])]


def test_it_drains_when_told_and_goes_on_to_listen(worker: SimpleNamespace) -> None:
    """A worker that drains may be asked."""
    worker.socket.sendall(encode_message(Drain()))
    assert worker.drained.wait(WITHIN_S)
    worker.socket.sendall(encode_message(ListCacheEntries(1)))
    assert heard(worker, 1) == [CacheEntries(1, [])]
    assert not worker.gone.is_set()


@pytest.mark.parametrize("data", [b"", b"nonsense\n", encode_message(TableApplied(1))])
def test_a_parent_that_is_gone_or_cannot_be_understood_is_gone(worker: SimpleNamespace, data: bytes) -> None:
    """Both end the worker."""
    worker.socket.sendall(data)
    if not data:
        worker.socket.shutdown(socket.SHUT_WR)
    assert worker.gone.wait(WITHIN_S)
    assert not worker.drained.is_set()


def test_closing_it_is_not_the_parents_end(worker: SimpleNamespace) -> None:
    """What the worker has to say it can still say; what it is told it does not hear."""
    threads = threading.active_count()
    worker.parent.close()
    assert threading.active_count() == threads - 1
    assert not worker.gone.is_set()
    worker.parent.send(TableApplied(1))
    assert heard(worker, 1) == [TableApplied(1)]
    worker.parent.close()


def test_words_of_several_threads_do_not_mix(worker: SimpleNamespace) -> None:
    """Each is longer than a socket's buffer takes at once."""
    words = [CacheEntries(number, [CacheState("x" * 1_000_000, "", 0, [])]) for number in range(4)]
    threads = [threading.Thread(target=worker.parent.send, args=(word,)) for word in words]
    for thread in threads:
        thread.start()
    said = heard(worker, len(words))
    for thread in threads:
        thread.join()
    assert sorted(said, key=lambda word: word.request_id) == words


def test_a_parent_that_is_gone_can_be_told_things(worker: SimpleNamespace) -> None:
    """Nothing is raised; the thread that listens finds it out."""
    os.close(worker.socket.detach())
    worker.parent.send(TableApplied(1))
    assert worker.gone.wait(WITHIN_S)
    worker.parent.send(TableApplied(2))
