"""One endpoint in a worker process: from a batch's frame and parameters to its result."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import polars as pl
import pyarrow as pa

from base.artifacts.cache.cache import Cache, Lease, Pending
from base.artifacts.spec import SpecValidator
from base.async_runner import AsyncRunner
from base.endpoint.call_plan import CallInputs
from base.endpoint.context import Context, Request
from base.endpoint.dependencies import Dependencies
from base.endpoint.endpoint import Endpoint
from base.endpoint.raw import raw_body, response_frame
from base.errors import BadResult, Declaration, HandlerFailed, Misfit, PexdockError, Reject
from base.ipc import failure, frames
from base.ipc.numeric_frames import NumericBatch
from base.telemetry.recorder import HandlerMetrics
from base.worker.numeric_frames import NumericInput, NumericOutput
from base.worker.result import result_to_batch
from base.worker.stream_parts import PartIterator

log = logging.getLogger(__name__)

_PART_BYTES = 64 * 1024
"""Of the first part of an answer that nobody reads."""


@dataclass(frozen=True)
class BatchContext:
    """What a batch says beside its rows.

    Attributes:
        parameters: of the path.
        alone: the rows are of one request, so that a failure is its own and worth a traceback.
        context: of that request, where the endpoint asks for it.
    """

    parameters: Mapping[str, str]
    single_request: bool
    context: Request | None = None


class Predictor:
    """Owns the endpoint's cache.

    Args:
        measures: of the endpoint; None where nobody wants them.
        loop: runs what is async.
        dependencies: of the worker.

    Attributes:
        cache: None for an endpoint that needs no model.
    """

    def __init__(
        self, endpoint: Endpoint[..., Any], measures: HandlerMetrics | None, loop: AsyncRunner, dependencies: Dependencies
    ) -> None:
        self.endpoint = endpoint
        self.input_schema = None if endpoint.input_schema is None else endpoint.input_schema.arrow_schema()
        self.has_output_schema = endpoint.output_schema is not None
        self.streams = endpoint.handler_kind.streams
        self.reader = frames.FrameReader(self.input_schema)
        self._inputs, self._results = NumericInput(endpoint.input_schema), NumericOutput(endpoint.output_schema)
        self.cache = None if endpoint.cache_config is None else Cache(endpoint.cache_config, metrics=measures)
        self._loop = loop
        self._dependencies = dependencies
        self._opened: dict[str, Any] = {}
        self._reader = self._reader_of(endpoint)
        self._measures = measures

    def open(self) -> None:
        """Opens the handler's dependencies, and begins the loads that the author wants before the first request. Reads the store.

        Raises:
            Declaration: a dependency cannot be opened.
        """
        for name, each in self.endpoint.call_plan.dependencies.items():
            try:
                self._opened[name] = self._dependencies.open(each.provider)
            except Exception as exc:  # the author's code; the worker does not start
                raise Declaration(f"endpoint {self.endpoint.name}: {name!r} cannot be opened: {type(exc).__name__}: {exc}") from exc
        config = self.endpoint.cache_config
        if self.cache is not None and config is not None and config.pre_fetch_all:
            self.cache.prefetch(self.endpoint.parameters)

    def check_parameters(self, parameters: Mapping[str, str]) -> None:
        """Applies the spec, and nothing else.

        Raises:
            PexdockError: it does not admit them.
        """
        if self.cache is not None:
            self.cache.check_parameters(parameters)
        elif self._reader is not None:
            with _Guard(self.endpoint.name, 0, BatchContext(parameters, single_request=True)):
                self._reader.validate(parameters)

    def lookup_model(self, parameters: Mapping[str, str], wake: Callable[[], None]) -> Lease | Pending | None:
        """The model for these parameters, see `Cache.lookup`; None for an endpoint that needs none.

        Raises:
            PexdockError: there will be no model for them now.
        """
        if self.cache is None:
            return None
        found = None
        try:
            found = self.cache.lookup(parameters, wake)
            return found
        finally:
            if self._measures is not None:
                self._measures.increment("CacheHits" if isinstance(found, Lease) else "CacheMisses")

    def predict(self, lease: Lease | None, batch: pa.RecordBatch | NumericBatch, call: BatchContext) -> pa.RecordBatch | NumericBatch:
        """Calls the handler on one batch.

        Args:
            lease: on the model; None for an endpoint that needs none.
            batch: the rows, which the handler may keep if whoever owns their memory watches for it.
            call: what else the handler may ask for.

        Raises:
            HandlerFailed: the handler raised what means nothing to a client. Its message names no more than an id to find in the log.
            BadResult: what it returned breaks the contract.
            CallerError: rows or parameters do not fit, or the handler rejects them.
        """
        if self._measures is None:
            return self._predict(lease, batch, call)
        began_s = time.perf_counter()
        try:
            return self._predict(lease, batch, call)
        finally:
            self._measures.record_duration("HandlerTime", time.perf_counter() - began_s)

    def _predict(self, lease: Lease | None, batch: pa.RecordBatch | NumericBatch, call: BatchContext) -> pa.RecordBatch | NumericBatch:
        with _Guard(self.endpoint.name, batch.num_rows, call):
            result = self._call(lease, batch, call)
            if inspect.iscoroutine(result):
                result = self._loop.run_coroutine(result)
            if self.endpoint.raw:
                return response_frame(result)
            return self._results.to_numeric_batch(result, batch.num_rows) or result_to_batch(
                result, batch.num_rows, self.endpoint.output_schema
            )

    def stream(self, lease: Lease | None, batch: pa.RecordBatch | NumericBatch, call: BatchContext) -> PredictionStream:
        """Calls a generator handler. Raises as `predict` does."""
        guard = _Guard(self.endpoint.name, batch.num_rows, call)
        with guard:
            return PredictionStream(
                PartIterator(self._call(lease, batch, call), self.endpoint.output_schema, self._loop), guard, self._measures
            )

    def call_with_example(self, lease: Lease | None, call: BatchContext) -> None:
        """Calls the handler once with the example of its schema, and up to its first part where it streams; nothing is measured.

        Without a schema, or where the author will not have it, nothing is called. Raises as `predict` does.
        """
        schema = self.endpoint.input_schema
        if schema is None or self.endpoint.raw or not self.endpoint.warm_up:
            return
        batch = schema.example_batch()
        if not self.streams:
            self._predict(lease, batch, call)
            return
        with _Guard(self.endpoint.name, batch.num_rows, call):
            parts = PartIterator(self._call(lease, batch, call), self.endpoint.output_schema, self._loop)
            try:
                parts.next_part(_PART_BYTES)
            finally:
                parts.close()

    def close(self) -> None:
        """Ends the cache's loads."""
        if self.cache is not None:
            self.cache.close()

    def _call(self, lease: Lease | None, batch: pa.RecordBatch | NumericBatch, call: BatchContext) -> Any:
        plan = self.endpoint.call_plan
        frame = None if self.endpoint.raw else self._frame(batch)
        parameters = call.parameters if lease is None or not lease.latest else {**call.parameters, **lease.latest}
        validated = None if self._reader is None else self._reader.validate(parameters)
        context = self._context(batch, call)
        model = None if lease is None else lease.model
        return plan.call(self.endpoint.handler, CallInputs(model, frame, parameters, validated, context, self._opened))

    def _frame(self, batch: pa.RecordBatch | NumericBatch) -> pl.DataFrame:
        schema = self.endpoint.input_schema
        if isinstance(batch, NumericBatch):
            frame = self._inputs.to_polars(batch)
        elif schema is None:
            frame = pl.DataFrame(batch)
        else:
            frame = schema.frame(batch)
        cells = [] if schema is None else schema.check(frame)
        if cells:
            raise Misfit(f"the rows do not fit: {cells[0].reason}", cells=cells)
        return frame

    def _context(self, batch: pa.RecordBatch | NumericBatch, call: BatchContext) -> Context | None:
        given = call.context
        if given is None:
            return None
        if not self.endpoint.raw:
            return Context(given.id, given.headers, given.query, given.until, given._cancelled)  # noqa: SLF001 - its own field
        assert not isinstance(batch, NumericBatch)
        body = raw_body(batch)
        return Request(given.id, given.headers, given.query, given.until, given._cancelled, body, given.content_type)  # noqa: SLF001

    @staticmethod
    def _reader_of(endpoint: Endpoint[..., Any]) -> SpecValidator | None:
        """Validates the path's parameters, where the handler asks for that."""
        if endpoint.call_plan.spec is None:
            return None
        theirs = None if endpoint.cache_config is None else endpoint.cache_config.spec_validator
        return theirs or SpecValidator(endpoint.call_plan.spec)


