"""What outlives a supervisor: what operators said of each model, and how its requests moved. One file in a folder of its own.

A file and not a database: it is small, read once and written whole, and people should be able to read it. It is written aside, synced and
renamed, so it is either the old or the new one, whatever ends the supervisor or the machine.
"""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path
from typing import Self

import msgspec

from base.errors import PexdockError, Unavailable
from runtime.atomic_file import write_atomically
from runtime.supervisor.rollout.traffic_policy import TrafficPolicy

log = logging.getLogger(__name__)

FILE = "traffic.json"
_LOCK = "lock"

FORMAT = 1
"""Rises when an older Pexdock would misread the file."""

HISTORY_MAX = 50


class TrafficShift(msgspec.Struct, frozen=True):
    """The requests of a model moved: when (wall clock), to what, and why."""

    at: str
    what: str
    why: str


class PolicyRecord(msgspec.Struct, frozen=True):
    """What is kept of one model. The last flip stands last in `history`."""

    traffic: TrafficPolicy = TrafficPolicy()
    history: list[TrafficShift] = []

    def moved(self, flip: TrafficShift) -> PolicyRecord:
        """With one more flip; the oldest one is forgotten in time."""
        return PolicyRecord(self.traffic, [*self.history, flip][-HISTORY_MAX:])


class _Head(msgspec.Struct):
    format: int


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    models: dict[str, PolicyRecord]


class CannotKeep(PexdockError):
    """What was kept cannot be read. Nothing is served, since a pin that is forgotten moves requests to what nobody wanted."""

    code = "cannot_keep"


class PolicyStore:
    """The file of one dist/, held by one supervisor at a time.

    Args:
        folder: made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / FILE
        self._lock = -1
        self._trouble = ""
        self.models: dict[str, PolicyRecord] = {}

    def __enter__(self) -> Self:
        """Reads it.

        Raises:
            CannotKeep: it cannot be read, was written by a newer Pexdock, or another supervisor has it. Nothing was changed.
        """
        self._take()
        try:
            self.models = _read(self._path)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """See `close`."""
        self.close()

    def close(self) -> None:
        """Lets go of it. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def put(self, model: str, said: PolicyRecord) -> None:
        """Keeps it, so that it outlives a loss of power.

        Raises:
            Unavailable: it cannot be kept. What was kept before is.
        """
        after = self.models | {model: said}
        try:
            _write(self._path, _Document(FORMAT, after))
        except OSError as exc:
            raise Unavailable(f"it cannot be kept in {self._path}: {exc.strerror}; make room or name another folder as state_path") from exc
        self.models, self._trouble = after, ""

    def note(self, model: str, said: PolicyRecord) -> None:
        """Keeps it if that can be done, and holds it in memory in every case; for what nobody ordered and nobody can be refused."""
        try:
            self.put(model, said)
        except Unavailable as exc:
            self.models = self.models | {model: said}
            if exc.detail != self._trouble:
                self._trouble = exc.detail
                log.error("what became of %s: %s", model, exc.detail)  # noqa: TRY400 - the reason says it all

    def _take(self) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            log.warning("orders and roll-backs will not outlive this supervisor: %s: %s", self._folder, exc.strerror)
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise CannotKeep(f"another supervisor keeps its orders in {self._folder}: give this one its own with --state-path") from None


def _read(path: Path) -> dict[str, PolicyRecord]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise CannotKeep(f"what operators said is in {path}, which cannot be read: {exc.strerror}") from exc
    try:
        head = msgspec.json.decode(content, type=_Head)
        if head.format > FORMAT:
            raise CannotKeep(f"{path} was written by a newer Pexdock (format {head.format}, this one knows {FORMAT}): use that one")
        return msgspec.json.decode(content, type=_Document).models
    except msgspec.MsgspecError as exc:
        raise CannotKeep(f"{path} is damaged ({exc}): mend it, or move it away and say pins, splits and labels again") from exc


def _write(path: Path, document: _Document) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(path, msgspec.json.format(msgspec.json.encode(document)) + b"\n", mode=0o600, durable=True)
