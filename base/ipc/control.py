"""Control words between a parent process and its children: what they say and how they look as JSON lines.

Pure: knows no socket. A child gets one end of a stream socketpair by number and reads until end of file, which means
that its parent is gone.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import msgspec

from base.errors import Full, LoadFailed, PeerError, Unavailable
from base.ipc.cache_control import CacheRequest, CacheResponse

WIRE_VERSION = 7
"""Rises with every change of `protocol.py` and `frames.py`, of the words that a worker says and hears, and of how it is started, but for
what either side may not know (`scripts/wire.py`). Supervisor and front doors are started from one base, and of one version."""

LINE_MAX_BYTES = 64 * 1024 * 1024
"""No word comes near it: a table of 1 000 endpoints with 100 columns each takes 10 MB."""


class ExitCode(IntEnum):
    """How a child of ours ends. A parent restarts on every code but CANNOT_LOAD, which stays true until the file changes."""

    OK = 0
    CRASHED = 1
    CANNOT_LOAD = 64
    PARENT_GONE = 65


class Example(msgspec.Struct, frozen=True):
    """One request that the endpoint would answer: parameters and rows, for people to copy."""

    parameters: dict[str, str]
    rows: list[dict[str, object]]


class EndpointDocs(msgspec.Struct, frozen=True):
    """What people are told of an endpoint, beside its schemas. Nothing is decided by it, so it may come without any of this.

    Attributes:
        text: what its author says of it.
        parameters: of its path, as JSON Schema, as far as more is known of them than that they are text.
        input: keywords of JSON Schema for columns, by name, as far as Arrow has no word for them; by no name, for the whole row.
        output: the same.
    """

    description: str = msgspec.field(default="", name="text")
    parameters: dict[str, dict[str, Any]] = {}
    input: dict[str, dict[str, Any]] = {}
    output: dict[str, dict[str, Any]] = {}


class EndpointSpec(msgspec.Struct, frozen=True):
    """All that a front door needs to know of one endpoint.

    `input_schema` and `output_schema` are Arrow schema messages (`pyarrow.Schema.serialize`), None where the endpoint declares none.

    Attributes:
        unexpected: what becomes of fields that the input schema does not have: "ignore" or "reject".
        alone: a batch is one request, and its context travels with it.
        raw: the endpoint takes bodies as they are, and answers with its own.
        streams: it answers in parts.
        headers: those that the context has, in lower case.
        retry: a request whose worker died may be computed once more.
        checks: a spec says which parameters of the path are admitted; a worker can be asked before rows are decoded.
        about: what people are told of it.
        timeout_ms: that a request has where its client does not say; None for what the front door gives.
    """

    name: str
    path: str
    parameters: list[str]
    input_schema: bytes | None
    output_schema: bytes | None
    batch_max_rows: int
    batch_max_delay_ms: int
    example: Example | None = None
    unexpected: str = "ignore"
    unbatched: bool = msgspec.field(default=False, name="alone")
    raw: bool = False
    streams: bool = False
    headers: list[str] = []
    checks_parameters: bool = msgspec.field(default=False, name="checks")
    retry: bool = True
    docs: EndpointDocs = msgspec.field(default=EndpointDocs(), name="about")
    timeout_ms: int | None = None


class ReleaseSpec(msgspec.Struct, frozen=True):
    """One release as its worker describes it. Endpoints are numbered on the channel by their place in the list."""

    model: str
    version: str
    endpoints: list[EndpointSpec]


class Ready(msgspec.Struct, frozen=True, tag="ready", tag_field="type"):
    """Worker → supervisor: the release is loaded and warm, and the worker's socket listens. `warnings`: what people should know of it."""

    wire: int
    base_version: str
    release: ReleaseSpec
    warnings: list[str] = []


RETRYABLE_CODES = frozenset({LoadFailed.code, Unavailable.code, Full.code})
"""With these codes a worker that failed may do better next time: the store of its models may be down."""


WARM_UP_ENV = "PEXDOCK_WARM_UP"
WARM_UP_LENIENT = "lenient"
"""Its value for a worker of a release that was proven before: what fails in its warm-up is logged, since it may be the store's fault."""


class Failed(msgspec.Struct, frozen=True, tag="failed", tag_field="type"):
    """Worker → supervisor: the worker cannot serve and exits. Final until the file changes, unless `code` is in `RETRYABLE_CODES`."""

    code: str
    reason: str


