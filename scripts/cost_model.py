"""The endpoints whose batches `cost.py` counts. Run by itself it serves them: as the worker, with a front door as its child."""

from __future__ import annotations

import polars as pl

import base.service as svc
from base.schema import Schema


class Numbers(Schema):
    """What most models take."""

    a: pl.Float64
    b: pl.Float64
    c: pl.Float64


class Texts(Schema):
    """What has lengths, and so goes through Arrow."""

    a: pl.Float64
    b: pl.String


@svc.endpoint(path="/numbers")
def numbers(records_df: Numbers.DataFrame) -> Numbers.DataFrame:
    """Numbers in, the same out."""
    return records_df


@svc.endpoint(path="/series")
def series(records_df: Numbers.DataFrame) -> pl.Series:
    """One column out, which is not declared."""
    return records_df["a"]


@svc.endpoint(path="/texts")
def texts(records_df: Texts.DataFrame) -> Texts.DataFrame:
    """Texts in, the same out."""
    return records_df


ENDPOINTS = [numbers, series, texts]
ROWS = {
    "numbers": {"a": 3.5, "b": 1.4, "c": 0.2},
    "series": {"a": 3.5, "b": 1.4, "c": 0.2},
    "texts": {"a": 3.5, "b": "somewhat longer than a view"},
}

if __name__ == "__main__":
    server = svc.Server(port=0)
    for endpoint in ENDPOINTS:
        server.register(endpoint)
    server.run()
