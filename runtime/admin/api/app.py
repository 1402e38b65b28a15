"""The admin API as an ASGI application: one resource per noun. Runs on the supervisor's loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus
from typing import Annotated

from fastapi import FastAPI, Query, Response
from pydantic import Field
from starlette.types import ASGIApp

import base
from runtime.admin.api.context import AdminContext
from runtime.admin.api.fields import Model, RequestBody, Text
from runtime.admin.api.limits import RequestLimitsMiddleware
from runtime.admin.api.ndjson import NdjsonStream
from runtime.admin.api.openapi import document_responses, install_openapi
from runtime.admin.api.responses import install_error_handlers, json_response
from runtime.admin.api.routes import caches
from runtime.admin.api.routes.jobs import add_job_routes
from runtime.admin.api.routes.logs import add_log_route
from runtime.admin.api.routes.model_detail import describe_model
from runtime.admin.api.routes.traffic import add_traffic_routes
from runtime.admin.api.routes.uploads import add_upload_route
from runtime.admin.schemas import Draining, Dropped, Logs, ModelCaches, ModelDetail, ModelRefresh
from runtime.blocking import BlockingThreads
from runtime.jobs.documents import JobDocument, JobList
from runtime.supervisor.status.state import ModelReport, State


class RefreshOrder(RequestBody):
    """The cache entries to refresh; an empty body means all of them."""

    endpoint: Text | None = Field(None, description="Name or path of an endpoint. Without it, all endpoints with a cache are refreshed.")
    parameters: dict[Text, Text | int | float] | None = Field(
        None, description="Path parameters of one entry. Without them, all entries are refreshed."
    )

    @property
    def path_parameters(self) -> dict[str, str] | None:
        """Returns the parameters as a path would spell them."""
        return None if self.parameters is None else {name: str(value) for name, value in self.parameters.items()}


def create_app(context: AdminContext) -> ASGIApp:
    """Returns the application."""
    app = FastAPI(
        title="Pexdock admin API", version=base.__version__, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
    )
    install_error_handlers(app)
    install_openapi(app, State, ModelDetail, ModelReport, ModelCaches, ModelRefresh, Dropped, Draining, Logs, JobDocument, JobList)
    _add_model_routes(app, context)
    _add_cache_routes(app, context)
    add_traffic_routes(app, context)
    add_upload_route(app, context.uploads)
    add_job_routes(app, context)
    add_log_route(app, context)
    _add_drain_route(app, context)
    return RequestLimitsMiddleware(app)


def _add_model_routes(app: FastAPI, context: AdminContext) -> None:
    threads = BlockingThreads(1)

    @app.get("/models", summary="List all releases and models, with their states", responses=document_responses(State, line=State))
    async def models(
        follow: Annotated[bool, Query(description="Stream a line of JSON now and after each change, without an end.")] = False,
    ) -> Response:
        return NdjsonStream(_each_state(context)) if follow else json_response(context.state())

    @app.get("/models/{model}", summary="Describe a model", responses=document_responses(ModelDetail, 404))
    async def model_detail(model: Model) -> Response:
        return json_response(await describe_model(context, model, threads))


def _add_cache_routes(app: FastAPI, context: AdminContext) -> None:
    @app.get("/models/{model}/cache", summary="List the cache entries of a model", responses=document_responses(ModelCaches, 404))
    async def cache(model: Model) -> Response:
        return json_response(await caches.list_caches(context.serving_release(model)))

    @app.post(
        "/models/{model}/refresh",
        status_code=HTTPStatus.ACCEPTED,
        summary="Refresh cache entries of a model",
        responses=document_responses(ModelRefresh, 400, 404, 413, 500, status=HTTPStatus.ACCEPTED),
    )
    async def refresh(model: Model, order: RefreshOrder) -> Response:
        done = await caches.refresh_caches(context.serving_release(model), order.endpoint, order.path_parameters)
        return json_response(done, HTTPStatus.ACCEPTED)


def _add_drain_route(app: FastAPI, context: AdminContext) -> None:
    @app.post(
        "/drain",
        status_code=HTTPStatus.ACCEPTED,
        summary="Shut down gracefully: finish requests in flight, then exit",
        responses=document_responses(Draining, status=HTTPStatus.ACCEPTED),
    )
    async def drain() -> Response:
        context.drain()
        return json_response(Draining(context.state().pid), HTTPStatus.ACCEPTED)


async def _each_state(context: AdminContext) -> AsyncIterator[Sequence[State]]:
    async for state in context.changes.follow(context.state):
        yield [state]
