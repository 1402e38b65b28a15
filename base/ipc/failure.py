"""An error as the body of a FAIL message, and back."""

from __future__ import annotations

import msgspec

from base import errors
from base.ipc.protocol import BODY_MAX_BYTES

_CELLS_MAX = 100
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
    """Whether the error is one that a front door expects from a worker."""
    return error.code in _ERROR_TYPES


def encode_error(error: errors.PexdockError) -> bytes:
    """The error as JSON, cut so that it fits in one message."""
    cells = [_ErrorCell(cell.row, cell.column, cell.reason[:200]) for cell in error.cells[:_CELLS_MAX]]
    status = error.status if isinstance(error, errors.Reject) else 0
    failure = _ErrorBody(error.code, error.detail[:_DETAIL_MAX_CHARS], cells, status)
    body = msgspec.json.encode(failure)
    if len(body) > BODY_MAX_BYTES:
        failure.cells = []
        body = msgspec.json.encode(failure)
    return body


def decode_error(body: bytes) -> errors.PexdockError:
    """The error that the worker raised.

    Raises:
        errors.PeerError: the body is not one of ours.
    """
    try:
        failure = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise errors.PeerError(f"not a failure: {exc}") from exc
    kind = _ERROR_TYPES.get(failure.code)
    if kind is None:
        raise errors.PeerError(f"a failure with the unknown code {failure.code[:40]!r}")
    cells = [errors.Cell(cell.row, cell.column, cell.reason) for cell in failure.cells]
    if kind is not errors.Reject:
        return kind(failure.detail, cells=cells)
    try:
        return errors.Reject(failure.status, failure.detail, cells=cells)
    except ValueError as exc:
        raise errors.PeerError(str(exc)) from exc
