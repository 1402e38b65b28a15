"""The times of a regular series: when it has values, and the steps that follow. Pure."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import polars as pl

Frequency = Literal["hour", "day", "week", "month", "quarter", "year"]


class Rhythm(NamedTuple):
    """The interval between two values, in Polars' notation, and how many values a season has."""

    every: str
    season: int


RHYTHMS: Mapping[Frequency, Rhythm] = {
    "hour": Rhythm("1h", 24),
    "day": Rhythm("1d", 7),
    "week": Rhythm("1w", 52),
    "month": Rhythm("1mo", 12),
    "quarter": Rhythm("1q", 4),
    "year": Rhythm("1y", 1),
}


def regular_times(first: pl.Series, frequency: Frequency, count: int) -> pl.Series:
    """Returns `count` times from the one in `first` on. Those that begin at the end of a month stay at the ends of months."""
    every, _ = RHYTHMS[frequency]
    unit = every.lstrip("1")
    begins_at_end = unit in {"mo", "q", "y"} and (first.dt.truncate("1d") == first.dt.month_end().dt.truncate("1d")).item()
    steps = first.new_from_index(0, count)
    times = steps.dt.offset_by(pl.select(pl.format("{}" + unit, pl.int_range(count))).to_series())
    return times.dt.month_end() if begins_at_end else times
