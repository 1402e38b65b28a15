"""Control words as lines."""

from __future__ import annotations

import pytest

from base.errors import PeerError
from base.ipc.control import ControlStream, Drain, encode_message
from base.ipc.front_door_control import Listening, TableApplied


def test_words_come_out_whole_however_the_bytes_arrive() -> None:
    """A stream has no borders: one byte at a time and all at once give the same words."""
    words = [Listening(), TableApplied(7), Drain()]
    data = b"".join(map(encode_message, words))
    lines = ControlStream()
    assert [word for i in range(len(data)) for word in lines.feed_bytes(data[i : i + 1])] == words
    assert ControlStream().feed_bytes(data) == words


@pytest.mark.parametrize("line", [b"{}\n", b"[]\n", b'{"type":"unknown"}\n', b'{"type":"table_applied","generation":"x"}\n', b"\xff\n"])
def test_a_line_that_is_no_word_is_refused(line: bytes) -> None:
    """A parent and a child that do not understand each other must not guess."""
    with pytest.raises(PeerError):
        ControlStream().feed_bytes(line)


def test_a_word_is_one_line_of_json_with_its_type() -> None:
    """The form is read by eye in logs and by other versions."""
    assert encode_message(TableApplied(7)) == b'{"type":"table_applied","generation":7}\n'
