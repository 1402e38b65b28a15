"""The admin side as an ASGI application: resources by noun, errors as problem documents. Runs on the supervisor's loop."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from random import getrandbits
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

import base
from base.errors import Cell, Malformed, Misfit, NotFound, PexdockError, TooLarge
from runtime import problems
from runtime.admin import caches
from runtime.admin.bounded import Bounded
from runtime.admin.describe import describe, documented
from runtime.admin.documents import ModelCaches, ModelRefresh
from runtime.supervisor.live import Live
from runtime.supervisor.state import State


class RefreshOrder(BaseModel):
    """What to refresh; all of it where nothing is said."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    endpoint: str | None = Field(None, description="Name or path of an endpoint. Without it each that has a cache is meant.")
    parameters: dict[str, str] | None = Field(None, description="Of one entry, as in a request's path. Without them all entries are meant.")


def make(state: Callable[[], State], serving: Callable[[str], Live | None]) -> ASGIApp:
    """The application.

    Args:
        state: what the supervisor says of itself.
        serving: the release of a model that requests go to.
    """
    app = FastAPI(title="Pexdock's admin side", version=base.__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    _answer_errors(app)
    describe(app, State, ModelCaches, ModelRefresh)

    def live(model: str) -> Live:
        found = serving(model)
        if found is None:
            raise _not_serving(model, state())
        return found

    @app.get("/models", summary="What is served, what was refused and why", responses=documented(State))
    async def models() -> Response:
        return _json(state())

    @app.get("/models/{model}/cache", summary="What every worker of a model has in its caches", responses=documented(ModelCaches, 404, 503))
    async def cache(model: str) -> Response:
        return _json(await caches.listed(live(model)))

    @app.post(
        "/models/{model}/refresh",
        status_code=HTTPStatus.ACCEPTED,
        summary="Load again what the caches of a model hold",
        responses=documented(ModelRefresh, 400, 404, 413, 422, 500, 503, 504, status=HTTPStatus.ACCEPTED),
    )
    async def refresh(model: str, order: RefreshOrder) -> Response:
        return _json(await caches.refreshed(live(model), order.endpoint, order.parameters), HTTPStatus.ACCEPTED)

    return Bounded(app)


def _not_serving(model: str, state: State) -> NotFound:
    releases = [report for report in state.releases if report.kind == "model"]
    for report in releases:
        if report.name == model:
            return NotFound(f"{model} {report.version} does not serve: it is {report.state}{report.reason and f': {report.reason}'}")
    return NotFound(f"there is no model {model}; those in dist/ are {', '.join(sorted({report.name for report in releases})) or 'none'}")


def _json(document: msgspec.Struct, status: int = HTTPStatus.OK) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json")


def _answer_errors(app: FastAPI) -> None:
    """Every error is a problem document, those of the framework too."""

    @app.exception_handler(PexdockError)
    async def ours(_: Request, error: PexdockError) -> Response:
        return _problem(error)

    @app.exception_handler(RequestValidationError)
    async def misfit(_: Request, error: RequestValidationError) -> Response:
        return _problem(_misfit(error))

    @app.exception_handler(HTTPException)
    async def theirs(request: Request, error: HTTPException) -> Response:
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            return _response(problems.method_not_allowed(f"not {request.method}", (error.headers or {}).get("allow", ""), _id()))
        if error.status_code == HTTPStatus.NOT_FOUND:
            return _problem(NotFound("the admin side has no such path; GET /openapi.json lists those that it has"))
        return _problem((TooLarge if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE else Malformed)(str(error.detail)))

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, __: Exception) -> Response:
        return _problem(PexdockError("the supervisor failed at this; its log tells why"))


def _misfit(error: RequestValidationError) -> PexdockError:
    found: list[dict[str, Any]] = list(error.errors())
    if any(each["type"] == "json_invalid" for each in found):
        return Malformed("the body is no JSON")
    cells = [Cell(None, ".".join(map(str, each["loc"][1:])) or None, each["msg"]) for each in found]
    said = "; ".join(f"{cell.column}: {cell.reason}" if cell.column else cell.reason for cell in cells)
    return Misfit(f"the body does not fit: {said}", cells=cells)


def _problem(error: PexdockError) -> Response:
    return _response(problems.problem(error, _id()))


def _response(problem: problems.Problem) -> Response:
    response = Response(problem.body, problem.status)
    response.raw_headers += problem.headers
    return response


def _id() -> str:
    return f"{getrandbits(128):032x}"
