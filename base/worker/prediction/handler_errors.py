"""Turns what a handler raises into an error that may be sent to a client."""

from __future__ import annotations

import logging
from uuid import uuid4

from base.errors import BadResult, HandlerFailed, PexdockError, Reject
from base.ipc import failure

log = logging.getLogger(__name__)


class HandlerErrorBoundary:
    """A context manager around a call of a handler. It may be entered several times.

    Args:
        endpoint_name: Name of the endpoint, for messages.
        num_rows: Number of rows that the handler is given.
        single_request: The rows are of one request, so that a failure is logged with its traceback. A batch of several is tried in parts.
    """

    def __init__(self, endpoint_name: str, num_rows: int, *, single_request: bool) -> None:
        self._endpoint_name = endpoint_name
        self._num_rows = num_rows
        self._single_request = single_request

    def __enter__(self) -> None:
        """Does nothing."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        if isinstance(error, Reject) and any(cell.row is not None and not 0 <= cell.row < self._num_rows for cell in error.cells):
            rows = [cell.row for cell in error.cells]
            raise BadResult(
                f"the handler {self._endpoint_name} rejects the rows {rows[:10]}, but was given {self._num_rows} rows"
            ) from None
        if isinstance(error, PexdockError) and failure.is_transferable(error):
            if isinstance(error, BadResult) and self._single_request:
                log.error("the result of handler %s breaks its contract: %s", self._endpoint_name, error)
            return
        raise self._handler_failed(error) from None

    def _handler_failed(self, error: BaseException) -> HandlerFailed:
        incident = uuid4().hex[:12]
        if self._single_request:
            log.error("handler %s failed, incident %s", self._endpoint_name, incident, exc_info=error)
        else:
            name = type(error).__name__
            log.warning("handler %s raised %s on a batch of several requests; trying it in parts", self._endpoint_name, name)
        return HandlerFailed(f"the handler {self._endpoint_name} failed; see the log of the worker, incident {incident}")
