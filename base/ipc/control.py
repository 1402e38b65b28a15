"""Control messages between a parent process and its children, as lines of JSON.

Pure: knows no socket. A child gets one end of a stream socketpair by number, and reads until end of file, which means that its parent is
gone.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import msgspec

from base.errors import Full, LoadFailed, PeerError, Unavailable
from base.ipc.cache_control import CacheRequest, CacheResponse
from base.ipc.front_door_control import FrontDoorMessage
from base.ipc.metrics_report import MetricsReport
from base.ipc.release_spec import ReleaseSpec

WIRE_VERSION = 7
"""Version of the wire. It rises with every change of `protocol.py` and `frames.py`, of the control messages of workers, and of the way a
worker is started, except for additions that the other side need not know (`scripts/wire.py`). Messages of front doors need no version."""

LINE_MAX_BYTES = 64 * 1024 * 1024
"""Size limit of a message. A table of 1 000 endpoints with 100 columns each takes 10 MB."""


class ExitCode(IntEnum):
    """Exit codes of child processes. A parent restarts a child after all but CANNOT_LOAD, which is final until the file changes."""

    OK = 0
    CRASHED = 1
    CANNOT_LOAD = 64
    PARENT_GONE = 65


class Ready(msgspec.Struct, frozen=True, tag="ready", tag_field="type"):
    """Worker → supervisor: the release is loaded and warm, and the worker's socket listens. `warnings` are for people."""

    wire: int
    base_version: str
    release: ReleaseSpec
    warnings: list[str] = []


class Described(msgspec.Struct, frozen=True, tag="described", tag_field="type"):
    """Worker → supervisor, before the warm-up and only if the supervisor asks for it by `DESCRIBE_ENV`: the endpoints of the release."""

    release: ReleaseSpec


RETRYABLE_CODES = frozenset({LoadFailed.code, Unavailable.code, Full.code})
"""A worker that failed with one of these codes may succeed next time: the store of its models may be down."""


WARM_UP_ENV = "PEXDOCK_WARM_UP"
"""Variable in the environment of a worker."""
WARM_UP_LENIENT = "lenient"
"""Its value if the release has started before: a failure of the warm-up is then only logged, since the store may be at fault."""


BATCH_CHECK_ENV = "PEXDOCK_BATCH_CHECK"
"""Variable in the environment of a worker: the setting `batch_check` of its supervisor. Workers of an older base ignore it."""
BATCH_CHECK_REFUSE = "refuse"
"""Its value if a release is refused whose answer for a row depends on the rows beside it. With "warn" it serves, with a warning."""
BATCH_CHECK_OFF = "off"
"""Its value if that is not found out."""


DESCRIBE_ENV = "PEXDOCK_DESCRIBE"
"""Variable in the environment of a worker: not empty if the supervisor knows `Described`, which the one of release 0.1.0 does not."""


RELEASE_ID_ENV = "PEXDOCK_RELEASE_ID"
"""Variable in the environment of a worker: identifies the content of its release, so that its answers cannot be taken for another's."""


class Failed(msgspec.Struct, frozen=True, tag="failed", tag_field="type"):
    """Worker → supervisor: the worker cannot serve and exits. Final until the file changes, unless `code` is in `RETRYABLE_CODES`."""

    code: str
    reason: str


class Drain(msgspec.Struct, frozen=True, tag="drain", tag_field="type"):
    """Parent → child: accept nothing new, finish what was accepted, exit."""


ControlMessage = Ready | Described | Failed | MetricsReport | Drain | CacheRequest | CacheResponse | FrontDoorMessage

_decoder = msgspec.json.Decoder(ControlMessage)


def decode_message(line: bytes) -> ControlMessage:
    """Returns the message of a line. Raises the errors of msgspec."""
    message: ControlMessage = _decoder.decode(line)
    return message


def encode_message(message: ControlMessage) -> bytes:
    """Returns a message as one line."""
    return msgspec.json.encode(message) + b"\n"


class ControlStream:
    """Collects bytes as they arrive and returns complete messages, in order.

    Args:
        decode: Decodes a line; raises the errors of msgspec.
    """

    def __init__(self, decode: Callable[[bytes], ControlMessage] = decode_message) -> None:
        self._decode = decode
        self._rest = bytearray()

    @property
    def buffered_bytes(self) -> int:
        """Returns the bytes of the message that is not complete yet."""
        return len(self._rest)

    def feed_bytes(self, data: bytes) -> list[ControlMessage]:
        """Returns the messages that `data` completes.

        Raises:
            PeerError: A line is no known message or is too long. The connection must be closed.
        """
        self._rest += data
        if b"\n" not in data and len(self._rest) <= LINE_MAX_BYTES:
            return []  # a long message arrives in many pieces; each piece is searched only once
        *lines, rest = bytes(self._rest).split(b"\n")
        if len(rest) > LINE_MAX_BYTES:
            raise PeerError(f"a control message is over {LINE_MAX_BYTES} bytes")
        self._rest = bytearray(rest)
        try:
            return [self._decode(line) for line in lines]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise PeerError(f"not a control message: {exc}") from exc
