"""The segments that a front door has sent to a worker."""

from __future__ import annotations

import os

import pytest

from base.errors import PeerError
from base.ipc.segment import Segment
from base.worker.link.segment_table import SegmentTable


def test_a_second_segment_under_a_used_id_is_refused_and_its_descriptor_closed() -> None:
    """The first one stays attached, and neither leaves a descriptor behind."""
    with Segment.create(65536) as segment:
        table = SegmentTable()
        table.attach(1, segment.size, os.dup(segment.fd))
        second = os.dup(segment.fd)
        with pytest.raises(PeerError, match="attached already"):
            table.attach(1, segment.size, second)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(second)
        table.detach(1)
        with pytest.raises(PeerError, match="no segment 1"):
            table.detach(1)
        table.close()
