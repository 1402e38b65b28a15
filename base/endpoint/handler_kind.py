"""The kinds of functions that a handler may be."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import Enum


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
