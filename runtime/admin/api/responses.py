"""Responses of the admin API: documents as JSON, and all errors, including those of the framework, as problem documents."""

from __future__ import annotations

from http import HTTPStatus
from random import getrandbits
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from base.errors import Cell, Malformed, Misfit, NotFound, PexdockError, TooLarge
from runtime.http import problems


def install_error_handlers(app: FastAPI) -> None:
    """Makes `app` answer every error with a problem document."""

    @app.exception_handler(PexdockError)
    async def on_pexdock_error(_: Request, error: PexdockError) -> Response:
        return problem_response(error)

    @app.exception_handler(RequestValidationError)
    async def on_validation_error(_: Request, error: RequestValidationError) -> Response:
        return problem_response(_misfit(error))

    @app.exception_handler(HTTPException)
    async def on_http_exception(request: Request, error: HTTPException) -> Response:
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            return _response(problems.method_not_allowed(f"method {request.method} is not allowed here", _allowed(request), _id()))
        if error.status_code == HTTPStatus.NOT_FOUND:
            return problem_response(NotFound("unknown path; GET /openapi.json lists all paths of the admin API"))
        return problem_response((TooLarge if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE else Malformed)(str(error.detail)))

    @app.exception_handler(Exception)
    async def on_unexpected_error(_: Request, __: Exception) -> Response:
        return problem_response(PexdockError("internal error; the log of the supervisor has the reason"))


def problem_response(error: PexdockError) -> Response:
    """Returns the problem document of an error as a response."""
    return _response(problems.make_problem(error, _id()))


def json_response(document: msgspec.Struct, status: int = HTTPStatus.OK) -> Response:
    """Returns a document as a JSON response."""
    return Response(msgspec.json.encode(document), status, media_type="application/json")


def _misfit(error: RequestValidationError) -> PexdockError:
    found: list[dict[str, Any]] = list(error.errors())
    if any(each["type"] == "json_invalid" for each in found):
        return Malformed("the body is not valid JSON")
    cells = [Cell(None, _encodable(".".join(map(str, each["loc"][1:]))) or None, each["msg"]) for each in found]
    reasons = "; ".join(f"{cell.column}: {cell.reason}" if cell.column else cell.reason for cell in cells)
    return Misfit(f"invalid {found[0]['loc'][0]}: {reasons}", cells=cells)


def _encodable(text: str) -> str:
    """Escapes halves of surrogate pairs, which names in a body may contain and a response cannot."""
    return text.encode("utf-8", "backslashreplace").decode()


def _allowed(request: Request) -> str:
    """Returns the methods of all routes of this path; the framework would name those of the first route only."""
    routes = [route for route in request.app.router.routes if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for route in routes for method in route.methods or ()}))


def _response(problem: problems.Problem) -> Response:
    response = Response(problem.body, problem.status)
    response.raw_headers += problem.headers
    return response


def _id() -> str:
    return f"{getrandbits(128):032x}"
