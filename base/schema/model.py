"""Schema: a Pydantic model whose fields are Polars dtypes, and its Arrow form, which crosses the wire."""

from __future__ import annotations

import inspect
import math
import sys
import types
import typing
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias, get_args, get_origin

import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict
from pydantic._internal._model_construction import ModelMetaclass  # no public name for it; any metaclass for models must inherit from it
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic_core import SchemaError

from base.errors import Cell, Declaration
from base.schema import dtypes, wire
from base.schema.constraints import Constraint, SchemaChecks, build_constraints, collect_column_validators, column_validator
from base.schema.wire import Column


class SchemaMeta(ModelMetaclass):
    """Turns dtype annotations into Python types that Pydantic knows, each with its `Column` beside it."""

    _columns: dict[str, Column]
    _polars: pl.Schema
    _arrow: pa.Schema
    _checks: SchemaChecks
    _is_cast: bool

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> type:  # noqa: D102
        declares = any(isinstance(base, SchemaMeta) for base in bases)  # not Schema itself
        if declares:
            _rewrite(name, namespace, sys._getframe(1).f_locals)  # noqa: SLF001 - where a schema is written may be inside a function
        with warnings.catch_warnings():
            # A column may well be called "copy" or "json"; Pydantic's old methods of these names are not used.
            warnings.filterwarnings("ignore", message=r'Field name ".*" in .* shadows an attribute')
            try:
                cls = super().__new__(mcs, name, bases, namespace, **kwargs)
            except (SchemaError, PydanticUserError, TypeError) as exc:
                raise Declaration(f"{name}: what it declares cannot be checked: {exc}") from exc
        assert isinstance(cls, SchemaMeta)
        cls._columns = _columns(cls) if declares else {}
        cls._polars = pl.Schema({column: each.dtype for column, each in cls._columns.items()})
        cls._arrow = wire.columns_to_arrow(cls._columns)
        cls._is_cast = any(column.wire != column.dtype for column in cls._columns.values())
        cls._checks = _checks(cls) if declares else SchemaChecks((), (), row_wise=False)
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

    A dtype is a class (`pl.Float64`) or an instance (`pl.List(pl.Float64)`); type checkers accept an instance in the form
    `Annotated[list[float], pl.List(pl.Float64)]`. `| None` makes a column nullable, and it may then be left out; where an instance cannot
    stand beside `|`, write `Optional[...]` or `Annotated[datetime | None, pl.Datetime("us", "UTC")]`. A default is put where a row has not
    the field (a null stays null). All other columns are required. Elements of lists, arrays and structs may be null.

    `Field(description=..., examples=[...])` describes a column; its first example stands in the request that people are shown.
    `Field(ge=0)` and its like, and validators, are checked before the handler runs: see `base.schema.constraints` for which run
    on whole columns.

    `Input.DataFrame` in an annotation is `Annotated[pl.DataFrame, Input]`: a plain frame to type checkers, the schema to an endpoint.

    Raises:
        Declaration: when the class is made: an annotation is no supported dtype, a constraint cannot be about it, a default does not fit,
            or a column has an alias or a default that is made anew for each row.
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
    def frame(cls, batch: pa.RecordBatch) -> pl.DataFrame:
        """The frame of a batch that crossed the wire, without a copy, but for what crosses as strings: categories and 128-bit integers.

        Raises:
            PolarsError: the batch does not have this schema's wire form.
        """
        frame = pl.DataFrame(batch)
        return frame.cast(cls._polars) if cls._is_cast else frame

    @classmethod
    def check(cls, frame: pl.DataFrame) -> list[Cell]:
        """The cells that break a constraint or that a validator refuses, by rows, which count from 0 in `frame`.

        Args:
            frame: of this schema's columns and dtypes; nullability is not looked at again.

        Raises:
            Declaration: a validator changed a value, or a column validator returned no booleans.
        """
        return cls._checks.failing_cells(cls, frame)

    @classmethod
    def example_row(cls) -> dict[str, object]:
        """One row that fits: the first of each field's examples, or a value of its dtype.

        Raises:
            Declaration: an example does not fit its column.
        """
        return {name: _example(cls, name, column) for name, column in cls._columns.items()}

    @classmethod
    def example_batch(cls) -> pa.RecordBatch:
        """The same row, as it crosses the wire. Raises as `example_row` does."""
        series = [_value(f"{cls.__name__}.{name}", "example", value, cls._columns[name]) for name, value in cls.example_row().items()]
        arrays = [each.to_arrow(compat_level=pl.CompatLevel.newest()) for each in series]
        return pa.RecordBatch.from_arrays(arrays, schema=cls._arrow)

    @classmethod
    def has_examples(cls) -> bool:
        """Whether the author gave an example of each column, so that the row is theirs and not made up."""
        return all(cls.model_fields[name].examples for name in cls._columns)


