"""Schema: a Pydantic model whose fields are Polars dtypes, and its Arrow form, which crosses the wire."""

from __future__ import annotations

import datetime as dt
import inspect
import sys
import types
import typing
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias, get_args, get_origin

import polars as pl
import pyarrow as pa
from polars import CompatLevel
from pydantic import BaseModel, ConfigDict
from pydantic._internal._model_construction import ModelMetaclass  # no public name for it; any metaclass for models must inherit from it
from pydantic.fields import FieldInfo

from base.errors import Declaration

_PYTHON_TYPES: Mapping[type[pl.DataType], tuple[type, object]] = {
    **dict.fromkeys((pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64), (int, 1)),
    **dict.fromkeys((pl.Float32, pl.Float64), (float, 1.0)),
    pl.Boolean: (bool, True),
    pl.String: (str, "text"),
    pl.Binary: (bytes, b"bytes"),
    pl.Date: (dt.date, dt.date(2024, 1, 31)),
    pl.Datetime: (dt.datetime, dt.datetime(2024, 1, 31, 12, 30)),  # noqa: DTZ001 - the column's own zone is put on it
    pl.Time: (dt.time, dt.time(12, 30)),
    pl.Duration: (dt.timedelta, dt.timedelta(seconds=90)),
    pl.Decimal: (Decimal, Decimal(1)),
}
"""What a value of each supported dtype is in Python, and one such value for examples."""


@dataclass(frozen=True)
class Column:
    """What a schema says of one column."""

    dtype: pl.DataType
    nullable: bool


def _arrow(columns: Mapping[str, Column]) -> pa.Schema:
    empty = pl.DataFrame(schema={name: column.dtype for name, column in columns.items()})
    arrow = empty.to_arrow(compat_level=CompatLevel.newest()).schema
    return pa.schema([field.with_nullable(columns[field.name].nullable) for field in arrow])


class SchemaMeta(ModelMetaclass):
    """Turns dtype annotations into Python types that Pydantic knows, each with its `Column` beside it."""

    _columns: dict[str, Column]
    _polars: pl.Schema
    _arrow: pa.Schema

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> type:  # noqa: D102
        declares = any(isinstance(base, SchemaMeta) for base in bases)  # not Schema itself
        if declares:
            _rewrite(name, namespace, sys._getframe(1).f_locals)  # noqa: SLF001 - where a schema is written may be inside a function
        with warnings.catch_warnings():
            # A column may well be called "copy" or "json"; Pydantic's old methods of these names are not used.
            warnings.filterwarnings("ignore", message=r'Field name ".*" in .* shadows an attribute')
            cls = super().__new__(mcs, name, bases, namespace, **kwargs)
        assert isinstance(cls, SchemaMeta)
        cls._columns = _columns(cls) if declares else {}
        cls._polars = pl.Schema({column: each.dtype for column, each in cls._columns.items()})
        cls._arrow = _arrow(cls._columns)
        return cls

    if not TYPE_CHECKING:

        @property
        def DataFrame(cls) -> Any:  # noqa: N802 - named for what it stands for in annotations
            """`Annotated[pl.DataFrame, cls]`."""
            return Annotated[pl.DataFrame, cls]


class _ForTypeCheckers:
    """What `Input.DataFrame` is to type checkers; at run time the property of the metaclass answers."""

    if TYPE_CHECKING:
        DataFrame: TypeAlias = pl.DataFrame


class Schema(_ForTypeCheckers, BaseModel, metaclass=SchemaMeta):
    """The columns of a frame: `class Input(Schema): sepal_width: pl.Float64`.

    A dtype is a class (`pl.Float64`) or an instance; type checkers accept an instance in the form
    `Annotated[datetime, pl.Datetime("us", "UTC")]`. `| None` makes a column nullable, and it may then be left out; all others are required.
    `Field(description=..., examples=[...])` describes a column; its first example stands in the request that people are shown.

    `Input.DataFrame` in an annotation is `Annotated[pl.DataFrame, Input]`: a plain frame to type checkers, the schema to an endpoint.

    Raises:
        Declaration: when the class is made: an annotation is no supported dtype, or asks for what is not checked yet (constraints,
            validators, aliases, defaults other than None).
    """

    model_config = ConfigDict(strict=True, protected_namespaces=())

    @classmethod
    def columns(cls) -> Mapping[str, Column]:
        """Every column by its name, in order."""
        return cls._columns

    @classmethod
    def polars_schema(cls) -> pl.Schema:
        """Names and dtypes."""
        return cls._polars

    @classmethod
    def arrow_schema(cls) -> pa.Schema:
        """The form that crosses the wire: the Arrow types that Polars uses inside (string views), so that neither side converts.

        A field is nullable exactly where the column is.
        """
        return cls._arrow

    @classmethod
    def example_row(cls) -> dict[str, object]:
        """One row that fits: the first of each field's examples, or a value of its dtype.

        Raises:
            Declaration: an example does not fit its column.
        """
        return {name: _example(cls, name, column) for name, column in cls._columns.items()}


