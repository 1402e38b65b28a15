"""The words of a channel between a front door and a worker, and their bytes.

Pure: knows neither sockets nor segments. Little endian; every message is a header of 32 bytes, then a body whose meaning the kind gives.
`docs/design.md`, "The channel", is the table of kinds. The kernel keeps the borders of messages (SOCK_SEQPACKET), so one `unpack` sees
exactly one message.
"""

from __future__ import annotations

import struct

import msgspec

from base.errors import PeerError

HEADER = struct.Struct("<BBHIQQII")
PLACES = struct.Struct("<HHQQ")

MESSAGE_MAX_BYTES = 64 * 1024
"""A message must fit in a socket's send buffer (208 KiB by default). Only parameters and error texts vary in length."""

BODY_MAX_BYTES = MESSAGE_MAX_BYTES - HEADER.size - PLACES.size


class Kind:
    """A header's first byte. Plain numbers: to name the member of an enum costs a function call."""

    HELLO = 1
    WELCOME = 2
    SEGMENT = 3
    FORGET = 4
    BATCH = 5
    REPLY = 6
    FAIL = 7
    NEED = 8
    GRANT = 9
    PARKED = 10
    PART = 11
    NEXT = 12
    CANCEL = 13
    END = 14
    CHECK = 15
    CHECKED = 16
    BEGUN = 17


class Flag:
    """Bits of a header's second byte; plain numbers, as `Kind`."""

    SCHEMA = 1
    """The frame starts with a schema message."""
    ALONE = 2
    """The batch holds one request only: a failure is its own."""
    HELD = 4
    """Somebody in the worker still refers to the request's frame: its segment must not be written again."""
    CONTEXT = 8
    """The body is an array of the parameters and the request's context (see `base.endpoint.context.RequestContext`)."""
    SUSPECT = 16
    """The batch's only request, or the question, was with a worker that died: BEGUN is to be said of it."""


class _Word(msgspec.Struct, frozen=True, gc=False):
    """Made in a third of the time of a named tuple; refers to nothing that could refer to it."""


class Place(_Word, frozen=True):
    """A piece of a segment: `length` bytes at `offset`."""

    segment: int
    offset: int
    length: int

    def beginning(self, length: int) -> Place:
        """The first `length` bytes of it; the caller knows that it has as many."""
        return Place(self.segment, self.offset, length)


class Hello(_Word, frozen=True):
    """Front door → worker, first of all."""

    wire: int


class Welcome(_Word, frozen=True):
    """Worker → front door: who answers here."""

    wire: int
    model: str
    version: str


class Attach(_Word, frozen=True):
    """Front door → worker, with one descriptor: a segment of `length` bytes from now on known by this number."""

    segment: int
    length: int


class Forget(_Word, frozen=True):
    """Front door → worker: unmap the segment; its number may be given again."""

    segment: int


class Batch(_Word, frozen=True):
    """Front door → worker: predict these rows.

    `ends_ms` is when the time of the first of its requests is over (see `moment`), `request` where the frame lies, `reply` where the answer
    may be written (its length is the room there), `parameters` a JSON object of strings, or an array of it and the context of the batch's
    only request (flag CONTEXT).
    """

    batch: int
    endpoint: int
    rows: int
    ends_ms: int
    flags: int
    request: Place
    reply: Place
    parameters: bytes


class Reply(_Word, frozen=True):
    """Worker → front door: `length` bytes of frame lie in the batch's reply place."""

    batch: int
    rows: int
    length: int
    flags: int


class Fail(_Word, frozen=True):
    """Worker → front door: no answer, or no more parts; `body` is JSON (see `base.ipc.failure`)."""

    batch: int
    body: bytes
    flags: int = 0


class ReplyTooLarge(_Word, frozen=True):
    """Worker → front door: the answer takes `length` bytes, more than the reply place has."""

    batch: int
    length: int


class ReplyBuffer(_Word, frozen=True):
    """Front door → worker: the reply place to use instead."""

    batch: int
    reply: Place


class Parked(_Word, frozen=True):
    """Worker → front door: the batch waits for an artifact to load; the worker is free for others."""

    batch: int


class Part(_Word, frozen=True):
    """Worker → front door: `length` bytes of a streamed answer lie in the batch's reply place. NDJSON, cut anywhere.

    The next part comes only after NEXT, so the place is the front door's until then.
    """

    batch: int
    length: int


class Next(_Word, frozen=True):
    """Front door → worker: the client has taken the part."""

    batch: int


class Cancel(_Word, frozen=True):
    """Front door → worker: nobody waits for the answer any more. It is still told how the batch ended, and may cross that message."""

    batch: int


class End(_Word, frozen=True):
    """Worker → front door: the streamed answer is whole, or was cancelled."""

    batch: int
    flags: int


class Check(_Word, frozen=True):
    """Front door → worker: would these parameters, a JSON object of strings, be admitted? A FAIL says why not."""

    batch: int
    endpoint: int
    parameters: bytes
    flags: int = 0


class Checked(_Word, frozen=True):
    """Worker → front door: the parameters of that CHECK are admitted."""

    batch: int


class Begun(_Word, frozen=True):
    """Worker → front door: from now on it computes this batch or CHECK (flag SUSPECT), and nothing else until it has answered."""

    batch: int


Message = (
    Hello
    | Welcome
    | Attach
    | Forget
    | Batch
    | Reply
    | Fail
    | ReplyTooLarge
    | ReplyBuffer
    | Parked
    | Part
    | Next
    | Cancel
    | End
    | Check
    | Checked
    | Begun
)


