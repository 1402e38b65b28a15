"""Authentication on TCP, where no file mode controls access: each request must carry the token."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from base.errors import Unauthorized
from runtime.admin.api.responses import problem_response
from runtime.admin.token import Token


class TokenAuthMiddleware:
    """ASGI middleware that answers requests without the token with a 401, before their bodies are read."""

    def __init__(self, app: ASGIApp, token: Token) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application for a request that carries the token."""
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and await self._token.matches(given.strip()):
            await self._app(scope, receive, send)
            return
        response = problem_response(Unauthorized("missing or invalid token; send `authorization: Bearer TOKEN`"))
        response.headers["connection"] = "close"  # the rest of the body is not read
        await response(scope, receive, send)
