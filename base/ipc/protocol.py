"""The messages of the channel between a front door and a worker, and their bytes.

Pure: knows neither sockets nor segments. Little endian; every message is a header of 32 bytes and a body, whose meaning depends on the
kind. `docs/wire.md` has the table of kinds. The kernel preserves message boundaries (SOCK_SEQPACKET), so
`unpack_message` gets exactly one message.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from base.errors import PeerError

HEADER = struct.Struct("<BBHIQQII")
SLICES = struct.Struct("<HHQQ")

MESSAGE_MAX_BYTES = 64 * 1024
"""Size limit of a message: it must fit in a socket's send buffer (208 KiB by default). Only parameters and error texts vary in length."""

BODY_MAX_BYTES = MESSAGE_MAX_BYTES - HEADER.size - SLICES.size


class MessageKind:
    """Values of a header's first byte. Plain numbers, since access to a member of an enum is a function call."""

    HELLO: Final = 1
    WELCOME: Final = 2
    ATTACH_SEGMENT: Final = 3
    DETACH_SEGMENT: Final = 4
    BATCH: Final = 5
    REPLY: Final = 6
    FAILURE: Final = 7
    REPLY_TOO_LARGE: Final = 8
    REPLY_BUFFER: Final = 9
    MODEL_LOADING: Final = 10
    STREAM_PART: Final = 11
    NEXT_PART: Final = 12
    CANCEL_BATCH: Final = 13
    STREAM_END: Final = 14
    CHECK_PARAMETERS: Final = 15
    PARAMETERS_ACCEPTED: Final = 16
    STARTED: Final = 17
    PROGRESS_REPORT: Final = 18


class Flag:
    """Bits of a header's second byte. Plain numbers, as `MessageKind`."""

    SCHEMA: Final = 1
    """The frame begins with a schema message."""
    SINGLE_REQUEST: Final = 2
    """The batch holds one request only, so a failure concerns no other."""
    RETAINED: Final = 4
    """The worker still refers to the request's frame: its segment must not be written again."""
    CONTEXT: Final = 8
    """The body is an array of the parameters and the request's context (`base.endpoint.context.RequestContext`)."""
    QUARANTINED: Final = 16
    """The only request of the batch, or the check, was at a worker when that crashed. This worker must send STARTED."""
    RECORD: Final = 32
    """The only row of the reply is a record rather than a list of one."""
    TABLE: Final = 64
    """The frame is a whole Arrow stream of any number of record batches. Only for endpoints whose spec has `tables`."""
    PARTS: Final = 128
    """The worker sends the reply part by part, and REPLY behind them without a frame. Only for endpoints whose spec has `reply_parts`."""


class _Message(msgspec.Struct, frozen=True, gc=False):
    """The base of all messages: a struct, which takes a third of the time of a named tuple to make.

    The garbage collector does not track it, since it is never in a reference cycle.
    """


class SegmentSlice(_Message, frozen=True):
    """`length` bytes at `offset` of a segment."""

    segment: int
    offset: int
    length: int

    def prefix(self, length: int) -> SegmentSlice:
        """Returns the first `length` bytes of the slice, which must be at least that long."""
        return SegmentSlice(self.segment, self.offset, length)


class Hello(_Message, frozen=True):
    """Front door → worker: the first message of a channel."""

    wire: int


class Welcome(_Message, frozen=True):
    """Worker → front door: the release that this worker serves.

    Attributes:
        release: Tag of the release (`base.ipc.release_spec.release_tag`), which all its answers carry; 0 from workers of 0.1.0.
    """

    wire: int
    model: str
    version: str
    release: int = 0


class AttachSegment(_Message, frozen=True):
    """Front door → worker, with one descriptor: a segment of `length` bytes, which has this id from now on."""

    segment: int
    length: int


class DetachSegment(_Message, frozen=True):
    """Front door → worker: unmap the segment; its id may be used again."""

    segment: int


class Batch(_Message, frozen=True):
    """Front door → worker: predict these rows.

    Attributes:
        deadline_ms: Earliest deadline of its requests; see `wire_deadline_ms`.
        request: The slice that holds the frame.
        reply: The slice for the answer; its length is the available space.
        parameters: A JSON object of strings, or an array of it and the context of the batch's only request (flag CONTEXT).
    """

    batch_id: int
    endpoint: int
    rows: int
    deadline_ms: int
    flags: int
    request: SegmentSlice
    reply: SegmentSlice
    parameters: bytes


class Reply(_Message, frozen=True):
    """Worker → front door: a frame of `length` bytes is in the batch's reply slice.

    Attributes:
        errors_length: Number of bytes behind the frame: the errors of groups that failed, as JSON (`base.ipc.failure.encode_group_errors`).
    """

    batch_id: int
    rows: int
    length: int
    flags: int
    release: int = 0
    errors_length: int = 0


