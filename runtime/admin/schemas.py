"""The JSON documents of the admin side, as the supervisor writes them and the command reads them. `GET /models` is `state.State`."""

from __future__ import annotations

import msgspec

from base.ipc.cache_control import CacheState
from runtime.supervisor.host.log_buffer import LogLine
from runtime.supervisor.status.state import ModelReport, ReleaseReport


class WorkerProblem(msgspec.Struct, frozen=True):
    """Why one worker has no answer: the `code` of an error, and its text."""

    code: str
    detail: str


class WorkerCaches(msgspec.Struct, frozen=True):
    """The caches of one worker. `pid` is None while it is started; with `error` nothing is known of the caches."""

    pid: int | None
    caches: list[CacheState] = []
    error: WorkerProblem | None = None


class ModelCaches(msgspec.Struct, frozen=True):
    """GET /models/{model}/cache: every worker of the release that serves."""

    model: str
    version: str
    workers: list[WorkerCaches]


class WorkerRefresh(msgspec.Struct, frozen=True):
    """How many refreshes one worker has begun."""

    pid: int | None
    begun: int = 0
    error: WorkerProblem | None = None


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

    lines: list[LogLine]


class Draining(msgspec.Struct, frozen=True):
    """POST /drain: the supervisor with this pid has begun to end."""

    pid: int | None


class EndpointDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint of the release that serves.

    The schemas are Arrow schema messages, in base64, and null where it declares none. In JSON Schema they stand in the front door's
    /openapi.json, and in what `pexdock describe --json` prints.
    """

    name: str
    path: str
    text: str
    parameters: list[str]
    batch_max_rows: int
    batch_max_delay_ms: int
    input_schema: bytes | None
    output_schema: bytes | None


class WorkerDetail(msgspec.Struct, frozen=True):
    """One worker. Memory is what it has for itself with its share of what it has in common with others, and all of it."""

    version: str
    pid: int | None
    state: str
    restarts: int
    pss_bytes: int = 0
    rss_bytes: int = 0


class ModelDetail(msgspec.Struct, frozen=True):
    """GET /models/{model}: where its requests go, its releases, the endpoints of the one that serves, and its processes."""

    model: ModelReport
    releases: list[ReleaseReport]
    endpoints: list[EndpointDetail]
    workers: list[WorkerDetail]
