from __future__ import annotations

import gc
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

import base.artifacts as afs
from base.artifacts.cache import failed_loads, loader
from base.artifacts.cache.cache import Cache
from base.artifacts.cache.entry import Lease, Pending
from base.artifacts.cache.loader_threads import LOADERS
from base.errors import Declaration, Full, LoadFailed, Misfit, NotFound, PexdockError, Unavailable
from fake_store import WITHIN_S, Store
from waiting import until


class Wake:
    """Counts its calls, as an eventfd would; `wait` does what a worker's loop does."""

    def __init__(self) -> None:
        self.calls = threading.Semaphore(0)
        self.threads: set[str] = set()

    def __call__(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.calls.release()

    def wait(self) -> None:
        assert self.calls.acquire(timeout=WITHIN_S), "nobody was woken"


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def make(store: Store) -> Iterator[Callable[..., Cache]]:
    with ExitStack() as closing:

        def made(clock: Callable[[], float] = time.monotonic, **options: Any) -> Cache:
            cache = Cache(afs.CacheConfig(client=store, load_model=store.load, **options), clock)
            closing.callback(lambda: (store.gate.set(), cache.close()))
            return cache

        yield made


def get(cache: Cache, name: str) -> Lease:
    """Returns a lease as a worker gets it: looks up, waits until woken, and takes the lease."""
    wake = Wake()
    found = cache.lookup({"name": name}, wake)
    if isinstance(found, Pending):
        wake.wait()
        assert found.done
        return found.take_lease()
    return found


def use(cache: Cache, name: str) -> str:
    with get(cache, name) as model:
        return model.name


def test_a_model_is_loaded_once_and_then_served_from_memory(make: Callable[..., Cache], store: Store) -> None:
    """The loader gets the artifact's path as a string; a hit costs no load."""
    cache = make()
    assert use(cache, "a") == use(cache, "a") == "a"
    assert store.loaded == ["a"]
    assert (cache.counters.loads, cache.counters.hits, cache.counters.failures) == (1, 1, 0)
    assert [(entry.parameters, entry.state) for entry in cache.entry_states()] == [({"name": "a"}, "fresh")]


def test_the_order_of_parameters_makes_no_difference(make: Callable[..., Cache], store: Store) -> None:
    """A URL and a template may name them in different orders."""
    cache, wake = make(), Wake()
    found = cache.lookup({"name": "a", "kind": "x"}, wake)
    assert isinstance(found, Pending)
    wake.wait()
    found.take_lease().release()
    assert isinstance(cache.lookup({"kind": "x", "name": "a"}, wake), Lease)


def test_a_lookup_never_waits_for_a_load(make: Callable[..., Cache], store: Store) -> None:
    """While one artifact loads slowly, others are served, and a lookup of the slow one returns a Pending."""
    cache = make()
    use(cache, "ready")
    store.gate.clear()
    wake = Wake()
    slow = cache.lookup({"name": "slow"}, wake)
    assert isinstance(slow, Pending)
    assert not slow.done
    assert use(cache, "ready") == "ready"
    store.gate.set()
    wake.wait()
    assert slow.take_lease().model.name == "slow"
    assert wake.threads == {"loader"}


def test_many_lookups_of_one_model_share_one_load(make: Callable[..., Cache], store: Store) -> None:
    """Every waiter is woken, and gets the same object."""
    cache, wakes = make(), [Wake() for _ in range(20)]
    store.gate.clear()
    pending = [cache.lookup({"name": "a"}, wake) for wake in wakes]
    store.gate.set()
    for wake in wakes:
        wake.wait()
    leases = [each.take_lease() for each in pending if isinstance(each, Pending)]
    assert len(leases) == 20
    assert len({id(lease.model) for lease in leases}) == 1
    assert store.loaded == ["a"]


def test_lookups_from_many_threads_share_one_load(make: Callable[..., Cache], store: Store) -> None:
    """The first of them begins it."""
    cache, together, names = make(), threading.Barrier(8), []

    def ask() -> None:
        together.wait(WITHIN_S)
        names.append(use(cache, "a"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WITHIN_S)
    assert names == ["a"] * 8
    assert store.loaded == ["a"]


def test_the_least_recently_used_model_is_evicted_first(make: Callable[..., Cache], store: Store) -> None:
    """It is loaded again when it is requested again."""
    cache = make(max_size=2)
    for name in ("a", "b", "a", "c"):
        use(cache, name)
    assert [entry.parameters["name"] for entry in cache.entry_states()] == ["a", "c"]
    assert use(cache, "b") == "b"
    assert store.loaded == ["a", "b", "c", "b"]
    assert cache.counters.evictions == 2


def test_a_model_in_use_is_not_evicted(make: Callable[..., Cache], store: Store) -> None:
    """The cache exceeds its bound only while the model is in use."""
    cache = make(max_size=1)
    lease = get(cache, "a")
    use(cache, "b")
    assert lease.model.name == "a"
    assert use(cache, "a") == "a"
    lease.release()
    lease.release()
    assert len(cache.entry_states()) == 1
    assert store.loaded == ["a", "b"]


def test_a_model_that_was_waited_for_is_not_evicted_before_it_is_leased(make: Callable[..., Cache], store: Store) -> None:
    """Otherwise two parked batches with room for one model would evict each other's model for ever."""
    cache, wakes = make(max_size=1), [Wake(), Wake()]
    pending = [cache.lookup({"name": name}, wake) for name, wake in zip("ab", wakes, strict=True)]
    for wake in wakes:
        wake.wait()
    for each, name in zip(pending, "ab", strict=True):
        assert isinstance(each, Pending)
        with each.take_lease() as model:
            assert model.name == name
    assert sorted(store.loaded) == ["a", "b"]


def test_an_evicted_model_is_freed(make: Callable[..., Cache], store: Store) -> None:
    """The cache keeps no reference to it."""
    cache = make(max_size=1)
    with get(cache, "a") as model:
        gone = weakref.ref(model)
        del model
    use(cache, "b")
    gc.collect()
    assert gone() is None


def test_a_load_whose_waits_were_cancelled_still_succeeds(make: Callable[..., Cache], store: Store) -> None:
    """A cancelled wait leaves no pin behind."""
    cache, wake = make(max_size=1), Wake()
    store.gate.clear()
    pending = cache.lookup({"name": "a"}, wake)
    assert isinstance(pending, Pending)
    pending.cancel()
    pending.cancel()
    store.gate.set()
    wake.wait()
    use(cache, "b")
    assert [entry.parameters["name"] for entry in cache.entry_states()] == ["b"]


@pytest.mark.parametrize("error", [ValueError("/secret/path"), SystemExit(3), KeyboardInterrupt(), MemoryError()], ids=repr)
def test_a_failed_load_reaches_every_waiter(make: Callable[..., Cache], store: Store, error: BaseException) -> None:
    """The error keeps its kind and cause but not the original message, which may hold paths. The loader thread continues."""
    cache, wakes = make(), [Wake(), Wake()]
    store.fails["bad"] = error
    store.gate.clear()
    pending = [cache.lookup({"name": "bad"}, wake) for wake in wakes]
    store.gate.set()
    for each, wake in zip(pending, wakes, strict=True):
        wake.wait()
        assert isinstance(each, Pending)
        with pytest.raises(LoadFailed, match=f"load_model raised {type(error).__name__} for name='bad'") as failed:
            each.take_lease()
        assert "secret" not in str(failed.value)
        assert failed.value.__cause__ is not None
        assert failed.value.__cause__.__cause__ is error
    assert [entry.state for entry in cache.entry_states()] == ["failed"]
    assert use(cache, "a") == "a"


def test_a_failed_load_is_retried_after_a_growing_delay(make: Callable[..., Cache], store: Store) -> None:
    """A broken artifact does not cause a storm of loads, and a repaired one is served soon."""
    now = [0.0]
    cache = make(clock=lambda: now[0])
    store.fails["bad"] = ValueError()
    for pause_s in (0.5, 1.0, 2.0):
        with pytest.raises(LoadFailed):
            get(cache, "bad")
        now[0] += pause_s - 0.01
        loads = len(store.loaded)
        with pytest.raises(LoadFailed):
            cache.lookup({"name": "bad"}, Wake())
        assert len(store.loaded) == loads
        now[0] += 0.02
    del store.fails["bad"]
    assert use(cache, "bad") == "bad"
    store.fails["other"] = ValueError()
    with pytest.raises(LoadFailed):
        get(cache, "other")
    assert use(cache, "bad") == "bad"


def test_a_failed_load_is_listed_with_its_reason_until_it_succeeds(make: Callable[..., Cache], store: Store) -> None:
    """Operators see the reason that clients do not see, once for each model, also during a retry."""
    now = [0.0]
    cache = make(clock=lambda: now[0])
    use(cache, "a")
    store.fails["bad"] = ValueError("/secret/path")
    for in_a_row, pause_s in enumerate((0.5, 1.0), 1):
        with pytest.raises(LoadFailed):
            get(cache, "bad")
        bad, good = cache.entry_states()
        assert (good.parameters, good.state) == ({"name": "a"}, "fresh")
        assert (bad.parameters, bad.state, bad.age_s, bad.loads) == ({"name": "bad"}, "failed", None, 0)
        assert (bad.failures, bad.next_refresh_s) == (in_a_row, pause_s)
        told = r"load_model raised ValueError for name='bad'; see the log of the worker, incident \w{12}"
        reason = rf"load_failed: {told} \(ValueError: /secret/path\)"
        assert re.fullmatch(reason, bad.last_error)
        now[0] += pause_s
    del store.fails["bad"]
    store.gate.clear()
    pending = cache.lookup({"name": "bad"}, Wake())
    assert [(entry.parameters["name"], entry.state) for entry in cache.entry_states()] == [("a", "fresh"), ("bad", "loading")]
    store.gate.set()
    assert isinstance(pending, Pending)
    pending.cancel()
    assert use(cache, "bad") == "bad"
    assert [(entry.parameters["name"], entry.state) for entry in cache.entry_states()] == [("a", "fresh"), ("bad", "fresh")]


def test_the_delay_between_retries_has_a_maximum(make: Callable[..., Cache], store: Store) -> None:
    """The number of failures does not matter."""
    now = [0.0]
    cache = make(clock=lambda: now[0])
    store.fails["bad"] = ValueError()
    for _ in range(30):
        with pytest.raises(LoadFailed):
            get(cache, "bad")
        now[0] += failed_loads.RETRY.max_s
    assert len(store.loaded) == 30


def test_a_missing_artifact_is_looked_for_each_time(make: Callable[..., Cache], store: Store) -> None:
    """A model that was deployed a moment ago is found without a delay."""
    cache = make()
    for _ in range(3):
        with pytest.raises(NotFound):
            get(cache, "missing")
    assert cache.counters.failures == 3
    assert cache.entry_states() == []


def test_an_unexpected_exception_of_a_client_is_a_failed_load(make: Callable[..., Cache], store: Store) -> None:
    """A client is the author's code as well."""
    cache, wake = make(), Wake()
    found = cache.lookup({"other": "x"}, wake)
    wake.wait()
    assert isinstance(found, Pending)
    with pytest.raises(LoadFailed, match="KeyError"):
        found.take_lease()


def test_parameters_that_the_spec_rejects_are_refused_at_once(make: Callable[..., Cache], store: Store) -> None:
    """Nothing is loaded. A spec that raises an unexpected exception is the author's error, not the caller's."""

    class Spec(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def check(cls, value: str) -> str:
            if value == "broken":
                raise ZeroDivisionError
            if value != "a":
                raise ValueError("only a")
            return value

    cache = make(spec=Spec)
    assert use(cache, "a") == "a"
    with pytest.raises(Misfit, match="only a"):
        cache.lookup({"name": "b"}, Wake())
    with pytest.raises(LoadFailed, match="ZeroDivisionError"):
        cache.lookup({"name": "broken"}, Wake())
    assert store.loaded == ["a"]


def test_a_flood_of_parameters_is_refused(make: Callable[..., Cache], store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue of loads is bounded."""
    monkeypatch.setattr(loader, "QUEUED_LOADS_MAX", 5)
    cache = make()
    store.gate.clear()
    for number in range(LOADERS):
        cache.lookup({"name": f"slow{number}"}, Wake())
        assert store.began.acquire(timeout=WITHIN_S)
    for number in range(5):
        cache.lookup({"name": f"queued{number}"}, Wake())
    with pytest.raises(Full):
        cache.lookup({"name": "one too many"}, Wake())
    assert isinstance(cache.lookup({"name": "queued0"}, Wake()), Pending)


def test_loader_threads_end_when_there_is_nothing_to_load(make: Callable[..., Cache], store: Store) -> None:
    """An idle worker has no idle threads."""
    cache, wake = make(), Wake()

    def loaders() -> int:
        return sum(thread.name == "loader" for thread in threading.enumerate())

    store.gate.clear()
    cache.lookup({"name": "a"}, wake)
    assert store.began.acquire(timeout=WITHIN_S)
    assert loaders() >= 1
    store.gate.set()
    wake.wait()
    until(lambda: loaders() == 0)


def test_prefetching_loads_the_artifacts_that_can_be_requested(make: Callable[..., Cache], store: Store) -> None:
    """The newest come first, up to the size of the cache; a fallback's artifacts have other parameters and are skipped."""
    cache = make(max_size=2)
    assert cache.prefetch(["name"]) == 2
    until(lambda: cache.counters.loads == 2)
    assert sorted(store.loaded) == ["b", "c"]
    assert cache.prefetch(["name"]) == 0
    assert cache.prefetch(["name", "unknown"]) == 0


def test_closing_fails_queued_loads_and_new_lookups(make: Callable[..., Cache], store: Store) -> None:
    """Running loads are waited for; queued loads fail; new lookups are refused."""
    cache, wakes = make(), [Wake() for _ in range(LOADERS + 1)]
    store.gate.clear()
    pending = [cache.lookup({"name": str(number)}, wake) for number, wake in enumerate(wakes)]
    for _ in range(LOADERS):
        assert store.began.acquire(timeout=WITHIN_S)
    assert not cache.close(timeout_s=0.01)
    wakes[-1].wait()
    queued = pending[-1]
    assert isinstance(queued, Pending)
    with pytest.raises(Unavailable):
        queued.take_lease()
    with pytest.raises(Unavailable):
        cache.lookup({"name": "0"}, Wake())
    store.gate.set()
    assert cache.close()
    for each, wake in zip(pending[:-1], wakes, strict=False):
        wake.wait()
        assert isinstance(each, Pending)
        each.take_lease().release()


@pytest.mark.parametrize("error", [Declaration("x"), Misfit("x"), Unavailable("x")], ids=repr)
def test_errors_of_pexdock_keep_their_class(make: Callable[..., Cache], store: Store, error: PexdockError) -> None:
    """A client may raise NotFound, Misfit or TryLater, and the caller gets that."""
    cache = make()
    store.fails["bad"] = error
    with pytest.raises(type(error), match="x"):
        get(cache, "bad")
