"""The shared memory segments that one front door has sent to this worker."""

from __future__ import annotations

import os

from base.errors import PeerError
from base.ipc.protocol import SegmentSlice
from base.ipc.segment import Segment


class SegmentTable:
    """Maps segment ids to mapped segments."""

    def __init__(self) -> None:
        self._segments: dict[int, Segment] = {}

    def attach(self, segment_id: int, length: int, fd: int | None) -> None:
        """Maps a segment; closes its descriptor in any case.

        Raises:
            PeerError: The descriptor is missing, the id is in use, or the file is not a segment of that length.
        """
        if fd is None:
            raise PeerError("a segment without a descriptor")
        if segment_id in self._segments:
            os.close(fd)
            raise PeerError(f"segment {segment_id} is attached already")
        self._segments[segment_id] = Segment.map_received(fd, length)

    def detach(self, segment_id: int) -> None:
        """Unmaps a segment; its id can be used again.

        Raises:
            PeerError: There is no such segment.
        """
        segment = self._segments.pop(segment_id, None)
        if segment is None:
            raise PeerError(f"there is no segment {segment_id}")
        segment.close()

    def slice_view(self, place: SegmentSlice) -> memoryview:
        """Returns the memory of a slice, writable.

        Raises:
            PeerError: There is no such segment, or the slice is not inside the segment.
        """
        segment = self._segments.get(place.segment)
        if segment is None:
            raise PeerError(f"there is no segment {place.segment}")
        return segment.slice_view(place)

    def close(self) -> None:
        """Unmaps all segments. Idempotent."""
        for segment in self._segments.values():
            segment.close()
        self._segments.clear()
