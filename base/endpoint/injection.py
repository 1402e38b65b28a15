"""Resolves the parameters of a handler once, when it is decorated: by annotation, by name, or by position.

| parameter | gets |
|---|---|
| `= Depends(f)`, or `Annotated[T, Depends(f)]` | the dependency |
| annotated `Input.DataFrame` or `pl.DataFrame` | the frame |
| annotated `Input.LazyFrame` or `pl.LazyFrame` | the frame, as a lazy one |
| annotated `Input.PandasFrame`, `Input.NumpyArray`, `Input.ArrowTable` or `list[Input]` | the frame, in that form |
| annotated `Iterator[Input.DataFrame]` or `Iterator[pl.DataFrame]` | the rows of the frame, in frames of some megabytes |
| annotated `Context` or `Request`, or called `context` or `request` | the request that the handler is called for |
| annotated `bytes`, or called `body`, with `raw=True` | the body |
| annotated with a subclass of `Parameters` | the parameters of the request, from its query string, validated |
| annotated with the spec of the cache_config, or with another Pydantic model | the path's parameters, validated |
| called `model`, or annotated with M of an `ArtifactSpec[M]` | the model |
| called as a parameter of the path | its value, as its annotation or the spec's field has it |

A class may stand beside None: `options: Options | None = None` gets the parameters of every request.

The remaining parameters are resolved by position: the model first if there is a cache_config, then the frame, in the form that its
annotation names, such as `pd.DataFrame`. So `(model, frame)` and `(frame)` work regardless of their names; a name decides only where enough
other parameters are left for the model and the frame.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import NoneType
from typing import Any, NamedTuple

from pydantic import BaseModel

from base.endpoint.binding import ParameterBinder
from base.endpoint.call_plan import AvailableInputs, CallPlan
from base.endpoint.context import Context, Request
from base.endpoint.dependencies import find_dependency
from base.endpoint.parameters import Parameters, alternatives
from base.errors import Declaration
from base.schema.forms import FrameForm, frame_form, schemas_of
from base.schema.model import Schema

Annotations = Callable[[str], Any]
"""Returns the evaluated annotation of a parameter; raises Declaration if it cannot be evaluated."""


def plan_call(handler: Callable[..., Any], available: AvailableInputs, annotations: Annotations) -> CallPlan:
    """Returns the way to call this handler.

    Raises:
        Declaration: A parameter has no value, or no parameter takes the model or the frame. The message says what to change.
    """
    return _SignatureResolver(handler, available, annotations).resolve()


_OF_POLARS = frozenset({FrameForm.FRAME, FrameForm.LAZY, FrameForm.ITERATOR})


class _Unevaluated(NamedTuple):
    """An annotation that cannot be evaluated, such as a type that is imported for type checkers only. A model may have one."""

    error: Declaration


class _SignatureResolver:
    """Decides which parameter of one handler gets which value.

    Attributes:
        _remaining: Annotations of the parameters that are not bound yet.
    """

    def __init__(self, handler: Callable[..., Any], available: AvailableInputs, annotations: Annotations) -> None:
        self._available = available
        self._annotations = annotations
        self._plan = CallPlan()
        self._binder = ParameterBinder(available, self._plan)
        self._remaining: dict[str, Any] = {}
        try:
            self._signature = inspect.signature(handler)
        except ValueError as exc:
            raise self._binder.error("its handler has no signature that can be read; wrap it in a function") from exc

    def resolve(self) -> CallPlan:
        optional: set[str] = set()
        for name, parameter in self._signature.parameters.items():
            if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
                continue
            annotation = self._annotation(name)
            if not self._bind_by_annotation(name, parameter, annotation):
                self._remaining[name] = annotation
                if parameter.default is not parameter.empty:
                    optional.add(name)
        self._bind_model_and_frame()
        for name, annotation in self._remaining.items():
            if not self._bind_by_name(name, annotation) and name not in optional:
                raise self._binder.error(self._unbound_message(name))
        bound = [parameter for parameter in self._signature.parameters.values() if parameter.name in self._plan.sources]
        self._plan.positional = tuple(each.name for each in bound if each.kind is each.POSITIONAL_ONLY)
        return self._plan

    def _annotation(self, name: str) -> Any:
        try:
            return self._annotations(name)
        except Declaration as exc:
            return _Unevaluated(exc)

    def _bind_by_annotation(self, name: str, parameter: inspect.Parameter, annotation: Any) -> bool:
        """Binds the parameter if its default or annotation decides its value; returns True if so."""
        if name == "model" and self._available.model:
            return False  # a model may be a frame or a Pydantic model too
        kind = self._class(name, annotation)
        dependency = find_dependency(parameter, annotation)
        if dependency is not None:
            self._binder.bind_dependency(name, dependency)
        elif (form := frame_form(annotation)) is not None and (form in _OF_POLARS or schemas_of(annotation)):
            self._binder.bind_frame(name, form)  # a model may be a bare array or pandas frame: those are bound by position
        elif issubclass(kind, Context):
            self._binder.bind_context(name, kind)
        elif kind is bytes and self._available.raw:
            self._binder.bind_body(name)
        elif issubclass(kind, Schema):
            raise self._binder.error(
                f"annotate with {kind.__name__}.DataFrame or list[{kind.__name__}], since the handler gets several rows"
            )
        elif issubclass(kind, Parameters):
            self._require_no_default(name, parameter, kind)
            self._binder.bind_request_parameters(name, kind)
        elif issubclass(kind, BaseModel) and kind is not _model_type(self._available.spec):
            self._binder.bind_parameters(name, kind)
        else:
            return False
        return True

    def _class(self, name: str, annotation: Any) -> type:
        """Returns the class that an annotation names, alone or beside None; `object` if it names none."""
        kinds = [each for each in alternatives(annotation) if each is not NoneType]
        given = [each for each in kinds if isinstance(each, type) and issubclass(each, Context | Parameters)]
        if given and len(kinds) > 1:
            raise self._binder.error(f"{name!r} may be annotated with {given[0].__name__} or with another type, but not with both")
        return kinds[0] if len(kinds) == 1 and isinstance(kinds[0], type) else object

    def _require_no_default(self, name: str, parameter: inspect.Parameter, kind: type[Parameters]) -> None:
        default = parameter.default
        if default is not parameter.empty and default is not None and (type(default) is not kind or default.model_fields_set):
            raise self._binder.error(
                f"{name!r} has a default that no request would get; put the defaults of its fields into {kind.__name__}"
            )

    def _bind_by_name(self, name: str, annotation: Any) -> bool:
        """Binds the parameter if its name decides its value; returns True if so."""
        if name in self._available.path:
            if isinstance(annotation, _Unevaluated):
                raise annotation.error
            self._binder.bind_path_parameter(name, annotation)
        elif name == "context":
            self._binder.bind_context(name, Context)
        elif name == "request" and self._available.raw:
            self._binder.bind_context(name, Request)
        elif name == "body" and self._available.raw:
            self._binder.bind_body(name)
        else:
            return False
        return True

    def _bind_model_and_frame(self) -> None:
        """Binds the model and the frame to remaining parameters: by name, by the spec's type, else by position."""
        needs_model = self._available.model
        needs_frame = not self._available.raw and self._plan.frame is None
        reserved = {*self._available.path, "context", "request", "body"} - {"model"}
        free = [name for name in self._remaining if name not in reserved]
        if len(free) < needs_model + needs_frame:
            free = list(self._remaining)
        if needs_model:
            model = self._choose_model(free)
            if model is None:
                if self._available.raw:
                    return
                raise self._binder.error(self._signature_message())
            free.remove(model)
            del self._remaining[model]
            self._binder.bind_model(model)
        if needs_frame:
            if not free:
                raise self._binder.error(self._signature_message())
            annotation = self._remaining.pop(free[0])
            if isinstance(annotation, _Unevaluated):
                raise annotation.error
            self._binder.bind_frame(free[0], frame_form(annotation) or FrameForm.FRAME)

    def _choose_model(self, free: list[str]) -> str | None:
        wanted = _model_type(self._available.spec)
        typed = [name for name in free if wanted is not None and self._remaining[name] == wanted]
        return next(iter([*(name for name in free if name == "model"), *typed, *free]), None)

    def _signature_message(self) -> str:
        wanted = "(model, records_df)" if self._available.model else "(records_df)"
        why = "it has a cache_config, so the model comes first" if self._available.model else "it has no cache_config, so there is no model"
        return f"write its handler as {wanted}, since {why}; it is {self._signature}"

    def _unbound_message(self, name: str) -> str:
        available, plan = self._available, self._plan
        if not (plan.dependencies or plan.spec or plan.unbatched or available.path or available.raw):
            return self._signature_message()
        return (
            f"its handler's parameter {name!r} has no value; name it as a parameter of the path "
            f"({', '.join(available.path) or 'the path has none'}), annotate it with svc.Context, mark it with svc.Depends, or give it a "
            "default"
        )


def _model_type(spec: type[BaseModel] | None) -> Any:
    """Returns M if the spec is an `ArtifactSpec[M]`, else None."""
    for each in spec.__mro__ if spec is not None else ():
        arguments: tuple[Any, ...] = getattr(each, "__pydantic_generic_metadata__", {}).get("args") or ()
        if len(arguments) == 1:
            return arguments[0]
    return None


__all__ = ["Annotations", "plan_call"]
