"""What clients' headers wish."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import Malformed
from runtime.front.requests.headers import NONE, RequestHints, of, read


def test_nothing_is_wished_where_nothing_is_said() -> None:
    """The common case makes nothing new."""
    assert of({b"accept": b"*/*"}) is NONE


@pytest.mark.parametrize("value", [b"0", b"-1", b"1.5", b"1e3", b"soon", b" 5", b"+5", b"5,5", "\u0665".encode(), b"9" * 13])
def test_a_time_that_is_none_is_refused(value: bytes) -> None:
    """A client whose deadline is ignored in silence would wait for ever."""
    with pytest.raises(Malformed, match="X-Request-Timeout-Ms"):
        read(value, b"")


@pytest.mark.parametrize(
    ("value", "urgency"),
    [
        (b"u=0", 0),
        (b"u=7", 7),
        (b"i, u=1", 1),
        (b"u=2, i", 2),
        (b"u=5;x=1", 5),
        (b"", 3),
        (b"i", 3),
        (b"u=8", 3),
        (b"u=-1", 3),
        (b"u=12", 3),
        (b"xu=1", 3),
        (b"high", 3),
    ],
)
def test_urgency_is_read_as_the_rfc_has_it(value: bytes, urgency: int) -> None:
    """What cannot be understood is as if it was not there."""
    assert of({b"priority": value}).urgency == urgency


@given(st.integers(1, 10**12 - 1), st.binary(max_size=20))
def test_the_one_header_changes_nothing_of_the_other(timeout_ms: int, priority: bytes) -> None:
    """Whatever bytes a client sends."""
    found = read(str(timeout_ms).encode(), priority)
    assert found == RequestHints(timeout_ms, read(b"", priority).urgency)
