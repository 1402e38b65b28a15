"""Values of handlers that stream or answer raw, as JSON."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import base.service as svc
from base.endpoint.raw import encode_json
from base.errors import BadResult
from base.worker.prediction.stream_parts import part_encoder
from runtime.front.codecs.encoder import ReplyEncoder, ResponseFormat


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, None, "é"]}, '{"a":[1,null,"é"]}'),
        (np.float32(0.5), "0.5"),
        ([np.int64(3), np.array([[1, 2]])], "[3,[[1,2]]]"),
        (pl.Series([1, None]), "[1,null]"),
        ([float("nan"), float("inf"), np.float64("nan")], "[null,null,null]"),
        (np.datetime64("2024-01-02T03:04:05.123456789", "ns"), '"2024-01-02T03:04:05.123456789"'),
        (np.array([["2024-01-02", "NaT"]], "datetime64[ns]"), '[["2024-01-02T00:00:00",null]]'),
        (np.datetime64("2024-01-02", "D"), '"2024-01-02"'),
        (np.timedelta64(5, "ns"), '"PT0.000000005S"'),
        (pl.Series([90_000], dtype=pl.Duration("ms")), '["PT1M30S"]'),
        (pl.Series([3_600_123_456_789], dtype=pl.Int64).cast(pl.Time), '["01:00:00.123456789"]'),
        (pd.Timestamp("2024-01-02T03:04:05.123456789+05:30"), '"2024-01-02T03:04:05.123456789+05:30"'),
        (pd.NaT, "null"),
    ],
    ids=repr,
)
def test_numbers_and_arrays_of_any_library_are_json(value: object, text: str) -> None:
    """Values that JSON cannot express become null."""
    assert encode_json(value).decode() == text


def nested() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


@pytest.mark.parametrize(
    "value",
    [object(), {"a": object()}, {(1, 2): "x"}, nested(), np.timedelta64(5, "M"), np.datetime64(5, "ps")],
    ids=["object", "inside", "key", "circle", "months", "picoseconds"],
)
def test_a_value_that_has_no_json_form_is_a_bad_result(value: object) -> None:
    """At any depth, and for any reason."""
    with pytest.raises(BadResult, match=r"produced a \w+ that cannot be encoded as JSON"):
        encode_json(value)


TIMES = pl.DataFrame(
    {
        "time": pl.Series([3_600_123_456_789], dtype=pl.Int64).cast(pl.Time),
        "zoned": pl.Series([0], dtype=pl.Datetime("us", "Asia/Kolkata")),
        "fine": pl.Series([1], dtype=pl.Datetime("ns")),
        "duration": pl.Series([90_000], dtype=pl.Duration("ms")),
        "none": pl.Series([0], dtype=pl.Duration("us")),
        "finest": pl.Series([5], dtype=pl.Duration("ns")),
        "bytes": pl.Series([b"\xff"]),
        "decimal": pl.Series([Decimal("1.50")], dtype=pl.Decimal(10, 2)),
    }
)
ROW = {
    "time": "01:00:00.123456789",
    "zoned": "1970-01-01T00:00:00Z",
    "fine": "1970-01-01T00:00:00.000000001",
    "duration": "PT1M30S",
    "none": "PT0S",
    "finest": "PT0.000000005S",
    "bytes": "/w==",
    "decimal": "1.50",
}


@pytest.mark.parametrize("part", [TIMES, TIMES.to_arrow(), {"rows": TIMES}], ids=["frame", "table", "record"])
def test_the_lines_of_a_stream_have_the_values_of_other_answers(part: object) -> None:
    """Nested ones as well."""
    deep = TIMES.select(pl.struct(pl.all()).alias("deep"), pl.concat_list(pl.col("finest")).alias("list"))
    encode = part_encoder(svc.endpoint("/stream")(lambda records_df: None))
    assert json.loads(encode(part)) == ({"rows": [ROW]} if isinstance(part, dict) else ROW)
    assert json.loads(encode(deep)) == {"deep": ROW, "list": ["PT0.000000005S"]}
    assert encode(deep) == ReplyEncoder(deep.to_arrow().to_batches()[0]).encode_body(ResponseFormat.NDJSON, "", 0, 1)
