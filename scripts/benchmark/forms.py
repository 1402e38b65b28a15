"""The formats in which servers receive rows and return predictions. Pure."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

Row = dict[str, float]

ARROW = "application/vnd.apache.arrow.stream"


class Form(NamedTuple):
    """A format.

    Attributes:
        body: Converts rows to the body of a request.
        answer: Converts the body of a response to one number for each row.
    """

    body: Callable[[list[Row]], bytes]
    answer: Callable[[bytes], list[float]]
    content_type: str = "application/json"


def rows(count: int, seed: int = 0) -> list[Row]:
    """Returns rows of numbers with one or two decimals, like measurements. The same seed gives the same rows."""
    source = random.Random(seed)  # noqa: S311 - not a secret
    return [{column: source.randrange(10, 1000) / 100 for column in ("width", "length", "depth")} for _ in range(count)]


def _encoded(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _values(found: list[Row]) -> list[list[float]]:
    return [list(row.values()) for row in found]


def _tensor(found: list[Row]) -> bytes:
    """Returns a body of the Open Inference Protocol: one tensor, with its values in a flat list."""
    flat = [value for row in found for value in row.values()]
    return _encoded({"inputs": [{"name": "rows", "shape": [len(found), 3], "datatype": "FP64", "data": flat}]})


def _arrow(found: list[Row]) -> bytes:
    import pyarrow as pa  # noqa: PLC0415 - only one server reads it

    table = pa.Table.from_pylist(found)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


RECORDS = Form(_encoded, lambda reply: json.loads(reply)["predictions"])
"""An array of objects, for Pexdock and all servers that leave the format to the author."""

ARRAY = Form(lambda found: _encoded({"rows": _values(found)}), json.loads)
"""A named argument with an array of arrays."""

TENSOR = Form(_tensor, lambda reply: json.loads(reply)["outputs"][0]["data"])

STREAM = Form(_arrow, RECORDS.answer, ARROW)
"""An Arrow stream as the body of the request, JSON as that of the response."""
