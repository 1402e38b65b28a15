"""The call plan of a handler: the value that each of its parameters gets, resolved once and applied to each batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import polars as pl
from pydantic import BaseModel

from base.endpoint.context import Context
from base.endpoint.dependencies import Dependency


class CallInputs(NamedTuple):
    """The values that a handler may be given for one batch."""

    model: Any
    frame: pl.DataFrame | None
    parameters: Mapping[str, str]
    validated: BaseModel | None
    context: Context | None
    dependencies: Mapping[str, Any]


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
        spec: The model that validates the path's parameters before the handler is called; None if the handler does not ask for it.
        unbatched: True if the handler asks for data of a single request, so that it gets one request at a time.
        dependencies: The dependencies by parameter.
        path_types: Types of the path's parameters whose annotation is not plain text.
    """

    sources: dict[str, Source] = field(default_factory=dict)
    positional: tuple[str, ...] = ()
    frame: str | None = None
    spec: type[BaseModel] | None = None
    unbatched: bool = False
    dependencies: dict[str, Dependency] = field(default_factory=dict)
    path_types: dict[str, Any] = field(default_factory=dict)

    def call(self, handler: Callable[..., Any], inputs: CallInputs) -> Any:
        """Calls the handler and returns its result.

        Raises:
            Misfit: A parameter of the path does not fit its annotation.
            BaseException: The handler raised it.
        """
        named = {name: source(inputs) for name, source in self.sources.items()}
        return handler(*[named.pop(name) for name in self.positional], **named)
