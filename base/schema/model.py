"""Schema: a Pydantic model whose fields are Polars dtypes, with the Arrow form that crosses the wire."""

from __future__ import annotations

import math
import re
import sys
import types
import typing
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeAlias, get_args, get_origin

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict
from pydantic._internal._model_construction import (
    ModelMetaclass,  # it has no public name, and every metaclass of models must inherit from it
)
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic_core import SchemaError

from base.errors import Cell, Declaration
from base.schema import derived, dtypes, wire
from base.schema.annotations import evaluate_annotation
from base.schema.constraints import Constraint, SchemaChecks, build_constraints, collect_column_validators, column_validator
from base.schema.examples import hide_bytes, show_bytes
from base.schema.wire import Column

if TYPE_CHECKING:
    import pandas as pd


class SchemaMeta(ModelMetaclass):
    """Turns dtype annotations into Python types that Pydantic knows, each annotated with its `Column`."""

    _columns: dict[str, Column]
    _fields: dict[str, str]
    _polars: pl.Schema
    _arrow: pa.Schema
    _checks: SchemaChecks
    _is_cast: bool

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> type:  # noqa: D102
        declares = any(isinstance(base, SchemaMeta) for base in bases)  # false for Schema itself
        if declares:
            _rewrite_annotations(name, namespace, sys._getframe(1).f_locals)  # noqa: SLF001 - a schema may be defined inside a function
        with warnings.catch_warnings():
            # A column may be called "copy" or "json"; Pydantic's deprecated methods of these names are not used.
            warnings.filterwarnings("ignore", message=r'Field name ".*" in .* shadows an attribute')
            try:
                cls = super().__new__(mcs, name, bases, namespace, **kwargs)
            except (SchemaError, PydanticUserError, TypeError) as exc:
                if isinstance(exc, PydanticUserError) and exc.code == "model-field-missing-annotation":
                    raise Declaration(_missing_annotation(name, namespace, str(exc))) from exc
                raise Declaration(f"schema {name} cannot be built: {getattr(exc, 'message', exc)}") from exc
        assert isinstance(cls, SchemaMeta)
        cls._fields = _collect_fields(cls) if declares else {}
        cls._columns = _collect_columns(cls) if declares else {}
        cls._polars = pl.Schema({column: each.dtype for column, each in cls._columns.items()})
        cls._arrow = wire.columns_to_arrow(cls._columns)
        cls._is_cast = any(column.wire != column.dtype for column in cls._columns.values())
        cls._checks = _collect_checks(cls) if declares else SchemaChecks((), (), row_wise=False)
        return cls

    if not TYPE_CHECKING:

        @property
        def DataFrame(cls) -> Any:  # noqa: N802 - it is used like a class in annotations
            """Returns `Annotated[pl.DataFrame, cls]`."""
            return Annotated[pl.DataFrame, cls]

        @property
        def LazyFrame(cls) -> Any:  # noqa: N802 - as above
            """Returns `Annotated[pl.LazyFrame, cls]`."""
            return Annotated[pl.LazyFrame, cls]

        @property
        def PandasFrame(cls) -> Any:  # noqa: N802 - as above
            """Returns `Annotated[pd.DataFrame, cls]`."""
            import pandas as pd  # noqa: PLC0415 - only for those who ask for it

            return Annotated[pd.DataFrame, cls]

        @property
        def NumpyArray(cls) -> Any:  # noqa: N802 - as above
            """Returns `Annotated[np.ndarray, cls]`."""
            return Annotated[np.ndarray, cls]

        @property
        def ArrowTable(cls) -> Any:  # noqa: N802 - as above
            """Returns `Annotated[pa.Table, cls]`."""
            return Annotated[pa.Table, cls]


class _ForTypeCheckers:
    """Declares `Input.DataFrame` and the other forms for type checkers; at run time they are properties of the metaclass."""

    if TYPE_CHECKING:
        DataFrame: TypeAlias = pl.DataFrame
        LazyFrame: TypeAlias = pl.LazyFrame
        PandasFrame: TypeAlias = pd.DataFrame
        NumpyArray: TypeAlias = np.ndarray[Any, np.dtype[Any]]
        ArrowTable: TypeAlias = pa.Table


