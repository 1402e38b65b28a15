"""The caches of a release: all its workers are asked at once, and those that do not answer say so without failing the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from base.errors import PexdockError, TryLater, Unavailable
from base.ipc.cache_control import CacheEntries, CacheRefreshed, CacheRequest, CacheResponse, ListCacheEntries, RefreshCache
from runtime.admin.schemas import ModelCaches, ModelRefresh, WorkerCaches, WorkerProblem, WorkerRefresh
from runtime.supervisor.processes.worker import WorkerProcess
from runtime.supervisor.releases.managed_release import ManagedRelease


class _WorkerReply(NamedTuple):
    """What one worker had to say."""

    pid: int | None
    answer: CacheResponse | PexdockError

    @property
    def trouble(self) -> WorkerProblem | None:
        return WorkerProblem(self.answer.code, self.answer.detail) if isinstance(self.answer, PexdockError) else None


async def list_caches(live: ManagedRelease) -> ModelCaches:
    """What each worker has in its caches."""
    told = await _ask_workers(live, ListCacheEntries)
    workers = [WorkerCaches(each.pid, each.answer.caches if isinstance(each.answer, CacheEntries) else [], each.trouble) for each in told]
    return ModelCaches(*_title(live), workers)


async def refresh_caches(live: ManagedRelease, endpoint: str | None, parameters: dict[str, str] | None) -> ModelRefresh:
    """Has each worker load again what it holds: all of it, or as much as `base.worker.cache_admin.Caches.refresh` says.

    Raises:
        PexdockError: no worker did so; the error is that of the first who refused, else of the first who did not answer.
    """
    told = await _ask_workers(live, lambda number: RefreshCache(number, endpoint, parameters))
    errors = [each.answer for each in told if isinstance(each.answer, PexdockError)]
    if len(errors) == len(told):
        raise min(errors, key=lambda error: isinstance(error, TryLater))
    workers = [
        WorkerRefresh(each.pid, each.answer.started if isinstance(each.answer, CacheRefreshed) else 0, each.trouble) for each in told
    ]
    return ModelRefresh(*_title(live), sum(worker.begun for worker in workers), workers)


async def _ask_workers(live: ManagedRelease, question: Callable[[int], CacheRequest]) -> list[_WorkerReply]:
    workers = [worker for worker in live.workers if worker.is_wanted]
    if not workers:
        raise Unavailable(f"{live.release.title} has no worker")
    return await asyncio.gather(*(_ask_worker(worker, question) for worker in workers))


async def _ask_worker(worker: WorkerProcess, question: Callable[[int], CacheRequest]) -> _WorkerReply:
    pid = worker.pid
    try:
        return _WorkerReply(pid, await worker.call(question))
    except PexdockError as exc:
        return _WorkerReply(pid, exc)


def _title(live: ManagedRelease) -> tuple[str, str]:
    identity = live.release.identity
    assert identity is not None
    return identity.name, identity.version
