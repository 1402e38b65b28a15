"""Values of handlers that stream or answer raw, as JSON."""

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
    """Values that JSON cannot express become null."""
    assert encode_json(value).decode() == text


def nested() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


@pytest.mark.parametrize("value", [object(), {"a": object()}, {(1, 2): "x"}, nested()], ids=["object", "inside", "key", "circle"])
def test_a_value_that_has_no_json_form_is_a_bad_result(value: object) -> None:
    """At any depth, and for any reason."""
    with pytest.raises(BadResult, match=r"produced a \w+ that cannot be encoded as JSON"):
        encode_json(value)
