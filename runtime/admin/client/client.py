"""A client of the admin API for the command. It blocks, and prints nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from urllib.parse import quote, urlencode

from runtime.admin.client.transport import AdminNotFound, Transport
from runtime.admin.schemas import Draining, Dropped, Logs, ModelCaches, ModelDetail, ModelRefresh
from runtime.jobs.documents import JobDocument, JobList
from runtime.jobs.messages import COUNT_MAX
from runtime.supervisor.host.log_buffer import LogLine
from runtime.supervisor.status.state import ModelReport, State


class AdminClient:
    """A client of one supervisor. Every method raises AdminError if the supervisor cannot be reached or answers with an error."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def is_local(self) -> bool:
        """Returns whether the supervisor certainly runs on this machine."""
        return self._transport.is_local

    def models(self) -> State:
        """Returns the state of all releases and models."""
        return self._transport.request(State, "GET", "/models")

    def watch_models(self, left_s: Callable[[], float] | None = None) -> AbstractContextManager[Iterator[State]]:
        """Yields the state now and after each change; raises WaitTimeout if the next one takes longer than `left_s()` seconds."""
        return self._transport.stream(State, "/models?follow=true", left_s)

    def model_detail(self, model: str) -> ModelDetail:
        """Returns the details of a model."""
        return self._transport.request(ModelDetail, "GET", _path(model))

    def model_caches(self, model: str) -> ModelCaches:
        """Returns the cache entries of every worker of a model."""
        return self._transport.request(ModelCaches, "GET", _path(model, "cache"))

    def all_caches(self) -> list[ModelCaches]:
        """Returns the cache entries of every serving model."""
        found = []
        for model in sorted({report.name for report in self.models().releases if report.kind == "model"}):
            with contextlib.suppress(AdminNotFound):
                found.append(self.model_caches(model))
        return found

    def refresh(self, model: str, endpoint: str | None = None, parameters: dict[str, str] | None = None) -> ModelRefresh:
        """Starts a refresh of all cache entries of a model, of those of one endpoint, or of one entry."""
        return self._transport.request(ModelRefresh, "POST", _path(model, "refresh"), {"endpoint": endpoint, "parameters": parameters})

    def change_traffic(self, model: str, noun: str, body: dict[str, object] | None) -> ModelReport:
        """Sets a traffic policy of a model, such as {"to": "0.1.0"} as its `pin`; None removes it."""
        return self._transport.request(ModelReport, "DELETE" if body is None else "PUT", _path(model, *noun.split("/")), body)

    def promote(self, model: str, version: str | None) -> ModelReport:
        """Sends all traffic of a model to a release; without a version, to the newest."""
        return self._transport.request(ModelReport, "POST", _path(model, "promote"), {"version": version})

    def rollback(self, model: str) -> ModelReport:
        """Rolls a model back to the previous release."""
        return self._transport.request(ModelReport, "POST", _path(model, "rollback"))

    def upload(self, name: str, chunks: Iterable[bytes], sha256: str, size_bytes: int) -> Dropped:
        """Uploads a file to dist/."""
        headers = {"x-content-sha256": sha256, "content-length": str(size_bytes), "content-type": "application/octet-stream"}
        return self._transport.upload(Dropped, _path(name, under="dist"), chunks, headers)

    def logs(self, model: str, lines: int) -> list[LogLine]:
        """Returns the last log lines of a model, or of all processes if `model` is empty."""
        return self._transport.request(Logs, "GET", f"/logs?{urlencode({'model': model, 'lines': lines})}").lines

    def follow_logs(self, model: str, lines: int) -> AbstractContextManager[Iterator[LogLine]]:
        """Yields the last log lines, then new ones as they are logged."""
        return self._transport.stream(LogLine, f"/logs?{urlencode({'model': model, 'lines': lines, 'follow': 'true'})}")

    def jobs(self, states: Sequence[str], model: str, count_max: int) -> list[JobDocument]:
        """Returns jobs of all clients, the newest first."""
        found: list[JobDocument] = []
        cursor: str | None = ""
        while cursor is not None and len(found) < count_max:
            query = {"state": states, "model": model, "limit": min(count_max - len(found), COUNT_MAX)} | (
                {"cursor": cursor} if cursor else {}
            )
            page = self._transport.request(JobList, "GET", f"/jobs?{urlencode(query, doseq=True)}")
            found += page.jobs
            cursor = page.next
        return found

    def job(self, job_id: str, client: str) -> JobDocument:
        """Returns a job."""
        return self._transport.request(JobDocument, "GET", f"{_path(job_id, under='jobs')}?{urlencode({'client': client})}")

    def follow_job(self, job_id: str, client: str) -> AbstractContextManager[Iterator[JobDocument]]:
        """Yields a job now and after each change, until it has ended."""
        query = urlencode({"client": client, "follow": "true"})
        return self._transport.stream(JobDocument, f"{_path(job_id, under='jobs')}?{query}")

    def cancel_job(self, job_id: str, client: str) -> JobDocument:
        """Cancels a job, unless it has ended."""
        return self._transport.request(JobDocument, "DELETE", f"{_path(job_id, under='jobs')}?{urlencode({'client': client})}")

    def drain(self) -> Draining:
        """Starts a graceful shutdown of the supervisor."""
        return self._transport.request(Draining, "POST", "/drain")


def _path(*names: str, under: str = "models") -> str:
    return "/".join(["", under, *(quote(name, safe="") for name in names)])
