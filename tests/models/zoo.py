"""Endpoints, one for each thing that a handler may ask for or answer with. Served in the tests' own process."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator

import numpy as np
import polars as pl
from pydantic import BaseModel, Field

import base.service as svc
from base.errors import Reject
from base.schema import Schema
from gate import Gate

events: list[str] = []
heights: list[int] = []
waiting = threading.Event()
gate = Gate()


class Numbers(Schema):
    a: pl.Float64


class Doubled(Schema):
    b: pl.Float64


class Place(BaseModel):
    country: str = Field(pattern="^[A-Z]{2}$")
    year: int


def open_settings() -> Iterator[dict[str, float]]:
    events.append("settings opened")
    yield {"factor": 3.0}
    events.append("settings closed")


async def open_table(settings: dict = svc.Depends(open_settings)) -> AsyncIterator[dict[str, float]]:  # noqa: B008 - as authors write it
    await asyncio.sleep(0)
    events.append("table opened")
    yield {"times": settings["factor"] * 2}
    events.append("table closed")


@svc.endpoint("/places/{country}/{year}")
def places(place: Place, records_df: Numbers.DataFrame) -> list[str]:
    return [f"{place.country} {place.year + 1}"] * records_df.height


@svc.endpoint("/values/{country}/{year}")
def values(records_df: Numbers.DataFrame, year: int, country: str) -> list[str]:
    return [f"{country} {year + 1}"] * records_df.height


@svc.endpoint("/context", headers=["X-Tenant"])
def context(records_df: Numbers.DataFrame, context: svc.Context) -> pl.DataFrame:
    heights.append(records_df.height)
    return records_df.select(
        "a",
        id=pl.lit(context.id),
        headers=pl.lit(repr(context.headers)),
        query=pl.lit(repr(context.query)),
        left=pl.lit(context.time_left_s),
        cancelled=pl.lit(context.cancelled()),
    )


@svc.endpoint("/waits")
def waits_to_be_cancelled(records_df: Numbers.DataFrame, context: svc.Context) -> pl.DataFrame:
    waiting.set()
    until = time.monotonic() + 20
    while time.monotonic() < until and not context.cancelled():
        time.sleep(0.01)
    events.append(f"cancelled: {context.cancelled()}")
    return records_df


@svc.endpoint("/depends")
def depends(
    records_df: Numbers.DataFrame,
    table: dict = svc.Depends(open_table),  # noqa: B008
    settings: dict = svc.Depends(open_settings),  # noqa: B008
) -> pl.Series:
    assert settings["factor"] == 3.0
    return records_df["a"] * table["times"]


@svc.endpoint("/raw/{name}", raw=True, headers=["x-tenant"])
def raw(request: svc.Request, name: str) -> svc.Response:
    said = f"{name} {request.headers.get('x-tenant')} {request.query} {len(request.body)}"
    return svc.Response(said.encode(), request.content_type, status=201)


@svc.endpoint("/body", raw=True)
def body(body: bytes) -> dict[str, object]:
    if not body:
        raise Reject(400, "an empty body")
    return {"size": len(body), "mean": np.float32(0.5)}


@svc.endpoint("/lines", raw=True, media_type="text/csv; charset=utf-8")
def lines(body: bytes) -> Iterator[bytes | str]:
    for line in body.splitlines(keepends=True):
        if line.startswith(b"!"):
            raise ValueError("secret of the model")
        yield bytearray(line)
        yield line.decode()


@svc.endpoint("/async-lines", media_type="text/event-stream")
async def async_lines(records_df: Numbers.DataFrame) -> AsyncIterator[object]:
    for value in records_df["a"]:
        yield value if value < 0 else f"id: {value}\n\n"


@svc.endpoint("/untyped-lines", raw=True)
def untyped_lines(body: bytes) -> Iterator[object]:
    yield {"size": len(body)}
    yield body


@svc.endpoint("/pair", raw=True)
def pair(body: bytes) -> tuple[bytes, int]:
    return body, 201


@svc.endpoint("/async")
async def waits(records_df: Numbers.DataFrame) -> pl.Series:
    await asyncio.sleep(0.001)
    return records_df["a"] * 2


@svc.endpoint("/parts")
def parts(records_df: Numbers.DataFrame) -> Iterator[dict[str, float]]:
    for value in records_df["a"]:
        if value < 0:
            raise ValueError("secret of the model")
        yield {"a": np.float64(value)}


@svc.endpoint("/async-parts")
async def async_parts(records_df: Numbers.DataFrame) -> AsyncIterator[str]:
    for value in records_df["a"]:
        await asyncio.sleep(0)
        yield "x" * int(value)


@svc.endpoint("/frames")
def frames(records_df: Numbers.DataFrame) -> Iterator[Doubled.DataFrame]:
    yield records_df.select(b=pl.col("a") * 2)
    yield records_df.select(wrong="a")


@svc.endpoint("/endless")
def endless(records_df: Numbers.DataFrame) -> Iterator[str]:
    made = 0
    try:
        while True:
            made += 1
            yield "x" * 60_000
    finally:
        events.append(f"endless closed after {made}")


@svc.endpoint("/refuses", batch_max_size=1000)
def refuses_rows(records_df: Numbers.DataFrame) -> pl.Series:
    (gate.passed if (records_df["a"] == 99).any() else gate.note)(records_df["a"])
    negative = records_df["a"] < 0
    if negative.any():
        raise Reject(409, "a negative row", rows=negative.arg_true().to_list())
    return records_df["a"]


@svc.endpoint("/forbids")
def refuses_all(records_df: Numbers.DataFrame) -> pl.Series:
    raise Reject(detail="not today")


@svc.endpoint("/misplaced")
def refuses_rows_that_are_not_there(records_df: Numbers.DataFrame) -> pl.Series:
    raise Reject(422, "no", rows=[records_df.height])


class Photo(Schema):
    image: pl.Binary
    caption: pl.String


@svc.endpoint("/photos")
def photos(records_df: Photo.DataFrame) -> pl.DataFrame:
    """Images as Binary, text as String."""
    return records_df.select(bytes=pl.col("image").bin.size(), words=pl.col("caption").str.split(" ").list.len())


class Tensor(Schema):
    pixels: pl.Array(pl.Float32, (2, 2))


@svc.endpoint("/tensors")
def tensors(records_df: Tensor.DataFrame) -> np.ndarray:
    """A column of arrays is one numpy array: rows, then the shape of each."""
    return records_df["pixels"].to_numpy().sum(axis=(1, 2))


ALL = [each for each in list(vars().values()) if isinstance(each, svc.Endpoint)]
