"""A client of the admin side, for the command. Blocks; knows nothing of who prints what it returns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from urllib.parse import quote, urlencode

from runtime.admin.client.transport import AdminNotFound, Transport
from runtime.admin.schemas import Draining, Dropped, Logs, ModelCaches, ModelDetail, ModelRefresh
from runtime.supervisor.host.log_buffer import LogLine
from runtime.supervisor.status.state import ModelReport, State


class AdminClient:
    """Asks a supervisor. Every method raises AdminError."""

    def __init__(self, way: Transport) -> None:
        self._transport = way

    @property
    def is_local(self) -> bool:
        """Whether the supervisor's process is of this machine for sure."""
        return self._transport.is_local

    def models(self) -> State:
        """What is served, what was refused and why."""
        return self._transport.request(State, "GET", "/models")

    def watch_models(self, left_s: Callable[[], float] | None = None) -> AbstractContextManager[Iterator[State]]:
        """The same now, and whenever it has changed; WaitTimeout where more seconds pass than are left."""
        return self._transport.stream(State, "/models?follow=true", left_s)

    def model_detail(self, model: str) -> ModelDetail:
        """All that is known of one model."""
        return self._transport.request(ModelDetail, "GET", _path(model))

    def model_caches(self, model: str) -> ModelCaches:
        """What every worker of a model has in its caches."""
        return self._transport.request(ModelCaches, "GET", _path(model, "cache"))

    def all_caches(self) -> list[ModelCaches]:
        """As `caches`, of every model that serves."""
        found = []
        for model in sorted({report.name for report in self.models().releases if report.kind == "model"}):
            with contextlib.suppress(AdminNotFound):
                found.append(self.model_caches(model))
        return found

    def refresh(self, model: str, endpoint: str | None = None, parameters: dict[str, str] | None = None) -> ModelRefresh:
        """Have loaded again what the caches of a model hold, or one endpoint's, or one entry."""
        return self._transport.request(ModelRefresh, "POST", _path(model, "refresh"), {"endpoint": endpoint, "parameters": parameters})

    def change_traffic(self, model: str, noun: str, order: dict[str, object] | None) -> ModelReport:
        """PUT an order, such as {"to": "0.1.0"} as `pin`; None takes it back."""
        return self._transport.request(ModelReport, "DELETE" if order is None else "PUT", _path(model, *noun.split("/")), order)

    def promote(self, model: str, version: str | None) -> ModelReport:
        """Have a release serve all; without a version the newest."""
        return self._transport.request(ModelReport, "POST", _path(model, "promote"), {"version": version})

    def rollback(self, model: str) -> ModelReport:
        """Have the release serve that served before."""
        return self._transport.request(ModelReport, "POST", _path(model, "rollback"))

    def upload(self, name: str, pieces: Iterable[bytes], sha256: str, size_bytes: int) -> Dropped:
        """Put a file into dist/."""
        headers = {"x-content-sha256": sha256, "content-length": str(size_bytes), "content-type": "application/octet-stream"}
        return self._transport.upload(Dropped, _path(name, under="dist"), pieces, headers)

    def logs(self, model: str, lines: int) -> list[LogLine]:
        """The last lines, of one model or of all."""
        return self._transport.request(Logs, "GET", f"/logs?{urlencode({'model': model, 'lines': lines})}").lines

    def follow_logs(self, model: str, lines: int) -> AbstractContextManager[Iterator[LogLine]]:
        """The same, and those that come."""
        return self._transport.stream(LogLine, f"/logs?{urlencode({'model': model, 'lines': lines, 'follow': 'true'})}")

    def drain(self) -> Draining:
        """Have the supervisor end in order."""
        return self._transport.request(Draining, "POST", "/drain")


def _path(*names: str, under: str = "models") -> str:
    return "/".join(["", under, *(quote(name, safe="") for name in names)])
