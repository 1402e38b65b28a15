"""Valid rows that differ from one another, made from the examples, bounds and categories of a schema.

A handler whose answer for a row depends on other rows shows that only if these differ: of equal rows, each is the mean. So columns vary
all at once, and one at a time for handlers that compute per group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from base.errors import Declaration
from base.schema.dtypes import example_value
from base.schema.examples import show_bytes
from base.schema.model import Schema
from base.worker.made_up_values import Bounds, made_up_values

_ROWS_MAX = 32
_SINGLE_COLUMNS_MAX = 12
"""Number of columns that vary one at a time. Those of wider tables vary in sets."""


def sample_rows(schema: type[Schema]) -> list[dict[str, object]]:
    """Returns valid rows that are all different, the example first; none if no valid row can be made.

    A column of which the author gave several examples has no other values than these.
    """
    values = _valid_values(schema)
    if not all(values.values()):
        return []
    first = {name: found[0] for name, found in values.items()}
    turns = range(1, max(map(len, values.values()), default=1))
    rows = [first, *({name: found[turn % len(found)] for name, found in values.items()} for turn in turns)]
    sets = _column_sets([name for name, found in values.items() if len(found) > 1])
    rows += [{**first, **{name: values[name][place] for name in each}} for place in (1, -1) for each in sets]
    rows = list({repr(row): row for row in rows}.values())
    refused = {cell.row for cell in schema.check(schema.frame(schema.batch_of_rows(rows)))}
    return [row for number, row in enumerate(rows) if number not in refused][:_ROWS_MAX]


def _column_sets(names: Sequence[str]) -> list[list[str]]:
    """Returns sets of columns, so that of any two columns there is a set with one and without the other."""
    if len(names) <= _SINGLE_COLUMNS_MAX:
        return [[name] for name in names]
    bits = range((len(names) - 1).bit_length())
    return [[name for place, name in enumerate(names) if place >> bit & 1 == side] for bit in bits for side in (1, 0)]


def _valid_values(schema: type[Schema]) -> Mapping[str, list[object]]:
    """Returns different values of each column that its constraints and validators allow; null is the last of them."""
    values = {name: _proposed_values(schema, name) for name in schema.columns()}
    count = max(map(len, values.values()), default=0)
    rows: list[dict[str, object]] = [{name: found[min(row, len(found) - 1)] for name, found in values.items()} for row in range(count)]
    refused = {(cell.row, cell.column) for cell in schema.check(schema.frame(schema.batch_of_rows(rows)))}
    return {name: [value for row, value in enumerate(found) if (row, name) not in refused] for name, found in values.items()}


def _proposed_values(schema: type[Schema], name: str) -> list[object]:
    column, info = schema.columns()[name], schema.model_fields[schema.field_of(name)]
    examples = [each for each in show_bytes(info.examples) or () if each is not None] or [example_value(column.dtype)]
    values = {repr(each): each for each in examples}
    if len(values) == 1:
        others = made_up_values(examples[0], column.dtype, Bounds(info.metadata))
        values |= {repr(each): each for each in others if _fits(schema, name, each)}
    return [*values.values(), None] if column.nullable else [*values.values()]


def _fits(schema: type[Schema], name: str, value: object) -> bool:
    try:
        schema.require_value(name, value)
    except Declaration:
        return False
    return True
