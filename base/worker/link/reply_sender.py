"""Sends failures to a front door, prepares other answers for it, and keeps a forked copy of the worker from sending anything."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec
import pyarrow as pa

from base.errors import PeerError, PexdockError
from base.forks import exit_forked_child
from base.ipc import failure
from base.ipc.channel import Channel
from base.ipc.protocol import Failure, Flag, ProgressReport
from base.jobs.attempt import Progress
from base.worker.prediction.grouped_batch import GroupedAnswer
from base.worker.prediction.record import OneRecord


class ReplySender:
    """The way back to one front door.

    Attributes:
        channel: The channel to the front door.
        release: Tag of the release, which every answer carries.
        is_forked: True in a process that a handler has forked and in which the handler has returned, too. Such a process must neither write
            to a segment nor send messages: it exits.
    """

    def __init__(self, channel: Channel, release: int) -> None:
        self.channel = channel
        self.release = release
        self.is_forked = False

    def send_failure(self, batch_id: int, error: PexdockError, is_retained: Callable[[], bool] | None = None) -> None:
        """Sends an error as the outcome of a batch or of a check of parameters.

        Args:
            batch_id: The batch.
            error: The error, whose traceback is dropped.
            is_retained: Tells whether anything still refers to the segment of the batch; None if nothing can refer to it.

        Raises:
            PeerError: The front door is gone.
        """
        if self.is_forked:
            exit_forked_child()
        body = failure.encode_error(error)
        error.__traceback__ = error.__context__ = None  # they refer to the stack frames that hold the rows
        self.channel.send_message(Failure(batch_id, body, retained_flag(is_retained or never_retained), self.release))

    def report_progress(self, batch_id: int, progress: Progress) -> None:
        """Sends a report of the handler of a job. If it cannot be sent, the loop of the worker finds out why with its next message."""
        if not self.is_forked:
            with contextlib.suppress(PeerError):
                self.channel.send_message(ProgressReport(batch_id, msgspec.json.encode(progress)))


def unpack_answer(answer: OneRecord | GroupedAnswer) -> tuple[pa.RecordBatch, int, bytes]:
    """Returns the frame of a reply, its flags, and the bytes behind it."""
    if isinstance(answer, OneRecord):
        return answer.batch, Flag.RECORD, b""
    return answer.batch, 0, failure.encode_group_errors(answer.errors) if answer.errors else b""


def retained_flag(is_retained: Callable[[], bool]) -> int:
    """Returns the flag that tells a front door not to write to the batch's segment again; 0 if it may."""
    return Flag.RETAINED if is_retained() else 0


def never_retained() -> bool:
    """Returns False, for rows that were copied off their segment."""
    return False
