"""One endpoint in a worker process: looks up its model, calls its handler, and turns results into frames."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import polars as pl
import pyarrow as pa

from base.artifacts.cache.cache import Cache, Lease, Pending
from base.artifacts.config import CacheConfig
from base.async_runner import AsyncRunner
from base.endpoint.dependencies import Dependencies
from base.endpoint.endpoint import Endpoint
from base.endpoint.parameters import QueryValues
from base.endpoint.raw import response_frame
from base.errors import BadResult
from base.forks import OwnProcess
from base.ipc import frames
from base.ipc.frames import FrameReader
from base.ipc.numeric_frames import NumericBatch
from base.schema.forms import FrameForm, check_feature_names
from base.schema.wire import frame_of_table
from base.telemetry.recorder import HandlerMetrics
from base.worker.prediction.arrow_parts import ArrowParts
from base.worker.prediction.divided_batch import DividedBatch
from base.worker.prediction.grouped_batch import GroupedAnswer, GroupedBatch, group_to_batch
from base.worker.prediction.handler_call import BatchContext, HandlerCaller, Rows
from base.worker.prediction.handler_errors import HandlerErrorBoundary, propagate_cancellation
from base.worker.prediction.numeric_io import NumericOutput
from base.worker.prediction.record import OneRecord, record_to_batch
from base.worker.prediction.result import result_to_batch
from base.worker.prediction.stream_parts import PartEncoder, PartIterator, PredictionStream, part_encoder

_WARM_UP_PART_BYTES = 64 * 1024
"""Size limit of the first part of a streamed answer to the warm-up request."""


Answer: TypeAlias = pa.RecordBatch | NumericBatch | OneRecord | GroupedAnswer
"""The rows that answer a batch."""


class Predictor:
    """Predicts for one endpoint, and owns its cache.

    Args:
        endpoint: The endpoint.
        metrics: Metrics of the endpoint; None for no metrics.
        async_runner: Runs coroutines and async generators.
        dependencies: The dependencies of all handlers of the worker.

    Attributes:
        cache: None for an endpoint that needs no model.
        frame_reader: Reads the frames of batches for this endpoint.
        has_output_schema: Results have a schema that the front door knows.
        streams: The handler is a generator.
        is_async: The handler is a coroutine function, or an async generator.
        takes_query: The handler takes parameters beside those of the path.
    """

    def __init__(
        self, endpoint: Endpoint[..., Any], metrics: HandlerMetrics | None, async_runner: AsyncRunner, dependencies: Dependencies
    ) -> None:
        self.endpoint = endpoint
        self.cache = None if endpoint.cache_config is None else Cache(_checked_config(endpoint, endpoint.cache_config), metrics=metrics)
        self.frame_reader = FrameReader(None if endpoint.input_schema is None else endpoint.input_schema.arrow_schema())
        self.has_output_schema = endpoint.output_schema is not None
        self.streams = endpoint.handler_kind.streams
        self.is_async = endpoint.handler_kind.is_async
        self.takes_query = endpoint.call_plan.request_parameters is not None
        self._caller = HandlerCaller(endpoint)
        self._numeric_output = NumericOutput(endpoint.output_schema)
        self._parts = PartEncoder(part_encoder(endpoint))
        self._metrics = metrics
        self._async_runner = async_runner
        self._dependencies = dependencies
        self._process = OwnProcess()
        self._call_max_rows = endpoint.batch.call_max_rows
        self._may_divide = bool(endpoint.group_by) or self._call_max_rows is not None

    def open(self) -> None:
        """Opens the handler's dependencies, and starts the loads that the author wants before the first request, after listing the store.

        Raises:
            Declaration: A dependency cannot be opened.
        """
        self._caller.open_dependencies(self._dependencies)
        config = self.endpoint.cache_config
        if self.cache is not None and config is not None and config.pre_fetch_all:
            self.cache.prefetch(self.endpoint.parameters)

    def take_query(self, parameters: dict[str, Any]) -> dict[str, str | list[str]]:
        """Removes and returns the parameters of the query, which cross the wire with those of the path."""
        declared = self._caller.request_parameters
        return {} if declared is None else {name: parameters.pop(name) for name in declared.repeats if name in parameters}

    def check_parameters(self, parameters: Mapping[str, str], query: QueryValues) -> None:
        """Validates the parameters of the path by the spec and their annotations, and those of the query, and loads nothing.

        Raises:
            PexdockError: The parameters are invalid.
        """
        context = BatchContext(parameters, single_request=True)
        with HandlerErrorBoundary(self.endpoint.name, 0, self._process, context):
            if self._caller.request_parameters is not None:
                self._caller.request_parameters.validate(query)
            for check in self.endpoint.call_plan.path_checks:
                check(parameters)
        if self.cache is not None:
            self.cache.check_parameters(parameters)
        elif self._caller.spec_validator is not None:
            with HandlerErrorBoundary(self.endpoint.name, 0, self._process, context):
                self._caller.spec_validator.validate(parameters)

    def lookup_model(self, parameters: Mapping[str, str], wake: Callable[[], None]) -> Lease | Pending | None:
        """Returns the model for these parameters, see `Cache.lookup`; None for an endpoint that needs no model.

        Raises:
            PexdockError: There is no model for them now.
        """
        if self.cache is None:
            return None
        found = None
        try:
            found = self.cache.lookup(parameters, wake)
            return found
        finally:
            if self._metrics is not None:
                self._metrics.increment("CacheHits" if isinstance(found, Lease) else "CacheMisses")

    def predict(self, lease: Lease | None, batch: Rows, context: BatchContext) -> Answer:
        """Calls the handler on one batch.

        Args:
            lease: Lease of the model; None for an endpoint that needs no model.
            batch: The rows. The handler may keep them, if the owner of their memory watches for that.
            context: The parameters, and the other values that the handler may ask for.

        Raises:
            HandlerFailed: The handler raised an error that means nothing to a client. The message has only an id, which the log has, too.
            BadResult: The result breaks the contract.
            CallerError: Rows or parameters do not fit, or the handler rejects them.
        """
        if self._metrics is None:
            return self._predict(lease, batch, context)
        started_s = time.perf_counter()
        try:
            return self._predict(lease, batch, context)
        finally:
            self._metrics.record_duration("HandlerTime", time.perf_counter() - started_s)

    def _predict(self, lease: Lease | None, batch: Rows, context: BatchContext) -> Answer:
        if self._may_divide and (divided := self._divide(batch, context)) is not None:
            for part in divided:
                with divided:
                    divided.add_result(self._predict(lease, part, divided.context))
            return divided.joined_result()
        num_rows = batch.height if isinstance(batch, pl.DataFrame) else batch.num_rows
        with HandlerErrorBoundary(self.endpoint.name, num_rows, self._process, context):
            result = self._caller.call(lease, batch, context)
            if inspect.iscoroutine(result):
                result = self._async_runner.run_coroutine(result)
            return self._to_batch(result, batch, num_rows)

    async def predict_async(self, lease: Lease | None, batch: Rows, context: BatchContext) -> Answer:
        """Calls an async handler on one batch, as `predict` does. Other calls go on while it awaits something.

        Raises:
            CancelledError: The task was cancelled.
            PexdockError: As `predict`.
        """
        started_s = time.perf_counter()
        try:
            return await self._predict_async(lease, batch, context)
        finally:
            if self._metrics is not None:
                self._metrics.record_duration("HandlerTime", time.perf_counter() - started_s)

    async def _predict_async(self, lease: Lease | None, batch: Rows, context: BatchContext) -> Answer:
        if self._may_divide and (divided := self._divide(batch, context)) is not None:
            for part in divided:
                with divided:
                    divided.add_result(await self._predict_async(lease, part, divided.context))
            return divided.joined_result()
        num_rows = batch.height if isinstance(batch, pl.DataFrame) else batch.num_rows
        with HandlerErrorBoundary(self.endpoint.name, num_rows, self._process, context):
            with propagate_cancellation() as cancelled:
                result = await self._caller.call(lease, batch, context)
            self._process.end_if_forked()
            if not cancelled:
                return self._to_batch(result, batch, num_rows)
        raise asyncio.CancelledError

    def stream(self, lease: Lease | None, batch: pa.RecordBatch | NumericBatch | pa.Table, context: BatchContext) -> PredictionStream:
        """Calls a generator handler. Raises as `predict` does."""
        boundary = HandlerErrorBoundary(self.endpoint.name, batch.num_rows, self._process, context)
        with boundary:
            return PredictionStream(self._start_parts(lease, batch, context), boundary, self._metrics)

    def call_with_example(self, lease: Lease | None, context: BatchContext) -> bool:
        """Calls the handler once with the example of its schema, and up to the first part if it streams. Records no metrics.

        Returns False, and calls nothing, if the endpoint has no schema or its author has turned the warm-up off. Raises as `predict` does.
        """
        schema = self.endpoint.input_schema
        if schema is None or self.endpoint.raw or not self.endpoint.warm_up:
            return False
        batch = schema.example_batch(several=not self.endpoint.batched)
        if not self.streams:
            answer = self._predict(lease, batch, context)
            if isinstance(answer, GroupedAnswer):
                for error in answer.errors.values():
                    raise error
            return True
        with HandlerErrorBoundary(self.endpoint.name, batch.num_rows, self._process, context):
            parts = self._start_parts(lease, batch, context)
            try:
                parts.next_part(_WARM_UP_PART_BYTES)
            finally:
                parts.close()
        return True

    def call_with_rows(self, lease: Lease | None, rows: Sequence[Mapping[str, object]], context: BatchContext) -> pl.DataFrame:
        """Calls the handler once with rows of its schema, and returns their answers. Records no metrics. Raises as `predict` does."""
        schema = self.endpoint.input_schema
        assert schema is not None
        answer = self._predict(lease, schema.batch_of_rows(rows), context)
        assert isinstance(answer, pa.RecordBatch | NumericBatch)  # other answers are those of endpoints that are not batched
        return frame_of_table(pa.Table.from_batches([answer if isinstance(answer, pa.RecordBatch) else answer.to_record_batch()]))

    def close(self) -> None:
        """Stops the loads of the cache."""
        if self.cache is not None:
            self.cache.close()

    def _divide(self, batch: Rows, context: BatchContext) -> DividedBatch | GroupedBatch | None:
        """Returns what divides a batch into several calls; None if it is one call, as a part is."""
        if isinstance(batch, pl.DataFrame):
            return None
        rows_max = self._call_max_rows
        if rows_max is not None and batch.num_rows <= rows_max:
            return None
        with HandlerErrorBoundary(self.endpoint.name, batch.num_rows, self._process, context):
            frame = self._caller.to_frame(batch)
            return GroupedBatch(frame, self.endpoint, context) if rows_max is None else DividedBatch(frame, rows_max, context)

    def _to_batch(self, result: object, given: Rows, num_rows: int) -> Answer:
        endpoint = self.endpoint
        if endpoint.group_by:
            assert isinstance(given, pl.DataFrame)
            return group_to_batch(result, given, endpoint)
        if endpoint.raw:
            return response_frame(result)
        if not endpoint.batched and isinstance(result, dict):
            return OneRecord(record_to_batch(result, endpoint.output_schema))
        rows = num_rows if endpoint.batched else None
        batch = self._numeric_output.to_numeric_batch(result, rows) or result_to_batch(result, rows, endpoint.output_schema)
        if rows is None and isinstance(batch, pa.RecordBatch) and not frames.may_have_rows(batch.num_rows, batch.nbytes):
            raise BadResult(f"the handler returned {batch.num_rows} rows without values, which are nulls or have no columns")
        return batch

    def _start_parts(self, lease: Lease | None, batch: Rows, context: BatchContext) -> PartIterator:
        encoder = ArrowParts(self.endpoint.output_schema) if context.arrow else self._parts
        return PartIterator(self._caller.call(lease, batch, context), encoder, self._async_runner)


def _checked_config(endpoint: Endpoint[..., Any], config: CacheConfig) -> CacheConfig:
    """Returns the configuration whose loads fail if the handler would give the model its columns in another order."""
    schema = endpoint.input_schema
    if endpoint.call_plan.frame_form is not FrameForm.NUMPY or schema is None:
        return config

    def load_checked(source: Any) -> Any:
        model = config.load_model(source)
        check_feature_names(model, schema)
        return model

    return config.model_copy(update={"load_model": load_checked})
