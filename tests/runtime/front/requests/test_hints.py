"""Hints in clients' headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import Malformed
from runtime.front.requests.hints import NO_HINTS, RequestHints, hints_from_headers, parse_hints


def test_headers_without_hints_give_none() -> None:
    """The common case creates no object."""
    assert hints_from_headers({b"accept": b"*/*"}) is NO_HINTS


@pytest.mark.parametrize("value", [b"0", b"-1", b"1.5", b"1e3", b"soon", b" 5", b"+5", b"5,5", "\u0665".encode(), b"9" * 13])
def test_an_invalid_timeout_is_refused(value: bytes) -> None:
    """A client whose deadline was ignored silently would wait for ever."""
    with pytest.raises(Malformed, match="X-Request-Timeout-Ms"):
        parse_hints(value, b"")


@pytest.mark.parametrize(
    ("value", "urgency"),
    [
        (b"u=0", 0),
        (b"u=7", 7),
        (b"i, u=1", 1),
        (b"u=2, i", 2),
        (b"u=5;x=1", 5),
        (b"u=5, i, u=1", 1),
        (b"", 3),
        (b"i", 3),
        (b"u=8", 3),
        (b"u=-1", 3),
        (b"u=12", 3),
        (b"xu=1", 3),
        (b"high", 3),
    ],
)
def test_urgency_is_parsed_as_in_the_rfc(value: bytes, urgency: int) -> None:
    """Parameters that cannot be parsed are ignored."""
    assert hints_from_headers({b"priority": value}).urgency == urgency


@pytest.mark.parametrize(
    ("value", "strict"),
    [
        (b"handling=strict", True),
        (b'Handling = "strict"', True),
        (b"respond-async, wait=10,handling=strict; x=1", True),
        (b"handling=strict, handling=lenient", True),
        (b"handling=lenient, handling=strict", False),
        (b"handling=strictly", False),
        (b"xhandling=strict", False),
        (b"x; handling=strict", False),
        (b'x="handling=strict"', False),
        (b"handling", False),
        (b"", False),
    ],
)
def test_strict_handling_is_preferred_as_in_the_rfc(value: bytes, strict: bool) -> None:
    """RFC 7240, 2 and 4.4: preferences are separated by commas, and of equal ones the first counts. Unknown ones are ignored."""
    assert hints_from_headers({b"prefer": value}).strict is strict


@given(st.integers(1, 10**12 - 1), st.binary(max_size=20))
def test_one_header_does_not_change_how_the_other_is_parsed(timeout_ms: int, priority: bytes) -> None:
    """For any bytes that a client may send."""
    found = parse_hints(str(timeout_ms).encode(), priority)
    assert found == RequestHints(timeout_ms, parse_hints(b"", priority).urgency)
