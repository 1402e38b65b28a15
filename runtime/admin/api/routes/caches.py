"""The caches of a release. All its workers are asked at once; one that does not answer is reported without failing the others."""

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
    """The reply of one worker, or the error in its place."""

    pid: int | None
    reply: CacheResponse | PexdockError

    @property
    def problem(self) -> WorkerProblem | None:
        return WorkerProblem(self.reply.code, self.reply.detail) if isinstance(self.reply, PexdockError) else None


async def list_caches(managed: ManagedRelease) -> ModelCaches:
    """Returns the cache entries of each worker.

    Raises:
        Unavailable: The release has no worker.
    """
    replies = await _ask_workers(managed, ListCacheEntries)
    workers = [WorkerCaches(each.pid, each.reply.caches if isinstance(each.reply, CacheEntries) else [], each.problem) for each in replies]
    return ModelCaches(*_name_and_version(managed), workers)


async def refresh_caches(managed: ManagedRelease, endpoint: str | None, parameters: dict[str, str] | None) -> ModelRefresh:
    """Starts a refresh of cache entries in each worker: of all entries, or of those that match `endpoint` and `parameters`.

    Raises:
        PexdockError: No worker has started a refresh. It is the error of the first worker that refused, else of the first without a reply.
    """
    replies = await _ask_workers(managed, lambda number: RefreshCache(number, endpoint, parameters))
    errors = [each.reply for each in replies if isinstance(each.reply, PexdockError)]
    if len(errors) == len(replies):
        raise min(errors, key=lambda error: isinstance(error, TryLater))
    workers = [
        WorkerRefresh(each.pid, each.reply.started if isinstance(each.reply, CacheRefreshed) else 0, each.problem) for each in replies
    ]
    return ModelRefresh(*_name_and_version(managed), sum(worker.begun for worker in workers), workers)


async def _ask_workers(managed: ManagedRelease, new_request: Callable[[int], CacheRequest]) -> list[_WorkerReply]:
    workers = [worker for worker in managed.workers.processes if worker.is_wanted]
    if not workers:
        raise Unavailable(f"{managed.release.title} has no worker")
    return await asyncio.gather(*(_ask_worker(worker, new_request) for worker in workers))


async def _ask_worker(worker: WorkerProcess, new_request: Callable[[int], CacheRequest]) -> _WorkerReply:
    pid = worker.pid
    try:
        return _WorkerReply(pid, await worker.call(new_request))
    except PexdockError as exc:
        return _WorkerReply(pid, exc)


def _name_and_version(managed: ManagedRelease) -> tuple[str, str]:
    identity = managed.release.identity
    assert identity is not None
    return identity.name, identity.version
