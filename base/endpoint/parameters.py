"""Parameters of a request beside its rows: declared as a Pydantic model, and given in the query string of the URL."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from base.artifacts.spec import TextValidator, path_text
from base.errors import Declaration

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
        Declaration: A field cannot be given in a query.
    """

    def __init__(self, kind: type[Parameters], place: str) -> None:
        self.kind = kind
        self._fields = {_name_in_query(f"{place}.{field}", field, info): field for field, info in kind.model_fields.items()}
        if not self._fields:
            raise Declaration(f"{place} has no field; declare the parameters, such as `horizon: int = 12`")
        self._texts = TextValidator(kind)
        self.repeats = {name: _may_repeat(kind.model_fields[field].annotation) for name, field in self._fields.items()}
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
            found[name] = [path_text(each) for each in value] if self.repeats[name] else path_text(value)
        return found


def _name_in_query(place: str, field: str, info: FieldInfo) -> str:
    alias = info.validation_alias
    if alias is not None and not isinstance(alias, str):
        raise Declaration(f"{place}: its alias must be one name; give a string")
    nested = [each for each in alternatives(info.annotation) if _is_object(each)]
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
    return any((get_origin(each) or each) in _REPEATED for each in alternatives(annotation))
