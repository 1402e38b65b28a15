"""The digest of what a context is fitted on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import polars as pl
from pydantic import BaseModel


class _Hash:
    """A file that keeps only the digest of what is written to it."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Adds bytes to the digest."""
        self.digest.update(data)
        return len(data)


def digest_of(frame: pl.DataFrame, others: Mapping[str, Any], version: str) -> str:
    """Returns 32 hexadecimal digits that are equal if table, parameters and version are equal.

    Args:
        frame: The training table. The order of its rows and columns counts.
        others: The other arguments of the handler by name, of which parameters of requests and of the path count.
        version: The author's version of the fit.
    """
    found = _Hash()
    for column in frame.get_columns():
        found.write(f"{column.name!r} {column.dtype!r} {len(column)}\0".encode(errors="surrogatepass"))
        _write_values(column, found)
    for name, value in sorted(others.items()):
        if isinstance(value, BaseModel):
            found.write(f"{name} {value.model_dump_json()}\0".encode(errors="surrogatepass"))
        elif isinstance(value, str | int | float):
            found.write(f"{name} {value!r}\0".encode(errors="surrogatepass"))
    found.write(version.encode())
    return found.digest.hexdigest()[:32]


def _write_values(column: pl.Series, found: _Hash) -> None:
    """Writes values so that equal ones have equal bytes: Arrow's own form also has what lies beneath nulls and beyond slices."""
    if isinstance(column.dtype, pl.Categorical):
        column = column.cast(pl.String)
    try:
        column.to_frame().write_parquet(found, compression="uncompressed", statistics=False)  # type: ignore[arg-type]
    except pl.exceptions.PolarsError:  # Parquet has no form for it, such as structs without fields
        found.write(repr(column.to_list()).encode(errors="surrogatepass"))
