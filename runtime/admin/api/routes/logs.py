"""The last log lines of all processes, and a stream of new ones. Runs on the supervisor's loop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated

from fastapi import FastAPI, Query, Response

from runtime.admin.api.context import AdminContext
from runtime.admin.api.ndjson import NdjsonStream
from runtime.admin.api.openapi import document_responses
from runtime.admin.api.responses import json_response
from runtime.admin.schemas import Logs
from runtime.supervisor.host.log_buffer import LogBuffer, LogLine, LogReader, is_about_model

_LINES_MAX = 10_000


def add_log_route(app: FastAPI, context: AdminContext) -> None:
    """Adds the route of log lines."""
    log_buffer = context.log_buffer

    @app.get(
        "/logs",
        summary="Show the last log lines of supervisor, front doors and workers",
        responses=document_responses(Logs, 404, line=LogLine),
    )
    async def logs(
        model: Annotated[str, Query(description="Show only lines of this model's workers, or about them.")] = "",
        lines: Annotated[int, Query(ge=0, le=_LINES_MAX, description="Show at most the last N lines.")] = 200,
        follow: Annotated[bool, Query(description="Stream a line of JSON for each log line, and go on with new ones.")] = False,
    ) -> Response:
        matches = _matcher(model)
        if model and not log_buffer.last_lines(1, matches):
            context.model_report(model)  # one that exists may not have written anything
        return _stream(log_buffer, lines, matches) if follow else json_response(Logs(log_buffer.last_lines(lines, matches)))


def _stream(log_buffer: LogBuffer, count: int, matches: Callable[[LogLine], bool]) -> Response:
    stack = contextlib.ExitStack()
    last, reader = stack.enter_context(log_buffer.follow(count, matches))
    return NdjsonStream(_each_group(last, reader), reader.lost, stack.close)


async def _each_group(last: Sequence[LogLine], reader: LogReader) -> AsyncIterator[Sequence[LogLine]]:
    yield last
    while True:
        yield await reader.wait_lines()


def _matcher(model: str) -> Callable[[LogLine], bool]:
    return (lambda line: is_about_model(line, model)) if model else (lambda _: True)
