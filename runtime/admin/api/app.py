"""The admin side as an ASGI application: resources by noun, errors as problem documents. Runs on the supervisor's loop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from pydantic import Field
from starlette.types import ASGIApp

import base
from base.errors import NotFound
from runtime.admin.api import caches
from runtime.admin.api.context import AdminContext
from runtime.admin.api.fields import File, Model, Order, Text
from runtime.admin.api.limits import RequestLimitsMiddleware
from runtime.admin.api.model_detail import describe_model
from runtime.admin.api.ndjson import NdjsonStream
from runtime.admin.api.openapi import document_responses, install_openapi
from runtime.admin.api.responses import install_error_handlers, json_response
from runtime.admin.api.traffic import add_traffic_routes
from runtime.admin.api.uploads import DIGEST_HEADER, Uploads
from runtime.admin.schemas import Draining, Dropped, Logs, ModelCaches, ModelDetail, ModelRefresh
from runtime.blocking import BlockingThreads
from runtime.supervisor.host.log_buffer import LogBuffer, LogLine, LogReader, is_about_model
from runtime.supervisor.releases.managed_release import ManagedRelease
from runtime.supervisor.status.state import ModelReport, State

LINES_MAX = 10_000


class RefreshOrder(Order):
    """What to refresh; all of it where nothing is said."""

    endpoint: Text | None = Field(None, description="Name or path of an endpoint. Without it each that has a cache is meant.")
    parameters: dict[Text, Text | int | float] | None = Field(
        None, description="Of one entry, as in a request's path. Without them all entries are meant."
    )

    @property
    def texts(self) -> dict[str, str] | None:
        """The parameters as they stand in a path."""
        return None if self.parameters is None else {name: str(value) for name, value in self.parameters.items()}


_DROPPED: dict[str, Any] = {
    "parameters": [{"name": DIGEST_HEADER, "in": "header", "required": True, "schema": {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"}}],
    "requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
}


def create_app(powers: AdminContext) -> ASGIApp:
    """The application."""
    app = FastAPI(title="Pexdock's admin side", version=base.__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    install_error_handlers(app)
    install_openapi(app, State, ModelDetail, ModelReport, ModelCaches, ModelRefresh, Dropped, Draining, Logs)
    _add_models(app, powers)
    add_traffic_routes(app, powers)
    _add_drops(app, powers)
    _add_the_whole(app, powers)
    return RequestLimitsMiddleware(app)


def _add_models(app: FastAPI, powers: AdminContext) -> None:
    def live(model: str) -> ManagedRelease:
        found = powers.fleet.serving(model)
        if found is None:
            raise _not_serving(model, powers.state())
        return found

    @app.get("/models", summary="What is served, what was refused and why", responses=document_responses(State, line=State))
    async def models(
        follow: Annotated[bool, Query(description="Answer with a line of JSON now and whenever it has changed, until you leave.")] = False,
    ) -> Response:
        return NdjsonStream(_each_state(powers)) if follow else json_response(powers.state())

    threads = BlockingThreads(1)

    @app.get("/models/{model}", summary="All that is known of one model", responses=document_responses(ModelDetail, 404))
    async def model_detail(model: Model) -> Response:
        return json_response(await describe_model(powers, model, threads))

    @app.get(
        "/models/{model}/cache", summary="What every worker of a model has in its caches", responses=document_responses(ModelCaches, 404)
    )
    async def cache(model: Model) -> Response:
        return json_response(await caches.list_caches(live(model)))

    @app.post(
        "/models/{model}/refresh",
        status_code=HTTPStatus.ACCEPTED,
        summary="Load again what the caches of a model hold",
        responses=document_responses(ModelRefresh, 400, 404, 413, 500, status=HTTPStatus.ACCEPTED),
    )
    async def refresh(model: Model, order: RefreshOrder) -> Response:
        return json_response(await caches.refresh_caches(live(model), order.endpoint, order.texts), HTTPStatus.ACCEPTED)


def _add_drops(app: FastAPI, powers: AdminContext) -> None:
    drops = Uploads(powers)

    @app.put(
        "/dist/{file}",
        status_code=HTTPStatus.CREATED,
        summary="Drop a pex, or the signature of one",
        description="The body is the file; the header x-content-sha256 must hold its sha256. It appears in dist/ whole, or not at all.",
        responses=document_responses(Dropped, 400, 404, 409, 413, 500, status=HTTPStatus.CREATED),
        openapi_extra=_DROPPED,
    )
    async def drop(file: File, request: Request) -> Response:
        return json_response(await drops.receive(file, request), HTTPStatus.CREATED)


def _add_the_whole(app: FastAPI, powers: AdminContext) -> None:
    @app.get("/logs", summary="The last lines of the supervisor, front doors and workers", responses=document_responses(Logs, line=LogLine))
    async def logs(
        model: Annotated[str, Query(description="Of this model's workers, and about them, alone.")] = "",
        lines: Annotated[int, Query(ge=0, le=LINES_MAX, description="So many at most, the last ones.")] = 200,
        follow: Annotated[bool, Query(description="Answer with a line of JSON for each, and go on with those to come.")] = False,
    ) -> Response:
        if not follow:
            return json_response(Logs(powers.log_buffer.last_lines(lines, _wanted(model))))
        return _following(powers.log_buffer, model, lines)

    @app.post(
        "/drain",
        status_code=HTTPStatus.ACCEPTED,
        summary="End in order: take nothing new, finish what is there, go",
        responses=document_responses(Draining, status=HTTPStatus.ACCEPTED),
    )
    async def drain() -> Response:
        powers.drain()
        return json_response(Draining(powers.state().pid), HTTPStatus.ACCEPTED)


async def _each_state(powers: AdminContext) -> AsyncIterator[Sequence[State]]:
    async for state in powers.changes.follow(powers.state):
        yield [state]


def _following(book: LogBuffer, model: str, count: int) -> Response:
    stack = contextlib.ExitStack()
    before, reader = stack.enter_context(book.follow(count, _wanted(model)))
    return NdjsonStream(_each_line(before, reader), reader.lost, stack.close)


async def _each_line(before: Sequence[LogLine], reader: LogReader) -> AsyncIterator[Sequence[LogLine]]:
    yield before
    while True:
        yield await reader.wait_lines()


def _wanted(model: Model) -> Callable[[LogLine], bool]:
    return (lambda line: is_about_model(line, model)) if model else (lambda _: True)


def _not_serving(model: str, state: State) -> NotFound:
    releases = [report for report in state.releases if report.kind == "model"]
    for report in releases:
        if report.name == model:
            return NotFound(f"{model} {report.version} does not serve: it is {report.state}{report.reason and f': {report.reason}'}")
    return NotFound(f"there is no model {model}; those in dist/ are {', '.join(sorted({report.name for report in releases})) or 'none'}")
