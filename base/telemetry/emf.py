"""Metrics as lines of CloudWatch's embedded metric format (EMF). Pure.

The format: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from base.ipc.metrics_report import MetricsConfig, MetricsReport, ValueSummary
from base.telemetry.metrics import METRICS, Unit

_VALUES_PER_LINE = 100
"""The format's limit for the values of one metric in one line."""

_DIMENSIONS = [["Model", "Endpoint"], ["Model"]]
_MODEL_DIMENSIONS = [["Model"]]
"""The dimensions of metrics of a whole model."""
_PROCESS_DIMENSIONS = [["Process"]]
"""The dimensions of metrics of Pexdock's own processes."""


@dataclass(frozen=True)
class Emf:
    """Configures metrics in CloudWatch's embedded metric format.

    Attributes:
        path: File that lines are appended to; "-" is the standard output.
        interval_s: Time from the first entry to the line that reports it, together with everything since.
        namespace: Namespace of the metrics in CloudWatch.
        values_max: Maximum number of values that each metric keeps in an interval; of more values, it keeps a uniform sample of this size.
    """

    path: str | Path
    interval_s: float = 10.0
    namespace: str = "Pexdock"
    values_max: int = 500

    @property
    def metrics_config(self) -> MetricsConfig:
        """Returns the part of the configuration that the measuring processes need."""
        return MetricsConfig(self.interval_s, self.values_max)


def emf_lines(report: MetricsReport, namespace: str) -> Iterator[bytes]:
    """Yields the lines of one report: several if a metric has more values than one line may hold.

    The first line holds the counts. Its property `Summaries` holds the count, sum and bounds of all values, which are exact even if the
    values are a sample.
    """
    parts = max((-(-len(values.sample) // _VALUES_PER_LINE) for values in report.summaries.values()), default=1)
    for part in range(parts):
        yield _line(report, part, namespace)


def _line(report: MetricsReport, part: int, namespace: str) -> bytes:
    metrics: dict[str, Any] = dict(report.counts) if part == 0 else {}
    for name, values in report.summaries.items():
        if piece := values.sample[part * _VALUES_PER_LINE : (part + 1) * _VALUES_PER_LINE]:
            metrics[name] = [_number(name, value) for value in piece]
    if not report.model:
        dimensions, properties = _PROCESS_DIMENSIONS, {"Process": report.endpoint}
    else:
        dimensions = _DIMENSIONS if report.endpoint else _MODEL_DIMENSIONS
        properties = {"Model": report.model, "Endpoint": report.endpoint, "Version": report.version}
    directive = {"Namespace": namespace, "Dimensions": dimensions, "Metrics": [{"Name": name, "Unit": _unit(name)} for name in metrics]}
    summaries = {"Summaries": {name: _summary(name, values) for name, values in report.summaries.items()}} if part == 0 else {}
    document = {"_aws": {"Timestamp": report.until_ms, "CloudWatchMetrics": [directive]}, **properties, **metrics, **summaries}
    return msgspec.json.encode(document) + b"\n"


def _summary(name: str, values: ValueSummary) -> dict[str, Any]:
    bounds = {"Sum": values.sum, "Min": values.min, "Max": values.max}
    return {"Count": values.count, **{key: _number(name, value) for key, value in bounds.items()}}


def _unit(name: str) -> str:
    """Returns the unit of a metric. A worker on another base may have metrics that are unknown here."""
    return METRICS[name].unit if name in METRICS else "None"


def _number(name: str, value: float) -> float:
    """Rounds times to the microsecond; counts are whole numbers."""
    return int(value) if _unit(name) == Unit.COUNT else round(value, 3)
