"""What type checkers know of endpoints. Checked and not run: both checkers report an ignored error that is none."""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from collections.abc import Iterator
from typing import assert_type

import polars as pl

import base.service as svc
from base.schema import Schema


class Row(Schema):
    """One column."""

    a: pl.Float64


@svc.endpoint("/double")
def double(records_df: Row.DataFrame) -> Row.DataFrame:
    """Shows that both annotations are plain frames to a type checker."""
    assert_type(records_df, pl.DataFrame)
    return records_df * 2


@svc.endpoint("/wrong")
def wrong(records_df: Row.DataFrame) -> Row.DataFrame:
    """Shows that the result's annotation is checked."""
    return records_df["a"]  # type: ignore[return-value]


@svc.endpoint("/parts/{name}")
def parts(records_df: Row.DataFrame, name: str) -> Iterator[Row.DataFrame]:
    """Shows that an endpoint keeps its handler's signature."""
    yield records_df.with_columns(name=pl.lit(name))


frame = pl.DataFrame({"a": [1.0]})
assert_type(double(frame), pl.DataFrame)
assert_type(parts(frame, "x"), Iterator[pl.DataFrame])
assert_type(parts(frame, name="x"), Iterator[pl.DataFrame])
double("no frame")  # type: ignore[arg-type]
parts(frame)  # type: ignore[call-arg]
