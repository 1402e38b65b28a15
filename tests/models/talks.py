"""A model that uses all of what crosses between a front door and a worker. NAME, ARTIFACTS and IMPORTED are filled in."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

import base
import base.artifacts as afs
import base.service as svc
from base.errors import Reject
from base.schema import Schema

Path("IMPORTED").touch()


class Row(Schema):
    """A number, and a word."""

    x: pl.Int64
    word: pl.String | None = None


def read(path: str) -> int:
    """The artifact: a number in a file."""
    return int(Path(path).read_text())


@svc.endpoint(path="/NAME/doubles", batch_max_size=64)
def doubles(records_df: Row.DataFrame) -> pl.Series:
    return records_df["x"] * 2


@svc.endpoint(path="/NAME/version")
def version(records_df: Row.DataFrame) -> list[str]:
    return [f"{base.__version__} {base.__file__}"] * len(records_df)


@svc.endpoint(path="/NAME/echo/{word}", headers=["x-user"])
def echo(records_df: pl.DataFrame, word: str, context: svc.Context) -> pl.DataFrame:
    return records_df.with_columns(path=pl.lit(word), user=pl.lit(context.headers.get("x-user")))


@svc.endpoint(path="/NAME/counts")
def counts(records_df: Row.DataFrame) -> Iterator[dict[str, int]]:
    for number in range(records_df["x"][0]):
        yield {"number": number}


@svc.endpoint(path="/NAME/refuses")
def refuses(records_df: Row.DataFrame) -> pl.Series:
    negative = records_df["x"] < 0
    if negative.any():
        raise Reject(409, "negative", rows=negative.arg_true())
    return records_df["x"]


@svc.endpoint(path="/NAME/fails", warm_up=False)
def fails(records_df: Row.DataFrame) -> pl.Series:
    raise ValueError(len(records_df))


@svc.endpoint(
    path="/NAME/adds/{number}",
    cache_config=afs.CacheConfig(client=afs.FsClient(base_path="ARTIFACTS", path_template="/{number}"), load_model=read),
)
def adds(model: int, records_df: Row.DataFrame) -> pl.Series:
    return records_df["x"] + model
