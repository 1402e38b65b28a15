"""The process of a real front door, and workers that are bare sockets, whose messages the test makes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Self

from base.ipc.channel import Channel, ReceivedMessage
from base.ipc.control import WIRE_VERSION, ControlMessage, ControlStream, Drain, encode_message
from base.ipc.front_door_control import Configure
from base.ipc.protocol import AttachSegment, Batch, Hello, Message, SegmentSlice, Welcome
from base.ipc.segment import Segment
from process_children import children
from supervisor_harness import open_files

DEADLINE_S = 60.0


class FrontDoor:
    """A front door whose supervisor is the test. It is configured, listens once it has a table, and must end with its block.

    Attributes:
        process: Process of the front door.
        control: The test's end of its control socket.
        address: Address where it listens.
    """

    def __init__(self, limits: Configure | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._limits = limits or Configure()
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._spawn()

    def _spawn(self) -> None:
        self._lines = ControlStream()
        self._unheard: list[ControlMessage] = []
        self.control, theirs = socket.socketpair()
        self.control.settimeout(DEADLINE_S)
        fds = theirs.fileno(), self._listener.fileno()
        command = [sys.executable, "-m", "runtime.front", "--control-fd", str(fds[0]), "--listen-fd", str(fds[1])]
        self.process = subprocess.Popen(command, pass_fds=fds, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
        theirs.close()
        self.send_message(self._limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.send_message(Drain())
            assert self.process.wait(DEADLINE_S) == 0
        finally:
            self._kill()
            self._listener.close()

    def _kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.control.close()

    def restart(self) -> None:
        """Starts another process in its place, without a table."""
        self._kill()
        self._spawn()

    def send_message(self, *words: ControlMessage) -> None:
        """Sends it a message."""
        self.control.sendall(b"".join(map(encode_message, words)))

    def next_message(self) -> ControlMessage:
        """Returns its next message."""
        while not self._unheard:
            data = self.control.recv(65536)
            assert data, "the front door has ended"
            self._unheard.extend(self._lines.feed_bytes(data))
        return self._unheard.pop(0)

    def reset_highest_bytes(self) -> int:
        """Sets the peak of its memory to what it holds now, and returns that."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self.highest_bytes()

    def highest_bytes(self) -> int:
        """Returns its peak memory."""
        (line,) = [line for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024


def own_front_doors() -> list[int]:
    """Returns the processes of the front doors that this process has started, as servers of its own endpoints."""
    return [child for child in children("self") if b"runtime.front" in Path(f"/proc/{child}/cmdline").read_bytes()]


def own_front_door() -> int:
    """Returns the process of the only front door that this process has started, as a server of its own endpoints."""
    (found,) = own_front_doors()
    return found


def peers(pid: int) -> set[int]:
    """Returns the ports of the clients to which this process has connections."""
    inodes = {link.removeprefix("socket:[").removesuffix("]") for link in open_files(pid)}
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {int(row[2].partition(":")[2], 16) for row in rows if row[9] in inodes}


class BareWorker:
    """A worker's socket.

    Args:
        path: Path where it listens.
    """

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.settimeout(DEADLINE_S)
        self._listener.bind(str(path))
        self._listener.listen()
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.close()
        self._segments: dict[int, Segment] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.socket.close()
        Path(self.path).unlink()
        for segment in self._segments.values():
            segment.close()

    def greet(self, model: str, version: str, release: int = 0) -> None:
        """Waits for the front door and answers its hello, with the tag of a release, or as a worker of 0.1.0."""
        self.socket, _ = self._listener.accept()
        self.channel = Channel(self.socket)
        self.socket.settimeout(DEADLINE_S)
        received = self.receive()
        assert isinstance(received, Hello)
        self.channel.send_message(Welcome(WIRE_VERSION, model, version, release))

    def receive(self) -> Message:
        """Returns the next message, and keeps the mapping of segments."""
        received = self.channel.receive_with_fd_nowait()
        assert isinstance(received, ReceivedMessage)
        if isinstance(received.message, AttachSegment):
            assert received.fd is not None
            self._segments[received.message.segment] = Segment.map_received(received.fd, received.message.length)
        return received.message

    def batch(self) -> Batch:
        """Returns the next batch."""
        while not isinstance(found := self.receive(), Batch):
            pass
        return found

    def view(self, place: SegmentSlice) -> memoryview:
        """Returns a piece of a segment."""
        return self._segments[place.segment].slice_view(place)

    def is_given_up(self) -> bool:
        """Returns whether the front door has closed the channel; waits until it sends something or does."""
        return self.socket.recv(65536) == b""
