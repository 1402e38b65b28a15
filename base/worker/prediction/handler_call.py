"""Calls the handler of one endpoint with what it asks for: model, frame, parameters, context and dependencies."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import polars as pl
import pyarrow as pa

from base.artifacts.cache.cache import Lease
from base.artifacts.spec import SpecValidator
from base.endpoint.call_plan import CallInputs
from base.endpoint.context import Context, Request
from base.endpoint.dependencies import Dependencies
from base.endpoint.endpoint import Endpoint
from base.endpoint.parameters import ParameterReader, QueryValues
from base.endpoint.raw import raw_body
from base.errors import Declaration, Misfit
from base.ipc.numeric_frames import NumericBatch
from base.schema.forms import FrameForm
from base.schema.model import Schema
from base.schema.wire import frame_of_table
from base.worker.prediction.numeric_io import NumericInput

Rows: TypeAlias = pa.RecordBatch | NumericBatch | pa.Table | pl.DataFrame
"""The rows of a batch, or a part of them as a frame."""

_PART_BYTES = 32 * 1024**2
"""Size of the frames that a handler takes one after the other, more or less."""

_OF_PARTS = frozenset({FrameForm.LAZY, FrameForm.ITERATOR})
"""Forms whose rows are checked part by part."""


@dataclass(frozen=True)
class BatchContext:
    """The data that comes with a batch beside its rows.

    Attributes:
        parameters: Parameters of the path.
        single_request: The rows are of one request, so that a failure concerns no other and is worth a traceback.
        context: Context of that request, for an endpoint that asks for it.
        query: Parameters of the requests beside those of the path, of which all have the same.
        require_wanted: Raises DeadlineExceeded if nobody waits for the rest of the rows any more.
        arrow: The parts of a streamed answer are record batches of one Arrow stream.
        logged: The failures of groups that were logged; None unless the rows are a group of a request (see `HandlerErrorBoundary`).
        quiet: No failure is logged, since no client has sent the rows.
    """

    parameters: Mapping[str, str]
    single_request: bool
    context: Request | None = None
    require_wanted: Callable[[], None] | None = None
    query: QueryValues = field(default_factory=dict)
    arrow: bool = False
    logged: dict[Hashable, str] | None = None
    quiet: bool = False


class HandlerCaller:
    """Calls one handler.

    Args:
        endpoint: The endpoint of the handler.

    Attributes:
        spec_validator: Validates the parameters of the path for a handler that asks for the result; None for all others.
        request_parameters: Validates the other parameters of requests; None for a handler that takes none.
    """

    def __init__(self, endpoint: Endpoint[..., Any]) -> None:
        self._endpoint = endpoint
        self._numeric_input = NumericInput(endpoint.input_schema)
        self._dependencies: dict[str, Any] = {}
        self.spec_validator = _spec_validator(endpoint)
        self.request_parameters: ParameterReader | None = endpoint.call_plan.request_parameters

    def open_dependencies(self, dependencies: Dependencies) -> None:
        """Opens what the handler depends on.

        Raises:
            Declaration: A dependency cannot be opened.
        """
        for name, each in self._endpoint.call_plan.dependencies.items():
            try:
                self._dependencies[name] = dependencies.open(each.provider)
            except Exception as exc:  # the author's code; the worker does not start
                reason = f"{type(exc).__name__}: {exc}"
                raise Declaration(f"endpoint {self._endpoint.name}: cannot open the dependency {name!r}: {reason}") from exc

    def call(self, lease: Lease | None, batch: Rows, context: BatchContext) -> Any:
        """Calls the handler and returns what it returns. The rows may be a part of what `to_frame` returned.

        Raises:
            Misfit: Rows or parameters do not fit.
            BaseException: The handler raised it.
        """
        endpoint = self._endpoint
        frame: Any = None
        if endpoint.call_plan.frame_form in _OF_PARTS:
            frame = self._frame_input(batch)
        elif not endpoint.raw:
            frame = self.to_frame(batch)
            if endpoint.input_schema is not None:
                _require_fit(endpoint.input_schema, frame, 0)
            if endpoint.call_plan.frame_converter is not None:
                frame = endpoint.call_plan.frame_converter(frame)
        parameters = context.parameters if lease is None or not lease.latest else {**context.parameters, **lease.latest}
        validated = None if self.spec_validator is None else self.spec_validator.validate(parameters)
        of_request = None if self.request_parameters is None else self.request_parameters.validate(context.query)
        handler_context = self._handler_context(batch, context)
        model = None if lease is None else lease.model
        inputs = CallInputs(model, frame, parameters, validated, handler_context, self._dependencies, of_request)
        return endpoint.call_plan.call(endpoint.handler, inputs)

    def _frame_input(self, batch: Rows) -> pl.LazyFrame | Iterator[pl.DataFrame]:
        """Returns the rows as a lazy frame, or as frames, which are checked when the handler comes to them."""
        parts = self._checked_parts(batch)
        if self._endpoint.call_plan.frame_form is FrameForm.ITERATOR:
            return parts
        for _ in parts:
            pass
        return self.to_frame(batch).lazy()

    def _checked_parts(self, batch: Rows) -> Iterator[pl.DataFrame]:
        """Yields the rows in frames of some megabytes, which refer to the same memory."""
        whole = batch if isinstance(batch, pa.Table) else self.to_frame(batch)
        size, rows = (whole.nbytes, whole.num_rows) if isinstance(whole, pa.Table) else (whole.estimated_size(), whole.height)
        part_rows = max(1, int(rows * _PART_BYTES / max(size, _PART_BYTES)))
        for start in range(0, max(rows, 1), part_rows):
            frame = self.to_frame(whole.slice(start, part_rows))
            if self._endpoint.input_schema is not None:
                _require_fit(self._endpoint.input_schema, frame, start)
            yield frame

    def to_frame(self, batch: Rows) -> pl.DataFrame:
        """Returns the rows as a frame, whose values are not checked yet.

        Raises:
            PolarsError: The batch does not have the wire form of the schema.
        """
        schema = self._endpoint.input_schema
        if isinstance(batch, NumericBatch):
            return self._numeric_input.to_polars(batch)
        if isinstance(batch, pl.DataFrame):
            return batch
        if isinstance(batch, pa.Table):
            tables = [pa.Table.from_batches([each]) for each in batch.to_batches()] or [batch]
            frames = [frame_of_table(each) if schema is None else schema.frame(each) for each in tables]
            return pl.concat(frames, rechunk=False) if len(frames) > 1 else frames[0]
        return pl.DataFrame(batch) if schema is None else schema.frame(batch)

    def _handler_context(self, batch: Rows, context: BatchContext) -> Context | None:
        given = context.context
        if given is None:
            return None
        if not self._endpoint.raw:
            return Context(given.id, given.headers, given.query, given.until, given._cancelled, given._job)  # noqa: SLF001 - its own fields
        assert isinstance(batch, pa.RecordBatch)
        return replace(given, body=raw_body(batch))


def _require_fit(schema: type[Schema], frame: pl.DataFrame, start: int) -> None:
    """Raises Misfit if a value breaks a constraint. The first row of the frame has the number `start` in the request."""
    cells = schema.check(frame)
    if cells:
        cells = [cell if cell.row is None else replace(cell, row=cell.row + start) for cell in cells] if start else cells
        raise Misfit(f"the rows do not fit: {cells[0].reason}", cells=cells)


def _spec_validator(endpoint: Endpoint[..., Any]) -> SpecValidator | None:
    if endpoint.call_plan.spec is None:
        return None
    of_cache = None if endpoint.cache_config is None else endpoint.cache_config.spec_validator
    return of_cache or SpecValidator(endpoint.call_plan.spec)
