"""The parts of a streamed answer between a worker and a client."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from runtime.front.requests.stream import EVENTS, NDJSON, ResponseStream, wanted

LINES = st.lists(st.sampled_from([b'{"a":1}', b'"' + b"x" * 50 + b'"', b"null"]), min_size=1)


def test_events_are_for_those_who_ask_for_them() -> None:
    """All others get lines."""
    assert wanted("text/event-stream, */*") == EVENTS
    assert wanted("") == wanted("application/json") == NDJSON


async def passed(media_type: bytes, pieces: list[bytes], problem: bytes | None = None) -> bytes:
    """What a client gets of these pieces; each is said to be taken when the next is asked for, and not before."""
    stream, got = ResponseStream(media_type), b""
    taken: list[bool] = []
    for piece in pieces:
        stream.put(piece, lambda: taken.append(True))
        got += await stream.next() or b""
        assert not taken
        following = asyncio.ensure_future(stream.next())
        await asyncio.sleep(0)
        assert taken.pop()
        following.cancel()
    stream.finish(problem)
    while (piece := await stream.next()) is not None:
        got += piece
    return got


@given(LINES, st.data())
def test_lines_cut_anywhere_arrive_as_they_were(lines: list[bytes], data: st.DataObject) -> None:
    """In either form, and the next piece is asked for only when the last was taken."""
    whole = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=5)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert asyncio.run(passed(NDJSON, pieces)) == whole
    assert asyncio.run(passed(EVENTS, pieces)) == b"".join(b"data: " + line + b"\n\n" for line in lines)


def test_a_problem_is_a_line_of_its_own() -> None:
    """Also where a line before it stayed unfinished."""
    assert asyncio.run(passed(NDJSON, [b"1\n"], b"{}")) == b'1\n{"error":{}}\n'
    assert asyncio.run(passed(NDJSON, [b'"cut'], b"{}")) == b'"cut\n{"error":{}}\n'
    assert asyncio.run(passed(EVENTS, [b'"cut'], b"{}")) == b'data: "cut\n\nevent: error\ndata: {}\n\n'


def test_an_end_without_parts_is_an_end() -> None:
    """Nothing is waited for."""
    assert asyncio.run(passed(NDJSON, [])) == b""
