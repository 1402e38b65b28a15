"""What a worker notes, from any of its threads, and when it reports."""

import threading

import pytest

import base.artifacts as afs
from base.artifacts.cache.cache import Cache
from base.artifacts.cache.entry import Pending
from base.ipc.metrics_report import MetricsConfig
from base.telemetry.recorder import Reporter, WorkerMetrics, metrics_config_from, metrics_environment

WITHIN_S = 10


class Taker:
    """Takes reports; `stuck` until it is told to go on."""

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
def recorder():
    return WorkerMetrics("iris", "1.0", 10)


@pytest.fixture
def taker():
    return Taker()


def test_measures_of_all_threads_are_in_the_reports_once(recorder, taker):
    """Eight threads count while reports are made; at the end every count is in one of them."""
    endpoint = recorder.endpoint_metrics("predict")

    def work():
        for _ in range(2000):
            endpoint.increment("CacheHits")
            endpoint.record_duration("HandlerTime", 0.001)

    with Reporter(recorder, 0.001, taker):
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert taker.count("CacheHits") == 16_000
    assert sum(report.summaries["HandlerTime"].count for report in taker.reports) == 16_000


def test_what_was_measured_before_the_end_is_reported_at_the_end(recorder, taker):
    """However long the interval still is."""
    with Reporter(recorder, 3600, taker):
        recorder.endpoint_metrics("predict").increment("Loads")
        recorder.endpoint_metrics("other").record_duration("LoadTime", 0.25)
    first, second = taker.reports
    assert [(each.model, each.version, each.endpoint) for each in taker.reports] == [
        ("iris", "1.0", "predict"),
        ("iris", "1.0", "other"),
    ]
    assert first.counts == {"Loads": 1}
    assert second.summaries["LoadTime"].sample == [250.0]


def test_nothing_measured_is_nothing_reported(recorder, taker):
    """And nothing is woken: the reporter waits without a time for a first measure, and then once for its interval."""
    waits = []
    wait_for = recorder._changed.wait_for
    recorder._changed.wait_for = lambda condition, timeout=None: waits.append(timeout) or wait_for(condition, timeout)
    with Reporter(recorder, 0.01, taker):
        recorder.endpoint_metrics("predict").increment("Loads")
        taker.wait_taken()
    assert len(taker.reports) == 1
    assert waits == [None, 0.01, None, 0.01]


def test_measures_gather_while_nobody_takes_a_report(recorder, taker):
    """They stay bounded, and whoever measures never waits."""
    endpoint = recorder.endpoint_metrics("predict")
    taker.free.clear()
    with Reporter(recorder, 0.001, taker):
        for _ in range(5000):
            endpoint.record_duration("HandlerTime", 0.001)
        taker.free.set()
        taker.wait_taken()
    assert sum(report.summaries["HandlerTime"].count for report in taker.reports) == 5000
    assert all(len(report.summaries["HandlerTime"].sample) <= 10 for report in taker.reports)


def test_a_taker_that_is_stuck_does_not_hold_up_the_end(recorder, taker, monkeypatch):
    """A worker that has drained must go, with its last report or without."""
    monkeypatch.setattr("base.telemetry.recorder._CLOSE_S", 0.05)
    taker.free.clear()
    reporter = Reporter(recorder, 3600, taker)
    with reporter:
        recorder.endpoint_metrics("predict").increment("Loads")
    assert reporter._thread.is_alive()
    taker.free.set()
    reporter._thread.join(WITHIN_S)


def test_a_worker_learns_how_to_measure_from_its_environment():
    """And measures nothing where nobody says so."""
    assert metrics_config_from(metrics_environment(MetricsConfig(2.5, 300))) == MetricsConfig(2.5, 300)
    assert metrics_config_from(metrics_environment(None)) is None


def test_a_cache_tells_of_loads_failures_and_evictions(recorder, tmp_path):
    """One model each of three fits, and a fourth is not there."""
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(name)
    client = afs.FsClient(base_path=tmp_path, path_template="/{name}.txt")
    cache = Cache(afs.CacheConfig(client=client, load_model=len, max_size=1), metrics=recorder.endpoint_metrics("predict"))
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
    (measured,) = recorder.take_reports()
    assert measured.counts == {"Loads": 3, "LoadFailures": 1, "Evictions": 2}
    assert measured.summaries["LoadTime"].count == 3