def moment(at_s: float) -> int:
    """A time of this machine's monotonic clock as it crosses: milliseconds, of which 32 bits are left.

    The moment and not the time that is left: a message waits in its socket while the worker computes the one before.
    """
    return int(at_s * 1000) & 0xFFFFFFFF


def moment_s(moment_ms: int, now_s: float) -> float:
    """Which time that was, if it is within 24 days of `now_s`."""
    now_ms = int(now_s * 1000)
    return (now_ms + ((moment_ms - now_ms + 0x80000000) & 0xFFFFFFFF) - 0x80000000) / 1000


def pack(message: Message) -> bytes:
    """The bytes of one message.

    Raises:
        ValueError: it would be over MESSAGE_MAX_BYTES. Nothing was sent.
    """
    data = _pack(message)
    if len(data) > MESSAGE_MAX_BYTES:
        raise ValueError(f"a message of {len(data)} bytes is over {MESSAGE_MAX_BYTES}")
    return data


def _pack(message: Message) -> bytes:  # noqa: C901, PLR0912 - one flat case a kind
    header = HEADER.pack
    match message:
        case Batch(batch, endpoint, rows, ends_ms, flags, request, reply, parameters):
            head = header(Kind.BATCH, flags, endpoint, batch, request.offset, request.length, rows, ends_ms)
            return head + PLACES.pack(request.segment, reply.segment, reply.offset, reply.length) + parameters
        case Reply(batch, rows, length, flags):
            return header(Kind.REPLY, flags, 0, batch, 0, length, rows, 0)
        case Fail(batch, body, flags):
            return header(Kind.FAIL, flags, 0, batch, 0, 0, 0, 0) + body
        case ReplyTooLarge(batch, length):
            return header(Kind.NEED, 0, 0, batch, 0, length, 0, 0)
        case ReplyBuffer(batch, reply):
            return header(Kind.GRANT, 0, reply.segment, batch, reply.offset, reply.length, 0, 0)
        case Parked(batch):
            return header(Kind.PARKED, 0, 0, batch, 0, 0, 0, 0)
        case Part(batch, length):
            return header(Kind.PART, 0, 0, batch, 0, length, 0, 0)
        case Next(batch):
            return header(Kind.NEXT, 0, 0, batch, 0, 0, 0, 0)
        case Cancel(batch):
            return header(Kind.CANCEL, 0, 0, batch, 0, 0, 0, 0)
        case End(batch, flags):
            return header(Kind.END, flags, 0, batch, 0, 0, 0, 0)
        case Check(batch, endpoint, parameters, flags):
            return header(Kind.CHECK, flags, endpoint, batch, 0, 0, 0, 0) + parameters
        case Checked(batch):
            return header(Kind.CHECKED, 0, 0, batch, 0, 0, 0, 0)
        case Begun(batch):
            return header(Kind.BEGUN, 0, 0, batch, 0, 0, 0, 0)
        case Attach(segment, length):
            return header(Kind.SEGMENT, 0, segment, 0, 0, length, 0, 0)
        case Forget(segment):
            return header(Kind.FORGET, 0, segment, 0, 0, 0, 0, 0)
        case Hello(wire):
            return header(Kind.HELLO, 0, 0, 0, 0, 0, 0, wire)
        case Welcome(wire, model, version):
            return header(Kind.WELCOME, 0, 0, 0, 0, 0, 0, wire) + f"{model}\0{version}".encode()


def unpack(data: bytes) -> Message:  # noqa: C901, PLR0912 - one flat case a kind
    """The message that `data` is.

    Raises:
        PeerError: it is none: too short, of an unknown kind, or with a body that its kind does not have.
    """
    if len(data) < HEADER.size:
        raise PeerError(f"a message of {len(data)} bytes is shorter than its header")
    kind, flags, number, batch, offset, length, rows, extra = HEADER.unpack_from(data)
    match kind:
        case Kind.BATCH:
            if len(data) < HEADER.size + PLACES.size:
                raise PeerError("a BATCH without its places")
            request_segment, reply_segment, reply_offset, room = PLACES.unpack_from(data, HEADER.size)
            request, reply = Place(request_segment, offset, length), Place(reply_segment, reply_offset, room)
            return Batch(batch, number, rows, extra, flags, request, reply, data[HEADER.size + PLACES.size :])
        case Kind.FAIL:
            return Fail(batch, data[HEADER.size :], flags)
        case Kind.CHECK:
            return Check(batch, number, data[HEADER.size :], flags)
        case Kind.WELCOME:
            return _welcome(extra, data[HEADER.size :])
    if len(data) != HEADER.size:
        raise PeerError(f"a message of kind {kind} with a body")
    match kind:
        case Kind.REPLY:
            return Reply(batch, rows, length, flags)
        case Kind.NEED:
            return ReplyTooLarge(batch, length)
        case Kind.GRANT:
            return ReplyBuffer(batch, Place(number, offset, length))
        case Kind.PARKED:
            return Parked(batch)
        case Kind.PART:
            return Part(batch, length)
        case Kind.NEXT:
            return Next(batch)
        case Kind.CANCEL:
            return Cancel(batch)
        case Kind.END:
            return End(batch, flags)
        case Kind.CHECKED:
            return Checked(batch)
        case Kind.BEGUN:
            return Begun(batch)
        case Kind.SEGMENT:
            return Attach(number, length)
        case Kind.FORGET:
            return Forget(number)
        case Kind.HELLO:
            return Hello(extra)
    raise PeerError(f"a message of unknown kind {kind}")


def _welcome(wire: int, body: bytes) -> Welcome:
    try:
        model, version = body.decode().split("\0")
    except ValueError as exc:
        raise PeerError("a WELCOME without a model and a version") from exc
    return Welcome(wire, model, version)
