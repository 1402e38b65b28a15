"""Segments, mapped from the descriptors of both sides."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pyarrow as pa
import pytest

from base.errors import PeerError
from base.ipc.protocol import SegmentSlice
from base.ipc.segment import Segment, rounded_size


def test_both_sides_share_the_memory() -> None:
    """Two mappings of one segment are one memory."""
    with Segment.create(100) as made, Segment.map_received(os.dup(made.fd), made.size) as mapped:
        made.slice_view(SegmentSlice(0, 10, 5))[:] = b"hello"
        assert bytes(mapped.slice_view(SegmentSlice(0, 10, 5))) == b"hello"


@pytest.mark.parametrize(
    "place", [SegmentSlice(0, 0, 4097), SegmentSlice(0, 4096, 1), SegmentSlice(0, 2**63, 2**63), SegmentSlice(0, 4000, 2**64 - 1)]
)
def test_a_slice_outside_the_segment_is_refused(place: SegmentSlice) -> None:
    """Offsets and lengths come from the other side, which is not trusted."""
    with Segment.create(4096) as segment, pytest.raises(PeerError):
        segment.slice_view(place)


def test_a_segment_cannot_be_shrunk() -> None:
    """A file that shrinks under a mapping would kill the other side with SIGBUS."""
    with Segment.create(4096) as segment, pytest.raises(PermissionError):
        os.ftruncate(segment.fd, 0)


def test_a_descriptor_of_another_size_or_kind_is_refused_and_closed() -> None:
    """A peer may send any descriptor."""
    reader, writer = os.pipe()
    unsealed = os.memfd_create("unsealed")
    os.ftruncate(unsealed, 4096)
    with Segment.create(4096) as segment:
        for fd, size in ((os.dup(segment.fd), 8192), (reader, 4096), (unsealed, 4096)):
            with pytest.raises(PeerError):
                Segment.map_received(fd, size)
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)
    os.close(writer)


def test_a_frame_outlives_the_close_of_its_segment() -> None:
    """An Arrow buffer over a closed segment still has its bytes, and no freed memory."""
    segment = Segment.create(4096)
    segment.memory[:3] = b"abc"
    buffer = pa.py_buffer(segment.slice_view(SegmentSlice(0, 0, 3)))
    segment.close()
    segment.close()
    assert buffer.to_pybytes() == b"abc"


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="this kernel has pages of one size only")
def test_large_segments_ask_for_large_pages_and_small_ones_do_not() -> None:
    """On both sides; a small one would waste memory."""
    for size, expected in ((8 * 1024**2, False), (16 * 1024**2 + 1, True)):
        with Segment.create(size) as made, Segment.map_received(os.dup(made.fd), made.size) as mapped:
            assert made.size == mapped.size == rounded_size(size)
            found = re.findall(r"^\S+ rw-s .*memfd:pexdock.*(?:\n.*?)*?^VmFlags: (.*)$", Path("/proc/self/smaps").read_text(), re.MULTILINE)
            assert [("hg" in flags.split()) for flags in found] == [expected, expected]
    assert rounded_size(16 * 1024**2 + 1) == 18 * 1024**2
    assert rounded_size(5000) == 8192
