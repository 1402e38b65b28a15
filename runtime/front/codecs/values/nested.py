"""Takes lists, arrays and structs apart into flat columns, and puts them together again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa
from polars import CompatLevel

from base.schema.values.json_forms import Lengths, Mask


def build_lists(lengths: Lengths, null: Mask, flat: pl.Series, dtype: pl.List | pl.Array) -> pl.Series:
    """Returns lists of these lengths and elements: the inverse of `explode_lists`. For an array all lengths are its size, or null."""
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64())
    values = flat.rechunk().to_arrow(compat_level=CompatLevel.newest())
    found = pl.from_arrow(pa.LargeListArray.from_arrays(offsets, values, mask=pa.array(null)))
    assert isinstance(found, pl.Series)
    return found.list.to_array(dtype.size) if isinstance(dtype, pl.Array) else found


def build_structs(fields: Sequence[pl.Series], null: Mask) -> pl.Series:
    """Returns a struct of these fields for each row."""
    arrays = [field.rechunk().to_arrow(compat_level=CompatLevel.newest()) for field in fields]
    found = pl.from_arrow(pa.StructArray.from_arrays(arrays, [field.name for field in fields], mask=pa.array(null)))
    assert isinstance(found, pl.Series)
    return found


def outer_row(lengths: Lengths, element: int) -> int:
    """Returns the row whose list holds this element."""
    return int(np.searchsorted(np.cumsum(lengths), element, side="right"))
