"""Rows that are made from a schema."""

from decimal import Decimal
from typing import Annotated

import polars as pl
from pydantic import Field

from base.schema import Schema
from base.worker.samples import sample_rows


def test_rows_are_made_of_examples_bounds_and_categories() -> None:
    """A column with several examples has only these; the first row has the first ones."""

    class Order(Schema):
        country: pl.String = Field(examples=["NO", "SE"])
        code: pl.String = Field(pattern="^[A-Z]{2}[0-9]$", examples=["DE3"])
        percent: pl.Float64 = Field(gt=10, lt=20)
        pieces: pl.UInt8 = Field(ge=5, multiple_of=5)
        price: Annotated[Decimal, pl.Decimal(10, 2)] | None = Field(alias="price (EUR)")

    rows = sample_rows(Order)
    assert (rows[0]["country"], rows[0]["code"]) == ("NO", "DE3")
    assert {row["country"] for row in rows} == {"NO", "SE"}
    assert {"DE3", "EF4"} <= {row["code"] for row in rows}
    assert all(10 < row["percent"] < 20 and row["pieces"] % 5 == 0 for row in rows)
    assert len({row["percent"] for row in rows}) > 2 < len({row["price (EUR)"] for row in rows})
    assert None in {row["price (EUR)"] for row in rows}
    for name in Order.columns():  # each varies alone, too
        assert any(row[name] != rows[0][name] and all(row[other] == rows[0][other] for other in row if other != name) for row in rows), name
