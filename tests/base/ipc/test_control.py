"""Control messages as lines."""

from __future__ import annotations

import pytest

from base.errors import PeerError
from base.ipc.control import ControlStream, Drain, encode_message
from base.ipc.front_door_control import Listening, TableApplied


def test_messages_are_complete_however_their_bytes_arrive() -> None:
    """A stream has no boundaries: one byte at a time and all at once give the same messages."""
    messages = [Listening(), TableApplied(7), Drain()]
    data = b"".join(map(encode_message, messages))
    stream = ControlStream()
    assert [message for i in range(len(data)) for message in stream.feed_bytes(data[i : i + 1])] == messages
    assert ControlStream().feed_bytes(data) == messages


@pytest.mark.parametrize(
    "line",
    [
        b"{}\n",
        b"[]\n",
        b'{"type":"unknown"}\n',
        b'{"type":"table_applied","generation":"x"}\n',
        b"\xff\n",
        b'{"type":' + b"[" * 60_000 + b"\n",
    ],
)
def test_an_invalid_line_is_refused(line: bytes) -> None:
    """A parent and a child must not guess what the other means."""
    with pytest.raises(PeerError):
        ControlStream().feed_bytes(line)


def test_a_message_is_one_line_of_json_with_its_type() -> None:
    """Other versions read it, and so do people in logs."""
    assert encode_message(TableApplied(7)) == b'{"type":"table_applied","generation":7}\n'
