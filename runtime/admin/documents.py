"""The JSON documents of the admin side, as the supervisor writes them and the command reads them. `GET /models` is `state.State`."""

from __future__ import annotations

import msgspec

from base.ipc.questions import CacheState
from runtime.supervisor.logbook import Line


class Trouble(msgspec.Struct, frozen=True):
    """Why one worker has no answer: the `code` of an error, and its text."""

    code: str
    detail: str


class WorkerCaches(msgspec.Struct, frozen=True):
    """The caches of one worker. `pid` is None while it is started; with `error` nothing is known of the caches."""

    pid: int | None
    caches: list[CacheState] = []
    error: Trouble | None = None


class ModelCaches(msgspec.Struct, frozen=True):
    """GET /models/{model}/cache: every worker of the release that serves."""

    model: str
    version: str
    workers: list[WorkerCaches]


class WorkerRefresh(msgspec.Struct, frozen=True):
    """How many refreshes one worker has begun."""

    pid: int | None
    begun: int = 0
    error: Trouble | None = None


class ModelRefresh(msgspec.Struct, frozen=True):
    """POST /models/{model}/refresh: every worker of the release that serves, and the sum over those that answered."""

    model: str
    version: str
    begun: int
    workers: list[WorkerRefresh]


class Dropped(msgspec.Struct, frozen=True):
    """PUT /dist/{file}: it lies in dist/ now. What becomes of it, GET /models tells."""

    file: str
    size_bytes: int
    sha256: str


class Logs(msgspec.Struct, frozen=True):
    """GET /logs: oldest first."""

    lines: list[Line]


class Draining(msgspec.Struct, frozen=True):
    """POST /drain: the supervisor with this pid has begun to end."""

    pid: int | None
