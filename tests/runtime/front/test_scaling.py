"""How the work of a front door grows with the number of columns, endpoints and releases: never faster than they do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import polars as pl
import pyarrow as pa
import pytest

import frames
from base.errors import PexdockError
from base.ipc.front_door_control import Route
from base.ipc.release_spec import EndpointDocs, EndpointSpec, ReleaseSpec
from base.schema.wire import Column, columns_to_arrow
from runtime.front.codecs.decoder import RowDecoder, decode_body
from runtime.front.memory.budget import MemoryBudget
from runtime.front.openapi.document import add_releases
from runtime.front.requests.deadlines import Deadlines
from runtime.front.requests.endpoint import ServedRelease
from runtime.front.scheduling.batch_queue import QueueLimits
from runtime.front.scheduling.dispatchers import Dispatchers
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
        return lambda: ServedRelease("id", spec, MemoryBudget(2**20), 1000)

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
