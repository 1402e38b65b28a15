"""Requests that share a batch get the responses that they would get unbatched."""

from __future__ import annotations

from itertools import pairwise

import polars as pl
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import frames
from base.schema.wire import Column, columns_to_arrow
from runtime.front.codecs.decoder import RowDecoder, decode_body
from runtime.front.codecs.encoder import ReplyEncoder, ResponseFormat


@st.composite
def shared(draw: st.DrawFn) -> tuple[dict[str, Column], list[tuple[str, pl.DataFrame]]]:
    """Draws the columns of a schema and the rows of several requests, each with its own media type."""
    columns, frame = draw(frames.admitted(min_rows=1))
    cuts = sorted(draw(st.lists(st.integers(0, frame.height), max_size=3)))
    parts = [frame[start:end] for start, end in pairwise([0, *cuts, frame.height]) if start < end]
    return columns, [(draw(st.sampled_from(sorted(frames.BODIES))), part) for part in parts]


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(shared(), st.sampled_from(ResponseFormat))
def test_a_batched_response_equals_the_unbatched_one(
    given_: tuple[dict[str, Column], list[tuple[str, pl.DataFrame]]], form: ResponseFormat
) -> None:
    """For all dtypes and media types, a handler that returns its rows gives each request exactly its own rows."""
    columns, requests = given_
    decoder = RowDecoder(columns_to_arrow(columns))
    rows = [decode_body(decoder, media, frames.BODIES[media](part)) for media, part in requests]
    batched, start = ReplyEncoder(decoder.batches.build_batch(rows)), 0
    for number, each in enumerate(rows):
        alone = ReplyEncoder(decoder.batches.build_batch([each]))
        assert said(form, batched.encode_body(form, f"id {number}", start, each.count)) == said(
            form, alone.encode_body(form, f"id {number}", 0, each.count)
        )
        start += each.count


def said(form: ResponseFormat, body: bytes) -> object:
    """Returns the content of a body: two equal Arrow streams may pad their buffers differently."""
    is_arrow = form in {ResponseFormat.ARROW, ResponseFormat.ARROW_VIEWS}
    return repr(pa.ipc.open_stream(body).read_all().to_pydict()) if is_arrow else body
