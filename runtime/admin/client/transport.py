"""Transports to the admin API: its Unix socket, or a URL with a token. They block.

They use `http.client`, since base would otherwise have to carry an HTTP client for the command alone.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from base.errors import PexdockError
from runtime.supervisor.host import run_dir

D = TypeVar("D")

_TIMEOUT_S = 35.0
"""The admin API itself limits a request to 30 s."""

_JSON = {"content-type": "application/json"}
_ERRORS = (OSError, http.client.HTTPException)


class AdminError(PexdockError):
    """The admin API cannot be reached, or answers with an error."""

    code = "admin_failed"


class AdminNotFound(AdminError):
    """The model does not exist, or does not serve."""

    code = "not_there"


class WaitTimeout(AdminError):
    """The time limit of a wait is over."""

    code = "too_late"


class _Problem(msgspec.Struct):
    detail: str


class Transport(ABC):
    """A way to reach one supervisor. Each call opens a connection of its own."""

    def request(self, kind: type[D], method: str, path: str, body: object = None) -> D:
        """Sends a request and returns the document in its response.

        Args:
            kind: Type of the document.
            method: HTTP method.
            path: Path and query.
            body: Sent as JSON, unless None.

        Raises:
            AdminError: The supervisor cannot be reached, or answers with an error.
        """
        data = None if body is None else msgspec.json.encode(body)
        with self._response(method, path, data, _JSON) as response:
            return _document(kind, response)

    def upload(self, kind: type[D], path: str, chunks: Iterable[bytes], headers: Mapping[str, str]) -> D:
        """Sends a long body with PUT and returns the document in its response.

        Raises:
            AdminError: As `request`.
        """
        with self._response("PUT", path, chunks, headers) as response:
            return _document(kind, response)

    @contextlib.contextmanager
    def stream(self, kind: type[D], path: str, left_s: Callable[[], float] | None = None) -> Iterator[Iterator[D]]:
        """Yields the documents of a streamed response as they arrive, until the supervisor exits.

        Args:
            kind: Type of each document.
            path: Path and query.
            left_s: Returns, before each document, the seconds to wait for it.

        Raises:
            WaitTimeout: No document arrived in this time.
            AdminError: As `request`.
        """
        connection = self.new_connection(_TIMEOUT_S)
        with self._response("GET", path, None, {}, connection) as response:
            if response.status != http.client.OK:
                _document(kind, response)
            yield _lines(kind, response, connection.sock, left_s)

    @contextlib.contextmanager
    def _response(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None,
        headers: Mapping[str, str],
        connection: http.client.HTTPConnection | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        connection = connection or self.new_connection(_TIMEOUT_S)
        try:
            try:
                # An error response may come before the body was read; the server then ignores the rest of the body.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.request(method, path, body, {**self.headers(), **headers})
                response = connection.getresponse()
            except _ERRORS as exc:
                raise AdminError(self.unreachable(exc)) from exc
            yield response
        finally:
            connection.close()

    @property
    def is_local(self) -> bool:
        """Returns whether the supervisor certainly runs on this machine."""
        return False

    @abstractmethod
    def new_connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """Returns a connection that opens when it is first used."""

    def headers(self) -> dict[str, str]:
        """Returns the headers that authenticate a request."""
        return {}

    @abstractmethod
    def unreachable(self, error: Exception) -> str:
        """Returns the message for a supervisor that cannot be reached."""


class UnixTransport(Transport):
    """Reaches the supervisor of this user in a run directory."""

    def __init__(self, run_path: Path) -> None:
        self._run_path = run_path

    @property
    def is_local(self) -> bool:
        """Returns True: Unix sockets do not cross machines."""
        return True

    def new_connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """Returns a connection to the Unix socket."""
        return _UnixConnection(self._run_path / run_dir.ADMIN, timeout_s)

    def unreachable(self, error: Exception) -> str:
        """Returns a message that distinguishes a missing supervisor from one that does not answer."""
        pid = run_dir.find_supervisor_pid(self._run_path)
        if pid is None:
            return f"no supervisor runs on {self._run_path}: start one with `pexdock serve`, or name its run directory with --run-path"
        return f"the supervisor on {self._run_path} (pid {pid}) does not answer; it may be starting or shutting down ({error})"


class UrlTransport(Transport):
    """Reaches a supervisor over TCP, possibly on another machine."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._parts = urlsplit(url)
        self._token = token
        if self._parts.scheme not in {"http", "https"} or not self._parts.hostname:
            raise AdminError(f"{url!r} is not the URL of an admin API; use http://HOST:PORT or https://HOST:PORT")

    def new_connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """Returns a connection to the host of the URL."""
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, port, timeout=timeout_s)

    def headers(self) -> dict[str, str]:
        """Returns the token as a bearer token."""
        return {"authorization": f"Bearer {self._token}"}

    def unreachable(self, error: Exception) -> str:
        """Returns a message with the URL and the reason."""
        advice = "check the host and the port, and that Pexdock runs with admin_port"
        if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
            advice = "that port does not use TLS: use http://"
        return f"no admin API answers at {self._url}: {_message(error)}; {advice}"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        if os.geteuid() != 0:  # root may operate the supervisors of other users
            with contextlib.suppress(FileNotFoundError):
                run_dir.refuse_shared_dir(self._path.parent)  # another user may have made the folder, and may listen there
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _lines(kind: type[D], response: http.client.HTTPResponse, sock: socket.socket, left_s: Callable[[], float] | None) -> Iterator[D]:
    while True:
        seconds = None if left_s is None else left_s()
        try:
            if seconds is not None and seconds <= 0:
                raise TimeoutError
            sock.settimeout(seconds)
            line = response.readline()
            if not line:
                return
            found = msgspec.json.decode(line, type=kind)
        except TimeoutError as exc:
            raise WaitTimeout("timed out while waiting for the supervisor") from exc
        except (*_ERRORS, msgspec.MsgspecError) as exc:
            raise AdminError(f"the supervisor closed the connection: {_message(exc)}") from exc
        yield found


def _message(error: Exception) -> str:
    return str(error) or type(error).__name__


def _document(kind: type[D], response: http.client.HTTPResponse) -> D:
    try:
        data = response.read()
        if response.status < http.client.BAD_REQUEST:
            return msgspec.json.decode(data, type=kind)
        problem = msgspec.json.decode(data, type=_Problem)
    except _ERRORS as exc:
        raise AdminError(f"the supervisor closed the connection: {_message(exc)}") from exc
    except msgspec.MsgspecError as exc:
        raise AdminError(f"cannot read the response of the supervisor, status {response.status}: {exc}") from exc
    raise (AdminNotFound if response.status == http.client.NOT_FOUND else AdminError)(problem.detail)
