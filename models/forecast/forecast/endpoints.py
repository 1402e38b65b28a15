"""Forecasts time series that are fitted in the request."""

from datetime import datetime, timedelta
from typing import Annotated

import polars as pl
from pydantic import Field

import base.service as svc
from base.errors import Cell, Reject
from base.schema import Schema
from forecast.calendar import Frequency
from forecast.fitting import Unfit, forecast_series

FIRST_DAY = datetime(2024, 1, 1)


class Point(Schema):
    """A value of a series."""

    series: pl.String = Field(description="name of the series", examples=["oslo"])
    time: Annotated[datetime, pl.Datetime("us")] = Field(
        description="begin of the hour, day, week, month, quarter or year; or its end",
        examples=[FIRST_DAY + timedelta(n) for n in range(16)],
    )
    value: pl.Float64 | None = Field(
        description="null after the last value, in rows that only tell which steps are holidays",
        examples=[20.0, 21.0, 19.0, 22.0, 27.0, 35.0, 31.0, 22.0, 22.0, 21.0, 23.0, 29.0, 36.0, 33.0, 24.0, 23.0],
    )
    holiday: Annotated[bool, pl.Boolean] = Field(default=False, description="whether it is a holiday", examples=[False])


class Step(Schema):
    """The forecast of a value."""

    series: pl.String
    time: Annotated[datetime, pl.Datetime("us")]
    mean: pl.Float64
    lower: pl.Float64 = Field(description="lower bound of the prediction interval")
    upper: pl.Float64 = Field(description="upper bound of the prediction interval")


class Options(svc.Parameters):
    """How to forecast."""

    frequency: Frequency = Field("day", description="interval between the values of a series")
    horizon: int = Field(7, ge=1, le=1_000, description="number of steps after the last value")
    level: float = Field(0.9, gt=0, lt=1, description="probability that a value lies in its prediction interval")
    season: int | None = Field(None, ge=1, le=400, description="number of values in a season, 1 for none; by default that of the frequency")
    damped: bool = Field(False, description="lets the trend fade")


@svc.endpoint(path="/predictions/forecast", batched=False)
def forecast(records_df: Point.DataFrame, options: Options) -> Step.DataFrame:
    """Fits each series and forecasts it."""
    steps, refused = [], []
    for (name,), rows in records_df.with_row_index("row").group_by("series", maintain_order=True):
        try:
            found = forecast_series(rows, **options.model_dump())
        except Unfit as exc:
            refused.append(Cell(rows["row"][0], "series", f"series {name}: {exc}"))
        else:
            steps.append(found.select(pl.lit(name, pl.String).alias("series"), pl.all()))
    if refused:
        raise Reject(422, "some series cannot be forecast", cells=refused)
    return pl.concat(steps) if steps else pl.DataFrame(schema=Step.polars_schema())
