"""Errors over the wire."""

from __future__ import annotations

import pytest

from base.errors import Cell, HandlerFailed, Misfit, NotFound, PeerError, PexdockError
from base.ipc import failure
from base.ipc.protocol import BODY_MAX_BYTES


@pytest.mark.parametrize("error", [NotFound("x"), HandlerFailed("y"), Misfit("z", cells=[Cell(3, "a", "no"), Cell(None, None, "never")])])
def test_an_error_arrives_as_the_same_error(error: PexdockError) -> None:
    """Class, text and cells survive."""
    arrived = failure.decode(failure.encode(error))
    assert (type(arrived), arrived.detail, arrived.cells) == (type(error), error.detail, error.cells)


def test_an_endless_error_is_cut_to_a_message() -> None:
    """An author's text may be of any length, a message may not."""
    error = Misfit("\x01" * 100_000, cells=[Cell(i, "\x01" * 1000, "\x01" * 1000) for i in range(1000)])
    assert len(failure.encode(error)) <= BODY_MAX_BYTES


@pytest.mark.parametrize("body", [b"", b"{}", b'{"code":"made up","detail":""}'])
def test_a_body_that_is_no_failure_is_refused(body: bytes) -> None:
    """A worker may send anything."""
    with pytest.raises(PeerError):
        failure.decode(body)
