"""The definition of every metric. Pure: knows no clock, no file and no format.

Children measure and their parent writes. A front door measures requests; a worker measures its handlers and caches; the supervisor adds the
states of models. Formats such as
`base.telemetry.emf` take metrics as the control message `MetricsReport` holds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Unit(StrEnum):
    """Units as CloudWatch spells them."""

    COUNT = "Count"
    MILLISECONDS = "Milliseconds"


@dataclass(frozen=True)
class MetricDefinition:
    """The unit of a metric and its meaning in a sentence."""

    unit: Unit
    description: str


def _count(description: str) -> MetricDefinition:
    return MetricDefinition(Unit.COUNT, description)


def _milliseconds(description: str) -> MetricDefinition:
    return MetricDefinition(Unit.MILLISECONDS, description)


METRICS: Mapping[str, MetricDefinition] = {
    # ---- counted by front doors
    "Requests": _count("Requests that were answered or whose client disconnected first."),
    "Errors": _count(
        "Requests that failed on the server's side: status 500 or higher, also in the last line of a streamed response. "
        "An answer without some groups (207) counts by the gravest status of those."
    ),
    "ClientErrors": _count("Requests that the client must change: status 400 to 499."),
    "Abandoned": _count("Requests whose client disconnected before the response was complete."),
    # ---- values of front doors
    "Latency": _milliseconds("Time from a request's complete body to its response being ready to send, or to the end of a streamed one."),
    "MirrorSkipped": _count("Requests that should have been mirrored to this release and were not, or whose copy was not computed."),
    "QueueTime": _milliseconds("Time from a request's decoded rows to its first batch being sent to a worker."),
    "BatchSize": _count("Rows of a batch that was sent to a worker, including batches that are part of a failed one."),
    # ---- counted by the supervisor
    "ModelReady": _count("1 if a model is ready or degraded, else 0; once per interval, also without requests."),
    # ---- values of all processes
    "LoopTurn": _milliseconds(
        "Time of a turn of the process's event loop, or of a wait of the loop for Python's lock, that took at least `loop_turn_warn_ms`."
    ),
    # ---- counted by workers
    "CacheHits": _count("Batches that found their model loaded."),
    "CacheMisses": _count("Batches that had to wait for their model, or were refused because of it."),
    "Loads": _count("Models loaded for the first time or to replace a stale one."),
    "LoadFailures": _count("Loads that failed, including those of missing artifacts."),
    "Evictions": _count("Models dropped to make room or because nobody used them."),
    # ---- values of workers
    "HandlerTime": _milliseconds("Time of one batch in its handler and in the check of its result."),
    "LoadTime": _milliseconds("Time of one successful load: finding, fetching and loading the artifact."),
}
"""Every metric by its name."""
