"""How the command reaches the admin side: over its Unix socket, or by a URL with a token. Blocks."""

from __future__ import annotations

import contextlib
import http.client
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
"""The admin side itself cuts a request off after 30."""

_JSON = {"content-type": "application/json"}
_ERRORS = (OSError, http.client.HTTPException)


class AdminError(PexdockError):
    """The admin side cannot be asked, or says no."""

    code = "admin_failed"


class AdminNotFound(AdminError):
    """There is no such model, or it does not serve."""

    code = "not_there"


class WaitTimeout(AdminError):
    """The time is over in which something was waited for."""

    code = "too_late"


class _Problem(msgspec.Struct):
    detail: str


class Transport(ABC):
    """A way to one supervisor. Each call takes a connection of its own."""

    def request(self, kind: type[D], method: str, path: str, body: object = None) -> D:
        """One question and its answer.

        Args:
            kind: of the answer's document.
            method: of HTTP.
            path: with its query.
            body: to be sent as JSON.

        Raises:
            AdminError: it could not be asked, or refuses.
        """
        data = None if body is None else msgspec.json.encode(body)
        with self._sent(method, path, data, _JSON) as reply:
            return _document(kind, reply)

    def upload(self, kind: type[D], path: str, pieces: Iterable[bytes], headers: Mapping[str, str]) -> D:
        """PUT a long body. Raises as `request` does."""
        with self._sent("PUT", path, pieces, headers) as reply:
            return _document(kind, reply)

    @contextlib.contextmanager
    def stream(self, kind: type[D], path: str, left_s: Callable[[], float] | None = None) -> Iterator[Iterator[D]]:
        """The documents of an answer that goes on, as they come; it ends when the supervisor does.

        Args:
            kind: of each document.
            path: with its query.
            left_s: says before each document how many seconds may pass until it.

        Raises:
            WaitTimeout: they have passed.
            AdminError: as `request`.
        """
        connection = self.new_connection(_TIMEOUT_S)
        with self._sent("GET", path, None, {}, connection) as reply:
            if reply.status != http.client.OK:
                _document(kind, reply)
            yield _lines(kind, reply, connection.sock, left_s)

    @contextlib.contextmanager
    def _sent(
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
                # A refusal may come before the body was read, whose rest nobody takes then.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.request(method, path, body, {**self.headers(), **headers})
                reply = connection.getresponse()
            except _ERRORS as exc:
                raise AdminError(self.unreachable(exc)) from exc
            yield reply
        finally:
            connection.close()

    @property
    def is_local(self) -> bool:
        """Whether the supervisor's process is of this machine for sure."""
        return False

    @abstractmethod
    def new_connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """A connection that is made when it is used first."""

    def headers(self) -> dict[str, str]:
        """Who asks."""
        return {}

    @abstractmethod
    def unreachable(self, error: Exception) -> str:
        """What to say of a supervisor that could not be asked."""


class UnixTransport(Transport):
    """The supervisor that runs on a run directory of this user."""

    def __init__(self, run_path: Path) -> None:
        self._run_path = run_path

    @property
    def is_local(self) -> bool:
        """See `Way`."""
        return True

    def new_connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """See `Way`."""
        return _UnixConnection(self._run_path / run_dir.ADMIN, timeout_s)

    def unreachable(self, error: Exception) -> str:
        """See `Way`."""
        pid = run_dir.find_supervisor_pid(self._run_path)
        if pid is None:
            return f"no supervisor runs on {self._run_path}: start one with `pexdock serve`, or name its run directory with --run-path"
        return f"the supervisor on {self._run_path} (pid {pid}) does not answer: it has just started, or ends ({error})"


class UrlTransport(Transport):
    """A supervisor that listens on TCP, perhaps on another machine."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._parts = urlsplit(url)
        self._token = token
        if self._parts.scheme not in {"http", "https"} or not self._parts.hostname:
            raise AdminError(f"{url!r} is no address of an admin side: http://HOST:PORT or https://HOST:PORT")

    def new_connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """See `Way`."""
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, port, timeout=timeout_s)

    def headers(self) -> dict[str, str]:
        """See `Way`."""
        return {"authorization": f"Bearer {self._token}"}

    def unreachable(self, error: Exception) -> str:
        """See `Way`."""
        return f"no admin side answers at {self._url}: {_in_words(error)}"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _lines(kind: type[D], reply: http.client.HTTPResponse, sock: socket.socket, left_s: Callable[[], float] | None) -> Iterator[D]:
    while True:
        seconds = None if left_s is None else left_s()
        try:
            if seconds is not None and seconds <= 0:
                raise TimeoutError
            sock.settimeout(seconds)
            line = reply.readline()
            if not line:
                return
            found = msgspec.json.decode(line, type=kind)
        except TimeoutError as exc:
            raise WaitTimeout("it took too long") from exc
        except (*_ERRORS, msgspec.MsgspecError) as exc:
            raise AdminError(f"the supervisor hung up: {_in_words(exc)}") from exc
        yield found


def _in_words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _document(kind: type[D], reply: http.client.HTTPResponse) -> D:
    try:
        data = reply.read()
        if reply.status < http.client.BAD_REQUEST:
            return msgspec.json.decode(data, type=kind)
        problem = msgspec.json.decode(data, type=_Problem)
    except _ERRORS as exc:
        raise AdminError(f"the supervisor hung up: {_in_words(exc)}") from exc
    except msgspec.MsgspecError as exc:
        raise AdminError(f"the supervisor answered {reply.status}, and what cannot be read: {exc}") from exc
    raise (AdminNotFound if reply.status == http.client.NOT_FOUND else AdminError)(problem.detail)
