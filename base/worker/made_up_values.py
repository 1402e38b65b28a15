"""Other values than a given one, of the same dtype and much like it: numbers of its size, texts with its kinds of characters.

They are few, and irregular, so that no mean of them is one of them. Some may break a constraint of their column.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import annotated_types as at
import polars as pl

from base.schema.dtypes import as_instance

_STEPS = (0.37, -0.21, 0.83, -0.58)
"""Distances from the given number, as parts of it."""
_FRACTIONS = (0.37, 0.81, 0.12, 0.59)
"""Places between two bounds."""
_SMALL = 3
"""Smaller integers are varied as this one is, since parts of them would be less than 1."""
_DAYS = (1, -3, 45, 400)
_HOURS = (1, 5, 14)


class Bounds:
    """The bounds of a column's numbers and the least length of its texts, as its constraints have them.

    Args:
        constraints: The constraints of the column. Other metadata is ignored.
    """

    def __init__(self, constraints: Iterable[object] = ()) -> None:
        self._least = self._most = self._factor = math.nan
        self._least_length = 0
        for each in constraints:
            match each:
                case at.Ge(bound) | at.Gt(bound) if _is_number(bound):
                    self._least = float(bound)  # type: ignore[arg-type]
                case at.Le(bound) | at.Lt(bound) if _is_number(bound):
                    self._most = float(bound)  # type: ignore[arg-type]
                case at.MultipleOf(factor) if _is_number(factor):
                    self._factor = float(factor)  # type: ignore[arg-type]
                case at.MinLen(least):
                    self._least_length = least

    def numbers(self, given: float, *, whole: bool) -> list[float]:
        """Returns other numbers than the given one."""
        size = max(abs(given), _SMALL) if whole else abs(given) or 1.0
        if math.isfinite(self._least) and math.isfinite(self._most):
            found = [self._least + part * (self._most - self._least) for part in _FRACTIONS]
        elif math.isfinite(self._least):
            found = [max(self._least, given) + part * size for part in _FRACTIONS]
        elif math.isfinite(self._most):
            found = [min(self._most, given) - part * size for part in _FRACTIONS]
        else:
            found = [given + step * size for step in _STEPS]
        if math.isfinite(self._factor):
            found = [(math.ceil(each / self._factor) + turn) * self._factor for turn, each in enumerate(found)]
        return [math.ceil(each) for each in found] if whole else found

    def texts(self, given: str) -> list[str]:
        """Returns other texts than the given one. The first has the same kinds of characters in the same places."""
        if 0 < len(given) < self._least_length:
            given *= -(-self._least_length // len(given))
        other = "".join(map(_next_character, given))
        return [other, f"{given} {other}", given[: len(given) // 2], other[::-1]]


def made_up_values(given: Any, dtype: pl.DataType, bounds: Bounds) -> list[Any]:
    """Returns other values than the given one; none if there are none."""
    match given, dtype:
        case bool(), _:
            return [not given]
        case _, pl.Enum():
            return [each for each in dtype.categories.to_list() if each != given][: len(_STEPS)]
        case ((list() | tuple()), pl.Array()):
            return [_varied(given, as_instance(dtype.inner), turn) for turn in range(len(_STEPS))]
        case ((list() | tuple()), pl.List()):
            first, second = (_varied(given, as_instance(dtype.inner), turn) for turn in range(2))
            return [first, [*given, *second], list(given[:1]), second]
        case dict(), pl.Struct():
            fields = [(each.name, _others(given.get(each.name), as_instance(each.dtype))) for each in dtype.fields]
            return [{name: found[turn % len(found)] for name, found in fields} for turn in range(len(_STEPS))]
        case str(), _:
            return [*bounds.texts(given)]
        case bytes(), _:
            return [given[::-1], given + given]
        case dt.date(), _:  # a datetime is one, too
            return [given + dt.timedelta(days) for days in _DAYS]
        case dt.time(), _:
            return [given.replace(hour=(given.hour + hours) % 24) for hours in _HOURS]
        case dt.timedelta(), _:
            return [given * (1 + step) + dt.timedelta(seconds=1) for step in _STEPS]
        case _, pl.Decimal() if _is_number(given):
            return [round(Decimal(each), dtype.scale) for each in bounds.numbers(float(given), whole=False)]
        case _ if _is_number(given):
            return [*bounds.numbers(given, whole=dtype.is_integer())]
    return []


def _varied(given: Iterable[Any], dtype: pl.DataType, turn: int) -> list[Any]:
    """Returns other elements of a list or an array, each by another step than the one before it."""
    others = [_others(each, dtype) for each in given]
    return [found[(place + turn) % len(found)] for place, found in enumerate(others)]


def _others(given: Any, dtype: pl.DataType) -> list[Any]:
    return made_up_values(given, dtype, Bounds()) or [given]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and math.isfinite(value)


def _next_character(character: str) -> str:
    """Returns the next digit or letter, and other characters as they are."""
    for first, count in (("0", 10), ("a", 26), ("A", 26)):
        if 0 <= (place := ord(character) - ord(first)) < count:
            return chr(ord(first) + (place + 1) % count)
    return character
