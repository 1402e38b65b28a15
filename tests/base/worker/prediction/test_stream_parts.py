"""What handlers make by themselves, as JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from base.endpoint.raw import encode_json
from base.errors import BadResult


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, None, "é"]}, '{"a":[1,null,"é"]}'),
        (np.float32(0.5), "0.5"),
        ([np.int64(3), np.array([[1, 2]])], "[3,[[1,2]]]"),
        (pl.Series([1, None]), "[1,null]"),
        ([float("nan"), float("inf"), np.float64("nan")], "[null,null,null]"),
    ],
    ids=repr,
)
def test_numbers_and_arrays_of_any_library_are_json(value: object, text: str) -> None:
    """What JSON has no word for is null."""
    assert encode_json(value).decode() == text


def nested() -> list[Any]:
    held: list[Any] = []
    held.append(held)
    return held


@pytest.mark.parametrize("value", [object(), {"a": object()}, {(1, 2): "x"}, nested()], ids=["object", "inside", "key", "circle"])
def test_what_has_no_form_in_json_is_the_authors_bad_result(value: object) -> None:
    """Whatever is wrong with it, and wherever it stands."""
    with pytest.raises(BadResult, match=r"produced a \w+ that cannot be encoded as JSON"):
        encode_json(value)