def evaluated(annotation: object, module: str, local: Mapping[str, object]) -> Any:
    """An annotation as an object, also where `from __future__ import annotations` left a string.

    Args:
        annotation: as it stands in `__annotations__`.
        module: the name of the module that it was written in.
        local: names that were visible there beside the module's own.

    Raises:
        Exception: whatever the annotation's expression raises, such as NameError.
    """
    if not isinstance(annotation, str):
        return annotation
    holder = type("holder", (), {"__annotations__": {"it": annotation}})
    names = vars(sys.modules[module]) if module in sys.modules else {}
    return inspect.get_annotations(holder, globals=dict(names), locals=local, eval_str=True)["it"]


def _rewrite(schema: str, namespace: dict[str, Any], local: Mapping[str, object]) -> None:
    """Replaces the annotations in the namespace of a class that is being made."""
    annotations = namespace.get("__annotations__", {})
    for field, annotation in annotations.items():
        if field.startswith("_") or field == "model_config":
            continue
        try:
            found = evaluated(annotation, namespace["__module__"], local)
        except Exception as exc:  # the author's expression may raise anything
            raise Declaration(f"{schema}.{field}: the annotation {annotation!r} cannot be evaluated: {type(exc).__name__}: {exc}") from exc
        if get_origin(found) is ClassVar or found is ClassVar:
            continue
        column, extras = _column(schema, field, found)
        python, _ = _PYTHON_TYPES[type(column.dtype)]
        annotations[field] = Annotated[python | None if column.nullable else python, column, *extras]
        if hasattr(Schema, field):
            namespace.setdefault(field, FieldInfo())  # else Pydantic would take the method of that name for a default
        if column.nullable and not any(isinstance(each, FieldInfo) and not each.is_required() for each in extras):
            _make_optional(namespace, field)


def _make_optional(namespace: dict[str, Any], field: str) -> None:
    given = namespace.setdefault(field, None)
    if isinstance(given, FieldInfo) and given.is_required():
        given.default = None


def _column(schema: str, field: str, annotation: Any) -> tuple[Column, tuple[Any, ...]]:
    """The column that an annotation means, and what `Annotated` has beside it."""
    extras: tuple[Any, ...] = ()
    nullable = False
    while get_origin(annotation) in {Annotated, typing.Union, types.UnionType}:
        if get_origin(annotation) is Annotated:
            annotation, *beside = get_args(annotation)
            dtypes = [each for each in beside if _is_dtype(each)]
            extras += tuple(each for each in beside if not _is_dtype(each))
            if dtypes:  # Annotated[datetime | None, pl.Datetime("us", "UTC")]: the type is for type checkers
                nullable |= type(None) in get_args(annotation)
                annotation = dtypes[0]
            continue
        options = [each for each in get_args(annotation) if each is not type(None)]
        if len(options) != 1:
            break
        nullable |= len(get_args(annotation)) > 1
        annotation = options[0]
    return Column(_dtype(schema, field, annotation), nullable), extras


def _is_dtype(value: object) -> bool:
    return isinstance(value, pl.DataType) or (isinstance(value, type) and issubclass(value, pl.DataType))


def _dtype(schema: str, field: str, given: Any) -> pl.DataType:
    if not _is_dtype(given):
        raise Declaration(f"{schema}.{field}: {given!r} is no Polars dtype; write one such as pl.Float64, or `pl.Float64 | None`")
    if given is pl.Decimal:
        raise Declaration(f"{schema}.{field}: a decimal needs its precision and scale, as in pl.Decimal(10, 2)")
    kind = given if isinstance(given, type) else type(given)
    if kind not in _PYTHON_TYPES:
        supported = ", ".join(each.__name__ for each in _PYTHON_TYPES)
        raise Declaration(f"{schema}.{field}: {kind.__name__} is not supported; supported are {supported}")
    dtype: pl.DataType = given() if isinstance(given, type) else given
    return dtype


def _columns(cls: Any) -> dict[str, Column]:
    """The columns of a finished class, with those that it inherits; refuses what would be declared and then not be checked."""
    validators = [*cls.__pydantic_decorators__.field_validators, *cls.__pydantic_decorators__.model_validators]
    if validators:
        raise Declaration(f"{cls.__name__}.{validators[0]}: validators of a Schema do not run yet; check in the handler")
    columns = {}
    for name, info in cls.model_fields.items():
        where = f"{cls.__name__}.{name}"
        columns[name] = next(each for each in info.metadata if isinstance(each, Column))
        others = [each for each in info.metadata if not isinstance(each, Column)]
        if others:
            raise Declaration(f"{where}: constraints are not checked yet, so {others[0]!r} may not be declared")
        if info.alias is not None or info.validation_alias is not None or info.serialization_alias is not None:
            raise Declaration(f"{where}: a column has one name; drop the alias")
        if not info.is_required() and (info.default is not None or info.default_factory is not None):
            raise Declaration(f"{where}: the only default of a column is None")
        if not info.is_required() and not columns[name].nullable:
            raise Declaration(f"{where}: a column that may be left out must be nullable: add `| None`")
    return columns


def _example(cls: type[Schema], name: str, column: Column) -> object:
    examples = cls.model_fields[name].examples
    if examples:
        try:
            pl.Series([examples[0]], dtype=column.dtype, strict=True)
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as exc:
            raise Declaration(f"{cls.__name__}.{name}: the example {examples[0]!r} is no {column.dtype}: {exc}") from exc
        return examples[0]
    _, value = _PYTHON_TYPES[type(column.dtype)]
    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is not None and isinstance(value, dt.datetime):
        return value.replace(tzinfo=dt.UTC)
    return value
