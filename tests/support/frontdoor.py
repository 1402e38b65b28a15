"""A real front door's process, and workers that are bare sockets: what they say is up to the test."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from base.ipc.channel import Channel, Received
from base.ipc.control import WIRE_VERSION, Configure, Drain, Lines, Word, encode
from base.ipc.protocol import Attach, Batch, Hello, Message, Place, Welcome
from base.ipc.segment import Segment

DEADLINE_S = 20.0


class FrontDoor:
    """One of which the test is the supervisor.

    Attributes:
        address: where it listens.
    """

    def __init__(self, listener: socket.socket, control: socket.socket, pid: int) -> None:
        self.address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.pid = pid
        self._control = control
        self._lines = Lines()
        self._heard: list[Word] = []

    def say(self, *words: Word) -> None:
        """Tells it something."""
        self._control.sendall(b"".join(map(encode, words)))

    def hear(self) -> Word:
        """The next that it says."""
        while not self._heard:
            self._heard.extend(self._lines.feed(self._control.recv(65536)))
        return self._heard.pop(0)

    def highest_bytes(self) -> int:
        """Its memory at its highest."""
        (line,) = [line for line in Path(f"/proc/{self.pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024


@contextmanager
def front_door(limits: Configure | None = None) -> Iterator[FrontDoor]:
    """Started, and told its limits; it listens once it has a table. At the end it must end in order."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours, theirs = socket.socketpair()
        ours.settimeout(DEADLINE_S)
        fds = theirs.fileno(), listener.fileno()
        command = [sys.executable, "-m", "runtime.front", "--control-fd", str(fds[0]), "--listen-fd", str(fds[1])]
        process = subprocess.Popen(command, pass_fds=fds, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
        theirs.close()
        found = FrontDoor(listener, ours, process.pid)
        found.say(limits or Configure())
        try:
            yield found
            found.say(Drain())
            assert process.wait(DEADLINE_S) == 0
        finally:
            process.kill()
            process.wait()
            ours.close()


class BareWorker:
    """A worker's socket.

    Args:
        path: where it listens.
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

    def greet(self, model: str, version: str) -> None:
        """Waits for the front door and says who this is."""
        self.socket, _ = self._listener.accept()
        self.channel = Channel(self.socket)
        self.socket.settimeout(DEADLINE_S)
        received = self.receive()
        assert isinstance(received, Hello)
        self.channel.send(Welcome(WIRE_VERSION, model, version))

    def receive(self) -> Message:
        """The next word; of segments this keeps the map."""
        received = self.channel.receive_nowait()
        assert isinstance(received, Received)
        if isinstance(received.message, Attach):
            assert received.fd is not None
            self._segments[received.message.segment] = Segment.map(received.fd, received.message.length)
        return received.message

    def batch(self) -> Batch:
        """The next batch."""
        while not isinstance(found := self.receive(), Batch):
            pass
        return found

    def view(self, place: Place) -> memoryview:
        """A piece of a segment."""
        return self._segments[place.segment].view(place)

    def is_given_up(self) -> bool:
        """Whether the front door has closed the channel; waits until it says something or does."""
        return self.socket.recv(65536) == b""
