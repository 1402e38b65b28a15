"""Results that are stored as an Arrow stream, in every format: as a response with the same rows."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from itertools import pairwise
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import frames
from runtime.front.codecs.encoder import ReplyEncoder, ResponseFormat
from runtime.front.codecs.stored_rows import encode_stored_rows

ROWS = pl.DataFrame({"n,1": [1, 2, 3], "text": ['a "b"', None, "c\nd"], "l": [[1.5], [], None], "f": [0.5, float("nan"), 2.0]})


def store(path: Path, *batches: pa.RecordBatch) -> Path:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, batches[0].schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
    return path


def encode(path: Path, form: ResponseFormat, *, one_record: bool = False) -> bytes:
    out = io.BytesIO()
    encode_stored_rows(path, form, "my-job", out, one_record=one_record)
    return out.getvalue()


@pytest.mark.parametrize("form", [ResponseFormat.JSON, ResponseFormat.NDJSON, ResponseFormat.CSV])
@pytest.mark.parametrize("cuts", [(), (1,), (1, 1, 2)], ids=["one batch", "two", "an empty one"])
def test_several_batches_are_one_body(tmp_path: Path, form: ResponseFormat, cuts: tuple[int, ...]) -> None:
    batch = frames.batch(ROWS)
    ends = [0, *cuts, 3]
    stored = store(tmp_path / "result", *(batch.slice(start, end - start) for start, end in pairwise(ends)))
    assert encode(stored, form) == bytes(ReplyEncoder(batch).encode_body(form, "my-job", 0, 3))


def test_independent_readers_read_the_rows(tmp_path: Path) -> None:
    batch = frames.batch(ROWS)
    stored = store(tmp_path / "result", batch.slice(0, 2), batch.slice(2))
    found = json.loads(encode(stored, ResponseFormat.JSON))
    assert found["id"] == "my-job"
    assert [row["n,1"] for row in found["predictions"]] == [1, 2, 3]
    assert found["predictions"][1] == {"n,1": 2, "text": None, "l": [], "f": None}
    lines = [json.loads(line) for line in encode(stored, ResponseFormat.NDJSON).splitlines()]
    assert lines == found["predictions"]
    names, *rows = csv.reader(io.StringIO(encode(stored, ResponseFormat.CSV).decode(), newline=""))
    assert names == ["n,1", "text", "l", "f"]
    assert [(row[0], row[1]) for row in rows] == [("1", 'a "b"'), ("2", ""), ("3", "c\nd")]
    table = pq.read_table(io.BytesIO(encode(stored, ResponseFormat.PARQUET)))
    assert (table["n,1"].to_pylist(), table["l"].to_pylist()) == ([1, 2, 3], [[1.5], [], None])


@pytest.mark.parametrize("form", list(ResponseFormat))
def test_a_result_without_rows_has_a_form(tmp_path: Path, form: ResponseFormat) -> None:
    if form not in {ResponseFormat.ARROW, ResponseFormat.ARROW_VIEWS}:
        body = encode(store(tmp_path / "result", frames.batch(ROWS).slice(0, 0)), form)
        expected = {ResponseFormat.JSON: b'{"id":"my-job","predictions":[]}', ResponseFormat.NDJSON: b""}
        assert body == expected[form] if form in expected else body


def test_scalars_stay_scalars(tmp_path: Path) -> None:
    batch = pa.record_batch({"prediction": pa.array([1, 2, 3])})
    assert json.loads(encode(store(tmp_path / "result", batch), ResponseFormat.JSON))["predictions"] == [1, 2, 3]


def test_one_record_is_no_list(tmp_path: Path) -> None:
    stored = store(tmp_path / "result", frames.batch(pl.DataFrame({"a": [1], "table": [[{"x": 1}, {"x": 2}]]})))
    assert json.loads(encode(stored, ResponseFormat.JSON, one_record=True))["predictions"] == {"a": 1, "table": [{"x": 1}, {"x": 2}]}
    assert encode(stored, ResponseFormat.NDJSON, one_record=True) == b'{"a":1,"table":[{"x":1},{"x":2}]}\n'


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """The traced memory is that of Python and numpy: a body of more than 30 MB takes less than 8 MB of it."""
    batch = frames.batch(pl.DataFrame({"text": ["x" * 10_000] * 3_000}))
    stored = store(tmp_path / "result", batch)
    with (tmp_path / "body").open("wb") as out:
        tracemalloc.start()
        try:
            encode_stored_rows(stored, ResponseFormat.NDJSON, "my-job", out, one_record=False)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (tmp_path / "body").stat().st_size > 30e6
    assert peak < 8e6
