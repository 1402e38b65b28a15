"""Fits one series and forecasts it: exponential smoothing with additive errors, after the effect of holidays is taken out. Pure."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray
from statsmodels.tools.sm_exceptions import ConvergenceWarning
from statsmodels.tsa.exponential_smoothing.ets import ETSModel
from threadpoolctl import threadpool_limits

from forecast.calendar import RHYTHMS, Frequency, regular_times

LARGEST = 1e100
BOUNDS = {"mean": "mean", "lower": "pi_lower", "upper": "pi_upper"}
"""Our names → those of statsmodels."""

# The optimizer multiplies matrices of a few numbers. With a thread for each core it takes ten times as long.
threadpool_limits(1, "blas")


class Unfit(ValueError):
    """A series that cannot be forecast. The message says why, and where."""


@dataclass(frozen=True)
class Fitted:
    """A series with the parameters that fit it.

    Attributes:
        first: Time of the first value.
        frequency: The interval between values.
        season: Number of values in a season, 1 for none.
        damped: Whether the trend fades.
        values: The values without the effect of holidays.
        effect: How much a holiday adds.
        parameters: Those of the exponential smoothing.
    """

    first: datetime
    frequency: Frequency
    season: int
    damped: bool
    values: Sequence[float]
    effect: float
    parameters: Sequence[float]

    def forecast(self, horizon: int, level: float) -> pl.DataFrame:
        """Returns `time`, `mean`, `lower` and `upper` of each step after the last value, as if none were a holiday.

        Args:
            horizon: Number of steps.
            level: Probability that a value lies in its prediction interval.
        """
        count = len(self.values)
        times = regular_times(pl.Series("time", [self.first], pl.Datetime("us")), self.frequency, count + horizon)
        smoothed: Any = _model(self.values, self.season, self.damped).smooth(np.asarray(self.parameters))
        predicted: pd.DataFrame = smoothed.get_prediction(count, count + horizon - 1).summary_frame(alpha=1 - level)
        return pl.DataFrame([times[count:], *(pl.Series(name, predicted[theirs].to_numpy(float)) for name, theirs in BOUNDS.items())])

    def add_holidays(self, steps: pl.DataFrame, holidays: pl.Expr) -> pl.DataFrame:
        """Returns the steps with the effect of holidays added to those that are holidays."""
        return steps.with_columns(pl.col(*BOUNDS) + self.effect * holidays)


def forecast_series(rows: pl.DataFrame, horizon: int, level: float, holidays: Sequence[date] = (), **shape: Any) -> pl.DataFrame:
    """Fits a series and returns its steps, as `fit_series` and `Fitted.forecast` do.

    Rows without a value after the last one only tell which steps are holidays.
    """
    marked = _divided(rows)[1].filter("holiday")["time"]
    fitted = fit_series(rows, holidays=holidays, **shape)
    steps = fitted.forecast(horizon, level)
    stray = marked.filter(~marked.is_in(steps["time"].implode()) & (marked < steps["time"][-1]))
    if len(stray):
        raise Unfit(f"it has a holiday at {stray[0]}, which is no step after its last value, with one value every {fitted.frequency}")
    return fitted.add_holidays(steps, pl.col("time").is_in(marked.implode()) | _on(holidays))


def fit_series(
    rows: pl.DataFrame, *, frequency: Frequency, season: int | None = None, damped: bool = False, holidays: Sequence[date] = ()
) -> Fitted:
    """Fits a series.

    Args:
        rows: `time`, `value` and `holiday` of one series, in any order. Those without a value after the last one are left out.
        frequency: The interval between values.
        season: Number of values in a season, 1 for none; by default that of the frequency.
        damped: Lets the trend fade.
        holidays: Dates that are holidays, besides the rows that say so.

    Raises:
        Unfit: The series is too short, irregular or constant, or its numbers are too large.
    """
    past, _ = _divided(rows)
    season = RHYTHMS[frequency].season if season is None else season
    _check(past, frequency, season)
    values, is_holiday = past["value"].to_numpy(), past.select(pl.col("holiday") | _on(holidays)).to_series().to_numpy()
    effect = _holiday_effect(values, is_holiday, season) if is_holiday.any() else 0.0
    values = values - effect * is_holiday
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # as for a series without noise, which is fitted exactly from the start
        warnings.simplefilter("ignore", RuntimeWarning)  # logarithms of the errors of such a series, which are 0
        parameters: Any = _model(values, season, damped).fit(disp=False, return_params=True)
    return Fitted(past["time"][0], frequency, season, damped, values.tolist(), effect, np.asarray(parameters).tolist())


def _on(days: Sequence[date]) -> pl.Expr:
    """Returns whether the time is on one of these days."""
    return pl.col("time").dt.date().is_in(pl.Series(days, dtype=pl.Date).implode())


def _divided(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Returns the rows up to the last value, and those after it, in the order of time."""
    rows = rows.with_columns(pl.col("value").fill_nan(None)).sort("time")
    known = rows["value"].is_not_null().arg_true()
    end = known[-1] + 1 if len(known) else 0
    return rows[:end], rows[end:]


def _check(past: pl.DataFrame, frequency: Frequency, season: int) -> None:
    needed = max(2 * season, 10 + 2 * (season // 2))  # what statsmodels derives the first level, trend and season from
    if past.height < needed:
        raise Unfit(f"it has {past.height} values, and needs {needed} if a season has {season}")
    due = regular_times(past["time"][:1], frequency, past.height)
    wrong = (past["time"] != due).arg_true()
    if len(wrong):
        raise Unfit(f"it has {past['time'][wrong[0]]} where {due[wrong[0]]} is due, with one value every {frequency}")
    if past["value"].null_count():
        raise Unfit(f"it has no value at {past['time'][past['value'].is_null().arg_true()[0]]}")
    if (past["value"].abs() > LARGEST).any():
        raise Unfit(f"it has values beyond {LARGEST:g}, whose squares cannot be summed up")
    if past["value"].n_unique() == 1:
        raise Unfit(f"it is constant: all {past.height} values are {past['value'][0]}")


def _model(values: Sequence[float] | NDArray[np.float64], season: int, damped: bool) -> ETSModel:
    seasonal = {"seasonal": "add", "seasonal_periods": season} if season > 1 else {}
    return ETSModel(pd.Series(values), trend="add", damped_trend=damped, initialization_method="heuristic", **seasonal)


def _holiday_effect(values: NDArray[np.float64], holidays: NDArray[np.bool_], season: int) -> float:
    """Returns how much a holiday adds: the coefficient in a regression on a line, the place in the season, and being a holiday."""
    time = np.arange(len(values))
    seasons = time[:, None] % season == np.arange(season)
    design = np.column_stack([time, seasons, holidays]).astype(float)
    return float(np.linalg.lstsq(design, values)[0][-1])
