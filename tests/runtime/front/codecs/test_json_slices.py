"""A body that is cut into slices has the values and errors of the whole body, wherever it can be cut."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from runtime.front.codecs.json_slices import decode_array, decode_lines, split_lines

ANYTHING = msgspec.json.Decoder().decode
TEXT = st.text(st.sampled_from('},{"[] \\n1'), max_size=6)
VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=6,
)
ROWS = st.lists(st.dictionaries(TEXT, VALUES, max_size=3), max_size=12)


def outcome(read: Callable[[], object]) -> object:
    """Returns what a call returns, or its error."""
    try:
        return read()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return type(error), str(error)


@given(ROWS, st.sampled_from([(",", ":"), (", ", ": "), (" ,\n\t", " : ")]), st.integers(1, 40), st.sampled_from(["", " ", "\n"]))
def test_an_array_is_read_as_a_whole_would_be(rows: list[object], separators: tuple[str, str], slice_bytes: int, around: str) -> None:
    """Names and strings are full of what separates rows, and nested values of objects."""
    body = (around + json.dumps(rows, separators=separators) + around).encode()
    assert decode_array(body, ANYTHING, slice_bytes) == rows


@given(ROWS, st.integers(1, 40), st.integers(0, 400), st.sampled_from([b"", b"}", b"{", b",", b'"', b"]", b"\x0b", b"x"]))
def test_invalid_json_has_the_error_of_the_whole(rows: list[object], slice_bytes: int, at: int, inserted: bytes) -> None:
    """A character is inserted or missing somewhere."""
    body = json.dumps(rows).encode()
    body = body[:at] + inserted + body[at + (not inserted) :]
    assert outcome(lambda: decode_array(body, ANYTHING, slice_bytes)) == outcome(lambda: ANYTHING(body))


def test_no_slice_is_much_longer_than_asked() -> None:
    """The decoder gets a thousand rows ten at a time, although each has a nested list of objects."""
    rows = [{"a": "},{", "b": [{"c": n}, {"c": n}]} for n in range(1000)]
    row_bytes = len(msgspec.json.encode(rows[500])) + 1
    lengths: list[int] = []

    def decode(piece: bytes) -> list[object]:
        found = ANYTHING(piece)
        lengths.append(len(piece))
        return found

    assert decode_array(msgspec.json.encode(rows), decode, 10 * row_bytes) == rows
    assert max(lengths) <= 20 * row_bytes + 2


@given(st.lists(VALUES, max_size=12), st.integers(1, 40))
def test_lines_are_read_as_a_whole_would_be(values: list[object], slice_bytes: int) -> None:
    body = b"".join(msgspec.json.encode(value) + b"\n" for value in values)
    assert decode_lines(body, msgspec.json.Decoder().decode_lines, slice_bytes) == values


@given(st.text("\n\r x", max_size=60), st.integers(1, 40))
def test_lines_are_split_as_at_once(text: str, slice_bytes: int) -> None:
    """Blank lines are left out."""
    body = text.encode()
    assert list(split_lines(body, slice_bytes)) == [line for line in body.split(b"\n") if line.strip()]
