"""Bounds the fields of decoded JSON without a schema, before they become columns.

Each field takes a value in every row, also in rows without it, so a body of kilobytes could take gigabytes. Arrow would build them in one
call, which holds Python's lock until it is done.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

from base.errors import Cell
from runtime.front.codecs.values.limits import NESTED_MAX, check_column_count, check_expanded_size
from runtime.front.codecs.values.schema_fit import misfit_error

_NESTED = frozenset((dict, list))

_OBJECTS_AT_A_TIME = 64
"""Objects that are looked at in one call, which holds Python's lock: 64 000 fields in about 2 ms."""

_ABSENT_BYTES = 8
"""Bytes that a field takes in a row that does not have it."""


def check_fields(rows: list[dict[str, Any]], columns_max: int) -> None:
    """Checks columns and the fields of nested objects together, in one pass over the values. Lets other threads run in between.

    Raises:
        Misfit: Values are nested too deeply.
        TooLarge: There are too many fields, or they take too much in rows that do not have them.
    """
    count = absent = 0
    groups = [(rows, len(rows), 0, "")]  # objects in one place, the values that a field of them has as a column, depth, column
    while groups:
        objects, length, depth, column = groups.pop()
        names: set[str] = set()
        nested: dict[str, list[Any]] = {}
        for start in range(0, len(objects), _OBJECTS_AT_A_TIME):
            some = objects[start : start + _OBJECTS_AT_A_TIME]
            names.update(*some)
            absent -= sum(map(len, some))
            check_column_count(count + len(names), columns_max)
            if _NESTED.isdisjoint(map(type, chain.from_iterable(map(dict.values, some)))):
                continue
            for name, value in chain.from_iterable(map(dict.items, some)):
                if type(value) in _NESTED:
                    nested.setdefault(name, []).append(value)
        if names:
            _check_depth(depth, column)
        count += len(names)
        absent += length * len(names)
        check_expanded_size(0, absent * _ABSENT_BYTES)
        for name, values in nested.items():
            inside = column or name
            groups += [(*group, inside) for group in _objects_in(values, length, depth + 1, inside)]


def _objects_in(values: list[Any], length: int, depth: int, column: str) -> Iterable[tuple[list[dict[str, Any]], int, int]]:
    """Yields the objects among values and in lists at each depth."""
    while values:
        objects = [value for value in values if type(value) is dict]
        if objects:
            yield objects, length, depth
        lists = [value for value in values if type(value) is list]
        if lists:
            _check_depth(depth, column)
        length, depth = sum(map(len, lists)), depth + 1
        values = [value for value in chain.from_iterable(lists) if type(value) in _NESTED]


def _check_depth(depth: int, column: str) -> None:
    if depth > NESTED_MAX:
        raise misfit_error([Cell(None, column, f"values are nested more than {NESTED_MAX} levels deep")])
