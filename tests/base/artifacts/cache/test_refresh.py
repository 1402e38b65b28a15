from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

import base.artifacts as afs
from base.artifacts.cache.cache import Cache
from base.artifacts.cache.entry import Lease, Pending
from base.errors import LoadFailed, NotFound, Unavailable
from base.ipc.cache_control import EntryState
from fake_store import WITHIN_S, Model, Store
from waiting import until


class Stamped(Store):
    """A store whose artifacts have fingerprints and sizes, which tests change, and that records released artifacts."""

    def __init__(self) -> None:
        super().__init__()
        self.fingerprint: str | None = "1"
        self.gone: list[str] = []
        self.errors: list[Exception] = []
        self.sizes: dict[str, int] = {}

    def locate(self, parameters: Mapping[str, str]) -> afs.Artifact:
        if self.errors:
            raise self.errors.pop()
        found = super().locate(parameters)
        name = parameters["name"]
        return afs.Artifact(found.location, self.fingerprint, self.sizes.get(name, 0), lambda: self.gone.append(name))


@pytest.fixture
def store() -> Stamped:
    return Stamped()


@pytest.fixture
def make(store: Stamped) -> Iterator[Callable[..., Cache]]:
    with ExitStack() as closing:

        def made(clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time, **options: Any) -> Cache:
            cache = Cache(afs.CacheConfig(**{"client": store, "load_model": store.load, **options}), clock, wall)
            closing.callback(lambda: (store.gate.set(), cache.close()))
            return cache

        yield made


class Clock:
    """A clock that stands still until a test advances it, which also pokes the cache's timer."""

    def __init__(self, now_s: float = 1_000_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def advance(self, cache: Cache, seconds: float) -> None:
        self.now_s += seconds
        cache._timer.poke()


def get(cache: Cache, **parameters: str) -> Lease:
    woken = threading.Event()
    found = cache.lookup(parameters, woken.set)
    if isinstance(found, Pending):
        assert woken.wait(WITHIN_S), "nobody was woken"
        return found.take_lease()
    return found


def use(cache: Cache, name: str) -> Any:
    with get(cache, name=name) as model:
        return model


def entry(cache: Cache) -> EntryState:
    (only,) = cache.entry_states()
    return only


def test_an_entry_is_refreshed_after_its_interval(make: Callable[..., Cache], store: Stamped) -> None:
    """Real time and real threads are used: changed content is loaded and replaces the old model without a request."""
    cache = make(interval=0.05)
    first = use(cache, "a")
    store.fingerprint = "2"
    until(lambda: len(store.loaded) == 2 and entry(cache).loads == 2)
    assert use(cache, "a") is not first
    until(lambda: "a" in store.gone)  # what was swapped out is let go of after the swap


def test_an_unchanged_artifact_is_not_loaded(make: Callable[..., Cache], store: Stamped) -> None:
    """The old model continues to serve, and its age starts anew."""
    clock = Clock()
    cache = make(clock, interval=timedelta(hours=1))
    first = use(cache, "a")
    clock.advance(cache, 3_601)
    until(lambda: cache.counters.unchanged == 1)
    assert use(cache, "a") is first
    assert store.loaded == ["a"]
    assert (entry(cache).state, entry(cache).age_s, entry(cache).next_refresh_s) == ("fresh", 0.0, 3_600.0)
    store.fingerprint = None
    clock.advance(cache, 3_601)
    until(lambda: len(store.loaded) == 2)


def test_the_old_model_serves_while_the_new_one_loads(make: Callable[..., Cache], store: Stamped) -> None:
    """Requests do not notice a refresh; a lease keeps its model."""
    cache = make()
    lease = get(cache, name="a")
    first = lease.model
    store.fingerprint = "2"
    store.gate.clear()
    assert cache.refresh({"name": "a"}) == 1
    assert cache.refresh() == 0
    for _ in range(2):
        assert store.began.acquire(timeout=WITHIN_S)
    assert use(cache, "a") is first
    assert entry(cache).state == "stale"
    store.gate.set()
    until(lambda: entry(cache).loads == 2)
    assert use(cache, "a") is not first
    assert lease.model is first
    assert store.gone == []
    lease.release()
    until(lambda: store.gone == ["a"])


@pytest.mark.parametrize("error", [ValueError(), NotFound("gone"), Unavailable("no store")], ids=repr)
def test_a_failed_refresh_keeps_the_old_model_and_is_retried(make: Callable[..., Cache], store: Stamped, error: Exception) -> None:
    """The retries come after a growing delay, and no later than planned, until one succeeds."""
    clock = Clock()
    cache = make(clock, interval=10)
    first = use(cache, "a")
    pauses = []
    for failures in range(1, 7):
        store.errors = [error]
        clock.advance(cache, 10)
        until(lambda failures=failures: entry(cache).failures == failures and entry(cache).next_refresh_s != 0)
        assert use(cache, "a") is first
        assert entry(cache).state == "stale"
        pauses.append(entry(cache).next_refresh_s)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0]
    assert entry(cache).last_error is not None
    store.fingerprint = "2"
    clock.advance(cache, 10)
    until(lambda: entry(cache).state == "fresh")
    assert entry(cache).last_error is None
    assert use(cache, "a") is not first


