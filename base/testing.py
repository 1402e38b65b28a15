"""TestClient: an endpoint behind a real front door, for unit tests of a model: `from base.testing import TestClient`.

Nothing is imitated: a `Server` serves on a free port of loopback from a thread of the test's own process, so that bodies are decoded,
requests are batched and answers encoded as in production, and a breakpoint in the handler stops in the test. It takes about a second to
start. A test that needs no HTTP calls the endpoint itself, which is a plain call of its handler.
"""

from __future__ import annotations

import http.client
import json as jsons
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from base.dev_server import Server
from base.endpoint.endpoint import Endpoint
from base.ipc.control import Configure

_TIMEOUT_S = 30.0


class Answer:
    """An HTTP answer.

    Attributes:
        status: such as 200.
        headers: names in lower case.
        content: the body.
    """

    def __init__(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.status = status
        self.headers = headers
        self.content = content

    def __repr__(self) -> str:
        return f"<{self.status} {self.content[:200]!r}>"

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode()

    def json(self) -> Any:
        """The body as JSON."""
        return jsons.loads(self.content)

    def lines(self) -> list[Any]:
        """The body as one JSON value a line, as streamed answers have it."""
        return [jsons.loads(line) for line in self.content.splitlines()]


class TestClient:
    """Serves endpoints while it is entered, and asks them.

    Args:
        endpoints: what to serve.
        limits: of the front door.
        timeout_s: for each wait of a request.

    Attributes:
        address: where it serves, for other clients.
    """

    __test__ = False  # a name that pytest would collect

    def __init__(self, *endpoints: Endpoint[..., Any], limits: Configure | None = None, timeout_s: float = _TIMEOUT_S) -> None:
        self._server = Server(port=0, limits=limits)
        for each in endpoints:
            self._server.register(each)
        self._timeout_s = timeout_s
        self._stack = ExitStack()
        self.address = ""

    def __enter__(self) -> Self:
        """Starts the server.

        Raises:
            PexdockError: the endpoints cannot be served.
        """
        self.address = self._stack.enter_context(self._server.serving())
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def post(self, path: str, json: Any = None, content: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Posts `json`, or `content` as it is."""
        with self.stream(path, json, content, headers) as streamed:
            return Answer(streamed.status, streamed.headers, b"".join(streamed))

    def get(self, path: str) -> Answer:
        """Gets what is no endpoint, such as /readyz."""
        with self._asked("GET", path, None, {}) as streamed:
            return Answer(streamed.status, streamed.headers, b"".join(streamed))

    def stream(self, path: str, json: Any = None, content: bytes | None = None, headers: Mapping[str, str] | None = None) -> Streamed:
        """Posts like `post`, and gives the answer as it comes. Leaving its `with` block before the end hangs up."""
        body = jsons.dumps(json).encode() if content is None else content
        return self._asked("POST", path, body, {"content-type": "application/json", **{k.lower(): v for k, v in (headers or {}).items()}})

    def _asked(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Streamed:
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=self._timeout_s)
        try:
            connection.request(method, path, body, dict(headers))
            return Streamed(connection, connection.getresponse())
        except BaseException:
            connection.close()
            raise


class Streamed:
    """An answer that may still be coming. Iterating gives its bytes as they come."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._response.close()
        self._connection.close()

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._response.read1():
            yield piece
