"""Who may ask where a file's mode does not say so: on TCP each request carries a token."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from base.errors import Unauthorized
from runtime.admin.api.responses import problem_response
from runtime.admin.token import Token


class TokenAuthMiddleware:
    """An application that only those may ask who have the token. Others are refused before anything is read of their bodies."""

    def __init__(self, app: ASGIApp, token: Token) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._token.matches(given.strip()):
            await self._app(scope, receive, send)
            return
        refusal = problem_response(Unauthorized("the admin side wants its token here: `authorization: Bearer ...`"))
        refusal.headers["connection"] = "close"  # what is left of the body is not read
        await refusal(scope, receive, send)
