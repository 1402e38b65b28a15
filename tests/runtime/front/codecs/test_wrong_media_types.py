"""A body that is sent with the media type of another format is refused, whatever columns its bytes would make."""

from __future__ import annotations

import csv
import gzip
import io
import json
from itertools import product

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from base.errors import Malformed, Misfit
from base.schema.wire import Column, columns_to_arrow
from reader_bodies import ARROW, PARQUET, arrow
from runtime.front.codecs.decoder import RowDecoder, decode_body

ROWS = [{"i": 1, "s": "a,b"}, {"i": 2, "s": '"'}]
TABLE = pa.Table.from_pylist(ROWS)
MEDIA = ("application/json", "application/x-ndjson", "text/csv", ARROW, PARQUET)
DECODERS = {
    "required columns": RowDecoder(columns_to_arrow({"i": Column(pl.Int64(), False), "s": Column(pl.String(), False)})),
    "optional columns": RowDecoder(columns_to_arrow({"i": Column(pl.Int64(), True), "s": Column(pl.String(), True)})),
    "no columns": RowDecoder(columns_to_arrow({})),
    "no schema": RowDecoder(None),
}


def file(rows: list[dict[str, object]]) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, TABLE.schema) as out:
        out.write_table(pa.Table.from_pylist(rows))
    return sink.getvalue()


def parquet(rows: list[dict[str, object]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def table(delimiter: str) -> bytes:
    cells = io.StringIO(newline="")
    csv.writer(cells, delimiter=delimiter).writerows([["i", "s"], *(row.values() for row in ROWS)])
    return cells.getvalue().encode()


BODIES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "an array": (json.dumps(ROWS).encode(), ("application/json",)),
    "an array without spaces": (json.dumps(ROWS, separators=(",", ":")).encode(), ("application/json",)),
    "an array on several lines": (json.dumps(ROWS, indent=2).encode(), ("application/json",)),
    "an array of texts": (json.dumps([json.dumps(row) for row in ROWS]).encode(), ("application/json",)),
    "no rows": (b"[]", ("application/json",)),
    "an object": (json.dumps(ROWS[0]).encode(), ("application/json", "application/x-ndjson")),
    "an object on several lines": (json.dumps(ROWS[0], indent=2).encode(), ("application/json",)),
    "lines": ("".join(json.dumps(row) + "\n" for row in ROWS).encode(), ("application/x-ndjson",)),
    "objects on one line": (b"".join(json.dumps(row).encode() for row in ROWS), ()),
    "objects on one line before an empty one": (b"".join(json.dumps(row).encode() for row in ROWS) + b"\n\n", ()),
    "lines with empty ones between": ("".join(json.dumps(row) + "\n\r\n" for row in ROWS).encode(), ("application/x-ndjson",)),
    "lines after a space": ("".join(f" {json.dumps(row)}\r\n" for row in ROWS).encode(), ("application/x-ndjson",)),
    "cells": (table(","), ("text/csv",)),
    "cells between semicolons": (table(";"), ()),
    "cells between tabs": (table("\t"), ()),
    "a stream": (arrow(*TABLE.to_batches()), (ARROW,)),
    "a file of Arrow": (file(ROWS), ()),
    "a Parquet file": (parquet(ROWS), (PARQUET,)),
    "a form": (b"i=1&s=a", ()),
    "a form of one field": (b"i=1", ()),
    "a form in parts": (b'--x\r\nContent-Disposition: form-data; name="i"\r\n\r\n1\r\n--x--\r\n', ()),
    "a page": (b"<!DOCTYPE html>\n<html><body>bad gateway</body></html>\n", ()),
    "XML": (b'<?xml version="1.0"?>\n<i>1</i>\n', ()),
    "a spreadsheet": (b"PK\x03\x04\x14\x00\x06\x00\n\x00\n", ()),
    "compressed cells": (gzip.compress(table(",")), ()),
    "compressed lines": (gzip.compress(json.dumps(ROWS[0]).encode()), ()),
    "cells in UTF-16": (table(",").decode().encode("utf-16"), ()),
}
"""Bodies, and the media types that they have."""


@pytest.mark.parametrize("name", BODIES)
def test_a_body_has_rows_only_with_its_own_media_type(name: str) -> None:
    """Also if an endpoint needs none of the columns, so that it would take any."""
    body, own = BODIES[name]
    for media, decoder in product(MEDIA, DECODERS.values()):
        for sent in (body, b"\xef\xbb\xbf" + body) if media == "text/csv" else (body,):
            if media in own:
                assert decode_body(decoder, media, sent).count == (0 if name == "no rows" else 1 if "an object" in name else 2)
            else:
                with pytest.raises((Malformed, Misfit)):
                    decode_body(decoder, media, sent)


@pytest.mark.parametrize("header", ["<TICKER>,<PER>", "[id],[name]", "[x", "{x}", "{}", "[]", "--,a", "a=b,c", "PARAM", "html"])
def test_a_name_may_look_like_the_beginning_of_another_format(header: str) -> None:
    cells = ",".join("1" for _ in header.split(","))
    assert decode_body(RowDecoder(None), "text/csv", f"{header}\n{cells}\n".encode()).count == 1


def test_the_refusal_of_columns_says_what_to_send() -> None:
    """An Arrow file (Feather) is often taken for a stream."""
    for decoder in DECODERS.values():
        with pytest.raises(Malformed, match="the body is an Arrow file; send an Arrow stream"):
            decode_body(decoder, ARROW, file(ROWS))
        with pytest.raises(Malformed, match="send the media type of the body as Content-Type"):
            decode_body(decoder, ARROW, json.dumps(ROWS).encode())


def test_objects_without_fields_are_no_cells() -> None:
    for body in (b"{}", b"{}\n{}\n", b" [ ]\n", b"[{},{}]"):
        with pytest.raises(Malformed, match="looks like JSON; set Content-Type"):
            decode_body(RowDecoder(None), "text/csv", body)


def test_a_name_that_is_declared_or_quoted_is_a_name() -> None:
    decoder = RowDecoder(columns_to_arrow({"{}": Column(pl.Int64(), True)}))
    assert decode_body(decoder, "text/csv", b"{}\n1\n").count == decode_body(RowDecoder(None), "text/csv", b'"[]"\n1\n').count == 1
