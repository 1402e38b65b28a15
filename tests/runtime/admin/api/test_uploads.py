"""The time limit of uploads."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from starlette.types import Message

from runtime.admin.api.app import create_app
from runtime.admin.api.context import AdminContext, UploadTarget
from runtime.admin.api.routes import uploads
from runtime.supervisor.host.log_buffer import LogBuffer
from runtime.supervisor.status.state import State
from runtime.supervisor.status.state_feed import StateFeed


def test_an_upload_whose_sender_stops_is_aborted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time limit depends on its size; then it gets a 504, its file is removed, and its name is free again."""
    monkeypatch.setattr(uploads, "_GRACE_S", 0.1)
    app = create_app(
        AdminContext(lambda: State(dist_path="dist"), StateFeed(), None, LogBuffer(), UploadTarget(tmp_path, "", 10_000), lambda: None)
    )
    headers = [(b"x-content-sha256", b"0" * 64), (b"content-length", b"5000")]
    scope = {"type": "http", "method": "PUT", "path": "/dist/tiny.pex", "raw_path": b"", "query_string": b"", "headers": headers}
    pieces, seen, sent = [b"PK"], [], []

    async def receive() -> Message:
        if pieces:
            return {"type": "http.request", "body": pieces.pop(), "more_body": True}
        seen.append([path.name.endswith(".drop") for path in tmp_path.iterdir()])  # noqa: ASYNC240 - a folder of one file
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message.get("status"))

    for _ in range(2):
        asyncio.run(app(dict(scope), receive, send))
        assert not list(tmp_path.iterdir())
        pieces.append(b"PK")
    assert seen == [[True], [True]]
    assert sent == 2 * [504, None]
