"""Encodes an error as the body of a Failure message, and decodes it."""

from __future__ import annotations

import msgspec

from base import errors
from base.ipc.protocol import BODY_MAX_BYTES

_CELLS_MAX = 100
_REASON_MAX_CHARS = 200
_DETAIL_MAX_CHARS = 4000


class _ErrorCell(msgspec.Struct):
    row: int | None
    column: str | None
    reason: str


class _ErrorBody(msgspec.Struct):
    code: str
    detail: str
    cells: list[_ErrorCell] = []
    status: int = 0


_ERROR_TYPES: dict[str, type[errors.PexdockError]] = {
    kind.code: kind
    for kind in (
        errors.Misfit,
        errors.Reject,
        errors.NotFound,
        errors.Unavailable,
        errors.Full,
        errors.DeadlineExceeded,
        errors.HandlerFailed,
        errors.BadResult,
        errors.LoadFailed,
        errors.Declaration,
    )
}
_decoder = msgspec.json.Decoder(_ErrorBody)


def is_transferable(error: errors.PexdockError) -> bool:
    """Returns True if a front door accepts this type of error from a worker."""
    return error.code in _ERROR_TYPES


def encode_error(error: errors.PexdockError) -> bytes:
    """Returns the error as JSON, cut so that it fits in one message."""
    cells = [
        _ErrorCell(
            None if cell.row is None else int(cell.row),
            None if cell.column is None else _text(cell.column, _REASON_MAX_CHARS),
            _text(cell.reason, _REASON_MAX_CHARS),
        )
        for cell in error.cells[:_CELLS_MAX]
    ]
    status = error.status if isinstance(error, errors.Reject) else 0
    content = _ErrorBody(error.code, _text(error.detail, _DETAIL_MAX_CHARS), cells, status)
    body = msgspec.json.encode(content)
    if len(body) > BODY_MAX_BYTES:
        content.cells = []
        body = msgspec.json.encode(content)
    return body


def _text(value: object, max_chars: int) -> str:
    """Returns what a handler gave as a text in a form that JSON has: as a string without lone surrogates, cut to this length."""
    return str(value)[:max_chars].encode(errors="replace").decode()


def decode_error(body: bytes) -> errors.PexdockError:
    """Returns the error that a worker encoded.

    Raises:
        errors.PeerError: The body is invalid.
    """
    try:
        content = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise errors.PeerError(f"the body of a failure is invalid: {exc}") from exc
    kind = _ERROR_TYPES.get(content.code)
    if kind is None:
        raise errors.PeerError(f"a failure has the unknown code {content.code[:40]!r}")
    cells = [errors.Cell(cell.row, cell.column, cell.reason) for cell in content.cells]
    if kind is not errors.Reject:
        return kind(content.detail, cells=cells)
    try:
        return errors.Reject(content.status, content.detail, cells=cells)
    except ValueError as exc:
        raise errors.PeerError(str(exc)) from exc