def evaluate_annotation(annotation: object, module: str, local: Mapping[str, object]) -> Any:
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
            found = evaluate_annotation(annotation, namespace["__module__"], local)
        except Exception as exc:  # the author's expression may raise anything
            raise Declaration(f"{schema}.{field}: the annotation {annotation!r} cannot be evaluated: {type(exc).__name__}: {exc}") from exc
        if get_origin(found) is ClassVar or found is ClassVar:
            continue
        column, extras = _column(schema, field, found)
        python = dtypes.python_type(column.dtype)
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
            given = [each for each in beside if dtypes.is_dtype(each)]
            extras += tuple(each for each in beside if not dtypes.is_dtype(each))
            if given:  # Annotated[datetime | None, pl.Datetime("us", "UTC")]: the type is for type checkers
                nullable |= type(None) in get_args(annotation)
                annotation = given[0]
            continue
        options = [each for each in get_args(annotation) if each is not type(None)]
        if len(options) != 1:
            break
        nullable |= len(get_args(annotation)) > 1
        annotation = options[0]
    return Column(_dtype(schema, field, annotation), nullable), extras


def _dtype(schema: str, field: str, given: Any) -> pl.DataType:
    if not dtypes.is_dtype(given):
        raise Declaration(f"{schema}.{field}: {given!r} is no Polars dtype; write one such as pl.Float64, or `pl.Float64 | None`")
    return dtypes.supported_dtype(f"{schema}.{field}", given)


def _columns(cls: Any) -> dict[str, Column]:
    """The columns of a finished class, with those that it inherits; refuses what would be declared and then not be kept."""
    found = {}
    for name, info in cls.model_fields.items():
        where = f"{cls.__name__}.{name}"
        column = next(each for each in info.metadata if isinstance(each, Column))
        if info.alias is not None or info.validation_alias is not None or info.serialization_alias is not None:
            raise Declaration(f"{where}: a column has one name; drop the alias")
        if info.default_factory is not None:
            raise Declaration(f"{where}: a default is one value for all rows; give `default` in the place of `default_factory`")
        if not info.is_required() and info.default is None and not column.nullable:
            raise Declaration(f"{where}: a column that may be left out must be nullable: add `| None`")
        given = None if info.is_required() or info.default is None else _value(where, "default", info.default, column)
        found[name] = Column(column.dtype, column.nullable, given)
    return found


def _checks(cls: Any) -> SchemaChecks:
    decorators = cls.__pydantic_decorators__
    row_wise = bool(decorators.field_validators or decorators.model_validators or decorators.validators or decorators.root_validators)
    found: list[Constraint] = []
    for name, column in cls._columns.items():
        others = [each for each in cls.model_fields[name].metadata if not isinstance(each, Column)]
        made = build_constraints(f"{cls.__name__}.{name}", name, column, others)
        row_wise |= made is None
        found += made or []
    return SchemaChecks(found, collect_column_validators(cls), row_wise=row_wise)


def _value(where: str, what: str, given: object, column: Column) -> pl.Series:
    """A value that the author wrote, in the column's wire form."""
    try:
        found = pl.Series([given], dtype=column.dtype, strict=True)
        if isinstance(given, int | float) and math.isfinite(given) and column.dtype.is_float() and not found.is_finite().all():
            raise OverflowError("it is too large")
        return found.cast(column.wire)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as exc:
        raise Declaration(f"{where}: the {what} {given!r} is no {column.dtype}: {exc}") from exc


def _example(cls: type[Schema], name: str, column: Column) -> object:
    examples = cls.model_fields[name].examples
    if examples:
        _value(f"{cls.__name__}.{name}", "example", examples[0], column)
        return examples[0]
    return dtypes.example_value(column.dtype)


__all__ = ["Column", "Schema", "SchemaMeta", "column_validator", "evaluate_annotation"]