class PredictionStream:
    """A streamed answer on its way."""

    def __init__(self, parts: PartIterator, guard: _Guard, measures: HandlerMetrics | None) -> None:
        self._parts = parts
        self._guard = guard
        self._measures = measures
        self._took_s = 0.0

    def next_part(self, room: int) -> memoryview | None:
        """See `Parts.next`. Raises as `Predictor.predict` does."""
        began_s = time.perf_counter()
        try:
            with self._guard:
                return self._parts.next_part(room)
        finally:
            self._took_s += time.perf_counter() - began_s

    def close(self) -> None:
        """Ends it. What the generator raises then is in the log only: nobody waits for it."""
        if self._measures is not None:
            self._measures.record_duration("HandlerTime", self._took_s)
        try:
            with self._guard:
                self._parts.close()
        except PexdockError:
            pass  # logged


class _Guard:
    """Turns whatever a handler raises into an error that may travel."""

    def __init__(self, name: str, rows: int, call: BatchContext) -> None:
        self._name = name
        self._rows = rows
        self._alone = call.single_request

    def __enter__(self) -> None:
        """Nothing is to be done before."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        if isinstance(error, Reject) and any(cell.row is not None and not 0 <= cell.row < self._rows for cell in error.cells):
            rows = [cell.row for cell in error.cells]
            raise BadResult(f"the handler {self._name} rejects the rows {rows[:10]} of a frame of {self._rows}") from None
        if isinstance(error, PexdockError) and failure.is_transferable(error):
            return
        raise self._failed(error) from None

    def _failed(self, error: BaseException) -> HandlerFailed:
        incident = uuid4().hex[:12]
        if self._alone:
            log.error("handler %s failed, incident %s", self._name, incident, exc_info=error)
        else:
            log.warning("handler %s raised %s on a batch of several requests, tried in parts", self._name, type(error).__name__)
        return HandlerFailed(f"the handler {self._name} failed; the log tells why, at incident {incident}")
