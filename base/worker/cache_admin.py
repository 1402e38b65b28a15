"""The caches of one worker, for administration: lists their entries and refreshes them. Thread-safe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from base.artifacts.cache.cache import Cache
from base.endpoint.endpoint import Endpoint
from base.errors import Cell, Full, HandlerFailed, Misfit, NotFound, PexdockError
from base.ipc import failure
from base.ipc.cache_control import (
    CacheEntries,
    CacheRefreshed,
    CacheRequest,
    CacheRequestRefused,
    CacheResponse,
    CacheState,
    EntryState,
    ListCacheEntries,
)
from base.log import get_logger

log = get_logger(__name__)

ENTRIES_MAX = 10_000
"""Limit of entries of one cache in a response. An entry takes about 250 bytes, so a response is written and read in tens of ms."""
ANSWER_MAX_BYTES = 16 * 1024 * 1024
"""Size limit of a response, since parameters come from clients and may be long."""


class CacheAdmin:
    """Administers the caches of a release.

    Args:
        model: Name of the release, for messages.
        endpoints: All endpoints of the release, each with its cache, if it has one.
    """

    def __init__(self, model: str, endpoints: Sequence[tuple[Endpoint[..., Any], Cache | None]]) -> None:
        self._model = model
        self._names = {name for endpoint, _ in endpoints for name in (endpoint.name, endpoint.path)}
        self._caches = [(endpoint, cache) for endpoint, cache in endpoints if cache is not None]

    def list_entries(self) -> list[CacheState]:
        """Returns the state of each cache, with at most ENTRIES_MAX of its most recently used entries."""
        return [_cache_state(endpoint, cache.entry_states()) for endpoint, cache in self._caches]

    def refresh(self, endpoint: str | None = None, parameters: Mapping[str, str] | None = None) -> int:
        """Starts to reload entries.

        Args:
            endpoint: Name or path of an endpoint; None for all that have a cache.
            parameters: Parameters of one entry, as a request gives them; None for all entries. Without `endpoint` they apply to the
                endpoints whose paths have exactly these parameters.

        Returns:
            The number of refreshes that were started. An entry that does not exist or is being loaded does not count.

        Raises:
            NotFound: There is no such endpoint, or it has no cache.
            Misfit: No endpoint in question has these parameters, or their values are invalid.
            LoadFailed: The spec of the parameters raised. As with the other errors, nothing was started.
        """
        selected = self._select_caches(endpoint)
        if parameters is None:
            return sum(cache.refresh() for _, cache in selected)
        matching = [cache for each, cache in selected if set(each.parameters) == set(parameters)]
        if not matching:
            raise _parameters_misfit([each for each, _ in selected], parameters)
        return _refresh_entry(matching, parameters)

    def handle_request(self, request: CacheRequest) -> CacheResponse:
        """Answers a request of the supervisor. Never raises: an error is the response."""
        try:
            if isinstance(request, ListCacheEntries):
                return _require_bounded(CacheEntries(request.request_id, self.list_entries()))
            return CacheRefreshed(request.request_id, self.refresh(request.endpoint, request.parameters))
        except PexdockError as exc:
            error = exc
        except Exception:  # it concerns this request only; the next one is independent of it
            log.exception("a cache request failed")
            error = HandlerFailed("the worker failed to handle this request; see its log")
        return CacheRequestRefused(request.request_id, msgspec.Raw(failure.encode_error(error)))

    def _select_caches(self, name: str | None) -> list[tuple[Endpoint[..., Any], Cache]]:
        found = [(each, cache) for each, cache in self._caches if name is None or name in {each.name, each.path}]
        if found:
            return found
        if name is None:
            raise NotFound(f"no endpoint of {self._model} has a cache")
        if name in self._names:
            raise NotFound(f"the endpoint {name} of {self._model} has no cache")
        raise NotFound(f"{self._model} has no endpoint {name}; endpoints with a cache: {_join(each.name for each, _ in self._caches)}")


def _refresh_entry(caches: Sequence[Cache], parameters: Mapping[str, str]) -> int:
    started, misfits = 0, []
    for cache in caches:
        try:
            started += cache.refresh(parameters)
        except Misfit as exc:  # another endpoint with the same parameters may accept these values
            misfits.append(exc)
    if len(misfits) == len(caches):
        raise misfits[0]
    return started


def _require_bounded(entries: CacheEntries) -> CacheEntries:
    size = len(msgspec.json.encode(entries))
    if size > ANSWER_MAX_BYTES:
        raise Full(f"the list of entries has {size} bytes, over the limit of {ANSWER_MAX_BYTES}")
    return entries


def _cache_state(endpoint: Endpoint[..., Any], entries: list[EntryState]) -> CacheState:
    return CacheState(endpoint.name, endpoint.path, len(entries), entries[-ENTRIES_MAX:])


def _parameters_misfit(endpoints: Sequence[Endpoint[..., Any]], given: Mapping[str, str]) -> Misfit:
    """Returns an error that names unknown and missing parameters of a single endpoint, or lists the parameters of several."""
    if len(endpoints) > 1:
        known = _join(f"{each.name} ({', '.join(each.parameters) or 'none'})" for each in endpoints)
        return Misfit(f"no endpoint has exactly the parameters {_join(given)}; available: {known}")
    (endpoint,) = endpoints
    unknown = [Cell(None, name, f"{endpoint.path} has no such parameter") for name in given if name not in endpoint.parameters]
    missing = [Cell(None, name, "missing") for name in endpoint.parameters if name not in given]
    reasons = "; ".join(f"{cell.column}: {cell.reason}" for cell in unknown + missing)
    return Misfit(f"the parameters do not fit: {reasons}", cells=unknown + missing)


def _join(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
