"""Range requests, with the examples of RFC 9110, 14.1.2, for a representation of 10 000 bytes."""

from __future__ import annotations

import pytest

from runtime.front.app.jobs.ranges import Unsatisfiable, matches_etag, requested_range

ETAG = b'"a1"'


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"bytes=0-499", (0, 500)),
        (b"bytes=500-999", (500, 1000)),
        (b"bytes=-500", (9500, 10_000)),
        (b"bytes=9500-", (9500, 10_000)),
        (b"bytes=0-0", (0, 1)),
        (b"bytes=9999-", (9999, 10_000)),
        (b"bytes=9990-20000", (9990, 10_000)),
        (b"bytes=-20000", (0, 10_000)),
        (b"BYTES = 1 - 2", (1, 3)),
        (b"", None),
        (b"bytes=0-0,-1", None),
        (b"bytes=5-4", None),
        (b"bytes=-", None),
        (b"bytes=a-b", None),
        (b"rows=0-5", None),
        (b"bytes=0-99999999999999999999", None),
    ],
)
def test_a_single_range_is_cut_to_the_representation(value: bytes, found: tuple[int, int] | None) -> None:
    """The whole representation is sent for several ranges, other units and invalid values."""
    assert requested_range(value, b"", ETAG, 10_000) == found


@pytest.mark.parametrize("value", [b"bytes=10000-", b"bytes=20000-30000", b"bytes=-0"])
def test_a_range_without_any_byte_is_not_satisfiable(value: bytes) -> None:
    with pytest.raises(Unsatisfiable):
        requested_range(value, b"", ETAG, 10_000)


def test_an_empty_representation_has_no_range() -> None:
    with pytest.raises(Unsatisfiable):
        requested_range(b"bytes=0-", b"", ETAG, 0)


@pytest.mark.parametrize(
    ("if_range", "counts"), [(ETAG, True), (b'"b2"', False), (b'W/"a1"', False), (b"Tue, 01 Dec 2026 07:00:00 GMT", False)]
)
def test_a_range_counts_only_for_the_same_bytes(if_range: bytes, counts: bool) -> None:
    """A weak tag and a date do not identify them."""
    assert requested_range(b"bytes=0-1", if_range, ETAG, 10) == ((0, 2) if counts else None)


@pytest.mark.parametrize(("value", "same"), [(b"", False), (b'"a1"', True), (b'"x", W/"a1"', True), (b"*", True), (b'"a12"', False)])
def test_a_client_that_has_the_bytes_is_told_so(value: bytes, same: bool) -> None:
    assert matches_etag(value, ETAG) is same
