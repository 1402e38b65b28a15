"""Channel messages against bytes written by hand, so that the encoder cannot vouch for itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import PeerError
from base.ipc.protocol import (
    MESSAGE_MAX_BYTES,
    AttachSegment,
    Batch,
    CancelBatch,
    CheckParameters,
    DetachSegment,
    Failure,
    Hello,
    Message,
    ModelLoading,
    NextPart,
    ParametersAccepted,
    Reply,
    ReplyBuffer,
    ReplyTooLarge,
    SegmentSlice,
    Started,
    StreamEnd,
    StreamPart,
    Welcome,
    monotonic_deadline_s,
    pack_message,
    unpack_message,
    wire_deadline_ms,
)

ZERO = "00"
U16, U32, U64 = "0000", "00000000", "0000000000000000"
TAG, TAG_BYTES = 0x0102030405060708, "0807060504030201"

BY_HAND: list[tuple[Message, str]] = [
    # kind flags number batch    offset length rows     extra
    (Hello(1), "01 00" + U16 + U32 + U64 + U64 + U32 + "01000000"),
    (Welcome(1, "ab", "2"), "02 00" + U16 + U32 + U64 + U64 + U32 + "01000000" + "6162 00 32"),
    (AttachSegment(3, 4096), "03 00" + "0300" + U32 + U64 + "0010000000000000" + U32 + U32),
    (DetachSegment(3), "04 00" + "0300" + U32 + U64 + U64 + U32 + U32),
    (
        Batch(7, 2, 5, 1000, 2, SegmentSlice(1, 64, 200), SegmentSlice(4, 512, 1024), b"{}"),
        "05 02" + "0200" + "07000000" + "4000000000000000" + "c800000000000000" + "05000000" + "e8030000"
        + "0100 0400" + "0002000000000000" + "0004000000000000" + "7b7d",
    ),
    (Reply(7, 5, 99, 1), "06 01" + U16 + "07000000" + U64 + "6300000000000000" + "05000000" + U32),
    (Failure(7, b"no", 4), "07 04" + U16 + "07000000" + U64 + U64 + U32 + U32 + "6e6f"),
    (ReplyTooLarge(7, 1 << 32), "08 00" + U16 + "07000000" + U64 + "0000000001000000" + U32 + U32),
    (ReplyBuffer(7, SegmentSlice(4, 8, 16)), "09 00" + "0400" + "07000000" + "0800000000000000" + "1000000000000000" + U32 + U32),
    (ModelLoading(7), "0a 00" + U16 + "07000000" + U64 + U64 + U32 + U32),
    (StreamPart(7, 300), "0b 00" + U16 + "07000000" + U64 + "2c01000000000000" + U32 + U32),
    (NextPart(7), "0c 00" + U16 + "07000000" + U64 + U64 + U32 + U32),
    (CancelBatch(7), "0d 00" + U16 + "07000000" + U64 + U64 + U32 + U32),
    (CheckParameters(7, 2, b"{}"), "0f 00" + "0200" + "07000000" + U64 + U64 + U32 + U32 + "7b7d"),
    (CheckParameters(7, 2, b"{}", 16), "0f 10" + "0200" + "07000000" + U64 + U64 + U32 + U32 + "7b7d"),
    (ParametersAccepted(7), "10 00" + U16 + "07000000" + U64 + U64 + U32 + U32),
    (Started(7), "11 00" + U16 + "07000000" + U64 + U64 + U32 + U32),
    (StreamEnd(7, 4), "0e 04" + U16 + "07000000" + U64 + U64 + U32 + U32),
    (Welcome(1, "ab", "2", TAG), "02 00" + U16 + U32 + TAG_BYTES + U64 + U32 + "01000000" + "6162 00 32"),
    (Reply(7, 5, 99, 1, TAG), "06 01" + U16 + "07000000" + TAG_BYTES + "6300000000000000" + "05000000" + U32),
    (Failure(7, b"no", 4, TAG), "07 04" + U16 + "07000000" + TAG_BYTES + U64 + U32 + U32 + "6e6f"),
    (StreamPart(7, 300, TAG), "0b 00" + U16 + "07000000" + TAG_BYTES + "2c01000000000000" + U32 + U32),
    (StreamEnd(7, 4, TAG), "0e 04" + U16 + "07000000" + TAG_BYTES + U64 + U32 + U32),
    (ParametersAccepted(7, TAG), "10 00" + U16 + "07000000" + TAG_BYTES + U64 + U32 + U32),
]  # fmt: skip


@pytest.mark.parametrize(("message", "written"), BY_HAND, ids=[type(message).__name__ for message, _ in BY_HAND])
def test_a_message_has_the_bytes_of_the_table(message: Message, written: str) -> None:
    """The layout is a contract between pexes of different versions."""
    assert pack_message(message).hex() == written.replace(" ", "")
    assert unpack_message(bytes.fromhex(written)) == message


@pytest.mark.parametrize(("message", "written"), BY_HAND, ids=[type(message).__name__ for message, _ in BY_HAND])
def test_a_truncated_message_is_refused(message: Message, written: str) -> None:
    """No prefix of the fixed part is a message."""
    data = bytes.fromhex(written)
    fixed = 32 + (20 if isinstance(message, Batch) else 0)
    for end in range(fixed):
        with pytest.raises(PeerError):
            unpack_message(data[:end])


@pytest.mark.parametrize(
    "message", [message for message, _ in BY_HAND if not isinstance(message, Batch | Failure | Welcome | CheckParameters)]
)
def test_an_unexpected_body_is_refused(message: Message) -> None:
    """A peer that sends a body means something else."""
    with pytest.raises(PeerError, match="with a body"):
        unpack_message(pack_message(message) + b"x")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    """Invalid bytes raise PeerError and nothing else, and a valid message survives packing and unpacking."""
    try:
        message = unpack_message(data)
    except PeerError:
        return
    assert unpack_message(pack_message(message)) == message


def test_a_message_too_long_for_a_socket_is_refused() -> None:
    """A message that is too long is a mistake of this process, found before it is sent."""
    with pytest.raises(ValueError, match="is over"):
        pack_message(Failure(1, b"x" * MESSAGE_MAX_BYTES))


@given(st.floats(0, 1e9), st.floats(-2e6, 2e6))
def test_a_deadline_is_the_same_on_both_sides(now_s: float, from_now_s: float) -> None:
    """To the millisecond and never later, however often 32 bits of milliseconds have overflowed since the machine was started."""
    deadline_s = max(0.0, now_s + from_now_s)
    assert 0 <= deadline_s - monotonic_deadline_s(wire_deadline_ms(deadline_s), now_s) < 0.0011
