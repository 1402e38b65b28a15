"""Turns what a handler raises into an error that may be sent to a client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from base.errors import AuthorError, BadResult, HandlerFailed, PexdockError, Reject
from base.forks import OwnProcess
from base.ipc import failure
from base.log import get_logger, log_incident
from base.worker.prediction.handler_call import BatchContext

log = get_logger(__name__)


class HandlerErrorBoundary:
    """A context manager around a call of a handler. It may be entered several times.

    Args:
        endpoint_name: Name of the endpoint, for messages.
        num_rows: Number of rows that the handler is given.
        process: The process of the worker. A forked child of it ends here.
        context: Tells how failures are logged. The rows of one request get a traceback, and a batch of several is tried in parts; a failure
            of a group in the same place as one of another names the same incident, since thousands of groups may fail alike.
    """

    def __init__(self, endpoint_name: str, num_rows: int, process: OwnProcess, context: BatchContext) -> None:
        self._endpoint_name = endpoint_name
        self._num_rows = num_rows
        self._process = process
        self._context = context

    def __enter__(self) -> None:
        """Does nothing."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        self._process.end_if_forked(error)
        if isinstance(error, Reject) and any(cell.row is not None and not 0 <= cell.row < self._num_rows for cell in error.cells):
            rows = [cell.row for cell in error.cells]
            error = BadResult(f"the handler {self._endpoint_name} rejects the rows {rows[:10]}, but was given {self._num_rows} rows")
        if not isinstance(error, PexdockError) or not failure.is_transferable(error):
            raise self._handler_failed(error) from None
        if isinstance(error, AuthorError):
            raise self._author_failed(error) from None

    def _handler_failed(self, error: BaseException) -> HandlerFailed:
        where = self._log(f"handler {self._endpoint_name} failed", type(error).__name__, error, _place(error))
        return HandlerFailed(f"the handler {self._endpoint_name} failed{where}")

    def _author_failed(self, error: AuthorError) -> AuthorError:
        where = self._log(f"handler {self._endpoint_name}: {error.detail}", type(error).__name__, error.__cause__, error.detail)
        return error.copy_for_caller(detail=f"{error.detail}{where}")

    def _log(self, message: str, name: str, error: BaseException | None, place: Hashable) -> str:
        """Logs a failure, and returns words that are added to the message of its error."""
        context = self._context
        if context.quiet:
            return ""
        if context.logged is not None:
            if (name, place) not in context.logged:
                context.logged[name, place] = log_incident(log, message, error)
            return f"; {context.logged[name, place]}"
        if context.single_request:
            return f"; {log_incident(log, message, error)}"
        message = f"handler {self._endpoint_name} raised {name} on a batch of several requests; trying it in parts"
        return f"; {log_incident(log, message, level=logging.WARNING)}"


def _place(error: BaseException) -> Hashable:
    """Returns the place in the code where an exception was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return None if trace is None else (trace.tb_frame.f_code, trace.tb_lineno)


@contextmanager
def propagate_cancellation() -> Iterator[list[asyncio.CancelledError]]:
    """Yields a list that gets the cancellation of the present task, which is then not raised within the block.

    It is no error of the handler. A handler can also raise CancelledError by itself; that is one.
    """
    cancelled: list[asyncio.CancelledError] = []
    try:
        yield cancelled
    except asyncio.CancelledError as exc:
        task = asyncio.current_task()
        if task is None or not task.cancelling():
            raise
        cancelled.append(exc)
