"""Bounds of what a handler returned: Arrow and Polars recurse, and end or block the process on values that are too deep or too wide."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from base.errors import BadResult

NESTED_MAX = 32
"""Maximum depth of nested lists and dicts, as in a request."""

FIELDS_MAX = 10_000
"""Maximum number of columns and of fields in dicts: that of the columns of a request at its highest setting."""

_CONTAINERS = (dict, list, tuple, set, frozenset, np.ndarray)
_ELEMENT = object()


def require_bounds(values: Iterable[object]) -> None:
    """Checks Python values, which may contain themselves.

    Raises:
        BadResult: They are nested too deeply, or have too many fields.
    """
    fields = 0
    groups: Sequence[Iterable[object]] = [values]  # those of each level, by the path to them: a group becomes one field
    for _ in range(NESTED_MAX + 1):
        inner = []
        for group in groups:
            parts = _parts(group)
            fields += len(parts)
            require_field_count(fields)
            inner += parts
        if not inner:
            return
        groups = inner
    raise BadResult(f"the handler returned values that are nested more than {NESTED_MAX} levels deep, or contain themselves: flatten them")


def require_field_count(count: int) -> None:
    """Raises BadResult if a result has more columns or fields than it may have."""
    if count > FIELDS_MAX:
        raise BadResult(f"the handler returned more than {FIELDS_MAX} columns or fields: return rows or lists instead")


def _parts(group: Iterable[object]) -> list[list[object]]:
    """Returns the values inside of a group's containers by field, with the elements of all its lists as one."""
    if not any(issubclass(kind, _CONTAINERS) for kind in set(map(type, group))):
        return []
    parts: dict[object, list[object]] = {}
    for value in {id(each): each for each in group if isinstance(each, _CONTAINERS)}.values():  # one value may be in many places
        if isinstance(value, dict):
            for name, inner in value.items():
                parts.setdefault(name, []).append(inner)
            require_field_count(len(parts))
        elif not isinstance(value, np.ndarray):
            parts.setdefault(_ELEMENT, []).extend(value)
        elif value.dtype == object:
            parts.setdefault(_ELEMENT, []).extend(value.flat)
    return list(parts.values())
