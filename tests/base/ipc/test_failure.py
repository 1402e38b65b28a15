"""Errors over the wire."""

from __future__ import annotations

import pytest

from base.errors import (
    Cell,
    Conflict,
    Malformed,
    Misfit,
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


def kinds(root: type[PexdockError] = PexdockError) -> list[type[PexdockError]]:
    """Every error of the tree that is raised: its leaves. Parts of the runtime have some of their own."""
    below = [each for each in root.__subclasses__() if each.__module__ == root.__module__]
    return [leaf for each in below for leaf in kinds(each)] if below else [root]


STAY = {Conflict, Malformed, TooLarge, UnsupportedMedia, PexRefused, PeerError, PeerGone, Unauthorized}
"""What no worker says of a batch: the front door finds it out itself, or it is about something else."""
CELLS = [Cell(3, "a", "no"), Cell(None, None, "never")]


@pytest.mark.parametrize("kind", sorted(set(kinds()) - STAY, key=lambda each: each.code))
def test_an_error_arrives_as_the_same_error(kind: type[PexdockError]) -> None:
    """Class, text, cells, code and whether it may be tried again; of a rejection the status too."""
    error = Reject(409, "né", cells=CELLS) if kind is Reject else kind("né", cells=CELLS)
    assert failure.is_transferable(error)
    arrived = failure.decode_error(failure.encode_error(error))
    assert (type(arrived), arrived.detail, arrived.cells) == (kind, "né", tuple(CELLS))
    assert (arrived.code, arrived.retryable) == (error.code, error.retryable)
    assert getattr(arrived, "status", None) == (409 if kind is Reject else None)


@pytest.mark.parametrize("kind", sorted(STAY, key=lambda each: each.code))
def test_an_error_that_no_worker_says_does_not_travel(kind: type[PexdockError]) -> None:
    """A handler that raises it has failed, and a peer that sends it breaks the rules."""
    assert not failure.is_transferable(kind("x"))
    with pytest.raises(PeerError):
        failure.decode_error(failure.encode_error(kind("x")))


def test_an_endless_error_is_cut_to_a_message() -> None:
    """An author's text may be of any length, a message may not."""
    error = Misfit("\x01" * 100_000, cells=[Cell(i, "\x01" * 1000, "\x01" * 1000) for i in range(1000)])
    body = failure.encode_error(error)
    assert len(body) <= BODY_MAX_BYTES
    arrived = failure.decode_error(body)
    assert type(arrived) is Misfit
    assert error.detail.startswith(arrived.detail)
    assert len(arrived.detail) > 1000


@pytest.mark.parametrize("body", [b"", b"{}", b'{"code":"made up","detail":""}'])
def test_a_body_that_is_no_failure_is_refused(body: bytes) -> None:
    """A worker may send anything."""
    with pytest.raises(PeerError):
        failure.decode_error(body)
