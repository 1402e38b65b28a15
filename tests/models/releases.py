"""A worker of one release of the model `tiny`: `python tests/models/releases.py SOCKET VERSION [OPTIONS]`; its first line says who it is.

By `x` a request chooses what becomes of it: below zero the handler raises, at 666 its process dies, at 777 it hangs for ever. A question
about the path `/tiny/numbered/{n}` does so by its `n`, which is refused above 1000.
"""

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import polars as pl
from pydantic import BaseModel, Field, field_validator

import base.service as svc
from base.errors import Reject
from base.schema import Schema
from base.worker.worker import Worker

DIES, HANGS = 666.0, 777.0

parser = argparse.ArgumentParser()
parser.add_argument("socket", type=Path)
parser.add_argument("version")
parser.add_argument("--bias", type=float, default=0.0, help="added to every x")
parser.add_argument("--sleep", type=float, default=0.0, help="seconds a batch")
parser.add_argument("--more", action="store_true", help="one more endpoint, /tiny/more")
parser.add_argument("--grouped", action="store_true", help="one more endpoint, /tiny/grouped")
parser.add_argument("--strict", action="store_true", help="fields that are not known are refused")
parser.add_argument("--gate", type=Path, help="a batch waits until this file is there")
parser.add_argument("--log", type=Path, help="a line for each batch: the x of its rows; and for each question: its n")
parser.add_argument("--model", default="tiny", help="its name, and the beginning of its paths")
parser.add_argument("--thinks", type=float, default=0.0, help="seconds about the first question of an n")
parser.add_argument("--unscaled", action="store_true", help="/tiny/scaled takes no parameters")
given = parser.parse_args()
thought_of: set[int] = set()


class Row(Schema):
    x: pl.Float64
    user: pl.String = ""


class Answer(Schema):
    version: pl.String
    x: pl.Float64


class Options(svc.Parameters):
    factor: float = Field(default=1.0, ge=0)
    tags: list[str] = Field([])


class Numbered(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def heed(cls, n: int) -> int:
        if n not in thought_of:
            thought_of.add(n)
            time.sleep(given.thinks)
        suffer([n])
        if n > 1000:
            raise ValueError("at most 1000")
        return n


def suffer(xs: Sequence[float]) -> None:
    if given.log:
        with given.log.open("a") as log:
            log.write(" ".join(f"{x:g}" for x in xs) + "\n")
    while given.gate and not given.gate.exists():
        time.sleep(0.005)
    if DIES in xs:
        os._exit(9)
    while HANGS in xs:
        time.sleep(1)


def answered(rows: pl.DataFrame) -> pl.DataFrame:
    time.sleep(given.sleep)
    suffer(rows["x"].to_list())
    if (rows["x"] < 0).any():
        raise ValueError("a negative row")
    return rows.select(version=pl.lit(given.version), x=pl.col("x") + given.bias)


@svc.endpoint(f"/{given.model}", batch_max_size=16, unexpected="reject" if given.strict else "ignore")
def predict(records_df: Row.DataFrame) -> Answer.DataFrame:
    return answered(records_df)


@svc.endpoint(f"/{given.model}/of/{{name}}", batch_max_size=16)
def named(records_df: Row.DataFrame) -> Answer.DataFrame:
    return answered(records_df)


@svc.endpoint(f"/{given.model}/numbered/{{n}}", batch_max_size=16)
def numbered(records_df: Row.DataFrame, number: Numbered) -> Answer.DataFrame:
    return answered(records_df)


@svc.endpoint(f"/{given.model}/scaled", batch_max_size=16)
def scaled(records_df: Row.DataFrame, options: Options) -> Answer.DataFrame:
    return answered(records_df).with_columns(x=pl.col("x") * options.factor)


@svc.endpoint(f"/{given.model}/scaled", batch_max_size=16)
def unscaled(records_df: Row.DataFrame) -> Answer.DataFrame:
    return answered(records_df)


@svc.endpoint(f"/{given.model}/whole", batched=False)
def whole(records_df: Row.DataFrame, options: Options) -> pl.DataFrame | dict[str, object]:
    """Answers each row twice, or one record."""
    twice = pl.concat([answered(records_df).with_columns(x=pl.col("x") * options.factor)] * 2)
    return {"count": records_df.height, "rows": twice} if options.tags else twice


@svc.endpoint(f"/{given.model}/once", batch_max_size=16, retry=False)
def once(records_df: Row.DataFrame) -> Answer.DataFrame:
    return answered(records_df)


@svc.endpoint(f"/{given.model}/context")
def context(records_df: Row.DataFrame, context: svc.Context) -> pl.DataFrame:
    return answered(records_df).with_columns(id=pl.lit(context.id))


@svc.endpoint(f"/{given.model}/raw", raw=True)
def raw(body: bytes) -> dict[str, object]:
    return {"version": given.version, "size": len(body)}


@svc.endpoint(f"/{given.model}/parts")
def parts(records_df: Row.DataFrame) -> Iterator[dict[str, object]]:
    for x in records_df["x"]:
        if x == DIES:
            os._exit(9)
        yield {"version": given.version, "x": x}


@svc.endpoint(f"/{given.model}/more")
def more(records_df: Row.DataFrame) -> Answer.DataFrame:
    return answered(records_df)


@svc.endpoint(f"/{given.model}/grouped", group_by=["user"])
def grouped(records_df: Row.DataFrame) -> pl.DataFrame:
    """Refuses a group with more than three rows."""
    if records_df.height > 3:
        raise Reject(422, "too many")
    return answered(records_df).select("x")


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    endpoints = [
        predict,
        named,
        numbered,
        unscaled if given.unscaled else scaled,
        whole,
        once,
        context,
        raw,
        parts,
        *([more] if given.more else []),
        *([grouped] if given.grouped else []),
    ]
    worker = Worker(given.model, given.version, endpoints, given.socket)
    signal.signal(signal.SIGTERM, lambda *_: worker.drain())
    sys.stdout.buffer.write(msgspec.json.encode(worker.listen()) + b"\n")
    sys.stdout.flush()
    worker.run()
