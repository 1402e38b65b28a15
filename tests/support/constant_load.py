"""Constant load on one path over raw keep-alive connections: which responses came from which version, and whether any was lost."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections import Counter
from typing import NamedTuple, Self


class Answer(NamedTuple):
    """A response: when its request was sent and when it was complete (monotonic), its status (0 if none came), and its body as JSON."""

    asked: float
    had: float
    status: int
    body: object


class Load:
    """Sends requests over `connections` connections, one after the other without a pause, while the block runs.

    Args:
        address: Scheme, host and port.
        path: Path of the endpoint.
        body: Body of every request.
        headers: Further lines of the head, each with its line end.
        pause_s: Time between a response and the next request on its connection.
    """

    def __init__(self, address: str, path: str, body: object, connections: int = 16, headers: str = "", pause_s: float = 0.0) -> None:
        host, _, port = address.removeprefix("http://").rpartition(":")
        self._place = (host, int(port))
        encoded = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}Content-Length: {len(encoded)}\r\n\r\n"
        self._request = head.encode() + encoded
        self._pause_s = pause_s
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask_on) for _ in range(connections)]
        self.answers: list[Answer] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def statuses(self) -> Counter[int]:
        """Returns the number of responses by status so far."""
        return Counter(answer.status for answer in list(self.answers))

    def values(self) -> Counter[str]:
        """Returns the number of responses by prediction so far."""
        return Counter(json.dumps(answer.body["predictions"]) for answer in list(self.answers) if answer.status == 200)  # type: ignore[index]

    def _ask_on(self) -> None:
        while not self._over.is_set():
            went_well = False
            with contextlib.suppress(OSError), socket.create_connection(self._place, timeout=30) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                went_well = self._ask_over(sock)
            if not went_well:
                time.sleep(0.05)  # nobody is there, or hung up; a front door that was killed takes a moment to come back

    def _ask_over(self, sock: socket.socket) -> bool:
        """Sends requests until the end. Returns False if the connection broke."""
        rest = b""
        while not self._over.is_set():
            asked = time.monotonic()
            try:
                sock.sendall(self._request)
                status, body, rest = _read_answer(sock, rest)
            except (OSError, EOFError):
                self.answers.append(Answer(asked, time.monotonic(), 0, None))
                return False
            self.answers.append(Answer(asked, time.monotonic(), status, json.loads(body)))
            if self._pause_s:
                self._over.wait(self._pause_s)
        return True


def _read_answer(sock: socket.socket, rest: bytes) -> tuple[int, bytes, bytes]:
    while b"\r\n\r\n" not in rest:
        rest += _received(sock)
    head, _, rest = rest.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
    while len(rest) < length:
        rest += _received(sock)
    return int(lines[0].split()[1]), rest[:length], rest[length:]


def _received(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise EOFError
    return data
