"""Compares the answers that a handler gave to the same row in different calls.

Sums of floats depend on the order of the addends, and so on the number of rows that a library computes at once. So numbers may differ by a
thousandth, or by a part of the largest number of their column, since a difference of large numbers is uncertain by parts of these.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

_RELATIVE = 1e-3
_OF_LARGEST = 1e-4


class AnswerComparison:
    """Compares answers, and knows the largest number of each column."""

    def __init__(self) -> None:
        self._largest: dict[str, float] = {}

    def learn(self, answers: Iterable[Mapping[str, Any]]) -> None:
        """Takes the numbers of some answers into account."""
        for answer in answers:
            for column, value in answer.items():
                self._largest[column] = max([self._largest.get(column, 0.0), *map(abs, _numbers(value))])

    def differing_column(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
        """Returns the first column in which two answers differ; None if they are equal. A column that is missing is null."""
        for column in {**one, **other}:
            if not _equal(one.get(column), other.get(column), self._largest.get(column, 0.0) * _OF_LARGEST):
                return column
        return None


def _equal(one: Any, other: Any, tolerance: float) -> bool:
    if _is_missing(one) or _is_missing(other):
        return _is_missing(one) and _is_missing(other)
    if _is_number(one) and _is_number(other):
        of_largest = tolerance if isinstance(one, float) or isinstance(other, float) else 0.0
        first, second = float(one), float(other)
        allowed = max(of_largest, _RELATIVE * max(abs(first), abs(second)))
        return one == other or (math.isfinite(allowed) and abs(first - second) <= allowed)
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_equal(one.get(name), other.get(name), tolerance) for name in {**one, **other})
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_equal(*each, tolerance) for each in zip(one, other, strict=True))
    return bool(one == other)


def _is_missing(value: object) -> bool:
    """Returns True for null and for NaN, which libraries put in place of each other."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _numbers(value: Any) -> Iterator[float]:
    """Yields the finite numbers in a value."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _numbers(each)
    elif _is_number(value) and math.isfinite(value):
        yield float(value)
