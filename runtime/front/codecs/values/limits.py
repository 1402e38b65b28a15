"""Limits on the size of decoded tables."""

from __future__ import annotations

from base.errors import TooLarge

EXPANDED_MAX_BYTES = 256 * 1024**2
"""Maximum bytes of an expanded body: eight times the largest body, and what a front door can spare for a few requests."""


ROWS_MAX = 5_000_000
"""Maximum number of rows of one request. A million rows of three floats take 24 MB."""


COLUMNS_MAX = 10_000
"""Maximum number of columns that any setting allows. Each takes 30 µs, regardless of the number of rows."""


NESTED_MAX = 32
"""Maximum depth of nested lists and structs. Polars recurses, and some hundreds of levels crash the process."""


ROW_MAX_VALUES = 250_000
"""Default limit of the values of one row of JSON, which are decoded in one call, in about 20 ms."""


def check_column_count(count: int, columns_max: int = COLUMNS_MAX) -> None:
    """Raises TooLarge if a request has more columns than it may have."""
    if count > columns_max:
        raise TooLarge(f"the request has {count} columns, limit {columns_max}; send fewer columns, or raise columns_max")


def check_expanded_size(rows: int, size: int, max_bytes: int | None = None) -> None:
    """Raises TooLarge if a request has more rows, or more bytes once it is expanded, than it may have."""
    max_bytes = EXPANDED_MAX_BYTES if max_bytes is None else max_bytes
    if rows > ROWS_MAX:
        raise TooLarge(f"the request has {rows} rows, limit {ROWS_MAX}; send fewer rows at once")
    if size > max_bytes:
        raise TooLarge(f"the body expands to more than {max_bytes} bytes; send fewer rows at once")
