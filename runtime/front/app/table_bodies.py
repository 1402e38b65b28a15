"""Receives large Arrow and Parquet bodies into files, and opens those that are stored in files."""

from __future__ import annotations

import asyncio
import io
import os
from functools import partial

from base.errors import TooLarge
from runtime.front.app.asgi import Receive, Scope, receive_piece
from runtime.front.memory.body_buffer import BODY_BUFFER_MIN_BYTES, BodyBuffer, closed_on_error
from runtime.front.memory.table_body import TableBody
from runtime.front.memory.table_files import TableFile, TableFiles
from runtime.front.requests.request_head import RequestHead

DIRECT_READER = "pexdock.direct_reader"
"""Key of a scope: a function that reads the rest of a body from the socket straight into a `TableBody`."""

_WRITTEN_BYTES = 256 * 1024
"""Size of what is collected before it is written to a file."""


async def read_table(files: TableFiles, size: int, scope: Scope, receive: Receive) -> TableBody:
    """Returns a body of known size.

    Raises:
        Full: There is no space for it.
        Disconnected: The client disconnected before its body was complete.
    """
    body = TableBody(await files.run(partial(files.create, size)), size)
    read_rest = scope.get(DIRECT_READER)
    with closed_on_error(body):
        while body.missing_bytes:  # the server ensures that a body has the announced length
            piece, _ = await receive_piece(receive)
            await body.write(piece)
            if read_rest is not None and body.missing_bytes:
                read_rest(body)
        await body.flush()
    return body


async def read_parts(head: RequestHead, files: TableFiles, max_bytes: int, receive: Receive) -> bytes | BodyBuffer:
    """Returns a body whose size may not be known before its end. A table is written to a file, unless it is small.

    Raises:
        TooLarge: The body is larger than `max_bytes`.
        Full, Disconnected: As `read_table`.
    """
    file: TableFile | None = None
    pieces, size, collected, more = list[bytes](), 0, 0, True
    try:
        while more:
            piece, more = await receive_piece(receive)
            pieces.append(piece)
            size, collected = size + len(piece), collected + len(piece)
            require_size(head, size, max_bytes, files)
            if head.is_table and size > BODY_BUFFER_MIN_BYTES and (collected > _WRITTEN_BYTES or not more):
                if file is None:
                    file = await files.run(files.create)
                await files.run(partial(file.append, pieces))
                pieces, collected = [], 0
    except BaseException:
        if file is not None:
            file.close()
        raise
    return b"".join(pieces) if file is None else TableBody(file, size)


async def stored_body(head: RequestHead, files: TableFiles, file: io.FileIO) -> bytes | TableBody:
    """Returns the body that a file holds. A table stays in the file, unless it is small."""
    size = os.fstat(file.fileno()).st_size
    if head.is_table and size > BODY_BUFFER_MIN_BYTES:
        return TableBody(files.adopt(os.dup(file.fileno())), size)
    file.seek(0)
    return await asyncio.to_thread(file.readall)


def require_size(head: RequestHead, size: int, body_max_bytes: int, files: TableFiles, setting: str = "body_max_bytes") -> int:
    """Returns the limit of a body.

    Args:
        head: The request's head.
        size: The size of the body, or of what has come of it.
        body_max_bytes: Limit of bodies that are no tables.
        files: The files of tables.
        setting: The setting of `body_max_bytes`.

    Raises:
        TooLarge: The body is larger.
    """
    max_bytes = max(body_max_bytes, files.table_max_bytes) if head.is_table else body_max_bytes
    if size > max_bytes:
        setting = "table_max_bytes" if head.is_table else setting
        raise TooLarge(f"a body of this type may have {max_bytes} bytes; send fewer rows at once, or raise {setting}")
    return max_bytes