class Failure(_Message, frozen=True):
    """Worker → front door: there is no answer, or there are no more parts. `body` is JSON (see `base.ipc.failure`)."""

    batch_id: int
    body: bytes
    flags: int = 0
    release: int = 0


class ReplyTooLarge(_Message, frozen=True):
    """Worker → front door: the answer takes `length` bytes, more than the reply slice has."""

    batch_id: int
    length: int


class ReplyBuffer(_Message, frozen=True):
    """Front door → worker: the reply slice to use instead, for the whole reply or for each of its parts (flag PARTS)."""

    batch_id: int
    reply: SegmentSlice
    flags: int = 0


class ModelLoading(_Message, frozen=True):
    """Worker → front door: the batch waits for an artifact to load; the worker is free for other batches."""

    batch_id: int


class StreamPart(_Message, frozen=True):
    """Worker → front door: `length` bytes of a streamed answer, or of a reply in parts, are in the batch's reply slice, cut anywhere.

    A streamed answer is NDJSON unless the endpoint has a media type; a reply is a frame with the flag SCHEMA. The next part is sent only
    after NEXT_PART, so the slice belongs to the front door until then.
    """

    batch_id: int
    length: int
    release: int = 0


class NextPart(_Message, frozen=True):
    """Front door → worker: the client, or a file, has taken the part."""

    batch_id: int


class CancelBatch(_Message, frozen=True):
    """Front door → worker: nobody waits for the answer any more. The worker still sends the outcome, which may cross this message."""

    batch_id: int


class StreamEnd(_Message, frozen=True):
    """Worker → front door: the streamed answer is complete, or was cancelled."""

    batch_id: int
    flags: int
    release: int = 0


class CheckParameters(_Message, frozen=True):
    """Front door → worker: check these parameters, a JSON object of strings. A Failure says why they are invalid."""

    batch_id: int
    endpoint: int
    parameters: bytes
    flags: int = 0


class ParametersAccepted(_Message, frozen=True):
    """Worker → front door: the parameters of that check are valid."""

    batch_id: int
    release: int = 0


class Started(_Message, frozen=True):
    """Worker → front door: it computes this batch or check (flag QUARANTINED), and nothing else until it has answered."""

    batch_id: int


class ProgressReport(_Message, frozen=True):
    """Worker → front door: how far the handler of a batch is, whose context has a job. `body` is JSON (`Progress`)."""

    batch_id: int
    body: bytes


Message = (
    Hello
    | Welcome
    | AttachSegment
    | DetachSegment
    | Batch
    | Reply
    | Failure
    | ReplyTooLarge
    | ReplyBuffer
    | ModelLoading
    | StreamPart
    | NextPart
    | CancelBatch
    | StreamEnd
    | CheckParameters
    | ParametersAccepted
    | Started
    | ProgressReport
)


def wire_deadline_ms(deadline_s: float) -> int:
    """Returns a time of this machine's monotonic clock as it crosses the channel: milliseconds, low 32 bits.

    It is a point in time rather than the remaining time, since a message waits in its socket while the worker computes the previous one.
    """
    return int(deadline_s * 1000) & 0xFFFFFFFF


def monotonic_deadline_s(deadline_ms: int, now_s: float) -> float:
    """Returns the time of the monotonic clock that `wire_deadline_ms` encoded, if it is within 24 days of `now_s`."""
    now_ms = int(now_s * 1000)
    return (now_ms + ((deadline_ms - now_ms + 0x80000000) & 0xFFFFFFFF) - 0x80000000) / 1000


def pack_message(message: Message) -> bytes:
    """Returns the bytes of one message.

    Raises:
        ValueError: They would be over MESSAGE_MAX_BYTES.
    """
    data = _pack(message)
    if len(data) > MESSAGE_MAX_BYTES:
        raise ValueError(f"a message of {len(data)} bytes is over {MESSAGE_MAX_BYTES}")
    return data


