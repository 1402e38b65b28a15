"""Frames of numbers without nulls between Polars and plain frames, and results that are such frames as they stand.

A short way for what most models take and return. What it does not know goes the ordinary way, which also says what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from base.ipc.plain import Column, Form, Plain, Values
from base.schema import Schema

_Maker = Callable[[list[str], Sequence[Values]], pl.DataFrame]


class Numbers:
    """The plain frames of a schema as Polars frames.

    Args:
        schema: of numbers only, see `of`.
    """

    def __init__(self, schema: type[Schema], form: Form) -> None:
        self.form = form
        polars = schema.polars_schema()
        self._names = list(polars)
        self._dtypes = list(polars.values())
        self._make = _maker(self._names, form)

    @classmethod
    def of(cls, schema: type[Schema] | None) -> Numbers | None:
        """For a schema that has numbers only; None for all others."""
        form = None if schema is None else Form.of(schema.arrow_schema())
        return None if schema is None or form is None else cls(schema, form)

    def frame(self, plain: Plain) -> pl.DataFrame:
        """The rows as a frame of the schema; a copy, so nothing refers to the segment."""
        return self._make(self._names, plain.columns)

    def plain(self, result: object, rows: int) -> Plain | None:
        """What a handler returned for `rows` rows, where it is these columns with these dtypes, in order and without nulls; else None."""
        columns = self._columns(result)
        if columns is None or any(len(column) != rows for column in columns):
            return None
        return self.form.plain(rows, columns)

    def _columns(self, result: object) -> list[Column] | None:
        kind = type(result)  # a subclass may mean something else by its values: a masked array has nulls
        if kind is np.ndarray:
            array: Any = result
            return [array] if self.form.dtypes == (array.dtype,) and array.ndim == 1 else None
        if kind is pl.DataFrame:
            frame: Any = result
            if frame.columns != self._names:
                return None
            series = frame.get_columns()
        elif kind is pl.Series and len(self._names) == 1:
            series = [result]
        else:
            return None
        if any(each.dtype != dtype or each.has_nulls() for each, dtype in zip(series, self._dtypes, strict=True)):
            return None
        return [each.to_numpy() for each in series]


def _public(names: list[str], columns: Sequence[Values]) -> pl.DataFrame:
    return pl.DataFrame(dict(zip(names, columns, strict=True)))


def _maker(names: list[str], form: Form) -> _Maker:
    """The fastest way to make frames that this version of Polars has: with its own constructors 3 µs for 3 columns, with public ones 25.

    The constructors are no public names. So they are tried on a frame first, and left alone where anything about it is not as it should be.
    """
    sample = tuple(np.array([0, 1, 100], dtype) for dtype in form.dtypes)
    wanted = _public(names, sample)
    try:
        make = _direct(form)
        made = make(names, sample)
        good = made.equals(wanted) and made.schema == wanted.schema and type(made) is pl.DataFrame
    except (AttributeError, TypeError):
        return _public
    return make if good else _public


def _direct(form: Form) -> _Maker:
    series, frame = type(pl.Series()._s), type(pl.DataFrame()._df)  # noqa: SLF001 - see `_maker`
    wrapped = pl.DataFrame._from_pydf  # noqa: SLF001 - see `_maker`
    kinds: list[Any] = [getattr(series, f"new_{dtype.kind}{dtype.itemsize * 8}") for dtype in form.dtypes]

    def make(names: list[str], columns: Sequence[Values]) -> pl.DataFrame:
        return wrapped(frame([kind(name, column, False) for kind, name, column in zip(kinds, names, columns, strict=True)]))

    return make


__all__ = ["Numbers"]
