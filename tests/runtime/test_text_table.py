"""Tables of text."""

from __future__ import annotations

import pytest

from runtime.text_table import format_duration, format_size, format_table


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    """No line ends in spaces."""
    assert format_table([("A", "B", "C"), ("long", "", "x"), ("", "y", "")]) == ["A     B  C", "long     x", "      y"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h"), (200_000, "2 d")],
)
def test_a_duration_is_in_the_unit_that_people_would_use(seconds: float, text: str) -> None:
    """It is at least two of a unit."""
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_500_000, "2.5 MB"), (3_000_000_000, "3.0 GB")]
)
def test_a_size_is_in_the_unit_that_people_would_use(size_bytes: int, text: str) -> None:
    """Units are decimal, as elsewhere in the command."""
    assert format_size(size_bytes) == text