class Schema(_ForTypeCheckers, BaseModel, metaclass=SchemaMeta):
    """The columns of a frame: `class Input(Schema): sepal_width: pl.Float64`.

    A dtype is a class (`pl.Float64`) or an instance (`pl.List(pl.Float64)`); type checkers accept an instance in the form
    `Annotated[list[float], pl.List(pl.Float64)]`. `| None` makes a column nullable, and rows may then omit it; if an instance cannot
    be combined with `|`, write `Optional[...]` or `Annotated[datetime | None, pl.Datetime("us", "UTC")]`. A default is used for rows that
    omit the field (a null stays null). All other columns are required. Elements of lists, arrays and structs may be null.

    `Field(description=..., examples=[...])` describes a column; its first example appears in the example request. A column whose name is no
    identifier has an alias: `cabin_deck: pl.String = Field(alias="Cabin deck")`. Everywhere but in instances the alias is its name.
    Constraints such as `Field(ge=0)`, and validators, are checked before the handler runs; `base.schema.constraints` says which of them run
    on whole columns.

    `Input.DataFrame` in an annotation is `Annotated[pl.DataFrame, Input]`: a plain frame to type checkers, the schema to an endpoint. The
    same holds for `LazyFrame`, `PandasFrame`, `NumpyArray` and `ArrowTable`; `list[Input]` is a list of
    instances.

    Raises:
        Declaration: The definition of the class is invalid: an annotation is not a supported dtype, a constraint does not apply to it, a
            default does not fit, or a column has a default factory.
    """

    model_config = ConfigDict(strict=True, protected_namespaces=(), populate_by_name=True)

    @classmethod
    def from_frame(cls, frame: Any, name: str = "Input", *, examples: int = 0) -> type[Self]:
        """Returns a schema with the columns of a Polars or pandas frame, such as the features of the training data.

        Args:
            frame: The frame. A column with nulls (NaN in pandas) is nullable.
            name: The name of the class.
            examples: The number of first rows that become examples, which `/docs` shows to everybody.

        Raises:
            Declaration: A column has no name or no type.
        """
        return derived.make_schema(cls, name, derived.columns_of_frame(frame, examples))

    @classmethod
    def from_mlflow(cls, model_uri: str, name: str = "Input") -> type[Self]:
        """Returns a schema with the columns of an MLflow model's signature.

        Args:
            model_uri: Such as `models:/iris/1`, `runs:/ID/model`, or a path, which begins at `PEXDOCK_ARTIFACTS_PATH` if it is relative.
            name: The name of the class.

        Raises:
            Declaration: The model cannot be read, or has no named columns.
        """
        return derived.make_schema(cls, name, derived.columns_of_mlflow(model_uri))

    @classmethod
    def columns(cls) -> Mapping[str, Column]:
        """Returns every column by its name, in order."""
        return cls._columns

    @classmethod
    def field_of(cls, column: str) -> str:
        """Returns the attribute of an instance that holds this column: its own name, unless that is an alias."""
        return cls._fields[column]

    @classmethod
    def polars_schema(cls) -> pl.Schema:
        """Returns the names and dtypes of the columns."""
        return cls._polars

    @classmethod
    def arrow_schema(cls) -> pa.Schema:
        """Returns the form that crosses the wire, with Polars' own Arrow types (string views), so that neither side converts.

        A field is nullable if and only if the column is.
        """
        return cls._arrow

    @classmethod
    def frame(cls, batch: pa.RecordBatch | pa.Table) -> pl.DataFrame:
        """Returns the frame of rows that crossed the wire. Copies only categories and 128-bit integers, which cross as strings.

        Raises:
            PolarsError: The rows do not have this schema's wire form.
        """
        frame = wire.frame_of_table(batch) if isinstance(batch, pa.Table) else pl.DataFrame(batch)
        return pl.DataFrame({each.name: each.cast(cls._polars[each.name]) for each in frame}) if cls._is_cast else frame

    @classmethod
    def check(cls, frame: pl.DataFrame) -> list[Cell]:
        """Returns the cells that violate a constraint or that a validator rejects, ordered by row; rows count from 0 in `frame`.

        Args:
            frame: A frame with this schema's columns and dtypes; nullability is not checked again.

        Raises:
            Declaration: A validator changed a value, or a column validator did not return booleans.
        """
        return cls._checks.failing_cells(cls, frame)

    @classmethod
    def example_rows(cls, *, several: bool = False) -> list[dict[str, object]]:
        """Returns valid rows of the examples of each field, or of a value of its dtype.

        Args:
            several: As many rows as the field with the most examples has, where shorter lists repeat their last; otherwise one row of the
                first ones.

        Raises:
            Declaration: An example does not fit its column.
        """
        examples = {
            name: show_bytes(cls.model_fields[cls._fields[name]].examples) or [dtypes.example_value(column.dtype)]
            for name, column in cls._columns.items()
        }
        count = max(map(len, examples.values()), default=1) if several else 1
        rows = [{name: found[min(row, len(found) - 1)] for name, found in examples.items()} for row in range(count)]
        _example_columns(cls, rows)
        return rows

    @classmethod
    def example_batch(cls, *, several: bool = False) -> pa.RecordBatch:
        """Returns the example rows as they cross the wire. Raises as `example_rows` does."""
        return cls.batch_of_rows(cls.example_rows(several=several))

    @classmethod
    def batch_of_rows(cls, rows: Sequence[Mapping[str, object]]) -> pa.RecordBatch:
        """Returns rows as they cross the wire.

        Raises:
            Declaration: A value does not fit its column.
        """
        arrays = [each.to_arrow(compat_level=pl.CompatLevel.newest()) for each in _example_columns(cls, rows)]
        return wire.batch_of_columns(arrays, cls._arrow, len(rows))

    @classmethod
    def require_value(cls, name: str, value: object) -> None:
        """Raises Declaration if a value does not fit its column. Constraints are not checked."""
        _author_value(f"{cls.__name__}.{name}", "example", value, cls._columns[name])

    @classmethod
    def has_examples(cls) -> bool:
        """Returns True if the author gave an example of every column, so that no value of the example row is made up."""
        return all(cls.model_fields[field].examples for field in cls._fields.values())


