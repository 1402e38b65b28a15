"""Fits the columns that a handler returned to the output schema of its endpoint."""

from __future__ import annotations

import polars as pl

from base.errors import BadResult
from base.schema.dtypes import as_instance
from base.schema.model import Schema

_INTEGERS = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)
_SIMPLE: frozenset[type[pl.DataType]] = frozenset((*_INTEGERS, pl.Float32, pl.Float64, pl.Boolean, pl.String, pl.Binary))
"""Dtypes that are the same on the wire and have no values that could be out of range."""


def has_declared_columns(frame: pl.DataFrame, schema: type[Schema]) -> bool:
    """Returns True if the frame has exactly the columns of the schema, all of them simple, and no null that the schema forbids."""
    wanted = schema.polars_schema()
    if frame.columns != wanted.names() or frame.dtypes != wanted.dtypes() or not all(type(dtype) in _SIMPLE for dtype in wanted.dtypes()):
        return False
    return not any(not column.nullable and frame[name].has_nulls() for name, column in schema.columns().items())


def conform_to_schema(frame: pl.DataFrame, schema: type[Schema]) -> pl.DataFrame:
    """Returns the columns in the order of the schema, cast to its dtypes if no value changes.

    Raises:
        BadResult: Columns are missing or not declared, a cast could lose something, or a null is not declared.
    """
    wanted = schema.polars_schema()
    _require_names("the handler returned the columns", frame.columns, wanted.names(), schema)
    if frame.schema != wanted:
        frame = pl.DataFrame({name: _cast(frame[name], dtype, schema) for name, dtype in wanted.items()})
    for name, column in schema.columns().items():
        if not column.nullable and frame[name].has_nulls():
            first = frame[name].is_null().arg_max()
            raise BadResult(f"column {name!r} is null in row {first}, but {schema.__name__} declares it without `| None`")
    return frame


def _require_names(what: str, names: list[str], wanted: list[str], schema: type[Schema]) -> None:
    missing = [name for name in wanted if name not in names]
    extra = [name for name in names if name not in wanted]
    if missing or extra:
        raise BadResult(
            f"{what} {names}, but {schema.__name__} declares {wanted}"
            + (f"; missing: {missing}" if missing else "")
            + (f"; not declared: {extra}" if extra else "")
        )


def _require_fields(where: str, source: pl.DataType, dtype: pl.DataType, schema: type[Schema]) -> None:
    """Checks the names of fields inside of a column, as those of columns are checked."""
    match source, dtype:
        case pl.List() | pl.Array(), pl.List() | pl.Array():
            _require_fields(where, as_instance(source.inner), as_instance(dtype.inner), schema)
        case pl.Struct(), pl.Struct():
            given, declared = ({field.name: as_instance(field.dtype) for field in each.fields} for each in (source, dtype))
            _require_names(f"{where} has the fields", list(given), list(declared), schema)
            for name, inner in declared.items():
                _require_fields(f"{where}, field {name!r},", given[name], inner, schema)


def _cast(column: pl.Series, dtype: pl.DataType, schema: type[Schema]) -> pl.Series:
    # Polars computes with a series by its name, which could be a pattern.
    _require_fields(f"column {column.name!r}", column.dtype, dtype, schema)
    cast = _cast_without_loss(column.alias(""), dtype)
    if cast is None:
        raise BadResult(
            f"column {column.name!r} is {column.dtype}, but {schema.__name__} declares {dtype}, and the cast could lose something: "
            "cast it in the handler"
        )
    return cast


def _cast_without_loss(column: pl.Series, dtype: pl.DataType) -> pl.Series | None:
    """Returns the column cast to `dtype`, or None if that could change a value.

    64-bit integers become floats if every value survives the conversion to a float and back. Inside of lists, arrays and structs the same
    holds for each element and field.
    """
    source = column.dtype
    if source == dtype:
        return column
    if source == pl.Null or (source in {pl.Categorical, pl.Enum} and dtype == pl.String):
        return column.cast(dtype)
    if source in {pl.Float16, pl.Float32} and dtype in {pl.Float32, pl.Float64}:
        return column.cast(dtype)
    if source == pl.String and isinstance(dtype, pl.Categorical | pl.Enum):
        cast = column.cast(dtype, strict=False)
        return cast if cast.null_count() == column.null_count() else None
    match source, dtype:
        case pl.Array(), pl.List() | pl.Array():
            return _cast_without_loss(column.arr.to_list(), dtype)
        case pl.List(), pl.Array():
            lists = _cast_without_loss(column, pl.List(dtype.inner)) if (column.list.len() == dtype.size).all() else None
            return None if lists is None else lists.list.to_array(dtype.size)
        case pl.List(), pl.List():
            return _cast_lists(column, dtype)
        case pl.Struct(), pl.Struct():
            return _cast_structs(column, dtype)
    if _differ_in_unit_only(source, dtype):
        cast = column.cast(dtype, strict=False)
        return cast if cast.cast(source, strict=False).equals(column, null_equal=True) else None
    if not (source.is_integer() and dtype.is_numeric() and not dtype.is_decimal()):
        return None
    if dtype.is_integer() and not _includes(dtype, source):
        return None
    try:
        cast = column.cast(dtype)
        return cast if cast.cast(source).equals(column) else None
    except pl.exceptions.InvalidOperationError:  # out of range on the way back
        return None


def _cast_lists(column: pl.Series, dtype: pl.List) -> pl.Series | None:
    rows = pl.DataFrame({"it": column}).with_row_index("row")
    elements = rows.filter(pl.col("it").list.len() > 0).explode("it")
    cast = _cast_without_loss(elements["it"], as_instance(dtype.inner))
    if cast is None:
        return None
    lists = elements.with_columns(it=cast).group_by("row", maintain_order=True).agg("it")
    joined = rows.select("row", given=pl.col("it").is_not_null()).join(lists, on="row", how="left", maintain_order="left")
    filled = pl.when("given").then(pl.col("it").fill_null(pl.lit(pl.Series([[]], dtype=dtype))))
    return joined.select(filled.alias("")).to_series()


def _cast_structs(column: pl.Series, dtype: pl.Struct) -> pl.Series | None:
    fields = {}
    for field in dtype.fields:  # Polars itself would cast by position
        cast = _cast_without_loss(column.struct.unnest()[field.name].alias(""), as_instance(field.dtype))
        if cast is None:
            return None
        fields[field.name] = cast
    whole = pl.DataFrame({"it": pl.DataFrame(fields).to_struct(), "given": column.is_not_null()})
    return whole.select(pl.when("given").then("it").alias("")).to_series()


def _differ_in_unit_only(source: pl.DataType, dtype: pl.DataType) -> bool:
    match source, dtype:
        case (pl.Decimal(), pl.Decimal()) | (pl.Duration(), pl.Duration()):
            return True
        case pl.Datetime(), pl.Datetime():
            return source.time_zone == dtype.time_zone
    return False


def _includes(wide: pl.DataType, narrow: pl.DataType) -> bool:
    """Returns True if every value of one integer dtype is a value of the other."""
    return bool(_min_value(wide) <= _min_value(narrow) and _max_value(wide) >= _max_value(narrow))


def _min_value(dtype: pl.DataType) -> int:
    return 0 if dtype.is_unsigned_integer() else -(2 ** (_bits(dtype) - 1))


def _max_value(dtype: pl.DataType) -> int:
    return int(2 ** (_bits(dtype) - (0 if dtype.is_unsigned_integer() else 1)) - 1)


def _bits(dtype: pl.DataType) -> int:
    return int(str(dtype).removeprefix("U").removeprefix("Int"))
