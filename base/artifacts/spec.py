"""Specs: the validation of a request's parameters, and the canonical text of each value, which is the key of its cache entry."""

from __future__ import annotations

import operator
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, time, timedelta
from enum import Enum
from functools import cached_property
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    PlainSerializer,
    PydanticUndefinedAnnotation,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
    WrapSerializer,
    create_model,
)

from base.errors import Cell, Declaration, Misfit
from base.schema import spellings

M = TypeVar("M")
B = TypeVar("B", bound=BaseModel)

LATEST = "latest"
"""The value with which a request asks for the newest artifact."""

_SHOWN_MAX_CHARS = 64
"""Length of a value in an error."""


@dataclass(frozen=True, kw_only=True)
class LatestKey:
    """Marks a field of a spec whose value may be `latest` in a request: `version: Annotated[int, afs.LatestKey()]`.

    The cache then looks for the newest artifact whose other parameters are those of the request, at each load and refresh of the entry. The
    handler gets the value that was found, both in the spec's instance and as the parameter.

    Attributes:
        manifest: Name of a file that holds the newest value as text. In its path, it replaces the component of the path template with this
            parameter. None means that the newest value in the client's list is used.
        compare_with: `compare_with(a, b)` returns True if the value `a`, as the spec validated it, is newer than `b`.
    """

    manifest: str | None = None
    compare_with: Callable[[Any, Any], bool] = operator.gt


class ArtifactSpec(BaseModel, Generic[M]):
    """A Pydantic model of the parameters of an artifact: `class FraudSpec(afs.ArtifactSpec[Pipeline])`. `M` is the type of its models.

    Any other Pydantic model can be a spec as well.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)


class SpecValidator:
    """Applies a spec to the parameters of requests.

    Parameters and fields are matched by alias, by name or, if neither matches, by the only name that differs only in underscores and case:
    `iso_3166_1` in a path is `iso3166_1` in a spec.

    Attributes:
        spec: The Pydantic model.
        latest: The field whose value may be `latest`, with its marker; None without one.

    Raises:
        Declaration: More than one field is marked with `LatestKey`.
    """

    def __init__(self, spec: type[BaseModel]) -> None:
        self.spec = spec
        self._names = {field: info.alias or field for field, info in spec.model_fields.items()}
        self.latest = _latest(spec)
        self._texts = TextValidator(spec)
        self._texts_with_latest = self._texts if self.latest is None else TextValidator(_allowing_latest(spec, self.latest[0]))

    def validate(self, parameters: Mapping[str, str]) -> BaseModel:
        """Returns the spec's instance for the parameters.

        Raises:
            Misfit: A parameter does not fit; the error has a cell for each of them.
        """
        return self._validated(parameters, self.match_fields(parameters))

    def canonical_parameters(self, parameters: Mapping[str, str]) -> dict[str, str]:
        """Returns the parameters with the texts of their validated values, so that equal values have equal texts.

        Parameters that the spec does not name stay unchanged.

        Raises:
            Misfit: As in `validate`.
        """
        fields = self.match_fields(parameters)
        instance = self._validated(parameters, fields)
        texts = dict(parameters)
        for field, name in fields.items():
            if not self._is_latest(field, name, parameters):
                texts[name] = path_text(getattr(instance, field))
        return texts

    def latest_request(self, parameters: Mapping[str, str]) -> tuple[str, str, LatestKey] | None:
        """Returns field, parameter and marker if one of the parameters is `latest`; None otherwise."""
        if self.latest is None:
            return None
        field, key = self.latest
        name = self.match_fields(parameters).get(field)
        return (field, name, key) if name is not None and parameters[name] == LATEST else None

    def match_fields(self, parameters: Mapping[str, str]) -> dict[str, str]:
        """Returns the parameter that gives the value of each field; omits fields without one."""
        found = {field: name for field, alias in self._names.items() for name in (alias, field) if name in parameters}
        found |= {field: alias for field, alias in self._names.items() if alias in parameters}
        free = [name for name in parameters if name not in found.values()]
        for field in self._names.keys() - found.keys():
            alike = [name for name in free if _squeezed(name) == _squeezed(field)]
            if len(alike) == 1:
                found[field] = alike[0]
        return found

    def _validated(self, parameters: Mapping[str, str], fields: Mapping[str, str]) -> BaseModel:
        given = {name: value for name, value in parameters.items() if name not in fields.values()}
        texts = self._texts
        for field, name in fields.items():
            if not self._is_latest(field, name, parameters):
                given[self._names[field]] = parameters[name]
            elif self.spec.model_fields[field].is_required():
                given[self._names[field]], texts = LATEST, self._texts_with_latest
        return texts.validate(given)

    def _is_latest(self, field: str, name: str, parameters: Mapping[str, str]) -> bool:
        return self.latest is not None and field == self.latest[0] and parameters[name] == LATEST


def path_text(value: object) -> str:
    """Returns a validated value as text for a path: an enum by its value, times and durations in ISO 8601, booleans in lower case."""
    if isinstance(value, Enum):
        return path_text(value.value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, date | time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(TypeAdapter(timedelta).dump_python(value, mode="json"))
    return str(value)


class TextValidator(Generic[B]):
    """Makes an instance of a model from texts: numbers, times and booleans are spelled as in a cell of CSV, though Pydantic takes more.

    The spelling is checked by the declared type before the author's validators run, unless a validator reads the text itself.
    """

    def __init__(self, kind: type[B]) -> None:
        self._kind = kind

    @cached_property
    def _declared(self) -> dict[str, type[BaseModel]]:
        """Returns a model of the bare type of each field; made late, since a field may name a type that is defined after its model."""
        self._kind.model_rebuild(raise_errors=False)
        found = {}
        for field, info in self._kind.model_fields.items():
            if not reads_text(self._kind, field):
                with suppress(PydanticUserError, PydanticUndefinedAnnotation):  # a type that only the model's configuration allows
                    name = info.validation_alias if isinstance(info.validation_alias, str) else field
                    found[name] = create_model("Text", text=(bare_type(info.annotation), ...))
        return found

    def validate(self, given: Mapping[str, str | list[str]]) -> B:
        """Returns the instance.

        Raises:
            Misfit: A text does not fit; the error has a cell for each of them.
        """
        cells = [cell for name, texts in given.items() for cell in self._misspelled(name, texts)]
        if cells:
            raise _misfit(cells)
        try:
            return _validate_texts(self._kind, given)
        except ValidationError as exc:
            raise _misfit_of(exc) from exc

    def _misspelled(self, name: str, texts: str | list[str]) -> list[Cell]:
        if name not in self._declared:
            return []
        try:
            value = dict(_validate_texts(self._declared[name], {"text": texts}))["text"]
        except ValidationError:
            return []  # the model refuses it too, and says more
        pairs = [(texts, value)] if isinstance(texts, str) else zip(texts, value, strict=True)
        return [
            Cell(None, name, f"{spellings.advice(each)}, got {_shown(text)}")
            for text, each in pairs
            if not spellings.is_spelling(text, each)
        ]


def bare_type(annotation: Any) -> Any:
    """Returns an annotation without any `Annotated` in it, hence without constraints and validators."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return bare_type(arguments[0])
    if origin in {Union, types.UnionType}:
        return Union[tuple(map(bare_type, arguments))]  # noqa: UP007 - of types that are known only now
    if origin in {list, tuple, Sequence} and arguments:
        return origin[tuple(map(bare_type, arguments))]
    return annotation


