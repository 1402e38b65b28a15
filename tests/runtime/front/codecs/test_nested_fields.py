"""Fields of nested objects count as columns do, and as values in rows without them, before they become columns."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from base.errors import Misfit, TooLarge
from runtime.front.codecs.decoder import RowDecoder, decode_body
from runtime.front.codecs.values import limits

JSON = "application/json"

Rows = list[dict[str, Any]]

SEVEN: Rows = [{"a": {"x": 1, "y": {"z": 2}}}, {"a": {"w": 3}}, {"b": [{"v": 1}]}]
"""Rows with the columns and fields a, b, a.x, a.y, a.w, a.y.z and b[].v."""


def lines(rows: Rows) -> bytes:
    return b"\n".join(map(msgspec.json.encode, rows))


def stream(rows: Rows) -> bytes:
    sink, table = io.BytesIO(), table_of(rows)
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    return sink.getvalue()


def parquet(rows: Rows) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table_of(rows), sink)
    return sink.getvalue()


def table_of(rows: Rows) -> pa.Table:
    return pa.table({name: pa.array([row.get(name) for row in rows]) for name in dict.fromkeys(name for row in rows for name in row)})


BODIES: dict[str, Callable[[Rows], bytes]] = {
    JSON: msgspec.json.encode,
    "application/x-ndjson": lines,
    "application/vnd.apache.arrow.stream": stream,
    "application/vnd.apache.parquet": parquet,
}


def decoded(media: str, rows: Rows, columns_max: int) -> Rows:
    found = decode_body(RowDecoder(None, columns_max=columns_max), media, BODIES[media](rows)).records
    assert isinstance(found, pa.RecordBatch)
    return found.to_pylist()


@pytest.mark.parametrize("media", BODIES)
def test_fields_of_objects_at_every_depth_count_as_columns(media: str) -> None:
    assert decoded(media, SEVEN, 7) == [
        {"a": {"x": 1, "y": {"z": 2}, "w": None}, "b": None},
        {"a": {"x": None, "y": None, "w": 3}, "b": None},
        {"a": None, "b": [{"v": 1}]},
    ]
    with pytest.raises(TooLarge, match="the request has 7 columns, limit 6; send fewer columns, or raise columns_max"):
        decoded(media, SEVEN, 6)


@pytest.mark.parametrize(
    "rows",
    [
        [{"a": {f"k{number}": 1}} for number in range(1000)],
        [{"a": [[{f"k{number}": 1} for number in range(1000)]]}],
        [{f"c{number}": {f"k{number}": 1}} for number in range(501)],
    ],
    ids=["a field per row", "in lists", "in several columns"],
)
def test_json_with_too_many_fields_never_reaches_arrow(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow would take seconds, without letting other threads run."""
    monkeypatch.setattr(pa, "array", None)
    monkeypatch.setattr(pa, "infer_type", None)
    for media in (JSON, "application/x-ndjson"):
        with pytest.raises(TooLarge, match="columns, limit 1000"):
            decoded(media, rows, 1000)


@pytest.mark.parametrize("nest", [lambda fields: fields, lambda fields: {"a": fields}, lambda fields: {"a": [fields]}])
def test_fields_that_rows_do_not_have_take_no_more_than_a_body_may_expand_to(
    nest: Callable[[dict[str, int]], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 rows without 100 fields take 100 x 100 values of 8 bytes. Values that the body has do not count."""
    fields = {f"k{number}": number for number in range(100)}
    sparse, dense = [nest(fields)] + [nest({})] * 100, [nest(fields)] * 101
    monkeypatch.setattr(limits, "EXPANDED_MAX_BYTES", 80_000)
    assert decoded(JSON, sparse, 1000)[0] == nest(fields)
    monkeypatch.setattr(limits, "EXPANDED_MAX_BYTES", 79_999)
    assert decoded(JSON, dense, 1000) == dense
    with pytest.raises(TooLarge, match="the body expands to more than 79999 bytes; send fewer rows at once"):
        decoded(JSON, sparse, 1000)


def test_many_nested_rows_have_the_types_of_all_their_values() -> None:
    """They become columns some at a time. A number with a fraction and a new field come last."""
    rows: Rows = [{"n": number, "a": {"x": number, "l": [{"y": number}] * (number % 3)}} for number in range(10_000)]
    rows.append({"n": 0.5, "a": {"x": 0.5, "l": [{"y": None}], "last": "s"}})
    found = decoded(JSON, rows, 1000)
    assert found[:-1] == [{"n": row["n"], "a": {**row["a"], "last": None}} for row in rows[:-1]]
    assert found[-1] == rows[-1]
    assert {type(row["n"]) for row in found} == {type(row["a"]["x"]) for row in found} == {float}
    with pytest.raises(Misfit, match="column 'a': its values have different types"):
        decoded(JSON, [*rows, {"a": {"x": "text"}}], 1000)


@pytest.mark.parametrize("wrap", [lambda inner: {"a": inner}, lambda inner: [inner]], ids=["objects", "lists"])
@pytest.mark.parametrize("depth", [33, 300])
def test_values_are_nested_as_deeply_as_polars_can_read(wrap: Callable[[object], object], depth: int) -> None:
    def nested(levels: int) -> object:
        return wrap(nested(levels - 1)) if levels else 1

    row = {"column": nested(32)}
    assert decoded(JSON, [row], 1000) == [row]
    with pytest.raises(Misfit, match="'column': values are nested more than 32 levels deep"):
        decoded(JSON, [{"column": nested(depth)}], 1000)
