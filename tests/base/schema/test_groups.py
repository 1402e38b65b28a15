"""Grouping rows by value, and the declarations of it that are refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import base.service as svc
from base.errors import Declaration
from base.schema import Schema
from base.schema.groups import find_groups


class Point(Schema):
    series: pl.String | None
    t: pl.Int64


@given(st.lists(st.tuples(st.sampled_from([None, math.nan, 0.0, -0.0, 1.5]), st.sampled_from(["", "a", None]))))
def test_groups_are_those_of_a_dict_by_hand(rows: list[tuple[float | None, str | None]]) -> None:
    """Whose keys are equal for all NaN. `order` is None just for rows that are in the order of their groups."""
    by_hand: dict[object, list[int]] = {}
    for row, (number, text) in enumerate(rows):
        by_hand.setdefault(("nan" if number is not None and math.isnan(number) else number, text), []).append(row)
    keys = [pl.Series("^a.*$", [each[0] for each in rows], pl.Float64), pl.Series("^a.*$", [each[1] for each in rows], pl.String)]
    order, starts = find_groups(keys)
    expected = [row for group in by_hand.values() for row in group]
    assert (list(range(len(rows))) if order is None else order.to_list()) == expected
    assert (order is None) == (expected == sorted(expected))
    assert starts == [sum(len(group) for group in [*by_hand.values()][:number]) for number in range(len(by_hand) + 1)]


def same(frame: Point.DataFrame) -> pl.DataFrame:
    return frame


class Nested(Schema):
    series: pl.List(pl.Int64)  # type: ignore[valid-type]


class Nameless(Schema):
    yhat: pl.Float64


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: svc.endpoint("/x", group_by="series")(same), "use a list"),  # type: ignore[arg-type]
        (lambda: svc.endpoint("/x", group_by=[])(same), "use a list"),
        (lambda: svc.endpoint("/x", group_by=["t", "t"])(same), "use a list"),
        (lambda: svc.endpoint("/x", group_by=["z"])(same), "Point, has no such column"),
        (lambda: svc.endpoint("/x", group_by=["t"], batch_max_size=3)(same), "batch_max_size"),
        (lambda: svc.endpoint("/x", group_by=["t"], raw=True)(lambda request: request), "group_by divides a frame"),
        (lambda: svc.endpoint("/x", group_by=["series"])(_of_lists), "List"),
        (lambda: svc.endpoint("/x", group_by=["series"])(_nameless), "Nameless, has no such column"),
        (lambda: svc.endpoint("/x", group_by=["series"])(_parts), "group_by divides a frame"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused(declare: Callable[[], object], message: str) -> None:
    with pytest.raises(Declaration, match=message):
        declare()


def _of_lists(frame: Nested.DataFrame) -> pl.DataFrame:
    return frame


def _nameless(frame: Point.DataFrame) -> Nameless.DataFrame:
    return frame


def _parts(frame: Point.DataFrame) -> Iterator[pl.DataFrame]:
    yield frame
