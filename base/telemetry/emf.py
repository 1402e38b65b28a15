"""Measures as lines of CloudWatch's embedded metric format (EMF). Pure.

The format: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from base.ipc.control import MetricsConfig, MetricsReport, ValueSummary
from base.telemetry.metrics import METRICS, Unit

_VALUES_PER_LINE = 100
"""The format's own bound on one metric of one line."""

_DIMENSIONS = [["Model", "Endpoint"], ["Model"]]


@dataclass(frozen=True)
class Emf:
    """Where metrics go, and how.

    Attributes:
        path: of the file that lines are appended to; "-" is the standard output.
        interval_s: from the first measure to the line that tells it, with all others since.
        namespace: of the metrics in CloudWatch.
        values_max: so many values of one metric are kept an interval; of more, a uniform sample of that size.
    """

    path: str | Path
    interval_s: float = 10.0
    namespace: str = "Pexdock"
    values_max: int = 500

    @property
    def metrics_config(self) -> MetricsConfig:
        """What the processes that measure must know."""
        return MetricsConfig(self.interval_s, self.values_max)


def emf_lines(measures: MetricsReport, namespace: str) -> Iterator[bytes]:
    """What one process says of one endpoint: a line, or several where a metric has more values than one may hold.

    Counts stand in the first line, and so do count, sum and bounds of all values, as the property `Summaries`: they are exact where the
    values are a sample.
    """
    parts = max((-(-len(values.sample) // _VALUES_PER_LINE) for values in measures.summaries.values()), default=1)
    for part in range(parts):
        yield _line(measures, part, namespace)


def _line(measures: MetricsReport, part: int, namespace: str) -> bytes:
    metrics: dict[str, Any] = dict(measures.counts) if part == 0 else {}
    for name, values in measures.summaries.items():
        if piece := values.sample[part * _VALUES_PER_LINE : (part + 1) * _VALUES_PER_LINE]:
            metrics[name] = [_number(name, value) for value in piece]
    directive = {"Namespace": namespace, "Dimensions": _DIMENSIONS, "Metrics": [{"Name": name, "Unit": _unit(name)} for name in metrics]}
    properties = {"Model": measures.model, "Endpoint": measures.endpoint, "Version": measures.version}
    summaries = {"Summaries": {name: _summary(name, values) for name, values in measures.summaries.items()}} if part == 0 else {}
    document = {"_aws": {"Timestamp": measures.until_ms, "CloudWatchMetrics": [directive]}, **properties, **metrics, **summaries}
    return msgspec.json.encode(document) + b"\n"


def _summary(name: str, values: ValueSummary) -> dict[str, Any]:
    bounds = {"Sum": values.sum, "Min": values.min, "Max": values.max}
    return {"Count": values.count, **{key: _number(name, value) for key, value in bounds.items()}}


def _unit(name: str) -> str:
    """A worker of another base may measure what is unknown here."""
    return METRICS[name].unit if name in METRICS else "None"


def _number(name: str, value: float) -> float:
    """To the microsecond; rows are whole."""
    return int(value) if _unit(name) == Unit.COUNT else round(value, 3)
