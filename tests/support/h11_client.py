"""An HTTP client that reads with h11, a parser that shares no code with the server's, and keeps its connection."""

from __future__ import annotations

from typing import Self

import h11

from rawhttp import Answer, Raw


class KeptConnection:
    """One connection whose responses h11 separates from each other.

    Args:
        address: Address of the server.
    """

    def __init__(self, address: str) -> None:
        self._raw = Raw(address)
        self._parser = h11.Connection(h11.CLIENT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.socket.close()

    def send(self, data: bytes, *methods: str) -> list[Answer]:
        """Sends bytes that are requests with these methods, and returns their responses."""
        self._raw.send(data)
        return [self._response(method) for method in methods]

    def _response(self, method: str) -> Answer:
        parser = self._parser
        if parser.our_state is h11.DONE:
            parser.start_next_cycle()
        # h11 needs to know the request that is being answered, and sends only HTTP/1.1 itself.
        parser.send(h11.Request(method=method, target="/", headers=[("Host", "test")]))
        parser.send(h11.EndOfMessage())
        head, body = None, b""
        while not isinstance(event := self._next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            else:
                raise EOFError(f"{event} instead of a response")  # noqa: TRY004 - it is the end of the connection
        assert head is not None
        assert head.http_version == b"1.1"
        headers = [(name.decode(), value.decode("latin-1")) for name, value in head.headers]
        assert len(dict(headers)) == len(headers), "a header is there twice"
        return Answer(head.status_code, dict(headers), body)

    def _next_event(self) -> object:
        while (event := self._parser.next_event()) is h11.NEED_DATA:
            self._parser.receive_data(self._raw.socket.recv(65536))
        return event

    @property
    def is_kept(self) -> bool:
        """Returns whether another request may follow, and nothing came that is no part of a response."""
        return self._parser.their_state is h11.DONE and self._parser.trailing_data == (b"", False)

    def ended(self) -> bool:
        """Returns whether the server closes the connection without sending more."""
        return self._parser.trailing_data[0] == b"" and self._raw.socket.recv(1) == b""
