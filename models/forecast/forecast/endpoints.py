"""Forecasts time series that are fitted in the request."""

from dataclasses import asdict
from datetime import date, datetime, timedelta
from typing import Annotated

import polars as pl
from pydantic import Field

import base.artifacts as afs
import base.service as svc
from base.errors import Cell, Reject
from base.schema import Schema
from forecast.calendar import Frequency
from forecast.fitting import Fitted, Unfit, fit_series, forecast_series

STEPS_MAX = 1_000
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


class Shape(svc.Parameters):
    """What a series is like."""

    frequency: Frequency = Field("day", description="interval between the values of a series")
    season: int | None = Field(None, ge=1, le=400, description="number of values in a season, 1 for none; by default that of the frequency")
    damped: bool = Field(False, description="lets the trend fade")
    holidays: list[date] = Field([], max_length=500, description="dates that are holidays of all series, besides rows that say so")


class Interval(svc.Parameters):
    """How wide the intervals are."""

    level: float = Field(0.9, gt=0, lt=1, description="probability that a value lies in its prediction interval")


class Options(Shape, Interval):
    """How to forecast."""

    horizon: int = Field(7, ge=1, le=STEPS_MAX, description="number of steps after the last value")


@svc.endpoint(path="/predictions/forecast", group_by=["series"])
def forecast(records_df: Point.DataFrame, options: Options) -> Step.DataFrame:
    """Fits each series and forecasts it."""
    try:
        return forecast_series(records_df, **options.model_dump())
    except Unfit as exc:
        raise Reject(422, str(exc)) from exc


contexts = svc.Contexts(
    "/forecast",
    afs.FsClient("contexts/forecast", "{context_id}/{version}"),
    save_model=pl.DataFrame.write_parquet,
    load_model=pl.read_parquet,
)


class Ahead(Schema):
    """A step to forecast."""

    series: pl.String = Field(examples=["oslo"])
    step: pl.Int64 = Field(ge=1, le=STEPS_MAX, description="1 for the first step after the last value", examples=[1])
    holiday: Annotated[bool, pl.Boolean] = Field(default=False, description="whether it is a holiday", examples=[False])


@contexts.fit()
def fit(records_df: Point.DataFrame, shape: Shape) -> pl.DataFrame:
    """Fits each series and keeps them, so that many requests can ask for steps."""
    fitted, refused = [], []
    for (name,), rows in records_df.with_row_index("row").group_by("series", maintain_order=True):
        try:
            fitted.append({"series": name, **asdict(fit_series(rows, **shape.model_dump()))})
        except Unfit as exc:
            refused.append(Cell(rows["row"][0], "series", f"series {name}: {exc}"))
    if refused or not fitted:
        raise Reject(422, "some series cannot be fitted" if refused else "there is no series to fit", cells=refused)
    return pl.DataFrame(fitted)


@contexts.predict()
def predict(model: pl.DataFrame, records_df: Ahead.DataFrame, interval: Interval) -> Step.DataFrame:
    """Forecasts single steps of fitted series."""
    parts = []
    for (name,), rows in records_df.with_row_index("row").group_by("series"):
        found = model.filter(series=name)
        if found.is_empty():
            raise Reject(422, f"there is no series {name} in this context", rows=rows["row"])
        fitted = Fitted(**found.drop("series").row(0, named=True))
        steps = fitted.forecast(rows["step"].to_numpy().max(), interval.level).with_row_index("step", offset=1)
        joined = rows.join(steps.cast({"step": pl.Int64}), on="step")
        parts.append(fitted.add_holidays(joined, pl.col("holiday")))
    return pl.concat(parts).sort("row").select(*Step.columns())
