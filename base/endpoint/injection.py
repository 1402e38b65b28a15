"""What a handler asks for in its signature, resolved once when it is decorated: by annotation, by name, or by place.

| parameter | gets |
|---|---|
| `= Depends(f)`, or `Annotated[T, Depends(f)]` | the dependency |
| annotated `Input.DataFrame` or `pl.DataFrame` | the frame |
| annotated `Context` or `Request`, or called `context` or `request` | the one request that it is called for |
| annotated `bytes`, or called `body`, with `raw=True` | the body |
| annotated with the spec of the cache_config, or with another Pydantic model | the path's parameters, validated |
| called `model`, or annotated with M of an `ArtifactSpec[M]` | the model |
| called as a parameter of the path | its value, as its annotation or the spec's field has it |

What is left is taken by place: the model first where there is a cache_config, then the frame. So `(model, frame)` and `(frame)` work
whatever their names are; a name decides only where enough others are left for the model and the frame.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple, get_args, get_origin

import polars as pl
from pydantic import BaseModel, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from base.endpoint.context import Context, Request
from base.endpoint.dependencies import Dependency, find_dependency
from base.errors import Cell, Declaration, Misfit
from base.schema.model import Schema

Annotations = Callable[[str], Any]
"""The annotation of a parameter, evaluated; raises what that raises."""


class CallInputs(NamedTuple):
    """All that a handler could be given for one batch."""

    model: Any
    frame: pl.DataFrame | None
    parameters: Mapping[str, str]
    validated: BaseModel | None
    context: Context | None
    dependencies: Mapping[str, Any]


Source = Callable[[CallInputs], Any]


class AvailableInputs(NamedTuple):
    """What an endpoint has to give to its handler.

    Attributes:
        name: the endpoint's, for messages.
        path: the names of its parameters.
        model: whether there is a cache_config.
        spec: the cache_config's.
        raw: whether the endpoint takes bodies as they are.
    """

    name: str
    path: tuple[str, ...]
    model: bool
    spec: type[BaseModel] | None
    raw: bool


@dataclass
class CallPlan:
    """How to call a handler.

    Attributes:
        sources: what each parameter gets.
        by_place: parameters that cannot be given by name, in their order.
        frame: the parameter that takes the frame; None where the endpoint is raw.
        spec: what the path's parameters must satisfy before the handler is called; None where it does not ask for them whole.
        alone: it asks for something of one request, so it gets one request at a time.
        dependencies: by parameter.
        path_types: of parameters of the path, where an annotation of theirs says more than that they are text.
    """

    sources: dict[str, Source] = field(default_factory=dict)
    by_place: tuple[str, ...] = ()
    frame: str | None = None
    spec: type[BaseModel] | None = None
    unbatched: bool = False
    dependencies: dict[str, Dependency] = field(default_factory=dict)
    path_types: dict[str, Any] = field(default_factory=dict)

    def call(self, handler: Callable[..., Any], inputs: CallInputs) -> Any:
        """What the handler returns; raises what it raises, or Misfit for parameters of the path."""
        named = {name: source(inputs) for name, source in self.sources.items()}
        return handler(*[named.pop(name) for name in self.by_place], **named)


def plan_call(handler: Callable[..., Any], asked: AvailableInputs, annotations: Annotations) -> CallPlan:
    """How to call this handler.

    Raises:
        Declaration: a parameter that nothing can be given to, or nothing that takes the model or the frame; says what to change.
    """
    return _Resolution(handler, asked, annotations).resolve()


class _Unknown(NamedTuple):
    """An annotation that cannot be evaluated, such as a type that is imported for type checkers only: fine for a model."""

    error: Declaration


class _Resolution:
    """One handler on its way to a plan."""

    def __init__(self, handler: Callable[..., Any], asked: AvailableInputs, annotations: Annotations) -> None:
        self._asked = asked
        try:
            self._signature = inspect.signature(handler)
        except ValueError as exc:
            raise Declaration(f"endpoint {asked.name}: its handler does not say what it takes; wrap it in a function") from exc
        self._annotations = annotations
        self._plan = CallPlan()
        self._left: dict[str, Any] = {}

    def resolve(self) -> CallPlan:
        optional: set[str] = set()
        for name, parameter in self._signature.parameters.items():
            if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
                continue
            annotation = self._annotation(name)
            if not self._special(name, parameter, annotation):
                self._left[name] = annotation
                if parameter.default is not parameter.empty:
                    optional.add(name)
        self._model_and_frame()
        for name, annotation in self._left.items():
            if name in self._asked.path:
                self._plan.sources[name] = self._path_parameter(name, annotation)
            elif not self._by_name(name) and name not in optional:
                raise Declaration(self._nothing_for(name))
        given = [parameter for parameter in self._signature.parameters.values() if parameter.name in self._plan.sources]
        self._plan.by_place = tuple(each.name for each in given if each.kind is each.POSITIONAL_ONLY)
        return self._plan

    def _annotation(self, name: str) -> Any:
        try:
            return self._annotations(name)
        except Declaration as exc:
            return _Unknown(exc)

    def _special(self, name: str, parameter: inspect.Parameter, annotation: Any) -> bool:
        """Whether the parameter's own mark or annotation says what it gets."""
        sources = self._plan.sources
        if name == "model" and self._asked.model:
            return False  # a model may be a frame or a Pydantic model too
        dependency = find_dependency(parameter, annotation)
        if dependency is not None:
            self._plan.dependencies[name] = dependency
            sources[name] = lambda inputs: inputs.dependencies[name]
        elif _is_frame(annotation):
            self._take_frame(name)
        elif isinstance(annotation, type) and issubclass(annotation, Context):
            self._take_context(name, annotation)
        elif annotation is bytes and self._asked.raw:
            self._take_body(name)
        elif isinstance(annotation, type) and issubclass(annotation, Schema):
            raise Declaration(f"endpoint {self._asked.name}: annotate with {annotation.__name__}.DataFrame, since the handler sees a frame")
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation is not _model_of(self._asked.spec):
            self._take_parameters(name, annotation)
        else:
            return False
        return True

    def _model_and_frame(self) -> None:
        """Gives the model and the frame to what is left: by name, by the spec's type, else by place."""
        needs_model = self._asked.model
        needs_frame = not self._asked.raw and self._plan.frame is None
        known = {*self._asked.path, "context", "request", "body"} - {"model"}
        free = [name for name in self._left if name not in known]
        if len(free) < needs_model + needs_frame:
            free = list(self._left)
        if needs_model:
            model = self._model_among(free)
            if model is None:
                if self._asked.raw:
                    return
                raise Declaration(self._wanted())
            free.remove(model)
            del self._left[model]
            self._plan.sources[model] = lambda inputs: inputs.model
        if needs_frame:
            if not free:
                raise Declaration(self._wanted())
            annotation = self._left.pop(free[0])
            if isinstance(annotation, _Unknown):
                raise annotation.error
            self._take_frame(free[0])

    def _model_among(self, free: list[str]) -> str | None:
        wanted = _model_of(self._asked.spec)
        typed = [name for name in free if wanted is not None and self._left[name] == wanted]
        return next(iter([*(name for name in free if name == "model"), *typed, *free]), None)

    def _take_frame(self, name: str) -> None:
        if self._asked.raw:
            raise Declaration(
                f"endpoint {self._asked.name}: with raw=True there is no frame; take `request: svc.Request` instead of {name!r}"
            )
        if self._plan.frame is not None:
            raise Declaration(
                f"endpoint {self._asked.name}: {self._plan.frame!r} and {name!r} would both be the frame; call one of them 'model' if it is"
            )
        self._plan.frame = name
        self._plan.sources[name] = lambda inputs: inputs.frame

    def _take_context(self, name: str, kind: type[Context]) -> None:
        if issubclass(kind, Request) and not self._asked.raw:
            raise Declaration(
                f"endpoint {self._asked.name}: {name!r} is the raw request: add raw=True to @endpoint, or take svc.Context beside the frame"
            )
        self._plan.unbatched = True
        self._plan.sources[name] = lambda inputs: inputs.context

    def _take_body(self, name: str) -> None:
        self._plan.sources[name] = lambda inputs: inputs.context.body if isinstance(inputs.context, Request) else b""

    def _by_name(self, name: str) -> bool:
        if name == "context":
            self._take_context(name, Context)
        elif name == "request" and self._asked.raw:
            self._take_context(name, Request)
        elif name == "body" and self._asked.raw:
            self._take_body(name)
        else:
            return False
        return True

    def _take_parameters(self, name: str, kind: type[BaseModel]) -> None:
        spec = self._asked.spec or kind
        if not issubclass(spec, kind):
            raise Declaration(
                f"endpoint {self._asked.name}: {name!r} is a {kind.__name__}, while its cache_config validates with {spec.__name__}: "
                "annotate with that"
            )
        required = [each.alias or name for name, each in spec.model_fields.items() if each.is_required()]
        missing = [each for each in required if _plain(each) not in map(_plain, self._asked.path)]
        if missing and self._asked.spec is None:
            raise Declaration(
                f"endpoint {self._asked.name}: {spec.__name__} requires {missing}, which its path does not have: put {{{missing[0]}}} into "
                "the path or give the field a default"
            )
        self._plan.spec = spec
        self._plan.sources[name] = lambda inputs: inputs.validated

    def _path_parameter(self, name: str, annotation: Any) -> Source:
        if isinstance(annotation, _Unknown):
            raise annotation.error
        fields = [] if self._asked.spec is None else [each for each in self._asked.spec.model_fields if _plain(each) == _plain(name)]
        if fields:
            self._plan.spec = self._asked.spec
            return lambda inputs: getattr(inputs.validated, fields[0])
        if annotation is None or annotation is str:
            return lambda inputs: inputs.parameters[name]
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        except PydanticSchemaGenerationError as exc:
            raise Declaration(
                f"endpoint {self._asked.name}: parameter {name!r} of the path cannot be a {annotation!r}: annotate it with a type that "
                "Pydantic makes of a string"
            ) from exc
        self._plan.path_types[name] = annotation
        return lambda inputs: _validated(adapter, name, inputs.parameters[name])

    def _wanted(self) -> str:
        wanted = "(model, records_df)" if self._asked.model else "(records_df)"
        why = "it has a cache_config, so the model comes first" if self._asked.model else "it has no cache_config, so there is no model"
        return f"endpoint {self._asked.name}: write its handler as {wanted}, since {why}; it is {self._signature}"

    def _nothing_for(self, name: str) -> str:
        if not (self._plan.dependencies or self._plan.spec or self._plan.unbatched or self._asked.path or self._asked.raw):
            return self._wanted()
        return (
            f"endpoint {self._asked.name}: nothing can be given to {name!r} of its handler: name it as a parameter of the path "
            f"({', '.join(self._asked.path) or 'there is none'}), annotate it with svc.Context, mark it with svc.Depends, or give it a "
            "default"
        )


def _is_frame(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        arguments: tuple[Any, ...] = get_args(annotation)
        frame, beside = arguments[0], arguments[1:]
        return frame is pl.DataFrame or any(isinstance(each, type) and issubclass(each, Schema) for each in beside)
    return annotation is pl.DataFrame


def _plain(name: str) -> str:
    """Names that differ in underscores and case alone are one, as for `base.artifacts.spec.Reader`."""
    return name.replace("_", "").lower()


def _model_of(spec: type[BaseModel] | None) -> Any:
    """M, where the spec is an `ArtifactSpec[M]`; None otherwise."""
    for each in spec.__mro__ if spec is not None else ():
        arguments: tuple[Any, ...] = getattr(each, "__pydantic_generic_metadata__", {}).get("args") or ()
        if len(arguments) == 1:
            return arguments[0]
    return None


def _validated(adapter: TypeAdapter[Any], name: str, value: str) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError as exc:
        reason = exc.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise Misfit(f"the parameters do not fit: {name}: {reason}", cells=[Cell(None, name, reason)]) from exc


__all__ = ["Annotations", "AvailableInputs", "CallInputs", "CallPlan", "plan_call"]
