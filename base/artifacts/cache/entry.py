"""One cached model: where it stands, who uses it and who waits for it. Knows no lock: the cache holds its own around what it does here."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Any

from base.artifacts.cache.failed_loads import FailedLoad
from base.artifacts.clients.protocol import Artifact
from base.artifacts.cache.schedule import DueRefresh
from base.errors import PexdockError
from base.ipc.cache_control import EntryState


_REASON_CHARS = 1000


class EntryStatus(Enum):
    """Where an entry stands."""

    LOADING = "loading"
    FRESH = "fresh"
    STALE = "stale"
    FAILED = "failed"


@dataclass(eq=False)
class LoadedCopy:
    """A model in memory, and the artifact that it was made of.

    Attributes:
        latest: the newest value, as text, of the parameter for which `latest` was asked; empty where none was.
        pins: leases on it.
        retired: it left its entry, and is disposed of when the last lease ends.
    """

    model: Any
    artifact: Artifact | None
    size_bytes: int
    latest: Mapping[str, str] = field(default_factory=dict)
    pins: int = 0
    retired: bool = False


@dataclass(eq=False)
class Entry:
    """What a cache holds for one set of parameters. Times are seconds of the cache's clock.

    Attributes:
        asked: the parameters of the request that came first, as it gave them.
        parameters: the same as the spec validated them: the key.
        since_s: when its loading began, or it was loaded or checked last.
        copy: the model; None until it is loaded.
        error: why there is none; the entry has then left the cache.
        waits: pendings, which keep it from being evicted.
        waiters: of them, those to be told when the load has ended.
        used_at_s: when a request held it last.
        due: its next refresh.
        queued: a load or refresh of it waits for a loader, or is under way.
        begun: it is under way.
        in_a_row: refreshes that failed since the last that did not.
    """

    asked: dict[str, str]
    parameters: dict[str, str]
    since_s: float
    copy: LoadedCopy | None = None
    error: PexdockError | None = None
    waits: int = 0
    waiters: list[Pending] = field(default_factory=list)
    used_at_s: float = 0.0
    due: DueRefresh | None = None
    queued: bool = True
    begun: bool = False
    loads: int = 0
    failures: int = 0
    in_a_row: int = 0
    last_error: str | None = None

    @property
    def idle(self) -> bool:
        """There is a model, and nobody has it or waits for it."""
        return self.copy is not None and self.copy.pins == 0 and self.waits == 0

    @property
    def size_bytes(self) -> int:
        """Of the model; 0 while there is none."""
        return 0 if self.copy is None else self.copy.size_bytes

    def take_waiters(self) -> list[Pending]:
        """Those who wait and were not told yet; whoever takes them calls their `finish`, once and outside the lock."""
        waiters, self.waiters = self.waiters, []
        return waiters

    def describe(self, now_s: float, due_s: float | None) -> EntryState:
        """For those who watch.

        Args:
            now_s: of the cache's clock.
            due_s: seconds until its refresh, negative when it is overdue; None where none is planned.
        """
        stale = self.in_a_row > 0 or self.queued or (due_s is not None and due_s <= 0)
        state = EntryStatus.LOADING if self.copy is None else EntryStatus.STALE if stale else EntryStatus.FRESH
        return EntryState(
            parameters=dict(self.parameters),
            state=state.value,
            age_s=None if self.copy is None else now_s - self.since_s,
            next_refresh_s=0.0 if self.copy is not None and self.queued else None if due_s is None else max(0.0, due_s),
            loads=self.loads,
            failures=self.failures,
            last_error=self.last_error,
            bytes=self.size_bytes,
            in_use=0 if self.copy is None else self.copy.pins,
        )


def failed_state(parameters: dict[str, str], failure: FailedLoad, now_s: float) -> EntryState:
    """Of what could not be loaded: there is no entry of it, only the memory of its last failure. Times as in `Entry.state`."""
    return EntryState(
        parameters=parameters,
        state=EntryStatus.FAILED.value,
        age_s=None,
        next_refresh_s=max(0.0, failure.retry_at_s - now_s),
        loads=0,
        failures=failure.in_a_row,
        last_error=failure.reason,
        bytes=0,
        in_use=0,
    )


def reason_of(error: PexdockError) -> str:
    """Why a load failed, for operators: with the words of what was raised, which clients are not told, since they may hold paths."""
    cause = "" if error.__cause__ is None else f" ({traceback.format_exception_only(error.__cause__)[-1].strip()})"
    return f"{error.code}: {error.detail}{cause}"[:_REASON_CHARS]


class Lease:
    """A model that stays until it is released; `with lease as model` releases at the end.

    Attributes:
        latest: see `Copy`.
    """

    def __init__(self, entry: Entry, copy: LoadedCopy, unpin: Callable[[Entry, LoadedCopy], None]) -> None:
        self.model = copy.model
        self.latest = copy.latest
        self._held: tuple[Entry, LoadedCopy] | None = (entry, copy)
        self._unpin = unpin

    def release(self) -> None:
        """The model may be evicted. Idempotent."""
        held, self._held, self.model = self._held, None, None
        if held is not None:
            self._unpin(*held)

    def __enter__(self) -> Any:
        return self.model

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


class Pending:
    """A model that is being loaded.

    Args:
        take: makes a lease of an entry that was waited for.
        leave: ends the wait.
        wake: called once, when it is done.

    Attributes:
        done: the load has ended, well or not, or the time to wait for it has. Set before `wake` is called.
    """

    def __init__(self, entry: Entry, take: Callable[[Entry], Lease], leave: Callable[[Entry], None], wake: Callable[[], None]) -> None:
        self.done = False
        self._entry: Entry | None = entry
        self._error: PexdockError | None = None
        self._take = take
        self._leave = leave
        self._wake = wake

    def take_lease(self) -> Lease:
        """What was loaded. To be called once, when `done`.

        Raises:
            NotFound, Misfit, LoadFailed, Unavailable: the load ended so, or takes longer than it may. A new instance for each caller, who
                adds a traceback to it.
        """
        assert self.done
        assert self._entry is not None
        entry, self._entry = self._entry, None
        error = self._error or entry.error
        if error is None:
            return self._take(entry)
        self._leave(entry)
        raise error.copy_for_caller() from error

    def cancel(self) -> None:
        """Nobody waits for it any longer. The load goes on for those who ask next; idempotent, and harmless after `lease`."""
        entry, self._entry = self._entry, None
        if entry is not None:
            self._leave(entry)

    def finish(self, error: PexdockError | None = None) -> None:
        """The cache calls it, on a thread of its own; with an error if the wait ends before the load."""
        self._error = error
        self.done = True
        self._wake()