class Route(msgspec.Struct, frozen=True):
    """A release in the routing table, with the sockets of its workers (absolute paths); empty while none is up.

    Attributes:
        id: tells it from every other release, also from one of the same name and version with other content.
        watched: its outcomes are to be reported (`Outcomes`).
    """

    release: ReleaseSpec
    sockets: list[str]
    release_id: str = ""
    report_outcomes: bool = False


class MirrorSpec(msgspec.Struct, frozen=True):
    """Some requests are also sent to the release `id`, and its answers compared and dropped."""

    release_id: str
    percent: float


class SplitSpec(msgspec.Struct, frozen=True):
    """How the requests of one model are shared among its routes. A model with one route and no copies needs none.

    Attributes:
        weights: release id → weight, 1 or more. A route that is not in it gets only copies, requests that ask for it, and what follows.
        by: what keeps a client with one release: "" (nothing), "header:NAME", "parameter:NAME" or "column:NAME" (its value in row 0).
        copies: None where nothing is copied.
        labels: label → release id, for requests that ask for a label.
        stand_in: the release that answers while none with a weight can; "" for none. Nobody can ask for it by that alone.
    """

    weights: dict[str, int]
    by: str = ""
    mirror: MirrorSpec | None = None
    labels: dict[str, str] = {}
    fallback: str = ""

    @property
    def opt_in_only(self) -> set[str]:
        """The releases that get only copies, and requests that ask for them."""
        copied = set() if self.mirror is None else {self.mirror.release_id}
        return (copied | set(self.labels.values())) - self.weights.keys() - {self.fallback}

    def hides(self, release_id: str) -> bool:
        """Whether a release merely stands in, so that nobody may ask for it."""
        return release_id == self.fallback and release_id not in self.weights and release_id not in self.labels.values()


class RoutingTable(msgspec.Struct, frozen=True, tag="routing_table", tag_field="type"):
    """Supervisor → front door: the whole routing table. It replaces the one before.

    `settled` is false while releases that lay in dist/ at the start are still on their way to ready or refused; readiness waits for it.
    `sharing` has the models, by name, of which more than one release is routed to.
    """

    generation: int
    routes: list[Route]
    startup_complete: bool
    splits: dict[str, SplitSpec] = {}


class MetricsConfig(msgspec.Struct, frozen=True):
    """How a child measures.

    Attributes:
        interval_s: from its first measure to the report of it and all others since.
        values_max: a report holds at most this many values of one measure of one endpoint: a sample, where there were more.
    """

    interval_s: float
    values_max: int


class TlsFiles(msgspec.Struct, frozen=True):
    """Files in PEM, read by each front door, and again when they change.

    Attributes:
        cert_path: its certificate, and those between it and an authority.
        key_path: its private key; None where that stands in the same file.
        client_ca_path: authorities, of which clients must have a certificate; None where they need none.
    """

    cert_path: str
    key_path: str | None = None
    client_ca_path: str | None = None


class Configure(msgspec.Struct, frozen=True, tag="configure", tag_field="type"):
    """Supervisor → front door, once, before the first table: its limits.

    Attributes:
        body_max_bytes: a larger body is a 413.
        request_timeout_s: a request that is not answered by then gets a 504.
        shared_memory_max_bytes: all shared memory of the front door; beyond it a request is a 503.
        connections_max: of clients; more are turned away with a 503.
        queue_max_rows: rows that may wait for one endpoint; beyond it a request is a 503.
        queue_max_bytes: of the bodies that may wait for one endpoint; beyond it a request is a 503.
        queue_max_wait_s: a request that would wait longer for a worker is a 503; None where its own time is the only bound.
        priorities: clients may say by the header `Priority` which requests go first.
        drain_s: how long accepted requests may take once it is told to drain.
        measuring: None where nobody wants measures.
        access_log: path of a file that gets a line for each request; "-" is the standard output of the supervisor.
        tls: None where it speaks plain HTTP.
        api_keys_path: file of the keys of which a request must show one; None where none is asked for.
        told_requests: of each so many requests that it has sent to a worker it tells; 0 where nobody wants to know.
    """

    body_max_bytes: int = 32 * 1024**2
    request_timeout_s: float = 60.0
    shared_memory_max_bytes: int = 1024**3
    connections_max: int = 10_000
    queue_max_rows: int = 100_000
    queue_max_bytes: int = 256 * 1024**2
    queue_max_wait_s: float | None = None
    priorities: bool = False
    drain_s: float = 8.0
    metrics: MetricsConfig | None = None
    access_log: str | None = None
    tls: TlsFiles | None = None
    api_keys_path: str | None = None
    requests_sent_interval: int = 0


