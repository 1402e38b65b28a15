"""Errors of a batch, attributed to the requests whose rows they name."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import Cell, HandlerFailed, Misfit, Reject
from runtime.front.scheduling.error_attribution import attribute_error


class Counted(NamedTuple):
    row_count: int


def test_each_request_gets_its_own_rows() -> None:
    """Rows are counted from the request's first, also in the detail of a misfit."""
    error = Misfit("row 4, column 'a': bad", cells=[Cell(4, "a", "bad"), Cell(5, "b", "worse"), Cell(0, None, "no")])
    found = attribute_error([Counted(1), Counted(2), Counted(0), Counted(3)], error)
    assert [(place, own.cells, str(own)) for place, own in found] == [
        (0, (Cell(0, None, "no"),), "row 0: no"),
        (3, (Cell(1, "a", "bad"), Cell(2, "b", "worse")), "row 1, column 'a': bad"),
    ]


def test_a_rejection_keeps_its_status_and_words() -> None:
    """They are the author's."""
    ((place, own),) = attribute_error([Counted(2), Counted(2)], Reject(409, "taken", rows=[3]))
    assert (place, type(own), own.detail, own.cells) == (1, Reject, "taken", (Cell(1, None, "taken"),))
    assert isinstance(own, Reject)
    assert own.status == 409


def test_an_error_that_names_no_row_is_attributed_to_nobody() -> None:
    """Nor is one that names a row that is not in the batch."""
    assert attribute_error([Counted(2)], HandlerFailed("x")) == []
    assert attribute_error([Counted(2)], Reject(422, "no", rows=[2])) == []


@given(st.lists(st.integers(0, 4), min_size=1), st.data())
def test_every_named_row_is_attributed_once(counts: list[int], data: st.DataObject) -> None:
    """Each named row of the batch is found again at its place in its own request."""
    total = sum(counts)
    rows = data.draw(st.sets(st.integers(0, total - 1)) if total else st.just(set()))
    found = attribute_error([Counted(count) for count in counts], Reject(422, "no", rows=sorted(rows)))
    assert {sum(counts[:place]) + (cell.row or 0) for place, own in found for cell in own.cells} == rows


@pytest.mark.parametrize("status", [399, 500, "422"])
def test_a_rejection_has_a_status_of_the_caller(status: int) -> None:
    """A handler can claim neither success nor an error of the server."""
    with pytest.raises(ValueError, match="400 to 499"):
        Reject(status)
