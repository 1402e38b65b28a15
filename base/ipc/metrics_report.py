"""The configuration of metrics in a child process, and the reports that it sends. Pure."""

from __future__ import annotations

import msgspec


class MetricsConfig(msgspec.Struct, frozen=True):
    """The configuration by which a child collects metrics.

    Attributes:
        interval_s: Seconds from the first value to the report of all values since.
        values_max: Maximum number of values of one metric of one endpoint in a report; of more values, it is a uniform sample.
    """

    interval_s: float
    values_max: int


class ValueSummary(msgspec.Struct, frozen=True):
    """Count, sum, minimum and maximum of the values of one metric, and a uniform sample: all values if there is room."""

    count: int
    sum: float
    min: float
    max: float
    sample: list[float]


class MetricsReport(msgspec.Struct, frozen=True, tag="measures", tag_field="type"):
    """Child → parent: the metrics of one endpoint since its last report; `base.telemetry.metrics` has names and units.

    With an empty `endpoint`, they are of a whole model; with an empty `model`, of the process that `endpoint` names. Sent once per
    interval if there is anything to report, and before the child exits. `until_ms` is the wall clock at the end of the interval, in
    milliseconds since 1970.
    """

    until_ms: int
    model: str
    version: str
    endpoint: str
    counts: dict[str, int]
    summaries: dict[str, ValueSummary] = msgspec.field(name="values")