def test_a_cron_schedule_follows_the_wall_clock(make: Callable[..., Cache], store: Stamped) -> None:
    """Midnight follows a change of the wall clock; it comes twice only if the clock is set back by more than a few hours."""
    wall = Clock(datetime.fromisoformat("2026-01-01T23:00:00+00:00").timestamp())
    cache = make(Clock(), wall, schedule=afs.Cron("0 0 * * *"))
    use(cache, "a")
    assert entry(cache).next_refresh_s == 3_600
    wall.advance(cache, 3_599)
    assert entry(cache).state == "fresh"
    wall.advance(cache, 1)
    until(lambda: cache.counters.unchanged == 1)
    assert entry(cache).next_refresh_s == 86_400
    wall.now_s -= 7_200
    wall.advance(cache, 0)
    assert entry(cache).next_refresh_s == 86_400 + 7_200
    wall.now_s -= 4 * 3_600
    wall.advance(cache, 0)
    until(lambda: entry(cache).next_refresh_s == 6 * 3_600)


def test_an_unused_entry_is_evicted_after_its_ttl(make: Callable[..., Cache], store: Stamped) -> None:
    """An entry in use is not evicted."""
    clock = Clock()
    cache = make(clock, ttl=60)
    lease = get(cache, name="a")
    use(cache, "b")
    clock.advance(cache, 61)
    until(lambda: store.gone == ["b"])
    assert [each.parameters["name"] for each in cache.entry_states()] == ["a"]
    lease.release()
    clock.advance(cache, 59)
    use(cache, "a")
    clock.advance(cache, 61)
    until(lambda: cache.entry_states() == [])


def test_the_bytes_of_models_are_bounded(make: Callable[..., Cache], store: Stamped) -> None:
    """The artifacts' sizes count; the least recently used goes first, and a single model may be larger."""
    store.sizes = {"a": 40, "b": 40, "c": 40, "huge": 1_000}
    cache = make(max_bytes=100)
    for name in "abac":
        use(cache, name)
    assert [(each.parameters["name"], each.bytes) for each in cache.entry_states()] == [("a", 40), ("c", 40)]
    use(cache, "huge")
    assert [each.parameters["name"] for each in cache.entry_states()] == ["huge"]
    assert use(cache, "huge") is use(cache, "huge")


def test_the_author_may_say_how_large_a_model_is(make: Callable[..., Cache], store: Stamped) -> None:
    """The artifact's size then does not count."""
    store.sizes = {"a": 1, "b": 1}
    cache = make(max_bytes=100, size_of=lambda model: 60)
    for name in "ab":
        use(cache, name)
    assert [each.bytes for each in cache.entry_states()] == [60]


def test_unload_is_called_once_for_every_model_that_leaves(make: Callable[..., Cache], store: Stamped) -> None:
    """It is called for evicted and replaced models and at shutdown, on a loader thread; its exceptions affect nothing else."""
    unloaded: list[tuple[str, str]] = []

    def unload(model: Model) -> None:
        unloaded.append((model.name, threading.current_thread().name))
        raise ValueError

    cache = make(max_size=1, unload=unload)
    for name in "ab":
        use(cache, name)
    store.fingerprint = "2"
    cache.refresh()
    until(lambda: len(unloaded) == 2)
    lease = get(cache, name="b")
    assert cache.close()
    assert [name for name, _ in unloaded] == ["a", "b"]
    lease.release()
    until(lambda: len(unloaded) == 3)
    assert {thread for _, thread in unloaded} == {"loader"}


def test_memory_goes_down_when_a_model_leaves(make: Callable[..., Cache], store: Stamped) -> None:
    """The kernel reports the memory of this process."""
    size = 200 * 2**20
    cache = make(max_size=1, load_model=lambda path: np.ones(size if path.endswith("large") else 1, dtype=np.uint8))
    before = resident_bytes()
    get(cache, name="large").release()
    assert resident_bytes() > before + size * 0.9
    get(cache, name="small").release()
    until(lambda: resident_bytes() < before + size * 0.1)


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_request_that_waits_too_long_for_a_load_is_told_to_retry(make: Callable[..., Cache], store: Stamped) -> None:
    """Meanwhile the load continues and other models are served; later requests fail at once until the model is loaded."""
    cache = make(load_timeout_s=0.05)
    with suppress(Unavailable):  # a busy machine may take longer than that
        use(cache, "ready")
    until(lambda: cache.counters.loads == 1)
    store.gate.clear()
    with pytest.raises(Unavailable, match="still loading"):
        get(cache, name="slow")
    with pytest.raises(Unavailable, match="still loading"):
        cache.lookup({"name": "slow"}, lambda: None)
    assert use(cache, "ready").name == "ready"
    store.gate.set()
    until(lambda: cache.counters.loads == 2)
    assert use(cache, "slow").name == "slow"
    assert store.loaded == ["ready", "slow"]


