"""A body that is cut into slices has the values and errors of the whole body, wherever it can be cut."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import TooLarge
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


def test_an_array_of_anything_is_cut() -> None:
    """Strings that hold objects, numbers, and lists: a body that is no array of objects keeps no lock for longer either."""
    for value in ('{"a": "},{"}', 12345, [1, [2, 3]], None):
        values = [value] * 1000
        body = msgspec.json.encode(values)
        lengths: list[int] = []

        def decode(piece: bytes, lengths: list[int] = lengths) -> list[object]:
            lengths.append(len(piece))
            return ANYTHING(piece)

        assert decode_array(body, decode, 100) == values
        assert max(lengths) <= 200


@pytest.mark.parametrize("values", ["[1,2,3,4,5]", "[[1,2],[3,[4]],5]", '[{"x":1},{"x":2},{},{},{}]', '{"x":1,"y":2,"z":3,"u":4,"v":5}'])
def test_a_row_of_too_many_values_is_refused(values: str) -> None:
    """Commas in strings are none between values, and rows before and behind it do not count."""
    text = json.dumps('1,2,3,4,5,6 \\ "7,8')
    long = f'{{"s":{text},"a":{values}}}'
    body = "[" + ",".join(['{"a":1}', f'{{"s":{text}}}', long, '{"a":1}'] * 3) + "]"
    assert decode_array(body.encode(), ANYTHING, 2, 6) == json.loads(body)
    lines = "\n".join([f'{{"s":{text}}}', long] * 3).encode()
    assert list(split_lines(lines, 2, 6)) == lines.split(b"\n")
    for read in (lambda: decode_array(body.encode(), ANYTHING, 2, 4), lambda: list(split_lines(lines, 2, 4))):
        with pytest.raises(TooLarge, match="a row has more than 4 values, the limit; send Arrow or Parquet, or raise row_max_values"):
            read()
    with pytest.raises(TooLarge):
        decode_array(long.encode(), ANYTHING, 2, 4)


@given(st.lists(VALUES, max_size=12), st.integers(1, 40))
def test_lines_are_read_as_a_whole_would_be(values: list[object], slice_bytes: int) -> None:
    body = b"".join(msgspec.json.encode(value) + b"\n" for value in values)
    assert decode_lines(body, msgspec.json.Decoder().decode_lines, slice_bytes) == values


@given(st.text("\n\r x", max_size=60), st.integers(1, 40))
def test_lines_are_split_as_at_once(text: str, slice_bytes: int) -> None:
    """Blank lines are left out."""
    body = text.encode()
    assert list(split_lines(body, slice_bytes)) == [line for line in body.split(b"\n") if line.strip()]
