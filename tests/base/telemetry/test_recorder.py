"""The metrics that a worker records from any of its threads, and when it reports them."""

import threading

import pytest

import base.artifacts as afs
from base.artifacts.cache.cache import Cache
from base.artifacts.cache.entry import Pending
from base.ipc.metrics_report import MetricsConfig
from base.telemetry.recorder import Reporter, WorkerMetrics, metrics_config_from, metrics_environment

WITHIN_S = 10


class ReportTaker:
    """Takes reports; blocks while `free` is not set."""

    def __init__(self):
        self.reports = []
        self.taken = threading.Semaphore(0)
        self.free = threading.Event()
        self.free.set()

    def __call__(self, measures):
        self.free.wait(WITHIN_S)
        self.reports.append(measures)
        self.taken.release()

    def wait_taken(self):
        assert self.taken.acquire(timeout=WITHIN_S)

    def count(self, name):
        return sum(each.counts.get(name, 0) for each in self.reports)


@pytest.fixture
def metrics():
    return WorkerMetrics("iris", "1.0", 10)


@pytest.fixture
def taker():
    return ReportTaker()


def test_entries_of_all_threads_are_in_the_reports_exactly_once(metrics, taker):
    """Eight threads count while reports are made; in the end every entry is in one of them."""
    endpoint = metrics.endpoint_metrics("predict")

    def work():
        for _ in range(2000):
            endpoint.increment("CacheHits")
            endpoint.record_duration("HandlerTime", 0.001)

    with Reporter(metrics, 0.001, taker):
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert taker.count("CacheHits") == 16_000
    assert sum(report.summaries["HandlerTime"].count for report in taker.reports) == 16_000


def test_entries_from_before_the_end_are_reported_at_the_end(metrics, taker):
    """The rest of the interval does not matter."""
    with Reporter(metrics, 3600, taker):
        metrics.endpoint_metrics("predict").increment("Loads")
        metrics.endpoint_metrics("other").record_duration("LoadTime", 0.25)
    first, second = taker.reports
    assert [(each.model, each.version, each.endpoint) for each in taker.reports] == [
        ("iris", "1.0", "predict"),
        ("iris", "1.0", "other"),
    ]
    assert first.counts == {"Loads": 1}
    assert second.summaries["LoadTime"].sample == [250.0]


def test_without_entries_nothing_is_reported(metrics, taker):
    """The reporter does not wake up either: it waits without a timeout for a first entry, and then once for its interval."""
    waits = []
    wait_for = metrics._changed.wait_for
    metrics._changed.wait_for = lambda condition, timeout=None: waits.append(timeout) or wait_for(condition, timeout)
    with Reporter(metrics, 0.01, taker):
        metrics.endpoint_metrics("predict").increment("Loads")
        taker.wait_taken()
    assert len(taker.reports) == 1
    assert waits == [None, 0.01, None, 0.01]


def test_entries_accumulate_while_nobody_takes_a_report(metrics, taker):
    """They stay bounded, and recording never blocks."""
    endpoint = metrics.endpoint_metrics("predict")
    taker.free.clear()
    with Reporter(metrics, 0.001, taker):
        for _ in range(5000):
            endpoint.record_duration("HandlerTime", 0.001)
        taker.free.set()
        taker.wait_taken()
    assert sum(report.summaries["HandlerTime"].count for report in taker.reports) == 5000
    assert all(len(report.summaries["HandlerTime"].sample) <= 10 for report in taker.reports)


def test_a_blocked_taker_does_not_delay_the_end(metrics, taker, monkeypatch):
    """A drained worker must exit, with its last report or without."""
    monkeypatch.setattr("base.telemetry.recorder._CLOSE_S", 0.05)
    taker.free.clear()
    reporter = Reporter(metrics, 3600, taker)
    with reporter:
        metrics.endpoint_metrics("predict").increment("Loads")
    assert reporter._thread.is_alive()
    taker.free.set()
    reporter._thread.join(WITHIN_S)


def test_a_worker_reads_its_metrics_config_from_its_environment():
    """Without it the worker records nothing."""
    assert metrics_config_from(metrics_environment(MetricsConfig(2.5, 300))) == MetricsConfig(2.5, 300)
    assert metrics_config_from(metrics_environment(None)) is None


def test_a_cache_records_loads_failures_and_evictions(metrics, tmp_path):
    """One of three models fits, and a fourth does not exist."""
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(name)
    client = afs.FsClient(base_path=tmp_path, path_template="/{name}.txt")
    cache = Cache(afs.CacheConfig(client=client, load_model=len, max_size=1), metrics=metrics.endpoint_metrics("predict"))
    for name in "abcx":
        loaded = threading.Event()
        found = cache.lookup({"name": name}, loaded.set)
        assert isinstance(found, Pending)
        assert loaded.wait(WITHIN_S)
        if name == "x":
            found.cancel()
        else:
            found.take_lease().release()
    assert cache.close()
    (measured,) = metrics.take_reports()
    assert measured.counts == {"Loads": 3, "LoadFailures": 1, "Evictions": 2}
    assert measured.summaries["LoadTime"].count == 3
