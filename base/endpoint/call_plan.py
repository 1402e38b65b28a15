"""The kind of function that a handler is, and its call plan: the value that each of its parameters gets, resolved once for all batches."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from pydantic import BaseModel

from base.endpoint.context import Context
from base.endpoint.dependencies import Dependency
from base.endpoint.parameters import ParameterReader, Parameters
from base.schema.forms import FrameConverter, FrameForm


class CallInputs(NamedTuple):
    """The values that a handler may be given for one batch."""

    model: Any
    frame: Any
    parameters: Mapping[str, str]
    validated: BaseModel | None
    context: Context | None
    dependencies: Mapping[str, Any]
    request_parameters: Parameters | None = None


Source = Callable[[CallInputs], Any]
"""Picks the value of one parameter."""


class AvailableInputs(NamedTuple):
    """The inputs that an endpoint can give to its handler.

    Attributes:
        name: Name of the endpoint, for messages.
        path: Names of the path's parameters.
        model: True if the endpoint has a cache_config.
        spec: The spec of the cache_config.
        raw: True if the endpoint takes undecoded bodies.
    """

    name: str
    path: tuple[str, ...]
    model: bool
    spec: type[BaseModel] | None
    raw: bool


@dataclass
class CallPlan:
    """The way to call a handler.

    Attributes:
        sources: The source of each parameter's value.
        positional: Parameters that cannot be given by name, in their order.
        frame: The parameter that takes the frame; None if the endpoint is raw.
        frame_form: The form in which it takes the frame.
        frame_converter: Gives a frame this form; None if it is given as it is.
        spec: The model that validates the path's parameters before the handler is called; None if the handler does not ask for it.
        unbatched: True if the handler asks for data of a single request, so that it gets one request at a time.
        dependencies: The dependencies by parameter.
        path_types: Types of the path's parameters whose annotation is not plain text.
        path_checks: Validates each of these parameters.
        request_parameters: Reads the parameters of requests; None if the handler takes none.
    """

    sources: dict[str, Source] = field(default_factory=dict)
    positional: tuple[str, ...] = ()
    frame: str | None = None
    frame_form: FrameForm = FrameForm.FRAME
    frame_converter: FrameConverter | None = None
    spec: type[BaseModel] | None = None
    unbatched: bool = False
    dependencies: dict[str, Dependency] = field(default_factory=dict)
    path_types: dict[str, Any] = field(default_factory=dict)
    path_checks: list[Callable[[Mapping[str, str]], object]] = field(default_factory=list)
    request_parameters: ParameterReader | None = None

    def call(self, handler: Callable[..., Any], inputs: CallInputs) -> Any:
        """Calls the handler and returns its result.

        Raises:
            Misfit: A parameter of the path does not fit its annotation.
            BaseException: The handler raised it.
        """
        named = {name: source(inputs) for name, source in self.sources.items()}
        return handler(*[named.pop(name) for name in self.positional], **named)


class HandlerKind(Enum):
    """The kind of function that a handler is. Generators stream their response in parts."""

    FUNCTION = "function"
    COROUTINE = "coroutine"
    GENERATOR = "generator"
    ASYNC_GENERATOR = "async generator"

    @classmethod
    def detect(cls, handler: Callable[..., object]) -> HandlerKind:
        """Returns the kind of a function, or of an object with a `__call__` method."""
        function = getattr(type(handler), "__call__", handler)  # noqa: B004 - the method itself is inspected
        for each in (handler, function):
            if inspect.isasyncgenfunction(each):
                return cls.ASYNC_GENERATOR
            if inspect.isgeneratorfunction(each):
                return cls.GENERATOR
            if inspect.iscoroutinefunction(each):
                return cls.COROUTINE
        return cls.FUNCTION

    @property
    def streams(self) -> bool:
        """Returns True if the response comes in parts."""
        return self in {HandlerKind.GENERATOR, HandlerKind.ASYNC_GENERATOR}

    @property
    def is_async(self) -> bool:
        """Returns True if the handler runs on the asyncio loop."""
        return self in {HandlerKind.COROUTINE, HandlerKind.ASYNC_GENERATOR}
