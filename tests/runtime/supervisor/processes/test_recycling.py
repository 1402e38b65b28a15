"""Tests of which worker of a release is replaced while it serves, and when."""

import os
from types import SimpleNamespace

import pytest

from runtime.supervisor.processes.recycling import Recycling, requests_sent_interval
from runtime.supervisor.processes.worker_state import WorkerState

TEMPLATE = SimpleNamespace(title="tiny")


@pytest.fixture
def workers():
    """Two that are ready."""
    return [SimpleNamespace(state=WorkerState.READY, pid=os.getpid(), requests_sent=0, is_wanted=True) for _ in range(2)]


def test_one_worker_of_a_release_at_a_time_is_replaced(workers):
    """The next replacement starts when the first one is ready."""
    renewal = Recycling(None, 0, 100)
    for worker in workers:
        worker.requests_sent = 100
    new = renewal.start_replacement("tiny", workers, TEMPLATE)
    assert renewal.start_replacement("tiny", workers, TEMPLATE) is None
    assert renewal.pop_replaced_worker() is None
    new._machine.state = WorkerState.READY
    assert renewal.pop_replaced_worker() is workers[0]
    workers[0].state = WorkerState.RETIRED
    assert renewal.start_replacement("tiny", [*workers, new], TEMPLATE) is not None


def test_a_worker_below_the_limit_stays(workers):
    workers[0].requests_sent = 99
    assert Recycling(None, 0, 100).start_replacement("tiny", workers, TEMPLATE) is None


def test_each_bound_is_off_by_itself(workers):
    """This process holds more than a byte, and any number of requests is more than none."""
    workers[0].requests_sent = 10**9
    assert Recycling(None, 2**60, 0).start_replacement("tiny", workers, TEMPLATE) is None
    assert Recycling(None, 1, 0).start_replacement("tiny", workers[1:], TEMPLATE) is not None


@pytest.mark.parametrize(("max_requests", "told"), [(0, 0), (1, 1), (20, 1), (21, 2), (10_000, 500)])
def test_front_doors_report_often_enough(max_requests, told):
    """They report twenty times on the way to the limit, and never without a limit."""
    assert requests_sent_interval(max_requests) == told