def _rewrite_annotations(schema: str, namespace: dict[str, Any], local: Mapping[str, object]) -> None:
    """Replaces the annotations in the namespace of a class that is being created."""
    annotations = namespace.get("__annotations__", {})
    for field, annotation in annotations.items():
        if field == "model_config":
            continue
        try:
            found = evaluate_annotation(annotation, namespace["__module__"], local)
        except Exception as exc:  # the author's expression may raise anything
            raise Declaration(f"{schema}.{field}: the annotation {annotation!r} cannot be evaluated: {type(exc).__name__}: {exc}") from exc
        if get_origin(found) is ClassVar or found is ClassVar:
            if field not in namespace:
                raise Declaration(f"{schema}.{field}: a class variable needs a value; leave out ClassVar if it is a column")
            continue
        _check_name(f"{schema}.{field}", field)
        column, extras = _parse_annotation(schema, field, found)
        for info in (*extras, namespace.get(field)):
            hide_bytes(info)
        python = dtypes.python_type(column.dtype)
        annotations[field] = Annotated[python | None if column.nullable else python, column, *extras]
        if hasattr(Schema, field):
            namespace.setdefault(field, FieldInfo())  # otherwise Pydantic would take the method of that name for a default
        if column.nullable and not any(isinstance(each, FieldInfo) and not each.is_required() for each in extras):
            _make_optional(namespace, field)


def _missing_annotation(schema: str, namespace: Mapping[str, Any], message: str) -> str:
    """Returns the message about an attribute without an annotation, which Pydantic names in its own message."""
    found = re.search(r"[`'](\w+)", message)
    name = found[1] if found else "name"
    value = namespace.get(name)
    if dtypes.is_dtype(value):
        shown = f"pl.{value if isinstance(value, type) else repr(value)}"
        return f"{schema}.{name} is given a dtype with `=`: write `{name}: {shown}`, with a colon"
    return f"{schema}.{name} has a value but no dtype: write `{name}: dtype = ...`, or annotate it with ClassVar if it is no column"


def _check_name(where: str, name: str) -> None:
    """Refuses names that Pydantic, Polars or Arrow would leave out or change."""
    if name.startswith("_"):
        hint = "rename it, or annotate it with ClassVar if it is no column"
        raise Declaration(f"{where}: the name of a column cannot begin with an underscore; {hint}")
    if isinstance(vars(SchemaMeta).get(name), property):
        raise Declaration(f"{where}: a column cannot have this name, which every schema uses for something else")
    dtypes.check_name(where, name)


def _make_optional(namespace: dict[str, Any], field: str) -> None:
    given = namespace.setdefault(field, None)
    if isinstance(given, FieldInfo) and given.is_required():
        given.default = None