def _pack(message: Message) -> bytes:  # noqa: C901, PLR0912 - one flat case a kind
    header = HEADER.pack
    match message:
        case Batch(batch, endpoint, rows, deadline_ms, flags, request, reply, parameters):
            head = header(MessageKind.BATCH, flags, endpoint, batch, request.offset, request.length, rows, deadline_ms)
            return head + SLICES.pack(request.segment, reply.segment, reply.offset, reply.length) + parameters
        case Reply(batch, rows, length, flags, release, errors_length):
            return header(MessageKind.REPLY, flags, 0, batch, release, length, rows, errors_length)
        case Failure(batch, body, flags, release):
            return header(MessageKind.FAILURE, flags, 0, batch, release, 0, 0, 0) + body
        case ReplyTooLarge(batch, length):
            return header(MessageKind.REPLY_TOO_LARGE, 0, 0, batch, 0, length, 0, 0)
        case ReplyBuffer(batch, reply, flags):
            return header(MessageKind.REPLY_BUFFER, flags, reply.segment, batch, reply.offset, reply.length, 0, 0)
        case ModelLoading(batch):
            return header(MessageKind.MODEL_LOADING, 0, 0, batch, 0, 0, 0, 0)
        case StreamPart(batch, length, release):
            return header(MessageKind.STREAM_PART, 0, 0, batch, release, length, 0, 0)
        case NextPart(batch):
            return header(MessageKind.NEXT_PART, 0, 0, batch, 0, 0, 0, 0)
        case CancelBatch(batch):
            return header(MessageKind.CANCEL_BATCH, 0, 0, batch, 0, 0, 0, 0)
        case StreamEnd(batch, flags, release):
            return header(MessageKind.STREAM_END, flags, 0, batch, release, 0, 0, 0)
        case CheckParameters(batch, endpoint, parameters, flags):
            return header(MessageKind.CHECK_PARAMETERS, flags, endpoint, batch, 0, 0, 0, 0) + parameters
        case ParametersAccepted(batch, release):
            return header(MessageKind.PARAMETERS_ACCEPTED, 0, 0, batch, release, 0, 0, 0)
        case Started(batch):
            return header(MessageKind.STARTED, 0, 0, batch, 0, 0, 0, 0)
        case ProgressReport(batch, body):
            return header(MessageKind.PROGRESS_REPORT, 0, 0, batch, 0, 0, 0, 0) + body
        case AttachSegment(segment, length):
            return header(MessageKind.ATTACH_SEGMENT, 0, segment, 0, 0, length, 0, 0)
        case DetachSegment(segment):
            return header(MessageKind.DETACH_SEGMENT, 0, segment, 0, 0, 0, 0, 0)
        case Hello(wire):
            return header(MessageKind.HELLO, 0, 0, 0, 0, 0, 0, wire)
        case Welcome(wire, model, version, release):
            return header(MessageKind.WELCOME, 0, 0, 0, release, 0, 0, wire) + f"{model}\0{version}".encode()


def unpack_message(data: bytes) -> Message:  # noqa: C901, PLR0912 - one flat case a kind
    """Returns the message in `data`.

    Raises:
        PeerError: `data` is too short, of an unknown kind, or has a body that its kind does not have.
    """
    if len(data) < HEADER.size:
        raise PeerError(f"a message of {len(data)} bytes is shorter than its header")
    kind, flags, number, batch, offset, length, rows, extra = HEADER.unpack_from(data)
    match kind:
        case MessageKind.BATCH:
            if len(data) < HEADER.size + SLICES.size:
                raise PeerError("a BATCH without its slices")
            request_segment, reply_segment, reply_offset, reply_length = SLICES.unpack_from(data, HEADER.size)
            request, reply = SegmentSlice(request_segment, offset, length), SegmentSlice(reply_segment, reply_offset, reply_length)
            return Batch(batch, number, rows, extra, flags, request, reply, data[HEADER.size + SLICES.size :])
        case MessageKind.FAILURE:
            return Failure(batch, data[HEADER.size :], flags, offset)
        case MessageKind.PROGRESS_REPORT:
            return ProgressReport(batch, data[HEADER.size :])
        case MessageKind.CHECK_PARAMETERS:
            return CheckParameters(batch, number, data[HEADER.size :], flags)
        case MessageKind.WELCOME:
            return _welcome(extra, data[HEADER.size :], offset)
    if len(data) != HEADER.size:
        raise PeerError(f"a message of kind {kind} with a body")
    match kind:
        case MessageKind.REPLY:
            return Reply(batch, rows, length, flags, offset, extra)
        case MessageKind.REPLY_TOO_LARGE:
            return ReplyTooLarge(batch, length)
        case MessageKind.REPLY_BUFFER:
            return ReplyBuffer(batch, SegmentSlice(number, offset, length), flags)
        case MessageKind.MODEL_LOADING:
            return ModelLoading(batch)
        case MessageKind.STREAM_PART:
            return StreamPart(batch, length, offset)
        case MessageKind.NEXT_PART:
            return NextPart(batch)
        case MessageKind.CANCEL_BATCH:
            return CancelBatch(batch)
        case MessageKind.STREAM_END:
            return StreamEnd(batch, flags, offset)
        case MessageKind.PARAMETERS_ACCEPTED:
            return ParametersAccepted(batch, offset)
        case MessageKind.STARTED:
            return Started(batch)
        case MessageKind.ATTACH_SEGMENT:
            return AttachSegment(number, length)
        case MessageKind.DETACH_SEGMENT:
            return DetachSegment(number)
        case MessageKind.HELLO:
            return Hello(extra)
    raise PeerError(f"a message of unknown kind {kind}")


def _welcome(wire: int, body: bytes, release: int) -> Welcome:
    try:
        model, version = body.decode().split("\0")
    except ValueError as exc:
        raise PeerError("a WELCOME without a model and a version") from exc
    return Welcome(wire, model, version, release)
