"""Channels over real socket pairs."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from base.errors import PeerError, PeerGone
from base.ipc.channel import Channel, socket_address
from base.ipc.protocol import AttachSegment, Hello, ModelLoading
from base.ipc.segment import Segment


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def open_descriptors() -> int:
    """Returns the number of open descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_messages_keep_their_boundaries_and_order(sockets: tuple[socket.socket, socket.socket]) -> None:
    """Two messages sent at once are received as two."""
    one, other = Channel(sockets[0]), Channel(sockets[1])
    one.send_message(Hello(1))
    one.send_message(ModelLoading(2))
    assert [received.message for received in (other.receive_with_fd_nowait(), other.receive_with_fd_nowait()) if received] == [
        Hello(1),
        ModelLoading(2),
    ]
    assert other.receive_with_fd_nowait() is None


def test_a_segment_travels_with_its_message(sockets: tuple[socket.socket, socket.socket]) -> None:
    """The descriptor that arrives opens the memory that was sent."""
    one, other = Channel(sockets[0]), Channel(sockets[1])
    with Segment.create(4096) as segment:
        segment.memory[:2] = b"ok"
        one.send_message(AttachSegment(1, segment.size), segment.fd)
        received = other.receive_with_fd_nowait()
        assert received is not None
        assert received.fd is not None
        with Segment.map_received(received.fd, 4096) as mapped:
            assert bytes(mapped.memory[:2]) == b"ok"


def test_the_end_of_the_other_side_is_an_error_not_an_empty_message(sockets: tuple[socket.socket, socket.socket]) -> None:
    """A reader that ignored an end of file would wait or spin for ever."""
    one, other = Channel(sockets[0]), Channel(sockets[1])
    one.close()
    with pytest.raises(PeerError):
        other.receive_with_fd_nowait()
    with pytest.raises(PeerError):
        other.send_message(Hello(1))


def test_messages_without_descriptors_are_received_in_the_same_way(sockets: tuple[socket.socket, socket.socket]) -> None:
    """As a front door does: the same boundaries, None while there is no message, and an error at the end."""
    one, other = Channel(sockets[0]), Channel(sockets[1])
    one.send_message(Hello(1))
    one.send_message(ModelLoading(2))
    assert [other.receive_without_fd_nowait() for _ in range(3)] == [Hello(1), ModelLoading(2), None]
    one.close()
    with pytest.raises(PeerError):
        other.receive_without_fd_nowait()


def test_everything_that_the_other_side_sent_is_received_before_its_end(sockets: tuple[socket.socket, socket.socket]) -> None:
    """Even if it left something unread, which the kernel reports first."""
    one, other = Channel(sockets[0]), Channel(sockets[1])
    one.send_message(ModelLoading(1))
    one.send_message(ModelLoading(2))
    other.send_message(Hello(1))
    one.close()
    assert [other.receive_without_fd_nowait() for _ in range(2)] == [ModelLoading(1), ModelLoading(2)]
    with pytest.raises(PeerGone):
        other.receive_without_fd_nowait()


@pytest.mark.parametrize("data", [b"x", b"\x63" + bytes(31), bytes(100_000), b"\x0a" + bytes(31) + bytes(65536)])
@pytest.mark.parametrize("receive", [Channel.receive_with_fd_nowait, Channel.receive_without_fd_nowait])
def test_garbage_is_an_error_and_leaks_no_descriptor(
    sockets: tuple[socket.socket, socket.socket], receive: Callable[[Channel], object], data: bytes
) -> None:
    """Descriptors that come with an invalid message are closed, even if they are more than any message has."""
    other = Channel(sockets[1])
    before = open_descriptors()
    with Segment.create(4096) as segment:
        socket.send_fds(sockets[0], [data], [segment.fd, segment.fd, segment.fd])
        with pytest.raises(PeerError):
            receive(other)
    assert open_descriptors() == before


@pytest.mark.parametrize("name_bytes", [3, 60, 200])
def test_a_socket_may_have_a_path_of_any_length(tmp_path: Path, name_bytes: int) -> None:
    """The kernel takes 107 bytes. Both sides reach the same socket, and leave no descriptor open."""
    path = tmp_path / ("x" * name_bytes) / "w1.sock"
    path.parent.mkdir()
    before = open_descriptors()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        with socket_address(str(path)) as address:
            listener.bind(address)
        listener.listen()
        assert path.is_socket()
        channel = Channel.connect(str(path))
        accepted, _ = listener.accept()
        accepted.close()
        channel.close()
        path.unlink()
    assert open_descriptors() == before
    with pytest.raises(FileNotFoundError):
        Channel.connect(str(tmp_path / ("y" * 200) / "w1.sock"))
