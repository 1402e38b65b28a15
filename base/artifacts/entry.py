"""One cached model: where it stands, who uses it and who waits for it. Knows no lock: the cache holds its own around what it does here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Any

from base.errors import PexdockError


class State(Enum):
    """Where an entry stands."""

    LOADING = "loading"
    FRESH = "fresh"


@dataclass(eq=False)
class Entry:
    """What a cache holds for one set of parameters.

    Attributes:
        parameters: of the request that asked first.
        state: where it stands.
        model: what `load_model` returned; None until then.
        error: why there is no model; the entry has then left the cache.
        pins: leases and pendings, which keep it from being evicted.
        waiters: to be told when the load has ended.
    """

    parameters: dict[str, str]
    state: State = State.LOADING
    model: Any = None
    error: PexdockError | None = None
    pins: int = 0
    waiters: list[Pending] = field(default_factory=list)


class Lease:
    """A model that stays until it is released; `with lease as model` releases at the end."""

    def __init__(self, entry: Entry, unpin: Callable[[Entry], None]) -> None:
        self.model = entry.model
        self._entry: Entry | None = entry
        self._unpin = unpin

    def release(self) -> None:
        """The model may be evicted. Idempotent."""
        entry, self._entry, self.model = self._entry, None, None
        if entry is not None:
            self._unpin(entry)

    def __enter__(self) -> Any:
        return self.model

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


class Pending:
    """A model that is being loaded.

    Attributes:
        done: the load has ended, well or not. Set before `wake` is called.
    """

    def __init__(self, entry: Entry, unpin: Callable[[Entry], None], wake: Callable[[], None]) -> None:
        self.done = False
        self._entry: Entry | None = entry
        self._unpin = unpin
        self._wake = wake

    def lease(self) -> Lease:
        """What was loaded. To be called once, when `done`.

        Raises:
            NotFound, Misfit, LoadFailed, Unavailable: the load ended so. A new instance for each caller, who adds a traceback to it.
        """
        assert self.done
        assert self._entry is not None
        entry, self._entry = self._entry, None
        if entry.error is not None:
            raise again(entry.error) from entry.error
        return Lease(entry, self._unpin)

    def cancel(self) -> None:
        """Nobody waits for it any longer. The load goes on for those who ask next; idempotent, and harmless after `lease`."""
        entry, self._entry = self._entry, None
        if entry is not None:
            self._unpin(entry)

    def finish(self) -> None:
        """The cache calls it, on a loader thread."""
        self.done = True
        self._wake()


def again(error: PexdockError) -> PexdockError:
    """The same error as a new instance, for one more caller to raise."""
    return type(error)(error.detail, cells=error.cells)
