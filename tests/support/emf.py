"""Checks lines of CloudWatch's embedded metric format against its published JSON schema and the rules of its specification.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import json
import time
from collections import Counter, defaultdict
from pathlib import Path

import jsonschema

_UNITS = [
    *("Seconds", "Microseconds", "Milliseconds"),
    *(f"{prefix}{unit}{per}" for unit in ("bytes", "bits") for prefix in ("Kilo", "Mega", "Giga", "Tera") for per in ("", "/Second")),
    *("Bytes", "Bits", "Bytes/Second", "Bits/Second", "Percent", "Count", "Count/Second", "None"),
]
_NAME = {"type": "string", "pattern": "^(.*)$", "minLength": 1, "maxLength": 255}

SCHEMA = {
    "type": "object",
    "required": ["_aws"],
    "properties": {
        "_aws": {
            "type": "object",
            "required": ["Timestamp", "CloudWatchMetrics"],
            "properties": {
                "Timestamp": {"type": "integer"},
                "CloudWatchMetrics": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["Namespace", "Dimensions", "Metrics"],
                        "properties": {
                            "Namespace": _NAME,
                            "Dimensions": {
                                "type": "array",
                                "minItems": 1,
                                "items": {"type": "array", "minItems": 0, "maxItems": 9, "items": _NAME},
                            },
                            "Metrics": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "required": ["Name"],
                                    "properties": {
                                        "Name": _NAME,
                                        "Unit": {"type": "string", "enum": _UNITS},
                                        "StorageResolution": {"type": "integer", "enum": [1, 60]},
                                    },
                                },
                            },
                        },
                    },
                },
            },
        }
    },
}
"""The constraints of the published schema, without its titles and examples. Where editions differ (9 or 30 dimensions), the stricter."""

LINE_MAX_BYTES = 256 * 1024
"""Of a log event; 1 MiB by newer editions."""

_VALIDATOR = jsonschema.Draft7Validator(SCHEMA)


def checked(line: bytes) -> dict:
    """Returns the document of one line.

    Raises:
        AssertionError, jsonschema.ValidationError: The line breaks the specification.
    """
    assert line.endswith(b"\n")
    assert b"\n" not in line[:-1]
    assert len(line) <= LINE_MAX_BYTES
    document = json.loads(line)
    _VALIDATOR.validate(document)
    assert 0 <= time.time() * 1000 - document["_aws"]["Timestamp"] < 3_600_000, "the timestamp is not now, in milliseconds"
    for directive in document["_aws"]["CloudWatchMetrics"]:
        assert set(directive) == {"Namespace", "Dimensions", "Metrics"}
        _check_targets(document, directive)
    return document


def _check_targets(document: dict, directive: dict) -> None:
    names = [each["Name"] for each in directive["Metrics"]]
    assert 0 < len(names) == len(set(names)) <= 100
    for name in (name for dimensions in directive["Dimensions"] for name in dimensions):
        assert isinstance(document[name], str)
        assert 1 <= len(document[name]) <= 1024
    for name in names:
        values = document[name] if isinstance(document[name], list) else [document[name]]
        assert 0 < len(values) <= 100
        assert all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


class Totals:
    """The sums of many lines, by model and endpoint.

    Attributes:
        counts: Sums of metrics that are numbers.
        summed: Sums of `Summaries`' counts.
        values: Values of metrics that are arrays, in order.
        documents: All lines of endpoints. Those of a whole model, or of a process, are only checked.
    """

    def __init__(self, lines: bytes) -> None:
        self.documents = [each for line in lines.splitlines(keepends=True) if (each := checked(line)).get("Endpoint")]
        self.counts: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self.summed: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self.values: defaultdict[tuple[str, str], defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for document in self.documents:
            self._add(document)

    @staticmethod
    def of(path: Path) -> "Totals":
        """Returns the sums of a file, which may have other lines, too, or not exist yet."""
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        return Totals(b"".join(line for line in lines if line.startswith(b'{"_aws"')))

    def _add(self, document: dict) -> None:
        key = document["Model"], document["Endpoint"]
        for metric in document["_aws"]["CloudWatchMetrics"][0]["Metrics"]:
            value = document[metric["Name"]]
            if isinstance(value, list):
                self.values[key][metric["Name"]] += value
            else:
                self.counts[key][metric["Name"]] += value
        for name, summary in document.get("Summaries", {}).items():
            self.summed[key][name] += summary["Count"]
