"""Encodes an error as the body of a Failure message, and decodes it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from base import errors
from base.ipc.protocol import BODY_MAX_BYTES

_CELLS_MAX = 100
_REASON_MAX_CHARS = 200
_DETAIL_MAX_CHARS = 4000
_GROUP_CELLS_MAX = 10
_GROUP_DETAIL_MAX_CHARS = 1000


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
_group_decoder = msgspec.json.Decoder(dict[int, _ErrorBody])


def is_transferable(error: errors.PexdockError) -> bool:
    """Returns True if a front door accepts this type of error from a worker."""
    return error.code in _ERROR_TYPES


def encode_error(error: errors.PexdockError) -> bytes:
    """Returns the error as JSON, cut so that it fits in one message."""
    content = _error_body(error, _DETAIL_MAX_CHARS, _CELLS_MAX)
    body = msgspec.json.encode(content)
    if len(body) > BODY_MAX_BYTES:
        content.cells = []
        body = msgspec.json.encode(content)
    return body


def encode_group_errors(found: Mapping[int, errors.PexdockError]) -> bytes:
    """Returns the errors of groups, by the number of the group in its batch, as JSON. Each is cut, since there may be many."""
    return msgspec.json.encode({number: _error_body(each, _GROUP_DETAIL_MAX_CHARS, _GROUP_CELLS_MAX) for number, each in found.items()})


def _error_body(error: errors.PexdockError, detail_max_chars: int, cells_max: int) -> _ErrorBody:
    cells = [
        _ErrorCell(
            None if cell.row is None else int(cell.row),
            None if cell.column is None else _text(cell.column, _REASON_MAX_CHARS),
            _text(cell.reason, _REASON_MAX_CHARS),
        )
        for cell in error.cells[:cells_max]
    ]
    status = error.status if isinstance(error, errors.Reject) else 0
    return _ErrorBody(error.code, _text(error.detail, detail_max_chars), cells, status)


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
    except _INVALID as exc:
        raise errors.PeerError(f"the body of a failure is invalid: {exc}") from exc
    return _error_of(content)


def decode_group_errors(body: bytes) -> dict[int, errors.PexdockError]:
    """Returns the errors of groups that a worker encoded.

    Raises:
        errors.PeerError: The body is invalid.
    """
    try:
        found = _group_decoder.decode(body)
    except _INVALID as exc:
        raise errors.PeerError(f"the errors of groups are invalid: {exc}") from exc
    return {number: _error_of(content) for number, content in found.items()}


_INVALID = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def _error_of(content: _ErrorBody) -> errors.PexdockError:
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
