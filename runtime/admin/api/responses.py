"""Documents and errors of the admin side as answers; errors are problem documents, those of the framework too."""

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
    """Every error of `app` is a problem document from now on."""

    @app.exception_handler(PexdockError)
    async def ours(_: Request, error: PexdockError) -> Response:
        return problem_response(error)

    @app.exception_handler(RequestValidationError)
    async def misfit(_: Request, error: RequestValidationError) -> Response:
        return problem_response(_misfit(error))

    @app.exception_handler(HTTPException)
    async def theirs(request: Request, error: HTTPException) -> Response:
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            return _response(problems.method_not_allowed(f"not {request.method}", _allowed(request), _id()))
        if error.status_code == HTTPStatus.NOT_FOUND:
            return problem_response(NotFound("the admin side has no such path; GET /openapi.json lists those that it has"))
        return problem_response((TooLarge if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE else Malformed)(str(error.detail)))

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, __: Exception) -> Response:
        return problem_response(PexdockError("the supervisor failed at this; its log tells why"))


def problem_response(error: PexdockError) -> Response:
    """The problem document of an error."""
    return _response(problems.make_problem(error, _id()))


def json_response(document: msgspec.Struct, status: int = HTTPStatus.OK) -> Response:
    """The answer that is no error."""
    return Response(msgspec.json.encode(document), status, media_type="application/json")


def _misfit(error: RequestValidationError) -> PexdockError:
    found: list[dict[str, Any]] = list(error.errors())
    if any(each["type"] == "json_invalid" for each in found):
        return Malformed("the body is no JSON")
    cells = [Cell(None, _encodable(".".join(map(str, each["loc"][1:]))) or None, each["msg"]) for each in found]
    said = "; ".join(f"{cell.column}: {cell.reason}" if cell.column else cell.reason for cell in cells)
    return Misfit(f"the {found[0]['loc'][0]} does not fit: {said}", cells=cells)


def _encodable(text: str) -> str:
    """Names in a body may have halves of surrogate pairs, which no answer can be written with."""
    return text.encode("utf-8", "backslashreplace").decode()


def _allowed(request: Request) -> str:
    """What this path takes, by all of its routes; the framework knows of the first alone."""
    routes = [route for route in request.app.router.routes if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for route in routes for method in route.methods or ()}))


def _response(problem: problems.Problem) -> Response:
    response = Response(problem.body, problem.status)
    response.raw_headers += problem.headers
    return response


def _id() -> str:
    return f"{getrandbits(128):032x}"
