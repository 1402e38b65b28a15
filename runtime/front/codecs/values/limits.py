"""Limits on the size of decoded tables."""

from __future__ import annotations

from base.errors import TooLarge

EXPANDED_MAX_BYTES = 256 * 1024**2
"""What a body may hold once it is expanded: eight times the largest body, and what a front door can spare for a few requests."""


ROWS_MAX = 5_000_000
"""Rows of one request. A million rows of three floats take 24 MB."""


COLUMNS_MAX = 10_000
"""Of rows without a schema. Each takes 20 µs, however few rows there are."""


def check_column_count(count: int) -> None:
    """Raises TooLarge where rows without a schema have more columns than a request may."""
    if count > COLUMNS_MAX:
        raise TooLarge(f"a request may have {COLUMNS_MAX} columns")


def check_expanded_size(rows: int, size: int) -> None:
    """Raises TooLarge where a request has more rows, or more bytes once it is expanded, than it may."""
    if rows > ROWS_MAX:
        raise TooLarge(f"a request may have {ROWS_MAX} rows; send fewer at once")
    if size > EXPANDED_MAX_BYTES:
        raise TooLarge(f"a body may hold {EXPANDED_MAX_BYTES} bytes once it is expanded; send fewer rows at once")