class Listening(msgspec.Struct, frozen=True, tag="listening", tag_field="type"):
    """Front door → supervisor: it accepts connections."""


class TableApplied(msgspec.Struct, frozen=True, tag="table_applied", tag_field="type"):
    """Front door → supervisor: this generation of the table is in force, and its workers are connected or were refused."""

    generation: int


class RoutesDrained(msgspec.Struct, frozen=True, tag="routes_drained", tag_field="type"):
    """Front door → supervisor: nothing waits any more for a worker that this generation of the table does not name."""

    generation: int


class ValueSummary(msgspec.Struct, frozen=True):
    """What one measure was, several times: count, sum, smallest, largest, and a uniform sample: all of them where there is room."""

    count: int
    sum: float
    min: float
    max: float
    sample: list[float]


class MetricsReport(msgspec.Struct, frozen=True, tag="measures", tag_field="type"):
    """Child → parent: what it measured of one endpoint since it said so last; names and units stand in `base.telemetry.metrics`.

    Once an interval in which there is something to tell, and before it ends. `until_ms` is the wall clock at the end, since 1970.
    """

    until_ms: int
    model: str
    version: str
    endpoint: str
    counts: dict[str, int]
    summaries: dict[str, ValueSummary] = msgspec.field(name="values")


class OutcomeReport(msgspec.Struct, frozen=True, tag="outcome_report", tag_field="type"):
    """Front door → supervisor: how requests to a watched route ended since it said so last.

    Attributes:
        id: of the release.
        answered: all of them.
        failed: of them, those for which the release is to blame: a handler or result that failed, a worker that died, no answer in time.
    """

    release_id: str
    answered: int
    failed: int


class MirrorReport(msgspec.Struct, frozen=True, tag="mirror_report", tag_field="type"):
    """Front door → supervisor: how the answers to copied requests compared since it said so last.

    Attributes:
        model, id: whose requests, and the release that got copies.
        requests: that were answered by both.
        equal: of them, with the same statuses and values.
        failed: copies that the release failed at, while the client got its answer.
        skipped: copies that were not sent, since the release had too much to do.
        deviation_max: the largest difference between two numbers at the same place.
        ms, ms_copies: sum over `requests` of the time that the answer took, and that of the copy.
    """

    model: str
    release_id: str
    requests: int
    equal: int
    failed: int
    skipped: int
    deviation_max: float
    primary_ms: float
    mirror_ms: float


class WorkerUnhealthy(msgspec.Struct, frozen=True, tag="worker_unhealthy", tag_field="type"):
    """Front door → supervisor: the worker at `socket` is of no use: the channel to it had to be closed, or it answers nothing."""

    socket: str
    reason: str


class RequestsSent(msgspec.Struct, frozen=True, tag="requests_sent", tag_field="type"):
    """Front door → supervisor: so many requests have gone to the worker at `socket` since it said so last."""

    socket: str
    requests: int


class ReportNotReady(msgspec.Struct, frozen=True, tag="report_not_ready", tag_field="type"):
    """Supervisor → front door: say that you are not ready, so that nobody sends more; all that comes is answered as before."""


class Drain(msgspec.Struct, frozen=True, tag="drain", tag_field="type"):
    """Parent → child: take nothing new, finish what is there, exit."""


ControlMessage = (
    Ready
    | Failed
    | RoutingTable
    | Configure
    | Listening
    | TableApplied
    | RoutesDrained
    | MetricsReport
    | OutcomeReport
    | MirrorReport
    | WorkerUnhealthy
    | RequestsSent
    | ReportNotReady
    | Drain
    | CacheRequest
    | CacheResponse
)

_decoder = msgspec.json.Decoder(ControlMessage)


def encode_message(word: ControlMessage) -> bytes:
    """One word as one line."""
    return msgspec.json.encode(word) + b"\n"


class ControlStream:
    """Collects bytes as they arrive and hands out whole words, in order."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed_bytes(self, data: bytes) -> list[ControlMessage]:
        """The words that `data` completes.

        Raises:
            PeerError: a line is no known word or is endless. The connection is of no further use.
        """
        self._rest += data
        if b"\n" not in data and len(self._rest) <= LINE_MAX_BYTES:
            return []  # a long word comes in many pieces, which are not looked through again with each
        *lines, rest = bytes(self._rest).split(b"\n")
        if len(rest) > LINE_MAX_BYTES:
            raise PeerError(f"a control word is over {LINE_MAX_BYTES} bytes")
        self._rest = bytearray(rest)
        try:
            return [_decoder.decode(line) for line in lines]
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise PeerError(f"not a control word: {exc}") from exc