def reads_text(kind: type[BaseModel], field: str) -> bool:
    """Returns whether an author's validator gets the text of a field before Pydantic does."""
    decorators = kind.__pydantic_decorators__
    modes: set[str] = {each.info.mode for each in decorators.model_validators.values()}
    modes |= {each.info.mode for each in decorators.field_validators.values() if {field, "*"} & {*each.info.fields}}
    info = kind.model_fields[field]
    return bool(modes - {"after"}) or any(map(_reads, info.metadata)) or _holds_reader(info.annotation)


def _holds_reader(annotation: Any) -> bool:
    metadata = annotation.__metadata__ if get_origin(annotation) is Annotated else ()
    return any(map(_reads, metadata)) or any(map(_holds_reader, get_args(annotation)))


def _reads(metadata: object) -> bool:
    return hasattr(metadata, "__get_pydantic_core_schema__") and not isinstance(metadata, AfterValidator | PlainSerializer | WrapSerializer)


def _validate_texts(kind: type[B], given: Mapping[str, str | list[str]]) -> B:
    """Returns the instance of a model for texts. An integer may be a decimal number, such as `1e2`, although Pydantic refuses some."""
    try:
        return kind.model_validate(given)
    except ValidationError as exc:
        refused = [each for each in exc.errors(include_url=False, include_context=False) if each["type"] == "int_parsing"]
        whole = {(each["loc"][0], each["input"]): spellings.whole_digits(str(each["input"])) for each in refused}
        if not any(whole.values()):
            raise

    def digits(name: str, text: str) -> str:
        return whole.get((name, text)) or text

    return kind.model_validate(
        {name: digits(name, texts) if isinstance(texts, str) else [digits(name, text) for text in texts] for name, texts in given.items()}
    )


def _misfit_of(error: ValidationError) -> Misfit:
    cells = []
    for each in error.errors(include_url=False, include_context=False):
        column = str(each["loc"][0]) if each["loc"] else None
        got = f", got {_shown(each['input'])}" if column is not None and isinstance(each["input"], str) else ""
        cells.append(Cell(None, column, each["msg"].removeprefix("Value error, ") + got))
    return _misfit(cells)


def _misfit(cells: list[Cell]) -> Misfit:
    reasons = "; ".join(f"{cell.column}: {cell.reason}" if cell.column else cell.reason for cell in cells)
    return Misfit(f"the parameters do not fit: {reasons}", cells=cells)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_MAX_CHARS else f"{text[:_SHOWN_MAX_CHARS]}...")


def _squeezed(name: str) -> str:
    return name.replace("_", "").casefold()


def _latest(spec: type[BaseModel]) -> tuple[str, LatestKey] | None:
    found = [
        (field, LatestKey() if isinstance(mark, type) else mark)
        for field, info in spec.model_fields.items()
        for mark in info.metadata
        if isinstance(mark, LatestKey) or (isinstance(mark, type) and issubclass(mark, LatestKey))
    ]
    if len(found) > 1:
        raise Declaration(f"{spec.__name__}: only one field may have a LatestKey, but {[field for field, _ in found]} do")
    return found[0] if found else None


def _allowing_latest(spec: type[BaseModel], field: str) -> type[BaseModel]:
    """Returns the same spec, except that the field may also be the text "latest"."""
    info = spec.model_fields[field]
    annotation: Any = Literal["latest"] | info.annotation
    return create_model(spec.__name__, __base__=spec, **{field: (annotation, ...)})  # type: ignore[call-overload,no-any-return]
