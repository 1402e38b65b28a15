"""Parameters of a request beside its rows: declared as a Pydantic model, and given in the query string of the URL."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, PydanticUndefinedAnnotation, PydanticUserError, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from base.artifacts.spec import TextValidator, path_text, reads_text
from base.errors import Declaration, Misfit

QueryValues = Mapping[str, str | list[str]]
"""The values of parameters as they cross the wire: a list for a parameter that may be given more than once."""

_REPEATED = (list, tuple, Sequence)


class Parameters(BaseModel):
    """The base class of a request's parameters: `class Options(svc.Parameters): horizon: int = 12`.

    A handler gets them by the annotation of one parameter. All rows of a batch have the same.
    """

    model_config = ConfigDict(extra="forbid")


class ParameterReader:
    """Makes the instance of a `Parameters` class from texts.

    Args:
        kind: The class.
        place: Where it is used, for messages.

    Attributes:
        kind: As given.
        repeats: The names of the parameters as they are in a query → whether they may be given more than once.
        required: The names of those without a default.

    Raises:
        Declaration: A field cannot be given in a query, or its default or an example does not fit its type.
    """

    def __init__(self, kind: type[Parameters], place: str) -> None:
        self.kind = kind
        named = [(_name_in_query(f"{place}.{field}", field, info), field) for field, info in kind.model_fields.items()]
        self._fields = dict(named)
        for name, field in named:
            if self._fields[name] != field or (name != field and name in kind.model_fields):
                raise Declaration(f"{place}: two fields share the name {name!r}; give each a name of its own")
        if not self._fields:
            raise Declaration(f"{place} has no field; declare the parameters, such as `horizon: int = 12`")
        for field, info in kind.model_fields.items():
            if not info.is_required() and info.default_factory is None and not reads_text(kind, field):
                _require_default(f"{place}.{field}", info)
        self._texts = TextValidator(kind)
        self.repeats = {name: _may_repeat(kind.model_fields[field].annotation) for name, field in self._fields.items()}
        self._require_examples(place)
        self.required = [name for name, field in self._fields.items() if kind.model_fields[field].is_required()]

    def validate(self, given: QueryValues) -> Parameters:
        """Returns a new instance.

        Raises:
            Misfit: A value does not fit; the error has a cell for each of them.
        """
        return self._texts.validate(given)

    def example(self) -> dict[str, str | list[str]] | None:
        """Returns the first example of each parameter that is required; None if one has no example."""
        found: dict[str, str | list[str]] = {}
        for name in self.required:
            info = self.kind.model_fields[self._fields[name]]
            if not info.examples:
                return None
            value = info.examples[0]
            found[name] = self._example_texts(name, value)
        return found

    def _example_texts(self, name: str, value: Any) -> str | list[str]:
        return [path_text(each) for each in value] if self.repeats[name] and isinstance(value, _REPEATED) else path_text(value)

    def _require_examples(self, place: str) -> None:
        for name, field in self._fields.items():
            for value in self.kind.model_fields[field].examples or ():
                try:
                    self._texts.validate({name: self._example_texts(name, value)})
                except Misfit as exc:
                    wrong = [each.reason for each in exc.cells if each.column == name and value is not None]
                    if wrong:
                        raise Declaration(f"{place}.{field}: its example {value!r} does not fit: {wrong[0]}") from exc


def _name_in_query(place: str, field: str, info: FieldInfo) -> str:
    alias = info.validation_alias
    if alias is not None and not isinstance(alias, str):
        raise Declaration(f"{place}: its alias must be one name; give a string")
    members = alternatives(info.annotation)
    nested = [each for each in members if _is_object(each)]
    nested += [
        item
        for each in members
        if _is_list(each)
        for kind in get_args(each)
        for item in alternatives(kind)
        if _is_object(item) or _is_list(item)
    ]
    if nested:
        raise Declaration(
            f"{place}: a query holds texts, and no {nested[0]!r}; declare fields that Pydantic makes of a text, or lists of them"
        )
    return alias or field


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """Returns the types of a union, or the only type; without what is said of them in `Annotated`."""
    if get_origin(annotation) is Annotated:
        return alternatives(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return tuple(each for member in get_args(annotation) for each in alternatives(member))
    return (annotation,)


def _is_object(annotation: Any) -> bool:
    kind = get_origin(annotation) or annotation
    return isinstance(kind, type) and issubclass(kind, dict | set | frozenset | BaseModel)


def _may_repeat(annotation: Any) -> bool:
    return any(map(_is_list, alternatives(annotation)))


def _is_list(annotation: Any) -> bool:
    return (get_origin(annotation) or annotation) in _REPEATED


def _require_default(place: str, info: FieldInfo) -> None:
    """Checks a default by the field's type and constraints; Pydantic hands it over as it is. The author's validators are not called."""
    constraints = [each for each in info.metadata if not hasattr(each, "__get_pydantic_core_schema__")]
    with suppress(PydanticUserError, PydanticUndefinedAnnotation):  # a type that only the model's configuration allows
        try:
            kind: Any = Annotated[info.annotation, Field(), *constraints]
            TypeAdapter(kind).validate_python(info.default, strict=True)
        except ValidationError as exc:
            raise Declaration(f"{place}: its default {info.default!r} does not fit: {exc.errors()[0]['msg']}") from exc