def _parse_annotation(schema: str, field: str, annotation: Any) -> tuple[Column, tuple[Any, ...]]:
    """Returns the column that an annotation declares, and the other metadata in its `Annotated`."""
    extras: tuple[Any, ...] = ()
    nullable = False
    while get_origin(annotation) in {Annotated, typing.Union, types.UnionType}:
        if get_origin(annotation) is Annotated:
            annotation, *beside = get_args(annotation)
            given = [each for each in beside if dtypes.is_dtype(each)]
            extras += tuple(each for each in beside if not dtypes.is_dtype(each))
            if given:  # Annotated[datetime | None, pl.Datetime("us", "UTC")]: the first type is for type checkers
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
        raise Declaration(f"{schema}.{field}: {given!r} is not a Polars dtype; write one such as pl.Float64, or `pl.Float64 | None`")
    return dtypes.supported_dtype(f"{schema}.{field}", given)


def _collect_fields(cls: Any) -> dict[str, str]:
    """Returns the field of each column of a finished class, inherited ones included. Refuses declarations that would have no effect."""
    inherited = {field for base in cls.__mro__[1:] if issubclass(base, Schema) for field in base._fields.values()}
    lost = [*sorted(inherited - cls.model_fields.keys()), *cls.model_computed_fields]
    if lost:
        raise Declaration(f"{cls.__name__}.{lost[0]}: an attribute takes the place of a column; annotate it with a dtype or rename it")
    found: dict[str, str] = {}
    for field, info in cls.model_fields.items():
        where, name = f"{cls.__name__}.{field}", field if info.alias is None else info.alias
        if {info.validation_alias, info.serialization_alias} - {info.alias, None}:
            raise Declaration(f"{where}: a column has one name everywhere; use `alias`")
        if name in found:
            raise Declaration(f"{where}: {found[name]!r} is called {name!r}, too; a name is that of one column")
        dtypes.check_name(where, name)
        found[name] = field
    return found


def _collect_columns(cls: Any) -> dict[str, Column]:
    return {name: _make_column(cls, name, cls.model_fields[field]) for name, field in cls._fields.items()}


def _make_column(cls: Any, name: str, info: FieldInfo) -> Column:
    where = f"{cls.__name__}.{name}"
    column = next((each for each in info.metadata if isinstance(each, Column)), None)
    if column is None:
        raise Declaration(
            f"{where}: columns are annotations in classes that derive from Schema; an attribute or another class has this name"
        )
    if info.default_factory is not None:
        raise Declaration(f"{where}: a default is one value for all rows; use `default` instead of `default_factory`")
    if not info.is_required() and info.default is None and not column.nullable:
        raise Declaration(f"{where}: a column that rows may omit must be nullable; add `| None`")
    given = None if info.is_required() or info.default is None else _author_value(where, "default", info.default, column)
    return Column(column.dtype, column.nullable, given)


def _collect_checks(cls: Any) -> SchemaChecks:
    decorators = cls.__pydantic_decorators__
    row_wise = bool(decorators.field_validators or decorators.model_validators or decorators.validators or decorators.root_validators)
    found: list[Constraint] = []
    for name, column in cls._columns.items():
        others = [each for each in cls.model_fields[cls._fields[name]].metadata if not isinstance(each, Column)]
        made = build_constraints(f"{cls.__name__}.{name}", name, column, others)
        row_wise |= made is None
        found += made or []
    return SchemaChecks(found, collect_column_validators(cls), row_wise=row_wise)


def _author_value(where: str, what: str, given: object, column: Column) -> pl.Series:
    """Returns a default or example of the author in the column's wire form."""
    try:
        found = pl.Series([given], dtype=column.dtype, strict=True)
        if isinstance(given, int | float) and math.isfinite(given) and column.dtype.is_float() and not found.is_finite().all():
            raise OverflowError("the number is too large")
        return found.cast(column.wire)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as exc:
        raise Declaration(f"{where}: the {what} {given!r} is not a valid {column.dtype}: {exc}") from exc


def _example_columns(cls: type[Schema], rows: Sequence[Mapping[str, object]]) -> list[pl.Series]:
    return [
        pl.concat([_author_value(f"{cls.__name__}.{name}", "example", row[name], column) for row in rows])
        for name, column in cls._columns.items()
    ]


__all__ = ["Column", "Schema", "SchemaMeta", "column_validator"]