def test_an_unavailable_store_is_not_asked_again_for_a_while(make: Callable[..., Cache], store: Stamped) -> None:
    """It counts as a failed load; a refresh on demand resets it."""
    cache = make(Clock())
    store.errors = [Unavailable("no store")]
    with pytest.raises(Unavailable):
        get(cache, name="a")
    with pytest.raises(Unavailable):
        cache.lookup({"name": "a"}, lambda: None)
    assert cache.refresh({"name": "a"}) == 0
    assert use(cache, "a").name == "a"


def test_equal_values_share_an_entry(make: Callable[..., Cache], store: Stamped) -> None:
    """Their spelling does not matter; the client gets the validated value."""

    class Spec(BaseModel):
        name: int

    cache = make(spec=Spec)
    assert {use(cache, name).name for name in ("7", "007", "+7", "7")} == {"7"}
    assert store.loaded == ["7"]
    store.fingerprint = "2"
    assert cache.refresh({"name": "0007"}) == 1
    until(lambda: entry(cache).loads == 2)


def test_a_model_can_be_made_from_data(make: Callable[..., Cache]) -> None:
    """Without a client the loader gets the validated parameters, and a refresh makes a new model."""

    class Region(afs.ArtifactSpec[str]):
        country: str
        number: int = 3

    made: list[Any] = []
    cache = make(client=afs.CacheConfig(load_model=str).client, load_model=lambda given: made.append(given) or len(made), spec=Region)
    with get(cache, country="US") as model:
        assert model == 1
    assert made == [Region(country="US", number=3)]
    assert cache.refresh() == 1
    until(lambda: entry(cache).loads == 2)
    plain = Cache(afs.CacheConfig(load_model=dict))
    with get(plain, country="US", number="4") as model:
        assert model == {"country": "US", "number": "4"}
    plain.close()


def test_load_as_bytes_gives_the_content_of_a_file(tmp_path: Path) -> None:
    """A folder is refused."""
    (tmp_path / "m").write_bytes(b"content")
    (tmp_path / "folder").mkdir()
    for load_as in ("bytes", afs.FetchAs.Bytes):
        cache = Cache(afs.CacheConfig(client=afs.FsClient(tmp_path, "{name}"), load_model=bytes.upper, load_as=load_as))
        assert use(cache, "m") == b"CONTENT"
        with pytest.raises(LoadFailed, match="is a folder"):
            use(cache, "folder")
        cache.close()


def test_a_changed_file_is_loaded_at_the_next_refresh(tmp_path: Path) -> None:
    """A folder in which one file changes is loaded too; an unchanged artifact is not loaded."""
    for path in ("file", "folder/inside"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("one")
    cache = Cache(afs.CacheConfig(client=afs.FsClient(tmp_path, "{name}"), load_model=Path))
    for name, path in (("file", "file"), ("folder", "folder/inside")):
        use(cache, name)
        cache.refresh({"name": name})
        until(lambda: cache.counters.unchanged == 1)
        (tmp_path / path).write_text("second")
        cache.refresh({"name": name})
        until(lambda: cache.counters.loads == 2)
        cache.counters.unchanged = cache.counters.loads = 0
    assert [each.bytes for each in cache.entry_states()] == [6, 6]
    cache.close()


def test_an_idle_cache_has_no_thread_and_uses_no_time(make: Callable[..., Cache], store: Stamped) -> None:
    """Without planned work there is no timer thread; with work far in the future the thread sleeps."""
    cache = make()
    use(cache, "a")
    until(lambda: not {"loader", "cache-timer"} & {thread.name for thread in threading.enumerate()})
    planned = make(interval=3_600)
    use(planned, "a")
    until(lambda: "loader" not in {thread.name for thread in threading.enumerate()})
    before = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - before < 0.05


def test_importing_the_package_imports_no_library_of_a_store() -> None:
    """A worker without such a client does not pay for its import."""
    code = "import sys, base.artifacts; print([name for name in ('obstore', 'mlflow', 'croniter') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_model_whose_artifact_is_gone_keeps_serving_unless_it_may_not(store: Stamped, make: Callable[..., Cache]) -> None:
    """By default a store in disorder takes no model away; a store of contexts is asked to forget them."""
    for evict in (False, True):
        cache = make(evict_missing=evict)
        until(lambda cache=cache: isinstance(cache.lookup({"name": "m"}, lambda: None), Lease))  # type: ignore[misc]
        store.fingerprint = f"another {evict}"
        store.errors = [NotFound("it was deleted")]
        assert cache.refresh() == 1
        until(lambda: not store.errors)
        if evict:
            until(lambda cache=cache: not cache.entry_states())  # type: ignore[misc]
        else:
            until(lambda cache=cache: cache.entry_states()[0].failures == 1)  # type: ignore[misc]
            assert isinstance(cache.lookup({"name": "m"}, lambda: None), Lease)
