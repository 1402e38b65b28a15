"""The JSON documents of the admin API, which the supervisor writes and the command reads. `GET /models` returns `status.State`."""

from __future__ import annotations

from typing import Any

import msgspec

from base.ipc.cache_control import CacheState
from runtime.supervisor.host.log_buffer import LogLine
from runtime.supervisor.status.state import ModelReport, ReleaseReport


class WorkerProblem(msgspec.Struct, frozen=True):
    """The reason why a worker gave no answer: the `code` of an error, and its text."""

    code: str
    detail: str


class WorkerCaches(msgspec.Struct, frozen=True):
    """The caches of one worker. `pid` is None while it starts; with `error` its caches are unknown."""

    pid: int | None
    caches: list[CacheState] = []
    error: WorkerProblem | None = None


class ModelCaches(msgspec.Struct, frozen=True):
    """GET /models/{model}/cache: the caches of every worker of the serving release."""

    model: str
    version: str
    workers: list[WorkerCaches]


class WorkerRefresh(msgspec.Struct, frozen=True):
    """The number of refreshes that one worker has started."""

    pid: int | None
    begun: int = 0
    error: WorkerProblem | None = None


class ModelRefresh(msgspec.Struct, frozen=True):
    """POST /models/{model}/refresh: the result of every worker of the serving release, and the sum over those that answered."""

    model: str
    version: str
    begun: int
    workers: list[WorkerRefresh]


class Dropped(msgspec.Struct, frozen=True):
    """PUT /dist/{file}: the file is in dist/. GET /models tells what becomes of it."""

    file: str
    size_bytes: int
    sha256: str


class Logs(msgspec.Struct, frozen=True):
    """GET /logs: the oldest line comes first."""

    lines: list[LogLine]


class Draining(msgspec.Struct, frozen=True):
    """POST /drain: the supervisor with this pid has begun to shut down."""

    pid: int | None


class EndpointDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint of the serving release.

    The schemas are Arrow schema messages in base64, or null if the endpoint declares none. The front door's /openapi.json and
    `pexdock describe --json` have them as JSON Schema. `query` has the parameters of the query by name, as OpenAPI describes them.
    """

    name: str
    path: str
    text: str
    parameters: list[str]
    batch_max_rows: int
    batch_max_delay_ms: int
    input_schema: bytes | None
    output_schema: bytes | None
    query: dict[str, dict[str, Any]] = {}
    batched: bool = True
    method: str = "POST"


class WorkerDetail(msgspec.Struct, frozen=True):
    """One worker. `pss_bytes` counts shared memory in proportion to the processes that share it; `rss_bytes` counts it in full.

    `runs_jobs` tells those that run jobs from those that answer requests.
    """

    version: str
    pid: int | None
    state: str
    restarts: int
    pss_bytes: int = 0
    rss_bytes: int = 0
    runs_jobs: bool = False


class ModelDetail(msgspec.Struct, frozen=True):
    """GET /models/{model}: the traffic of a model, its releases, the endpoints of the serving one, and its workers."""

    model: ModelReport
    releases: list[ReleaseReport]
    endpoints: list[EndpointDetail]
    workers: list[WorkerDetail]
