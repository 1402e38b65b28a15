"""Fits one series and forecasts it: exponential smoothing with additive errors, after the effect of holidays is taken out. Pure."""

import warnings
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
BOUNDS = ("mean", "lower", "upper")

# The optimizer multiplies matrices of a few numbers. With a thread for each core it takes ten times as long.
threadpool_limits(1, "blas")


class Unfit(ValueError):
    """A series that cannot be forecast. The message says why, and where."""


def forecast_series(
    rows: pl.DataFrame, *, frequency: Frequency, horizon: int, level: float, season: int | None = None, damped: bool = False
) -> pl.DataFrame:
    """Returns a row for each step after the last value.

    Args:
        rows: `time`, `value` and `holiday` of one series, in any order. Rows without a value after the last one only tell which steps are
            holidays.
        frequency: The interval between values.
        horizon: Number of steps.
        level: Probability that a value lies in its prediction interval.
        season: Number of values in a season, 1 for none; by default that of the frequency.
        damped: Lets the trend fade.

    Returns:
        The columns `time`, `mean`, `lower` and `upper`.

    Raises:
        Unfit: The series is too short, irregular or constant, or its numbers are too large.
    """
    rows = rows.with_columns(pl.col("value").fill_nan(None)).sort("time")
    known = rows["value"].is_not_null().arg_true()
    end = known[-1] + 1 if len(known) else 0
    past, future = rows[:end], rows[end:]
    season = RHYTHMS[frequency].season if season is None else season
    times = _check(past, future, frequency, season, horizon)
    values, holidays = past["value"].to_numpy(), past["holiday"].to_numpy()
    steps = times[past.height :]
    effect = _holiday_effect(values, holidays, season) if holidays.any() else 0.0
    found = _smooth(values - effect * holidays, horizon, level, season, damped)
    found += effect * steps.is_in(future.filter("holiday")["time"].implode()).to_numpy()[:, None]
    return pl.DataFrame([steps.alias("time"), *(pl.Series(name, column) for name, column in zip(BOUNDS, found.T, strict=True))])


def _check(past: pl.DataFrame, future: pl.DataFrame, frequency: Frequency, season: int, horizon: int) -> pl.Series:
    """Returns the times of all values and steps."""
    needed = max(2 * season, 10 + 2 * (season // 2))  # what statsmodels derives the first level, trend and season from
    if past.height < needed:
        raise Unfit(f"it has {past.height} values, and needs {needed} if a season has {season}")
    times = regular_times(past["time"][:1], frequency, past.height + horizon)
    wrong = (past["time"] != times[: past.height]).arg_true()
    if len(wrong):
        raise Unfit(f"it has {past['time'][wrong[0]]} where {times[wrong[0]]} is due, with one value every {frequency}")
    if past["value"].null_count():
        raise Unfit(f"it has no value at {past['time'][past['value'].is_null().arg_true()[0]]}")
    if (past["value"].abs() > LARGEST).any():
        raise Unfit(f"it has values beyond {LARGEST:g}, whose squares cannot be summed up")
    if past["value"].n_unique() == 1:
        raise Unfit(f"it is constant: all {past.height} values are {past['value'][0]}")
    stray = future.filter(~pl.col("time").is_in(times.implode()), pl.col("time") <= times[-1])["time"]
    if len(stray):
        raise Unfit(f"it has {stray[0]} after its last value at {past['time'][-1]}, which is no step, with one value every {frequency}")
    return times


def _holiday_effect(values: NDArray[np.float64], holidays: NDArray[np.bool_], season: int) -> float:
    """Returns how much a holiday adds: the coefficient in a regression on a line, the place in the season, and being a holiday."""
    time = np.arange(len(values))
    seasons = time[:, None] % season == np.arange(season)
    design = np.column_stack([time, seasons, holidays]).astype(float)
    return float(np.linalg.lstsq(design, values)[0][-1])


def _smooth(values: NDArray[np.float64], horizon: int, level: float, season: int, damped: bool) -> NDArray[np.float64]:
    """Returns a row with the mean and both bounds for each step."""
    seasonal = {"seasonal": "add", "seasonal_periods": season} if season > 1 else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # as for a series without noise, which is fitted exactly from the start
        warnings.simplefilter("ignore", RuntimeWarning)  # logarithms of the errors of such a series, which are 0
        model = ETSModel(pd.Series(values), trend="add", damped_trend=damped, initialization_method="heuristic", **seasonal)
        fitted: Any = model.fit(disp=False)
        predicted: pd.DataFrame = fitted.get_prediction(len(values), len(values) + horizon - 1).summary_frame(alpha=1 - level)
    return predicted[["mean", "pi_lower", "pi_upper"]].to_numpy(float, copy=True)
