"""The range of dates and times that every form can express: Python, text and Arrow.

Polars holds dates of millions of years, and panics on some of them; ISO 8601 and Python have four digits for a year. Datetimes with a
time zone have a range that is one day shorter at both ends, so that they have a date in every zone.
"""

from __future__ import annotations

import polars as pl

_DAY_S = 86_400
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
"""0001-01-01 and 9999-12-31, in days since 1970-01-01."""
_PER_S = {"ms": 10**3, "us": 10**6, "ns": 10**9}


def out_of_range(column: pl.Series) -> pl.Series | None:
    """Returns a mask that is true where a value, or a part of it, is out of range; None if all values are in range."""
    dtype = column.dtype
    column = column.alias("")  # Polars computes with a series by its name, which could be a pattern
    match dtype:
        case pl.List():
            return _lists_out_of_range(column)
        case pl.Array():
            return _lists_out_of_range(column.arr.to_list())
        case pl.Struct():
            found = [each for field in column.struct.unnest() if (each := out_of_range(field)) is not None]
            return None if not found else pl.DataFrame([each.alias(str(i)) for i, each in enumerate(found)]).max_horizontal()
    bounds = _bounds(dtype)
    if bounds is None:
        return None
    inside = column.to_physical().is_between(*bounds)
    return None if inside.all() else (~inside).fill_null(value=False)


def _bounds(dtype: pl.DataType) -> tuple[int, int] | None:
    match dtype:
        case pl.Date():
            return _FIRST_DAY, _LAST_DAY
        case pl.Time():
            return 0, _DAY_S * 10**9 - 1
        case pl.Duration():
            return -(2**63) + 1, 2**63 - 1  # the smallest value has no positive counterpart, and Polars formats it wrongly
        case pl.Datetime():
            per_day = _DAY_S * _PER_S[dtype.time_unit]
            margin = 0 if dtype.time_zone is None else 1
            least, most = (_FIRST_DAY + margin) * per_day, (_LAST_DAY + 1 - margin) * per_day - 1
            return max(least, -(2**63)), min(most, 2**63 - 1)
    return None


def _lists_out_of_range(column: pl.Series) -> pl.Series | None:
    elements = column.to_frame("it").with_row_index("row").explode("it")
    found = out_of_range(elements["it"])
    if found is None:
        return None
    rows = elements.filter(found)["row"].unique()
    return pl.Series(range(len(column)), dtype=pl.UInt32).is_in(rows.implode())
