"""A reference for how HTTP/1.1 is read: uvicorn with h11, and a small application that answers as an endpoint does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import uvicorn

from waiting import until


async def application(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    """Answers a POST to /tiny with its rows, and everything else with the status that an endpoint's front door gives it."""
    body, more = b"", True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        body += event.get("body", b"")
        more = event.get("more_body", False)
    status, answer = _answer(scope["method"], scope["path"], body)
    content = json.dumps(answer).encode()
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % len(content))]})
    await send({"type": "http.response.body", "body": content})


def _answer(method: str, path: str, body: bytes) -> tuple[int, object]:
    if path not in ("/tiny", "/livez"):
        return 404, {}
    if method not in (["POST"] if path == "/tiny" else ["GET", "HEAD"]):
        return 405, {}
    if path == "/livez":
        return 200, {}
    try:
        return 200, {"predictions": [row["x"] for row in json.loads(body)]}
    except (ValueError, KeyError, TypeError):
        return 400, {}


@contextmanager
def reference_server() -> Iterator[str]:
    """Serves the application in a thread, and yields its address."""
    config = uvicorn.Config(application, host="127.0.0.1", port=0, http="h11", ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started, "the reference does not listen")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
