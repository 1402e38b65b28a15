"""Frames through a real segment."""

from __future__ import annotations

import gc

import polars as pl
import pyarrow as pa
import pytest
from polars import CompatLevel

from base.errors import PeerError
from base.ipc import frames
from base.ipc.segment import Segment


def batch(rows: int) -> pa.RecordBatch:
    frame = pl.DataFrame({"a": range(rows), "b": [f"text {i}" for i in range(rows)]})
    return frame.to_arrow(compat_level=CompatLevel.newest()).combine_chunks().to_batches()[0]


@pytest.mark.parametrize("rows", [1, 100, 50_000])
@pytest.mark.parametrize("known", [True, False])
def test_a_frame_is_read_as_it_was_written(rows: int, known: bool) -> None:
    """Small and large, with and without its schema, and no larger than its upper bound."""
    original = batch(rows)
    with Segment.create(frames.frame_size_max(original, known_schema=known)) as segment:
        written = frames.write_frame(original, segment.memory, known_schema=known)
        assert written.length <= frames.frame_size_max(original, known_schema=known)
        read = frames.read_frame(segment.memory[: written.length], written.flags, original.schema if known else None)
        assert read.equals(original)
        del read


def test_a_large_frame_that_is_retained_is_detected() -> None:
    """A handler may keep its frame; the memory must then not be written again."""
    original = batch(50_000)
    with Segment.create(frames.frame_size_max(original, known_schema=False)) as segment:
        written = frames.write_frame(original, segment.memory, known_schema=False)
        read, is_retained = frames.read_frame_watched(segment.memory[: written.length], written.flags, None)
        kept = pl.DataFrame(read)["b"].head(1)
        del read
        assert is_retained()
        del kept
        gc.collect()
        assert not is_retained()


def test_a_small_frame_does_not_change_with_its_memory() -> None:
    """Slots are reused at once, so a frame that was read from one must be a copy."""
    original = batch(10)
    with Segment.create(4096) as segment:
        written = frames.write_frame(original, segment.memory, known_schema=True)
        read, is_retained = frames.read_frame_watched(segment.memory[: written.length], written.flags, original.schema)
        segment.memory[: written.length] = bytes(written.length)
        assert read.equals(original)
        assert not is_retained()


@pytest.mark.parametrize("flags", [0, 1])
@pytest.mark.parametrize("data", [b"", b"garbage!" * 10, bytes(64), b"\xff\xff\xff\xff" + bytes(60)])
def test_invalid_frames_are_refused(data: bytes, flags: int) -> None:
    """The other side of a segment is not trusted."""
    with pytest.raises(PeerError):
        frames.read_frame(memoryview(data), flags, batch(1).schema)
