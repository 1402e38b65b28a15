"""Cache requests of a supervisor to a worker, and the responses. Pure: control messages, sent as those of `control.py`.

A response repeats the id of its request. A worker answers in the order of the requests, each once.
"""

from __future__ import annotations

import msgspec


class EntryState(msgspec.Struct, frozen=True):
    """The state of one cache entry, for people and programs that watch a cache.

    Attributes:
        parameters: Parameters of the entry, as the spec validated them.
        state: "loading" if there is no model yet; "fresh"; "stale" if a refresh is due or failed and the old model still serves; or
            "failed" if there is no model because the last load failed.
        age_s: Seconds since the model was loaded or a refresh found it unchanged; None without a model.
        next_refresh_s: Seconds until the next refresh; 0 during one; None if none is planned. After a failed load, seconds until the next
            request may retry it.
        loads: Number of models that were loaded for this entry.
        failures: Number of failed loads; without a model, number of failures in a row.
        last_error: Error of the last load, if it failed.
        bytes: Size that `max_bytes` counts; 0 without a model.
        in_use: Number of batches that use the model now.
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
    """The state of the cache of one endpoint.

    Attributes:
        endpoint: Name of the endpoint.
        path: Path of the endpoint.
        entry_count: Number of entries.
        entries: The most recently used entries, the last used one at the end; all entries unless there are very many.
    """

    endpoint: str
    path: str
    entry_count: int = msgspec.field(name="held")
    entries: list[EntryState]


class ListCacheEntries(msgspec.Struct, frozen=True, tag="list_entries", tag_field="type"):
    """Supervisor → worker: list the entries of all caches."""

    request_id: int = msgspec.field(name="number")


class CacheEntries(msgspec.Struct, frozen=True, tag="entries", tag_field="type"):
    """Worker → supervisor: the caches of all endpoints that have one."""

    request_id: int = msgspec.field(name="number")
    caches: list[CacheState]


class RefreshCache(msgspec.Struct, frozen=True, tag="refresh", tag_field="type"):
    """Supervisor → worker: reload cache entries.

    Attributes:
        request_id: Id of the request.
        endpoint: Name or path of an endpoint; None for all that have a cache.
        parameters: Parameters of one entry; None for all entries.
    """

    request_id: int = msgspec.field(name="number")
    endpoint: str | None = None
    parameters: dict[str, str] | None = None


class CacheRefreshed(msgspec.Struct, frozen=True, tag="refreshed", tag_field="type"):
    """Worker → supervisor: the number of refreshes that were started."""

    request_id: int = msgspec.field(name="number")
    started: int = msgspec.field(name="begun")


class CacheRequestRefused(msgspec.Struct, frozen=True, tag="refused", tag_field="type"):
    """Worker → supervisor: the request failed, and nothing was started. `failure` is an error as `failure.py` encodes it."""

    request_id: int = msgspec.field(name="number")
    failure: msgspec.Raw


CacheRequest = ListCacheEntries | RefreshCache
CacheResponse = CacheEntries | CacheRefreshed | CacheRequestRefused
