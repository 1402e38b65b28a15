"""The releases that the front door serves and their endpoints, with the data that requests need."""

from __future__ import annotations

import hashlib

import msgspec
import pyarrow as pa

from base.ipc import frames
from base.ipc.release_spec import EndpointSpec, ReleaseSpec
from runtime.front.codecs.decoder import RowDecoder
from runtime.front.memory.budget import MemoryBudget
from runtime.front.requests.batch_time import BatchTime
from runtime.front.requests.deadlines import Deadlines, Timed
from runtime.front.telemetry.metrics import RequestMetrics
from runtime.front.telemetry.outcomes import OutcomeCounter


class EndpointCodecs:
    """The schemas of one endpoint, and the codecs for them.

    They take about 30 µs for each column, so a front door makes those of a new release on a thread.

    Attributes:
        replies: Reads reply frames of workers.
        spec_digest: Equal for endpoints with equal specs, which are long to compare if they have many columns.
    """

    def __init__(self, spec: EndpointSpec, columns_max: int, row_max_values: int) -> None:
        self.input_schema = _schema_of(spec.input_schema)
        self.output_schema = _schema_of(spec.output_schema)
        self.decoder = RowDecoder(self.input_schema, spec.unexpected, columns_max, row_max_values, spec.group_by)
        self.replies = frames.FrameReader(self.output_schema)
        self.spec_digest = hashlib.sha256(msgspec.json.encode(spec)).digest()


class ServedRelease:
    """A release of the routing table, and its state in this front door. May be made on any thread.

    Args:
        release_id: Identifies the release; it differs between releases of equal name and version but different content.
        spec: Describes the release, as its workers sent it.
        budget: Limit of its shared memory, request bodies included.
        columns_max: Limit of the columns of a request that its endpoint does not declare.
        row_max_values: Limit of the values of a row of JSON.
        response_max_bytes: Limit of the results of one call, and of a response.

    Attributes:
        codecs: The codecs of its endpoints, in the order of the spec.
        endpoints: Its endpoints, in the order of the spec.
        up: Whether a worker can take batches.
        retiring: Whether the routing table in force no longer contains it.
        outcomes: Counts how its requests end, and limits those that fail; None unless it is on probation.
        open_streams: Requests whose streamed response has not ended.
    """

    def __init__(
        self, release_id: str, spec: ReleaseSpec, budget: MemoryBudget, columns_max: int, row_max_values: int, response_max_bytes: int
    ) -> None:
        self.id = release_id
        self.spec = spec
        self.budget = budget
        self.response_max_bytes = response_max_bytes
        self.codecs = [EndpointCodecs(each, columns_max, row_max_values) for each in spec.endpoints]
        self.endpoints: list[ServedEndpoint] = []
        self.up = False
        self.retiring = False
        self.outcomes: OutcomeCounter | None = None
        self.open_streams: set[Timed] = set()

    @property
    def takes_requests(self) -> bool:
        """True if a worker can take batches, the release is in the routing table, and no limit of failures forbids it."""
        return self.up and not self.retiring and (self.outcomes is None or self.outcomes.has_room)


class ServedEndpoint:
    """An endpoint of a served release: its schemas, codecs, limits and counters.

    This is a base class of the endpoint's queue, which overrides the two callbacks.

    Args:
        number: Position in the release's spec, which identifies the endpoint in messages to workers.
        spec: Describes the endpoint, as its workers sent it.
        release: Release that the endpoint belongs to.
        deadlines: Deadlines of all requests of the front door.
        metrics: Counts its requests; None without a metrics configuration.
        priorities: Whether clients may set the urgency of requests.

    Attributes:
        batch_time: Average time that a worker takes for a batch.
    """

    def __init__(
        self,
        number: int,
        spec: EndpointSpec,
        release: ServedRelease,
        deadlines: Deadlines,
        metrics: RequestMetrics | None,
        *,
        priorities: bool,
    ) -> None:
        self.number = number
        self.spec = spec
        self.release = release
        self.deadlines = deadlines
        self.metrics = metrics
        self.priorities = priorities
        codecs = release.codecs[number]
        self.input_schema = codecs.input_schema
        self.output_schema = codecs.output_schema
        self.decoder = codecs.decoder
        self.replies = codecs.replies
        self.spec_digest = codecs.spec_digest
        self.batch_time = BatchTime()

    def decodes_like(self, other: ServedEndpoint) -> bool:
        """Returns whether both endpoints decode a body to the same rows."""
        mine, theirs = self.spec, other.spec
        if mine.input_schema != theirs.input_schema or mine.unexpected != theirs.unexpected:
            return False
        return mine.raw == theirs.raw and mine.group_by == theirs.group_by

    def on_expired(self, request: Timed) -> None:
        """Ends a request whose deadline has passed."""
        raise NotImplementedError

    def on_abandoned(self, request: Timed) -> None:
        """Removes a request whose client has disconnected from the queue."""
        raise NotImplementedError


def _schema_of(message: bytes | None) -> pa.Schema | None:
    return None if message is None else pa.ipc.read_schema(pa.py_buffer(message))
