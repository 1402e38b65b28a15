"""What a supervisor asks a worker about its caches, and the answers. Pure: control words, carried as those of `control.py` are.

A question has a number, which its answer repeats. A worker answers in the order in which it was asked, each question once.
"""

from __future__ import annotations

import msgspec


class EntryState(msgspec.Struct, frozen=True):
    """One cache entry, for people and programs that watch a cache.

    Attributes:
        parameters: of the entry, as the spec validated them.
        state: "loading", there is no model yet; "fresh"; "stale", a refresh is due or failed, and the model before it serves; or "failed",
            there is none, since the last load failed.
        age_s: since the model was loaded, or found unchanged by a refresh; None while there is none.
        next_refresh_s: until the next refresh; 0 while it is under way; None where none is planned. Where the load failed, until the next
            request may have it tried again.
        loads: models that were loaded for this entry.
        failures: loads that failed; where there is no model, in a row.
        last_error: of the last load, if it failed.
        bytes: what `max_bytes` counts; 0 while there is no model.
        in_use: batches that hold the model at this moment.
    """

    parameters: dict[str, str]
    state: str
    age_s: float | None
    next_refresh_s: float | None
    loads: int
    failures: int
    last_error: str | None
    bytes: int
    in_use: int


class CacheState(msgspec.Struct, frozen=True):
    """The cache of one endpoint.

    Attributes:
        held: how many entries it has.
        entries: those used last, the very last at the end; all of them unless they are very many.
    """

    endpoint: str
    path: str
    entry_count: int = msgspec.field(name="held")
    entries: list[EntryState]


class ListCacheEntries(msgspec.Struct, frozen=True, tag="list_entries", tag_field="type"):
    """Supervisor → worker: what do the caches hold?"""

    request_id: int = msgspec.field(name="number")


class CacheEntries(msgspec.Struct, frozen=True, tag="entries", tag_field="type"):
    """Worker → supervisor: every endpoint that has a cache."""

    request_id: int = msgspec.field(name="number")
    caches: list[CacheState]


class RefreshCache(msgspec.Struct, frozen=True, tag="refresh", tag_field="type"):
    """Supervisor → worker: load again what the caches hold.

    Attributes:
        endpoint: its name or its path; None means every endpoint that has a cache.
        parameters: of one entry; None means all entries.
    """

    request_id: int = msgspec.field(name="number")
    endpoint: str | None = None
    parameters: dict[str, str] | None = None


class CacheRefreshed(msgspec.Struct, frozen=True, tag="refreshed", tag_field="type"):
    """Worker → supervisor: so many refreshes were begun."""

    request_id: int = msgspec.field(name="number")
    started: int = msgspec.field(name="begun")


class CacheRequestRefused(msgspec.Struct, frozen=True, tag="refused", tag_field="type"):
    """Worker → supervisor: the question has no answer, and nothing was begun. `failure` is what `failure.py` makes of the error."""

    request_id: int = msgspec.field(name="number")
    failure: msgspec.Raw


CacheRequest = ListCacheEntries | RefreshCache
CacheResponse = CacheEntries | CacheRefreshed | CacheRequestRefused
