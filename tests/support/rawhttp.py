"""An HTTP client that sends the given bytes and reads complete responses, strictly by RFC 9112."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

DEADLINE_S = 60.0


class Answer(NamedTuple):
    """One response; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Returns the body as JSON."""
        return json.loads(self.body)


def post(path: str, rows: object, *headers: str, version: str = "1.1") -> bytes:
    """Returns a request with a body of known length, which is JSON unless the headers have another type."""
    body = rows if isinstance(rows, bytes) else json.dumps(rows).encode()
    lines = [
        f"POST {path} HTTP/{version}",
        "Host: test",
        *["Content-Type: application/json"] * (not any(header.lower().startswith("content-type:") for header in headers)),
        f"Content-Length: {len(body)}",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


def chunked(path: str, rows: object, *headers: str, size: int = 5) -> bytes:
    """Returns the same request in chunks of `size` bytes."""
    body = json.dumps(rows).encode()
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    lines = [f"POST {path} HTTP/1.1", "Host: test", "Transfer-Encoding: chunked", *headers, "", ""]
    return "\r\n".join(lines).encode() + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def get(path: str, method: str = "GET") -> bytes:
    """Returns a request without a body."""
    return f"{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode()


class Raw:
    """One connection, to an address or to the path of a Unix socket."""

    def __init__(self, address: str, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(address)
        if parts.scheme:
            self.socket = socket.create_connection((parts.hostname, parts.port), timeout=DEADLINE_S)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            self.socket = _unix(address)
        if tls is not None:
            self.socket = self._secured(tls, str(parts.hostname))
        self._buffer = b""

    def _secured(self, tls: ssl.SSLContext, host: str) -> ssl.SSLSocket:
        try:
            return tls.wrap_socket(self.socket, server_hostname=host)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes, size: int | None = None) -> None:
        """Sends bytes, in packets of `size` bytes if given."""
        for start in range(0, len(data), size or len(data) or 1):
            self.socket.sendall(data[start : start + (size or len(data))])

    def answer(self, *, head: bool = False) -> Answer:
        """Returns the next response; `head` is for one to HEAD, which has no body.

        Raises:
            EOFError: The connection ended before it was complete.
        """
        first, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        assert len(headers) == len(lines), "a header is there twice"
        if head or int(status) < 200:
            return Answer(int(status), headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Answer(int(status), headers, self._chunks())
        if "content-length" not in headers and headers.get("connection") == "close":
            return Answer(int(status), headers, self._rest())
        return Answer(int(status), headers, self._exactly(int(headers["content-length"])))

    def answers(self, *, may_be_reset: bool = False) -> list[Answer]:
        """Returns all responses before the connection ends; `may_be_reset` allows the server not to read everything before it does."""
        found = []
        try:
            while self._buffer or self._more_came():
                found.append(self.answer())
        except ConnectionError:
            if not may_be_reset:
                raise
        return found

    def _more_came(self) -> bool:
        data = self.socket.recv(65536)
        self._buffer += data
        return bool(data)

    def ended(self) -> bool:
        """Returns whether the server closes the connection now, without sending more. Waits for one or the other."""
        return not self._buffer and self.socket.recv(1) == b""

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self._until(b"\r\n"), 16):
            body += self._exactly(size)
            assert self._exactly(2) == b"\r\n"
        assert self._exactly(2) == b"\r\n"
        return body

    def _rest(self) -> bytes:
        while self._more_came():
            pass
        rest, self._buffer = self._buffer, b""
        return rest

    def _until(self, border: bytes) -> bytes:
        while border not in self._buffer:
            self._more()
        found, _, self._buffer = self._buffer.partition(border)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError(f"after {self._buffer[:200]!r}")
        self._buffer += data


def _unix(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(DEADLINE_S)
    made.connect(path)
    return made


def await_read(address: str, path: str) -> None:
    """Waits until everything sent before has been read: an endpoint that takes rows answers this."""
    with Raw(address) as probe:
        probe.send(post(path, b"nope"))
        assert probe.answer().status == 400


@contextmanager
def read_before(address: str, requests: Sequence[bytes], path: str) -> Iterator[list[Raw]]:
    """Opens connections, each with one of these requests, all of which the server has read.

    `path` is that of an endpoint that takes rows.
    """
    with ExitStack() as stack:
        raws = [stack.enter_context(Raw(address)) for _ in requests]
        for raw, request in zip(raws, requests, strict=True):
            raw.send(request)
        await_read(address, path)
        yield raws
