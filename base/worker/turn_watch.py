"""Watches the loop of a worker for turns that keep all its other requests waiting.

The calls of plain handlers do not count: the worker does nothing else during each of them, as their authors know, and `HandlerTime`
measures them, with the check of the result. What counts are async handlers, and what the worker does itself: it receives messages, reads
rows, writes replies, and answers about its caches. The warm-up does not count, since nobody waits for its turns.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from types import CodeType
from typing import Any

from base.artifacts.cache.load import load_copy
from base.endpoint.endpoint import Endpoint
from base.telemetry.loop_watchdog import LoopWatchdog
from base.telemetry.recorder import WorkerMetrics
from base.worker.prediction.predictor import Predictor
from base.worker.prediction.stream_parts import PredictionStream

_PLAIN_CALLS = frozenset(each.__code__ for each in (Predictor.predict, PredictionStream.next_part, PredictionStream.close))
"""The functions of ours that call plain handlers, or advance plain generators."""


def turn_watchdog(endpoints: Iterable[Endpoint[..., Any]], warn_ms: float, recorder: WorkerMetrics | None) -> LoopWatchdog:
    """Returns a watchdog that logs slow turns of a worker's loop, and records them as a metric of the model.

    Args:
        endpoints: The endpoints of the worker.
        warn_ms: Length of a turn from which it is slow, in milliseconds; 0 for no watchdog.
        recorder: The metrics of the worker; None for no metrics.
    """
    handlers = {code: each.name for each in endpoints if each.handler_kind.is_async for code in _codes_of(each.handler)}
    metrics = None if recorder is None else recorder.endpoint_metrics("")

    def record(milliseconds: float) -> None:
        if metrics is not None:
            metrics.record_duration("LoopTurn", milliseconds / 1000)

    def advise(stack: Sequence[CodeType]) -> str | None:
        if not _PLAIN_CALLS.isdisjoint(stack):
            return None
        if load_copy.__code__ in stack:
            return "; it was loading a model"
        name = next((handlers[code] for code in stack if code in handlers), None)
        if name is None:
            return ""
        return (
            f"; all other requests of this worker waited for the async handler {name}: "
            "await what takes long, for example by `asyncio.to_thread`, or declare the handler with a plain `def`"
        )

    return LoopWatchdog("this worker", warn_ms, record, advise)


def _codes_of(handler: object) -> list[CodeType]:
    """Returns the code of a function, or of an object with a `__call__` method, without its decorators."""
    method = getattr(type(handler), "__call__", None)  # noqa: B004 - the method itself is inspected
    functions = (inspect.unwrap(each) for each in (handler, method) if callable(each))
    return [code for each in functions if isinstance(code := getattr(each, "__code__", None), CodeType)]
