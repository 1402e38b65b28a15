"""TestClient: an endpoint behind a real front door, for unit tests of a model: `from base.testing import TestClient`.

Nothing is imitated: a `Server` serves on a free port of loopback from a thread of the test's own process, so that bodies are decoded,
requests are batched and answers are encoded as in production, and a breakpoint in the handler stops in the test. It takes about a second to
start. A test that needs no HTTP calls the endpoint itself, which is a plain call of its handler.

The responses are small classes of this module. Those of httpx would work as well, but tests of models run in environments with only the
dependencies of base, and httpx is not one of them.
"""

from __future__ import annotations

import http.client
import json as jsonlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from base.artifacts.spec import path_text
from base.dev_server import Server
from base.endpoint.endpoint import Endpoint
from base.ipc.front_door_control import Configure

_TIMEOUT_S = 30.0


class TestResponse:
    """An HTTP response.

    Attributes:
        status: Status code, such as 200.
        headers: Headers by name in lower case.
        content: The body.
    """

    __test__ = False  # pytest would collect it by its name

    def __init__(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.status = status
        self.headers = headers
        self.content = content

    def __repr__(self) -> str:
        return f"<{self.status} {self.content[:200]!r}>"

    @property
    def text(self) -> str:
        """Returns the body as text."""
        return self.content.decode()

    def json(self) -> Any:
        """Returns the body decoded as JSON."""
        return jsonlib.loads(self.content)

    def lines(self) -> list[Any]:
        """Returns the JSON values of the body's lines, the form of a streamed answer."""
        return [jsonlib.loads(line) for line in self.content.splitlines()]


class StreamedTestResponse:
    """An HTTP response whose body may still arrive. Iterating yields its bytes as they arrive.

    Attributes:
        status: Status code, such as 200.
        headers: Headers by name in lower case.
    """

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


class TestClient:
    """Serves endpoints during a `with` block and sends requests to them.

    Args:
        endpoints: The endpoints to serve.
        limits: Limits of the front door.
        timeout_s: Time limit in seconds for each blocking operation of a request.

    Attributes:
        address: URL of the server, for other clients.
    """

    __test__ = False  # pytest would collect it by its name

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
            PexdockError: The endpoints cannot be served.
        """
        self.address = self._stack.enter_context(self._server.serving())
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def post(
        self,
        path: str,
        json: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> TestResponse:
        """Posts `json`, or `content` unchanged, with the parameters `params`; a list gives each of its values, None leaves one out."""
        return self.request("POST", path, json, content, headers, params)

    def request(
        self,
        method: str,
        path: str,
        json: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> TestResponse:
        """Sends a request as `post` does, to an endpoint with this method."""
        with self._send(method, path, json, content, headers, params) as streamed:
            return TestResponse(streamed.status, streamed.headers, b"".join(streamed))

    def get(self, path: str) -> TestResponse:
        """Gets a page that is not an endpoint, such as /readyz."""
        with self._request("GET", path, None, {}) as streamed:
            return TestResponse(streamed.status, streamed.headers, b"".join(streamed))

    def stream(
        self,
        path: str,
        json: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> StreamedTestResponse:
        """Posts as `post` does, and returns the response before its body is complete. Leaving its `with` block early disconnects."""
        return self._send("POST", path, json, content, headers, params)

    def _send(
        self,
        method: str,
        path: str,
        json: Any,
        content: bytes | None,
        headers: Mapping[str, str] | None,
        params: Mapping[str, Any] | None,
    ) -> StreamedTestResponse:
        body = jsonlib.dumps(json).encode() if content is None else content
        sent = {"content-type": "application/json", **{name.lower(): value for name, value in (headers or {}).items()}}
        return self._request(method, _with_query(path, params or {}), body, sent)

    def _request(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> StreamedTestResponse:
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=self._timeout_s)
        try:
            connection.request(method, path, body, dict(headers))
            return StreamedTestResponse(connection, connection.getresponse())
        except BaseException:
            connection.close()
            raise


def _with_query(path: str, params: Mapping[str, Any]) -> str:
    fields = [
        (name, path_text(each))
        for name, value in params.items()
        for each in ([value] if isinstance(value, str | bytes) or not isinstance(value, Iterable) else value)
        if each is not None
    ]
    return f"{path}{'&' if '?' in path else '?'}{urlencode(fields)}" if fields else path
