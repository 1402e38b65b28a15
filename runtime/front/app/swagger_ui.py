"""The page at /docs: Swagger UI from local files, so that it works without the internet and runs no third-party script."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse, Response

from runtime.front.app.asgi import Receive, Scope, Send

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Pexdock</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" href="docs/favicon.png">
</head>
<body>
<div id="docs"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""

_START = """"use strict";
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#docs",
  layout: "BaseLayout",
  deepLinking: true,
  validatorUrl: "none",
  presets: [SwaggerUIBundle.presets.apis],
});
"""

_MEDIA_TYPES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "favicon.png": "image/png"}

PATHS = frozenset({"/docs", "/docs/start.js", *(f"/docs/{name}" for name in _MEDIA_TYPES)})

# Swagger UI sets inline styles, and its style sheet contains small images.
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]


def add_docs_page(app: FastAPI) -> None:
    """Adds the page and its files to `app`."""
    folder = _static_folder()

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(_PAGE)

    @app.get("/docs/start.js", include_in_schema=False)
    async def start() -> Response:
        return Response(_START, media_type="text/javascript")

    @app.get("/docs/{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        media_type = _MEDIA_TYPES.get(name)
        return Response(status_code=404) if media_type is None else FileResponse(folder / name, media_type=media_type)


class SecurityHeadersMiddleware:
    """ASGI middleware that forbids browsers to sniff types, to frame pages, and to load resources of other sites."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request (the ASGI entry)."""

        async def send_with_headers(event: Scope) -> None:
            if event["type"] == "http.response.start":
                event["headers"] = [*event["headers"], *_HEADERS]
            await send(event)

        await self._app(scope, receive, send_with_headers)


def _static_folder() -> Path:
    """Returns the folder of the files, without importing the package that has them, which would import further packages."""
    spec = find_spec("fastapi_offline")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "static"
