"""All caches of one worker: what they hold, and how they are refreshed by whoever runs the worker. May be used from any thread."""

from __future__ import annotations

import logging
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

log = logging.getLogger(__name__)

ENTRIES_MAX = 10_000
"""Of one cache in an answer; an entry takes some 250 bytes, so this is read and written in tens of milliseconds."""
ANSWER_MAX_BYTES = 16 * 1024 * 1024
"""Parameters come from clients and may be long."""


class Caches:
    """The endpoints of a release that have a cache.

    Args:
        model: the name of the release, for messages.
        endpoints: all of the release, each with its cache.
    """

    def __init__(self, model: str, endpoints: Sequence[tuple[Endpoint[..., Any], Cache | None]]) -> None:
        self._model = model
        self._names = {name for endpoint, _ in endpoints for name in (endpoint.name, endpoint.path)}
        self._caches = [(endpoint, cache) for endpoint, cache in endpoints if cache is not None]

    def entries(self) -> list[CacheState]:
        """What each cache holds, and of that the entries used last, as many as an answer may have."""
        return [_state(endpoint, cache.entry_states()) for endpoint, cache in self._caches]

    def refresh(self, endpoint: str | None = None, parameters: Mapping[str, str] | None = None) -> int:
        """Begins to load again what is there.

        Args:
            endpoint: its name or its path; None means each that has a cache.
            parameters: of one entry, as a request gives them; None means all entries. Without an endpoint they are meant for those whose
                paths have just these parameters.

        Returns:
            How many refreshes were begun: none for what is not there, or is being loaded already.

        Raises:
            NotFound: there is no such endpoint, or no cache.
            Misfit: no endpoint that is meant has these parameters, or admits their values.
            LoadFailed: the spec of the parameters raised. As with the others, nothing was begun.
        """
        meant = self._meant(endpoint)
        if parameters is None:
            return sum(cache.refresh() for _, cache in meant)
        fitting = [cache for each, cache in meant if set(each.parameters) == set(parameters)]
        if not fitting:
            raise _no_such_parameters([each for each, _ in meant], parameters)
        return _refresh_one(fitting, parameters)

    def answer(self, question: CacheRequest) -> CacheResponse:
        """Never raises: what is wrong with a question is its answer."""
        try:
            if isinstance(question, ListCacheEntries):
                return _bounded(CacheEntries(question.request_id, self.entries()))
            return CacheRefreshed(question.request_id, self.refresh(question.endpoint, question.parameters))
        except PexdockError as exc:
            return CacheRequestRefused(question.request_id, msgspec.Raw(failure.encode_error(exc)))
        except Exception:  # one question's trouble; whoever asks next is not concerned
            log.exception("a question cannot be answered")
            return CacheRequestRefused(
                question.request_id,
                msgspec.Raw(failure.encode_error(HandlerFailed("the worker failed at this question; its log tells why"))),
            )

    def _meant(self, name: str | None) -> list[tuple[Endpoint[..., Any], Cache]]:
        found = [(each, cache) for each, cache in self._caches if name is None or name in {each.name, each.path}]
        if found:
            return found
        if name is None:
            raise NotFound(f"no endpoint of {self._model} has a cache")
        if name in self._names:
            raise NotFound(f"the endpoint {name} of {self._model} has no cache")
        raise NotFound(f"{self._model} has no endpoint {name}; those with a cache are {_listed(each.name for each, _ in self._caches)}")


def _refresh_one(caches: Sequence[Cache], parameters: Mapping[str, str]) -> int:
    begun, misfits = 0, []
    for cache in caches:
        try:
            begun += cache.refresh(parameters)
        except Misfit as exc:  # another endpoint with a path like this one's may admit them
            misfits.append(exc)
    if len(misfits) == len(caches):
        raise misfits[0]
    return begun


def _bounded(entries: CacheEntries) -> CacheEntries:
    size = len(msgspec.json.encode(entries))
    if size > ANSWER_MAX_BYTES:
        raise Full(f"the entries take {size} bytes to list, which is over {ANSWER_MAX_BYTES}")
    return entries


def _state(endpoint: Endpoint[..., Any], entries: list[EntryState]) -> CacheState:
    return CacheState(endpoint.name, endpoint.path, len(entries), entries[-ENTRIES_MAX:])


def _no_such_parameters(endpoints: Sequence[Endpoint[..., Any]], given: Mapping[str, str]) -> Misfit:
    """Names what is unknown and what is missing where one endpoint is meant; else all that there is."""
    if len(endpoints) > 1:
        known = _listed(f"{each.name} ({', '.join(each.parameters) or 'none'})" for each in endpoints)
        return Misfit(f"no endpoint has just the parameters {_listed(given)}; they have {known}")
    (endpoint,) = endpoints
    unknown = [Cell(None, name, f"{endpoint.path} has no such parameter") for name in given if name not in endpoint.parameters]
    missing = [Cell(None, name, "it is missing") for name in endpoint.parameters if name not in given]
    said = "; ".join(f"{cell.column}: {cell.reason}" for cell in unknown + missing)
    return Misfit(f"the parameters do not fit: {said}", cells=unknown + missing)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
