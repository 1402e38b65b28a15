"""Which kind of function a handler is."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import Enum


class HandlerKind(Enum):
    """How a handler is called; generators answer in parts."""

    FUNCTION = "function"
    COROUTINE = "coroutine"
    GENERATOR = "generator"
    ASYNC_GENERATOR = "async generator"

    @classmethod
    def detect(cls, handler: Callable[..., object]) -> HandlerKind:
        """The flavour of a function, or of an object that can be called like one."""
        function = getattr(type(handler), "__call__", handler)  # noqa: B004 - it is looked at, not asked for
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
        """Whether the answer comes in parts."""
        return self in {HandlerKind.GENERATOR, HandlerKind.ASYNC_GENERATOR}
