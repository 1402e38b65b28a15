"""The parts of a streamed response between a worker and a client."""

from __future__ import annotations

import asyncio

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from base.ipc.release_spec import EndpointSpec
from runtime.front.requests.response_stream import ARROW, EVENTS, NDJSON, ResponseStream, stream_media_type

LINES = st.lists(st.sampled_from([b'{"a":1}', b'"' + b"x" * 50 + b'"', b"null"]), min_size=1)


SPEC = EndpointSpec("words", "/words", [], None, None, 64, 1, streams=True, tables=True)


def test_clients_get_events_or_arrow_only_if_they_ask_for_them() -> None:
    """All others get lines of JSON, as do those whose worker is too old for Arrow. An endpoint may have a media type of its own."""
    assert stream_media_type("text/event-stream, */*", SPEC) == EVENTS
    assert stream_media_type("application/vnd.apache.arrow.stream", SPEC) == ARROW
    assert stream_media_type("", SPEC) == stream_media_type("application/json", SPEC) == stream_media_type("*/*", SPEC) == NDJSON
    assert stream_media_type("application/vnd.apache.arrow.stream", msgspec.structs.replace(SPEC, tables=False)) == NDJSON
    assert stream_media_type("application/vnd.apache.arrow.stream", msgspec.structs.replace(SPEC, media_type="text/plain")) == b"text/plain"


async def passed(media_type: bytes, pieces: list[bytes], problem: bytes | None = None) -> bytes:
    """Returns the bytes that a client gets; checks that a piece counts as taken when the next is asked for, and not before."""
    stream, got = ResponseStream(events=media_type == EVENTS), b""
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
    """In both media types."""
    whole = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=5)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert asyncio.run(passed(NDJSON, pieces)) == whole
    assert asyncio.run(passed(EVENTS, pieces)) == b"".join(b"data: " + line + b"\n\n" for line in lines)


def test_a_problem_is_a_line_of_its_own() -> None:
    """Even if the line before it is cut off."""
    assert asyncio.run(passed(NDJSON, [b"1\n"], b"{}")) == b'1\n{"error":{}}\n'
    assert asyncio.run(passed(NDJSON, [b'"cut'], b"{}")) == b'"cut\n{"error":{}}\n'
    assert asyncio.run(passed(EVENTS, [b'"cut'], b"{}")) == b'data: "cut\n\nevent: error\ndata: {}\n\n'


def test_an_opaque_stream_is_sent_as_it_is_and_cut_by_a_problem() -> None:
    """No line or event that the handler did not write is in it."""

    async def cut() -> tuple[bytes | None, bytes | None, bool]:
        stream = ResponseStream(opaque=True)
        stream.put(b"a\nb", lambda: None)
        first = await stream.next()
        stream.finish(b"{}")
        return first, await stream.next(), stream.is_cut

    assert asyncio.run(cut()) == (b"a\nb", None, True)


def test_a_stream_without_parts_ends() -> None:
    """The client waits for nothing."""
    assert asyncio.run(passed(NDJSON, [])) == b""
