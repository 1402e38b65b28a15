"""The administration of a worker's caches. The caches are real; the models that they load are made of parameters."""

from __future__ import annotations

import threading
import time

import polars as pl
import pytest
from pydantic import BaseModel

import base.artifacts as afs
import base.service as svc
from base.artifacts.cache.cache import Cache, Lease, Pending
from base.errors import Full, LoadFailed, Misfit, NotFound, PexdockError
from base.ipc import failure
from base.ipc.cache_control import CacheEntries, CacheRefreshed, CacheRequestRefused, CacheResponse, ListCacheEntries, RefreshCache
from base.worker import cache_admin as module
from base.worker.cache_admin import CacheAdmin

WITHIN_S = 10


class Numbered(BaseModel):
    number: int


class Broken(BaseModel):
    def __init__(self, **given: object) -> None:
        raise OSError("a validator that asks a service")


def made_of(parameters: object) -> str:
    return str(parameters)


@svc.endpoint(path="/plain")
def plain(records_df: pl.DataFrame) -> list[int]:
    return [0] * records_df.height


@svc.endpoint(path="/named/{name}", cache_config=afs.CacheConfig(load_model=made_of))
def named(model: str, records_df: pl.DataFrame) -> list[str]:
    return [model] * records_df.height


@svc.endpoint(path="/numbered/{number}", cache_config=afs.CacheConfig(load_model=made_of, spec=Numbered))
def numbered(model: str, records_df: pl.DataFrame) -> list[str]:
    return [model] * records_df.height


@svc.endpoint(path="/lettered/{number}", cache_config=afs.CacheConfig(load_model=made_of))
def lettered(model: str, records_df: pl.DataFrame) -> list[str]:
    return [model] * records_df.height


@svc.endpoint(path="/broken/{name}", cache_config=afs.CacheConfig(load_model=made_of, spec=Broken))
def broken(model: str, records_df: pl.DataFrame) -> list[str]:
    return [model] * records_df.height


@pytest.fixture
def made(request):
    """Yields the administration of the endpoints that a test names, and their caches by name."""
    found = {each.name: (each, None if each.cache_config is None else Cache(each.cache_config)) for each in request.param}
    yield CacheAdmin("tiny", list(found.values())), {name: cache for name, (_, cache) in found.items()}
    for _, cache in found.values():
        if cache is not None:
            assert cache.close()


def load_entry(cache: Cache, **parameters: str) -> None:
    """Loads the model of these parameters."""
    done = threading.Event()
    found = cache.lookup(parameters, done.set)
    if isinstance(found, Pending):
        assert done.wait(WITHIN_S)
        found = found.take_lease()
    assert isinstance(found, Lease)
    found.release()


def error_of(answer: CacheResponse) -> PexdockError:
    assert isinstance(answer, CacheRequestRefused)
    return failure.decode_error(bytes(answer.failure))


@pytest.mark.parametrize("made", [(plain, named, numbered)], indirect=True)
def test_entries_are_listed_by_endpoint_without_those_that_have_no_cache(made) -> None:
    """Their parameters are as the spec validated them, not as a request wrote them."""
    caches, by_name = made
    load_entry(by_name["numbered"], number="007")
    answer = caches.handle_request(ListCacheEntries(3))
    assert isinstance(answer, CacheEntries)
    assert answer.request_id == 3
    assert [(each.endpoint, each.path, each.entry_count, [entry.parameters for entry in each.entries]) for each in answer.caches] == [
        ("named", "/named/{name}", 0, []),
        ("numbered", "/numbered/{number}", 1, [{"number": "7"}]),
    ]


@pytest.mark.parametrize("made", [(named, numbered, lettered)], indirect=True)
def test_a_refresh_concerns_everything_one_endpoint_or_one_entry(made) -> None:
    """An endpoint is given by name or path; parameters alone mean every endpoint that has exactly these."""
    caches, by_name = made
    for name in ("a", "b"):
        load_entry(by_name["named"], name=name)
    load_entry(by_name["numbered"], number="7")
    load_entry(by_name["lettered"], number="7")
    load_entry(by_name["lettered"], number="x")

    def started(endpoint: str | None, parameters: dict[str, str] | None) -> int:
        deadline = time.monotonic() + WITHIN_S
        while any(entry.next_refresh_s == 0 for cache in by_name.values() for entry in cache.entry_states()):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        answer = caches.handle_request(RefreshCache(1, endpoint, parameters))
        assert isinstance(answer, CacheRefreshed)
        return answer.started

    assert started(None, None) == 5
    assert started("named", None) == started("/named/{name}", None) == 2
    assert started("numbered", {"number": "007"}) == 1
    assert started("named", {"name": "c"}) == 0
    assert started(None, {"number": "7"}) == 2
    assert started(None, {"number": "x"}) == 1


@pytest.mark.parametrize("made", [(plain, named, numbered)], indirect=True)
@pytest.mark.parametrize(
    ("endpoint", "parameters", "kind", "detail", "columns"),
    [
        ("other", None, NotFound, "tiny has no endpoint other; endpoints with a cache: named, numbered", []),
        ("plain", None, NotFound, "the endpoint plain of tiny has no cache", []),
        ("numbered", {"number": "x"}, Misfit, "the parameters do not fit: number: Input should be a valid integer", ["number"]),
        ("numbered", {"word": "1"}, Misfit, "word: /numbered/{number} has no such parameter; number: missing", ["word", "number"]),
        (None, {"word": "1"}, Misfit, "no endpoint has exactly the parameters word; available: named (name), numbered (number)", []),
        ("named", {}, Misfit, "the parameters do not fit: name: missing", ["name"]),
    ],
)
def test_a_refresh_that_is_impossible_is_refused_with_the_reason(made, endpoint, parameters, kind, detail, columns) -> None:
    """The message says what is wrong, and the class who must act."""
    caches, _ = made
    answer = caches.handle_request(RefreshCache(9, endpoint, parameters))
    error = error_of(answer)
    assert type(error) is kind
    assert detail in error.detail
    assert [cell.column for cell in error.cells] == columns
    assert answer.request_id == 9


@pytest.mark.parametrize("made", [(plain,)], indirect=True)
def test_a_release_without_caches_has_nothing_to_refresh(made) -> None:
    """It is an error, not zero refreshes."""
    caches, _ = made
    assert error_of(caches.handle_request(RefreshCache(1))).detail == "no endpoint of tiny has a cache"
    assert caches.handle_request(ListCacheEntries(2)) == CacheEntries(2, [])


@pytest.mark.parametrize("made", [(broken,)], indirect=True)
def test_a_spec_that_raises_is_a_response(made) -> None:
    """The thread that answers continues."""
    caches, _ = made
    assert type(error_of(caches.handle_request(RefreshCache(1, "broken", {"name": "a"})))) is LoadFailed


@pytest.mark.parametrize("made", [(named,)], indirect=True)
def test_a_cache_of_very_many_entries_lists_the_most_recently_used_and_their_number(made, monkeypatch) -> None:
    """A response is limited by entries, and by bytes if parameters are long."""
    caches, by_name = made
    monkeypatch.setattr(module, "ENTRIES_MAX", 2)
    for name in "abcd":
        load_entry(by_name["named"], name=name)
    (shown,) = caches.list_entries()
    assert (shown.entry_count, [entry.parameters["name"] for entry in shown.entries]) == (4, ["c", "d"])
    monkeypatch.setattr(module, "ANSWER_MAX_BYTES", 100)
    assert type(error_of(caches.handle_request(ListCacheEntries(1)))) is Full
