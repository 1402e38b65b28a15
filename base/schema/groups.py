"""Finds the groups of rows that have equal values in some columns. Front doors and workers use the same function, so that they agree.

Null is a value like any other here, and so is NaN; -0.0 equals 0.0. Groups are in the order of their first rows, and the rows of a group
need not be adjacent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from base.errors import Declaration
from base.schema.model import Schema

ERROR_COLUMN = "group_error"
"""The column of a table that has rows for failed groups: the reason; null in all other rows."""

_NESTED = (pl.List, pl.Array, pl.Struct)


class Groups(NamedTuple):
    """The groups of the rows of a table.

    Attributes:
        order: The numbers of all rows, group by group; None if the rows are in this order already.
        starts: The position in this order of each group's first row, and the number of all rows at the end.
    """

    order: pl.Series | None
    starts: list[int]


def find_groups(keys: Sequence[pl.Series]) -> Groups:
    """Returns the groups of the rows that have equal values in these columns, of which none may be nested."""
    if not len(keys[0]):
        return Groups(None, [0])
    columns = pl.DataFrame([key.alias(str(index)) for index, key in enumerate(keys)])  # Polars could take another name for a pattern
    rows = columns.with_row_index("row").group_by(columns.columns, maintain_order=True).agg("row")["row"]
    order = rows.explode()
    return Groups(None if order.is_sorted() else order, [0, *rows.list.len().cum_sum()])


def may_be_key(dtype: pl.DataType) -> bool:
    """Returns whether rows can be grouped by a column of this dtype."""
    return not isinstance(dtype, _NESTED)


def check_group_columns(where: str, names: object, schema: type[Schema] | None, output: type[Schema] | None) -> tuple[str, ...]:
    """Returns the names of the columns by which an endpoint groups its rows.

    Args:
        where: Names the endpoint in errors.
        names: The names as the author wrote them.
        schema: The schema of the rows, if there is one.
        output: The schema of the result, if there is one.

    Raises:
        Declaration: The rows cannot be grouped by them, or the rows of the result could not be told apart.
    """
    if not isinstance(names, list | tuple) or not names or not all(isinstance(each, str) for each in names) or len({*names}) < len(names):
        raise Declaration(f'{where}: group_by is {names!r}; use a list of the names of columns, such as ["series"]')
    for kind, role in ((schema, "rows have"), (output, "result has")):
        if kind is None:
            continue
        for name in names:
            dtype = kind.polars_schema().get(name)
            if dtype is None:
                raise Declaration(f"{where}: group_by names {name!r}, but the schema that its {role}, {kind.__name__}, has no such column")
            if not may_be_key(dtype):
                raise Declaration(f"{where}: group_by names {name!r}, which is {dtype} in {kind.__name__}; group by single values")
    if ERROR_COLUMN in names or (output is not None and ERROR_COLUMN in output.polars_schema()):
        raise Declaration(f"{where}: {ERROR_COLUMN!r} is the column with the errors of groups; rename yours")
    return tuple(names)
