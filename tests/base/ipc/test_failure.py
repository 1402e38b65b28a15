"""Errors over the wire."""

from __future__ import annotations

import pytest

from base.errors import (
    Cell,
    Conflict,
    Gone,
    Malformed,
    Misfit,
    NotAcceptable,
    PeerError,
    PeerGone,
    PexdockError,
    PexRefused,
    Reject,
    TooLarge,
    Unauthorized,
    UnsupportedMedia,
)
from base.ipc import failure
from base.ipc.protocol import BODY_MAX_BYTES


def error_types(root: type[PexdockError] = PexdockError) -> list[type[PexdockError]]:
    """Returns the leaves of the tree of base.errors, which are the errors that are raised."""
    below = [each for each in root.__subclasses__() if each.__module__ == root.__module__]
    return [leaf for each in below for leaf in error_types(each)] if below else [root]


NOT_SENT = {Conflict, Gone, Malformed, NotAcceptable, TooLarge, UnsupportedMedia, PexRefused, PeerError, PeerGone, Unauthorized}
"""Errors that no worker sends about a batch: the front door raises them itself, or they concern something else."""
CELLS = [Cell(3, "a", "no"), Cell(None, None, "never")]


@pytest.mark.parametrize("kind", sorted(set(error_types()) - NOT_SENT, key=lambda each: each.code))
def test_an_error_arrives_as_the_same_error(kind: type[PexdockError]) -> None:
    """Class, text, cells, code and `retryable`, and the status of a rejection."""
    error = Reject(409, "né", cells=CELLS) if kind is Reject else kind("né", cells=CELLS)
    assert failure.is_transferable(error)
    arrived = failure.decode_error(failure.encode_error(error))
    assert (type(arrived), arrived.detail, arrived.cells) == (kind, "né", tuple(CELLS))
    assert (arrived.code, arrived.retryable) == (error.code, error.retryable)
    assert getattr(arrived, "status", None) == (409 if kind is Reject else None)


@pytest.mark.parametrize("kind", sorted(NOT_SENT, key=lambda each: each.code))
def test_an_error_that_no_worker_sends_is_refused(kind: type[PexdockError]) -> None:
    """A handler that raises it has failed, and a peer that sends it breaks the rules of the wire."""
    assert not failure.is_transferable(kind("x"))
    with pytest.raises(PeerError):
        failure.decode_error(failure.encode_error(kind("x")))


def test_a_long_error_is_cut_to_fit_in_a_message() -> None:
    """The length of an author's text is not limited, that of a message is."""
    error = Misfit("\x01" * 100_000, cells=[Cell(i, "\x01" * 1000, "\x01" * 1000) for i in range(1000)])
    body = failure.encode_error(error)
    assert len(body) <= BODY_MAX_BYTES
    arrived = failure.decode_error(body)
    assert type(arrived) is Misfit
    assert error.detail.startswith(arrived.detail)
    assert len(arrived.detail) > 1000


@pytest.mark.parametrize("body", [b"", b"{}", b'{"code":"made up","detail":""}'])
def test_an_invalid_body_is_refused(body: bytes) -> None:
    """A worker may send anything."""
    with pytest.raises(PeerError):
        failure.decode_error(body)
