"""How the work of a front door grows with the number of columns, endpoints, headers, connections and so on: never faster than they do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import msgspec
import polars as pl
import pyarrow as pa
import pytest

import frames
from base.errors import PexdockError
from base.ipc.front_door_control import Configure, Route, RoutingTable
from base.ipc.release_spec import EndpointDocs, EndpointSpec, ReleaseSpec
from base.schema.wire import Column, columns_to_arrow
from rawhttp import get, post
from runtime.front.app.service import InferenceService
from runtime.front.codecs.decoder import RowDecoder, decode_body, is_quick
from runtime.front.http.request_reader import RequestReader, RequestSink
from runtime.front.memory.budget import MemoryBudget
from runtime.front.openapi.document import add_releases
from runtime.front.requests.deadlines import Deadlines
from runtime.front.requests.endpoint import ServedRelease
from runtime.front.requests.response_stream import EVENTS, NDJSON, ResponseStream
from runtime.front.routing.path_trie import PathTrie
from runtime.front.scheduling.batch_queue import QueueLimits
from runtime.front.scheduling.dispatchers import Dispatchers
from runtime.front.server import FrontServer
from scaling import growth

LINEAR_MAX = 2.6
"""Largest factor that counts as linear for twice the size. Quadratic work has 4."""

COLUMNS_MAX = 10_000


def names(count: int) -> list[str]:
    return [f"column {number}" for number in range(count)]


def schema(count: int, dtype: pl.DataType | None = None) -> pa.Schema:
    return columns_to_arrow({name: Column(dtype or pl.Float64(), nullable=False) for name in names(count)})


def release(columns: int, endpoints: int = 1) -> ReleaseSpec:
    message = bytes(schema(columns).serialize())
    docs = {name: {"description": "a column"} for name in names(columns)}
    specs = [
        EndpointSpec(f"e{number}", f"/e{number}", [], message, message, 64, 1, docs=EndpointDocs("", {}, docs, docs))
        for number in range(endpoints)
    ]
    return ReleaseSpec("wide", "1", specs)


def frame(columns: int) -> pl.DataFrame:
    return pl.DataFrame({name: [1.0, 2.0] for name in names(columns)})


def refused(decoder: RowDecoder, media: str, body: bytes) -> None:
    with pytest.raises(PexdockError):
        decode_body(decoder, media, body)


@pytest.mark.parametrize("work", [release, lambda size: release(4, size)], ids=["columns", "endpoints"])
def test_the_codecs_of_a_release_grow_linearly(work: Callable[[int], ReleaseSpec]) -> None:
    def prepare(size: int) -> Callable[[], object]:
        spec = work(size)
        return lambda: ServedRelease("id", spec, MemoryBudget(2**20), 1000, 1000, 2**20)

    assert growth(prepare, 150) < LINEAR_MAX


@pytest.mark.parametrize("work", [release, lambda size: release(4, size)], ids=["columns", "endpoints"])
def test_the_document_of_a_release_grows_linearly(work: Callable[[int], ReleaseSpec]) -> None:
    def prepare(size: int) -> Callable[[], object]:
        spec = work(size)
        return lambda: add_releases({"paths": {}}, [spec])

    assert growth(prepare, 150) < LINEAR_MAX


@pytest.mark.parametrize("media", sorted(frames.BODIES))
@pytest.mark.parametrize("declared", ["no schema", "schema", "other columns", "another type"])
def test_decoding_a_body_grows_linearly_with_its_columns(media: str, declared: str) -> None:
    """Also if all columns are unexpected, or if no value fits."""

    def prepare(size: int) -> Callable[[], object]:
        body = frames.BODIES[media](frame(size))
        match declared:
            case "no schema":
                decoder = RowDecoder(None, columns_max=COLUMNS_MAX)
            case "other columns":
                decoder = RowDecoder(columns_to_arrow({"other": Column(pl.Float64(), nullable=True)}), "reject", COLUMNS_MAX)
                return lambda: refused(decoder, media, body)
            case "another type":
                decoder = RowDecoder(schema(size, pl.Date()), columns_max=COLUMNS_MAX)
                return lambda: refused(decoder, media, body)
            case _:
                decoder = RowDecoder(schema(size), columns_max=COLUMNS_MAX)
        return lambda: decoder.batches.build_batch([decode_body(decoder, media, body)])

    assert growth(prepare, 120) < LINEAR_MAX


@pytest.mark.parametrize("media", sorted(frames.BODIES))
def test_a_body_has_no_more_columns_than_the_limit(media: str) -> None:
    """The columns that an endpoint declares do not count. 413 names the setting."""
    body = frames.BODIES[media](frame(6))
    assert decode_body(RowDecoder(None, columns_max=6), media, body).count == 2
    assert decode_body(RowDecoder(schema(6), columns_max=1), media, body).count == 2
    with pytest.raises(PexdockError, match="the request has 6 columns, limit 5; send fewer columns, or raise columns_max"):
        decode_body(RowDecoder(None, columns_max=5), media, body)


@pytest.mark.parametrize("media", [media for media in sorted(frames.BODIES) if "arrow" not in media and "parquet" not in media])
def test_a_text_of_many_new_columns_is_not_decoded_in_the_event_loop(media: str) -> None:
    """Each column takes 50 µs or more until its type is known, so a few kilobytes would take tens of milliseconds."""
    decoder = RowDecoder(None)
    assert is_quick(decoder, media, frames.BODIES[media](frame(4)))
    assert not is_quick(decoder, media, frames.BODIES[media](frame(200)))


def test_unknown_fields_take_a_wide_schema_no_time_for_each_of_its_columns() -> None:
    """msgspec would compare each field of a row with the names of all columns."""
    assert RowDecoder(schema(512))._json.row is not None
    assert RowDecoder(schema(513))._json.row is None


def test_a_table_of_many_releases_is_applied_in_linear_time() -> None:
    """Each table names all releases, and most of them are known."""

    def prepare(size: int) -> Callable[[], object]:
        routes = [Route(msgspec.structs.replace(release(2), model=f"m{number}"), [], f"id{number}") for number in range(size)]

        async def apply() -> None:
            dispatchers = Dispatchers(QueueLimits(10, 2**20), 2**24, Deadlines(1.0))
            for _ in range(2):
                await dispatchers.load(routes)
                dispatchers.prepare(routes)
                dispatchers.apply(routes)

        return lambda: asyncio.run(apply())

    assert growth(prepare, 40) < LINEAR_MAX


def service() -> InferenceService:
    return InferenceService(Dispatchers(QueueLimits(10, 2**20), 2**24, Deadlines(60.0)), 10_000)


def service_of(endpoint: EndpointSpec) -> InferenceService:
    serving = service()
    serving.apply(RoutingTable(1, [Route(ReleaseSpec("tiny", "1", [endpoint]), [])], startup_complete=True))
    return serving


def test_a_path_is_matched_in_linear_time_of_its_parameters() -> None:
    def prepare(size: int) -> Callable[[], object]:
        trie, path = PathTrie[str](), "".join(f"/{{p{number}}}" for number in range(size))
        trie.add_path(path, "target")
        raw_path = b"".join(b"/v%d" % number for number in range(size))

        def match() -> None:
            found = trie.match(raw_path)
            assert found is not None
            assert found.parameters[f"p{size - 1}"] == f"v{size - 1}"

        return match

    assert growth(prepare, 200) < LINEAR_MAX


class DroppingSink(RequestSink):
    """A connection that drops what is read."""

    def __init__(self) -> None:
        self.asgi = None
        self.taken = 0

    def submit(self, *_: object) -> None:
        """Counts a request of the fast path."""
        self.taken += 1

    def begin_asgi(self, *_: object, last: bool) -> None:
        """Counts a request of the application."""
        self.taken += 1


@pytest.mark.parametrize("request_", [post, get])
def test_a_head_is_read_in_linear_time_of_its_headers(request_: Callable[..., bytes]) -> None:
    """On the fast path, and for the application."""

    def prepare(size: int) -> Callable[[], object]:
        async def make() -> InferenceService:
            return service_of(EndpointSpec("plain", "/plain", [], None, None, 64, 1))

        sink, serving = DroppingSink(), asyncio.run(make())
        reader = RequestReader(sink, serving)
        head = request_("/plain", []) if request_ is post else request_("/plain")
        data = head.replace(b"\r\n", b"\r\n" + b"".join(b"X-Header-%d: value\r\n" % number for number in range(size)), 1)

        def read() -> None:
            reader.feed(data)
            assert sink.taken

        return read

    assert growth(prepare, 300) < LINEAR_MAX


def test_connections_are_accepted_answered_and_swept_in_linear_time() -> None:
    def prepare(size: int) -> Callable[[], object]:
        async def talk(address: tuple[str, int]) -> asyncio.StreamWriter:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(post("/plain", []))
            assert (await reader.readuntil(b"\r\n")).split()[1] == b"503"
            return writer

        async def serve() -> None:
            server = FrontServer(service_of(EndpointSpec("plain", "/plain", [], None, None, 64, 1)), Configure())
            with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
                await server.listen([listener])
                clients = [await talk(listener.getsockname()) for _ in range(size)]
                connections = server._connections.server_state.connections
                assert len(connections) == size
                for _ in range(3):
                    server._connections.sweeper._sweep(connections)
                for client in clients:
                    client.close()
                while connections:  # noqa: ASYNC110 - connections that end notify nobody
                    await asyncio.sleep(0.01)
                await server.stop()

        return lambda: asyncio.run(serve())

    assert growth(prepare, 40) < LINEAR_MAX


@pytest.mark.parametrize("media", [NDJSON, EVENTS])
@pytest.mark.parametrize("lines", [1, 100], ids=["parts", "lines"])
def test_a_streamed_response_takes_linear_time(media: bytes, lines: int) -> None:
    """For its parts, and for the lines of a part."""

    def prepare(size: int) -> Callable[[], object]:
        async def pass_on() -> None:
            stream = ResponseStream(events=media == EVENTS)
            for _ in range(size if lines == 1 else 1):
                stream.put(b"1\n" * (size if lines > 1 else 1), lambda: None)
                assert await stream.next()
            stream.finish()
            assert await stream.next() is None

        return lambda: asyncio.run(pass_on())

    assert growth(prepare, 1000) < LINEAR_MAX
