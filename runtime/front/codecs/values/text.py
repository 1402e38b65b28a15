"""Values without a type of their own in JSON and CSV, as text: ISO 8601 for times, base64 for bytes, digits for decimals and wide integers.

Years have four digits, and seconds are required. Without a time zone, a date is a datetime, too: its midnight. Datetimes with a time zone
are written in UTC. Digits that are finer than the column's unit are rejected, unless they are zero.
"""

from __future__ import annotations

import decimal
import re
from decimal import Decimal

import polars as pl
from polars._typing import TimeUnit

from base.schema import spellings
from runtime.front.codecs.values.mismatch import check_time_range, raise_mismatch, raise_mismatch_where

_DIGITS = {"ms": 3, "us": 6, "ns": 9}
_INTEGER = "[+-]?[0-9]{1,1000}"
"""The limit is far above the digits of any dtype; Python takes long to parse thousands of digits."""
_COUNT = "[0-9]{1,18}"
"""Digits of a part of a duration: more than any duration needs, and few enough that no sum of parts overflows 128 bits."""
_DURATION = (
    f"^(?<sign>-?)P(?:(?<days>{_COUNT})D)?"
    rf"(?:T(?:(?<hours>{_COUNT})H)?(?:(?<minutes>{_COUNT})M)?(?:(?<seconds>{_COUNT})(?:\.(?<fraction>[0-9]{{1,9}}))?S)?)?$"
)
_UNIT_NS = {"days": 86_400 * 10**9, "hours": 3_600 * 10**9, "minutes": 60 * 10**9, "seconds": 10**9}


def column_from_text(source: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Returns a column of strings parsed into `dtype`'s wire form; nulls stay.

    Raises:
        ValueMismatch: A string is not a value of the dtype.
    """
    match dtype:
        case pl.String() | pl.Categorical():
            return source
        case pl.Enum():
            raise_mismatch_where(~source.is_in(dtype.categories) & source.is_not_null(), dtype, source)
            return source
        case pl.Binary():
            found = source.str.decode("base64", strict=False)
        case pl.Date():
            found = _keep_matching(source, f"^{spellings.DATE}$").str.to_date("%Y-%m-%d", strict=False)
        case pl.Time():
            found = _keep_matching(source, f"^{spellings.TIME}$").str.to_time("%H:%M:%S%.f", strict=False)
        case pl.Datetime():
            found = _datetimes(source, dtype)
        case pl.Duration():
            found = _durations(source, dtype)
        case pl.Decimal():
            return column_of_decimals(source.to_list(), dtype)
        case pl.Int128() | pl.UInt128():
            # "-0" is zero also for unsigned dtypes, for which Polars rejects signs.
            found = _keep_matching(source, f"^{_INTEGER}$").str.replace("^-(0+)$", "$1").cast(dtype, strict=False).cast(pl.String)
        case _:
            found = pl.Series(source.name, [None] * len(source), dtype)
    raise_mismatch_where(found.is_null() & source.is_not_null(), dtype, source)
    return check_time_range(found, dtype)


def column_of_decimals(values: list[object], dtype: pl.Decimal) -> pl.Series:
    """Returns strings, integers and decimals as a column of decimals, each exactly.

    Raises:
        ValueMismatch: A value has another type, or too many digits.
    """
    found: list[Decimal | None] = []
    for row, value in enumerate(values):
        if value is None:
            found.append(None)
            continue
        exact = _decimal(value, dtype) if isinstance(value, str | Decimal) or type(value) is int else None
        if exact is None:
            raise_mismatch(row, dtype, value)
        found.append(exact)
    return pl.Series("", found, dtype)


def _decimal(value: object, dtype: pl.Decimal) -> Decimal | None:
    if isinstance(value, str) and not re.fullmatch(spellings.FRACTION, value):
        return None  # Python alone would accept more spellings, such as underscores and spaces
    context = decimal.Context(prec=dtype.precision, traps=[decimal.Inexact, decimal.InvalidOperation, decimal.Overflow])
    try:
        exact = Decimal(value).quantize(Decimal(1).scaleb(-dtype.scale), context=context)  # type: ignore[arg-type]
    except (decimal.DecimalException, ValueError):
        return None
    return exact if exact.is_finite() else None


def parse_integer(value: object) -> object:
    """Returns the integer in a string of digits; any other value unchanged."""
    return int(value) if isinstance(value, str) and re.fullmatch(_INTEGER, value) else value


def _keep_matching(source: pl.Series, pattern: str) -> pl.Series:
    """Replaces texts that do not match the pattern by null: Polars alone would accept more than one spelling of a value."""
    return source.set(~source.str.contains(pattern).fill_null(value=True), None)


def _datetimes(source: pl.Series, dtype: pl.Datetime) -> pl.Series:
    aware = dtype.time_zone is not None
    time = f"[Tt ]{spellings.TIME}{spellings.OFFSET}" if aware else f"([Tt ]{spellings.TIME})?"
    shaped = _keep_matching(source, f"^{spellings.DATE}{time}$").str.replace("[t ]", "T").str.replace("^([0-9-]{10})$", "${1}T00:00:00")
    shaped = shaped.set(shaped.str.contains(_finer_than(dtype.time_unit)).fill_null(value=False), None)
    if not aware:
        return _parse_datetimes(shaped, "%Y-%m-%dT%H:%M:%S%.f", dtype.time_unit)
    found = _parse_datetimes(shaped.str.replace("[Zz]$", "+00:00"), "%Y-%m-%dT%H:%M:%S%.f%z", dtype.time_unit)
    return found.dt.convert_time_zone(dtype.time_zone or "UTC")


def _parse_datetimes(shaped: pl.Series, form: str, unit: TimeUnit) -> pl.Series:
    """Parses datetimes; returns null also for those that overflow the unit's 64 bits, which Polars wraps into another century."""
    found = shaped.str.to_datetime(form, time_unit=unit, strict=False)
    if unit != "ns":
        return found
    right = shaped.str.to_datetime(form, time_unit="us", strict=False)
    return found.set((found.dt.year() != right.dt.year()).fill_null(value=False), None)


def _finer_than(unit: str) -> str:
    return rf"\.[0-9]{{{_DIGITS[unit]}}}[0-9]*[1-9]"


def _durations(source: pl.Series, dtype: pl.Duration) -> pl.Series:
    shaped = source.set(source.str.contains(r"[PT]$") | source.str.contains(_finer_than(dtype.time_unit)), None)
    parts = shaped.str.extract_groups(_DURATION).struct.unnest()
    wide = pl.Int128  # holds sums of any parts, before their range is checked
    fraction = pl.col("fraction").fill_null("").str.pad_end(9, "0").cast(wide)
    total = pl.sum_horizontal(pl.col(name).cast(wide).fill_null(0) * ns for name, ns in _UNIT_NS.items()) + fraction
    sign = pl.when(pl.col("sign") == "-").then(-1).when(pl.col("sign").is_not_null()).then(1).cast(wide)  # null where nothing matched
    per_unit = 10 ** (9 - _DIGITS[dtype.time_unit])
    return parts.select((sign * total // per_unit).cast(pl.Int64, strict=False).cast(dtype).alias(source.name)).to_series()
