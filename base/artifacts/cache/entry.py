"""One cached model: its status, its leases, and the waits for it. Has no lock: the cache holds its own around every call."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Any

from base.artifacts.cache.failed_loads import FailedLoad
from base.artifacts.cache.schedule import DueRefresh
from base.artifacts.clients.protocol import Artifact
from base.errors import PexdockError
from base.ipc.cache_control import EntryState

_REASON_CHARS = 1000


class EntryStatus(Enum):
    """The status of an entry."""

    LOADING = "loading"
    FRESH = "fresh"
    STALE = "stale"
    FAILED = "failed"


@dataclass(eq=False)
class LoadedCopy:
    """A model in memory, and the artifact that it was loaded from.

    Attributes:
        model: The author's model.
        artifact: The artifact; None for a model that is made from data.
        size_bytes: Bytes that count towards `max_bytes`.
        latest: The newest value, as text, of the parameter that the request gave as `latest`; empty if it gave none.
        pins: Number of leases on it.
        retired: True once the model has left its entry; it is unloaded when the last lease ends.
    """

    model: Any
    artifact: Artifact | None
    size_bytes: int
    latest: Mapping[str, str] = field(default_factory=dict)
    pins: int = 0
    retired: bool = False


@dataclass(eq=False)
class Entry:
    """The entry of a cache for one set of parameters. Times are seconds of the cache's clock.

    Attributes:
        requested: The parameters as the first request gave them.
        parameters: The same parameters as the spec validated them; they are the key.
        since_s: Time at which its load began, or at which it was last loaded or found unchanged.
        copy: The model; None until it is loaded.
        error: The error of the load; the entry has then left the cache.
        waits: Number of waits, each of which keeps it from being evicted.
        waiters: The waits that have not been woken yet.
        used_at_s: Time at which a request last used it.
        due: Its next refresh.
        queued: True while a load or refresh of it is queued or running.
        begun: True while the load or refresh is running.
        loads: Number of successful loads.
        failures: Number of failed loads.
        in_a_row: Number of failed refreshes since the last successful one.
        last_error: Description of the last failure for operators; None after a success.
    """

    requested: dict[str, str]
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
        """Returns True if there is a model, and no request uses it or waits for it."""
        return self.copy is not None and self.copy.pins == 0 and self.waits == 0

    @property
    def size_bytes(self) -> int:
        """Returns the bytes of the model; 0 while there is none."""
        return 0 if self.copy is None else self.copy.size_bytes

    def take_waiters(self) -> list[Pending]:
        """Removes and returns the waits that were not woken. The caller must `finish` each of them once, without the lock."""
        waiters, self.waiters = self.waiters, []
        return waiters

    def describe(self, now_s: float, due_s: float | None) -> EntryState:
        """Returns the state that operators see.

        Args:
            now_s: Present time of the cache's clock.
            due_s: Seconds until the next refresh, negative when it is overdue; None if none is planned.
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
    """Returns the state of parameters whose load failed: they have no entry, only a remembered failure. Times as in `Entry.describe`."""
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
    """Returns the reason of a failed load for operators.

    It includes the original exception, which clients do not see, since it may hold paths.
    """
    cause = "" if error.__cause__ is None else f" ({traceback.format_exception_only(error.__cause__)[-1].strip()})"
    return f"{error.code}: {error.detail}{cause}"[:_REASON_CHARS]


class Lease:
    """A pin on a model, which stays in memory until the lease is released; `with lease as model` releases it at the end.

    Attributes:
        model: The author's model.
        latest: See `LoadedCopy`.
    """

    def __init__(self, entry: Entry, copy: LoadedCopy, on_release: Callable[[Entry, LoadedCopy], None]) -> None:
        self.model = copy.model
        self.latest = copy.latest
        self._pinned: tuple[Entry, LoadedCopy] | None = (entry, copy)
        self._on_release = on_release

    def release(self) -> None:
        """Allows the model to be evicted. Idempotent."""
        pinned, self._pinned, self.model = self._pinned, None, None
        if pinned is not None:
            self._on_release(*pinned)

    def __enter__(self) -> Any:
        return self.model

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


class Pending:
    """A wait for a model that is being loaded.

    Args:
        entry: The entry that is being loaded.
        lease_after_wait: Turns the wait into a lease.
        end_wait: Ends the wait without a lease.
        wake: Called once, when the wait is done.

    Attributes:
        done: True once the load has ended, with or without success, or took too long. Set before `wake` is called.
    """

    def __init__(
        self, entry: Entry, lease_after_wait: Callable[[Entry], Lease], end_wait: Callable[[Entry], None], wake: Callable[[], None]
    ) -> None:
        self.done = False
        self._entry: Entry | None = entry
        self._error: PexdockError | None = None
        self._lease_after_wait = lease_after_wait
        self._end_wait = end_wait
        self._wake = wake

    def take_lease(self) -> Lease:
        """Returns a lease on the loaded model. Must be called once, after `done`.

        Raises:
            NotFound, Misfit, LoadFailed, Unavailable: The load failed, or takes too long. Each caller gets an instance of its own, since
                raising adds a traceback to it.
        """
        assert self.done
        assert self._entry is not None
        entry, self._entry = self._entry, None
        error = self._error or entry.error
        if error is None:
            return self._lease_after_wait(entry)
        self._end_wait(entry)
        raise error.copy_for_caller() from error

    def cancel(self) -> None:
        """Ends the wait. The load continues for later requests. Idempotent, and has no effect after `take_lease`."""
        entry, self._entry = self._entry, None
        if entry is not None:
            self._end_wait(entry)

    def finish(self, error: PexdockError | None = None) -> None:
        """Ends the wait, with an error if it ends before the load. Called by a thread of the cache."""
        self._error = error
        self.done = True
        self._wake()
