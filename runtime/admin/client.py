"""A client of the admin side, for the command. Blocks; knows nothing of who prints what it returns."""

from __future__ import annotations

import contextlib
import http.client
import socket
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import msgspec

from base.errors import PexdockError
from runtime.admin.documents import ModelCaches, ModelRefresh
from runtime.supervisor import rundir
from runtime.supervisor.state import State

D = TypeVar("D", bound=msgspec.Struct)

_TIMEOUT_S = 35.0
"""The admin side itself cuts a request off after 30."""


class AdminFailed(PexdockError):
    """The admin side cannot be asked, or says no."""

    code = "admin_failed"


class NotServing(AdminFailed):
    """There is no such model, or it does not serve."""

    code = "not_serving"


class _Problem(msgspec.Struct):
    detail: str


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(str(self._path))


class AdminClient:
    """Asks the supervisor that runs on `run_path`. Every method raises AdminFailed."""

    def __init__(self, run_path: Path) -> None:
        self._run_path = run_path

    def models(self) -> State:
        """What is served, what was refused and why."""
        return self._ask(State, "GET", "/models")

    def caches(self, model: str) -> ModelCaches:
        """What every worker of a model has in its caches."""
        return self._ask(ModelCaches, "GET", f"/models/{quote(model, safe='')}/cache")

    def all_caches(self) -> list[ModelCaches]:
        """As `caches`, of every model that serves."""
        found = []
        for model in sorted({report.name for report in self.models().releases if report.kind == "model"}):
            with contextlib.suppress(NotServing):
                found.append(self.caches(model))
        return found

    def refresh(self, model: str, endpoint: str | None = None, parameters: dict[str, str] | None = None) -> ModelRefresh:
        """Have loaded again what the caches of a model hold, or one endpoint's, or one entry."""
        order = {"endpoint": endpoint, "parameters": parameters}
        return self._ask(ModelRefresh, "POST", f"/models/{quote(model, safe='')}/refresh", msgspec.json.encode(order))

    def _ask(self, kind: type[D], method: str, path: str, body: bytes | None = None) -> D:
        connection = _Connection(self._run_path / rundir.ADMIN)
        try:
            connection.request(method, path, body, {"content-type": "application/json"})
            reply = connection.getresponse()
            data = reply.read()
        except (OSError, http.client.HTTPException) as exc:
            raise AdminFailed(self._unreachable(exc)) from exc
        finally:
            connection.close()
        return _document(kind, reply.status, data)

    def _unreachable(self, error: Exception) -> str:
        pid = rundir.holder(self._run_path)
        if pid is None:
            return f"no supervisor runs on {self._run_path}: start one with `pexdock serve`, or name its run directory with --run-path"
        return f"the supervisor on {self._run_path} (pid {pid}) does not answer: it has just started, or ends ({error})"


def _document(kind: type[D], status: int, data: bytes) -> D:
    try:
        if status < http.client.BAD_REQUEST:
            return msgspec.json.decode(data, type=kind)
        problem = msgspec.json.decode(data, type=_Problem)
    except msgspec.MsgspecError as exc:
        raise AdminFailed(f"the supervisor answered {status}, and what cannot be read: {exc}") from exc
    raise (NotServing if status == http.client.NOT_FOUND else AdminFailed)(problem.detail)
