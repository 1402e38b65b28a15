"""`python -m forecast.generate --series 10000 --output history.parquet`: writes synthetic daily sales, the same in every run.

Each series has a level, a trend, a week, noise, and more or less sales on holidays. Its last rows have no value: they tell which of the
next days are holidays.
"""

import argparse
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

FIRST_DAY = datetime(2025, 10, 1)
HOLIDAYS = [date(2025, 10, 20), date(2025, 11, 11), date(2025, 11, 27), date(2025, 12, 8), date(2025, 12, 25), date(2026, 1, 1)]
SEED = 7
WRITERS: dict[str, Callable[[pl.DataFrame, Path], object]] = {
    ".parquet": pl.DataFrame.write_parquet,
    ".csv": pl.DataFrame.write_csv,
    ".json": pl.DataFrame.write_json,
}


def generate(series: int, days: int = 84, ahead: int = 14) -> pl.DataFrame:
    """Returns the values of `days`, and the holidays of the days `ahead`, one series after the other."""
    random = np.random.default_rng(SEED)
    time = np.arange(days + ahead)
    times = pl.Series([FIRST_DAY + timedelta(int(day)) for day in time], dtype=pl.Datetime("us"))
    holiday = times.dt.date().is_in(HOLIDAYS).to_numpy()

    def drawn(low: float, high: float, count: int = 1) -> np.ndarray:
        return random.uniform(low, high, (series, count))

    values = drawn(50, 500) + drawn(-0.5, 1) * time + drawn(-40, 40, 7)[:, time % 7] + drawn(-50, 100) * holiday
    values += drawn(1, 10) * random.standard_normal(values.shape)
    values[:, days:] = np.nan
    names = [f"shop-{number:05}" for number in range(series)]
    columns = {
        "series": pl.Series(names).gather(np.repeat(np.arange(series), len(time))),
        "time": pl.concat([times] * series),
        "value": pl.Series(values.round(2).ravel()).fill_nan(None),
        "holiday": np.tile(holiday, series),
    }
    return pl.DataFrame(columns)


def main() -> int:
    """Writes a file whose suffix says its format: .parquet, .csv or .json."""
    parser = argparse.ArgumentParser(
        prog="python -m forecast.generate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--series", type=int, default=10_000, help="default: 10000")
    parser.add_argument("--days", type=int, default=84, help="with a value; default: 84")
    parser.add_argument("--ahead", type=int, default=14, help="days without a value; default: 14")
    parser.add_argument("--output", type=Path, default=Path("history.parquet"), metavar="FILE", help="default: history.parquet")
    given = parser.parse_args()
    write = WRITERS.get(given.output.suffix)
    if write is None:
        parser.error(f"--output {given.output}: use a name that ends in {', '.join(WRITERS)}")
    found = generate(given.series, given.days, given.ahead)
    write(found, given.output)
    sys.stdout.write(f"{given.output}: {given.series} series, {found.height} rows\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
