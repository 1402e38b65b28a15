"""Replies that are too large for shared memory: their workers send them in parts, which are kept in files.

The front door writes these files itself, so a worker cannot change or shorten them afterwards.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import IO, cast

from base.errors import BadResult, Full, PeerError
from base.ipc import frames
from runtime.front.codecs.encoder import ResponseFormat
from runtime.front.codecs.stored_rows import encode_stored_rows
from runtime.front.memory.table_files import TableFile, TableFiles, TableWriter
from runtime.front.requests.request import InferenceRequest
from runtime.front.workers.reply_lease import is_one_batch

PART_BYTES = 1024**2
"""Size of a part. Each costs two messages, and wakes a thread."""

_METADATA_MAX_BYTES = 64 * 1024**2
"""Limit of the metadata of a stored reply, which is read on a thread."""


class StoredReply:
    """The reply to one request, in a file.

    Args:
        files: The files of the front door.
        max_bytes: Size of the reply, as its worker has announced it.

    Attributes:
        error: The reason why it cannot be stored; None if there is none.
    """

    def __init__(self, files: TableFiles, max_bytes: int) -> None:
        self._files = files
        self._missing_bytes = max_bytes
        self._file: TableFile | None = None
        self._is_writing = self._is_closed = False
        self.error: Full | None = None

    async def append(self, part: memoryview) -> None:
        """Writes a part to the file.

        Raises:
            Full: There is no space for it, which is now the `error`.
        """
        self._is_writing = True
        try:
            await self._files.run(partial(self._append, part))
        except Full as exc:
            self.error = exc
            raise
        finally:
            self._is_writing = False
            if self._is_closed:
                self.close()

    def expect(self, length: int) -> None:
        """Counts a part that has come. Raises PeerError if it is longer than what is missing."""
        if length > self._missing_bytes:
            raise PeerError(f"a part of {length} bytes of a reply of which {self._missing_bytes} are missing")
        self._missing_bytes -= length

    def take_file(self) -> TableFile:
        """Returns the file, which belongs to the caller then. Raises PeerError if there were no parts."""
        file, self._file = self._file, None
        if file is None:
            raise PeerError("a reply in parts without a part")
        return file

    def close(self) -> None:
        """Frees the file, unless it was taken; after the present part, if one is being written. Idempotent."""
        self._is_closed = True
        if self._file is not None and not self._is_writing:
            self._file.close()
            self._file = None

    def _append(self, part: memoryview) -> None:
        if self._file is None:
            self._file = self._files.create()
        self._file.append([part])


class _LimitedWriter(TableWriter):
    """Appends to a file until the body of a response is too large."""

    def __init__(self, file: TableFile, max_bytes: int) -> None:
        super().__init__(file)
        self._max_bytes = max_bytes

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        if self.tell() + len(data) > self._max_bytes:
            raise BadResult(f"it takes more than {self._max_bytes} bytes; return less for each row, or raise response_max_bytes")
        return super().write(data)


def make_body(file: TableFile, request: InferenceRequest, rows: int, *, is_record: bool) -> TableFile:
    """Returns the body of the response to a request, in a file. Owns the file of the reply. Blocks.

    As with a reply in shared memory that is sent unchanged, the values of an Arrow stream are not read: only the client uses them.

    Raises:
        BadResult: The reply is not valid, has no form in the format of the response, or is too large.
        NotAcceptable: As `ReplyEncoder.encode_body`.
        Full: There is no space for the body.
    """
    endpoint = request.endpoint
    try:
        with file.map() as mapped:
            is_valid = is_one_batch(mapped.memory, rows, endpoint.output_schema, _METADATA_MAX_BYTES, views=True)
        if not is_valid or (endpoint.spec.whole and not frames.may_have_rows(rows, file.size)):
            raise BadResult("the worker has sent rows that cannot be read")
        form = request.head.format
        if form in {ResponseFormat.ARROW, ResponseFormat.ARROW_VIEWS}:
            file.retain()
            return file
        body = file.files.create()
        try:
            out = cast("IO[bytes]", _LimitedWriter(body, endpoint.release.response_max_bytes))
            encode_stored_rows(Path(file.path), form, request.id, out, one_record=is_record)
        except BaseException:
            body.close()
            raise
        return body
    except OSError as exc:
        raise file.files.unusable(exc) from exc
    finally:
        file.close()
