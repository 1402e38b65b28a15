"""The shutdown of a worker while other threads drain it."""

import os
import sys
import threading

import polars as pl
import pytest

import base.service as svc
from base.worker.worker import Worker


@svc.endpoint("/double")
def double(records_df: pl.DataFrame) -> pl.Series:
    return records_df["a"] * 2


@pytest.fixture
def frequent_thread_switches():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_draining_a_worker_while_it_closes_writes_to_no_other_descriptor(tmp_path, frequent_thread_switches, monkeypatch):
    """A checks that the descriptor is open, B closes it, and A writes: at best an error, at worst into a file opened meanwhile."""
    errors = []
    open_now = set()
    close, write = os.close, os.eventfd_write

    def recording_close(fd):
        open_now.discard(fd)
        close(fd)

    def recording_write(fd, value):
        if fd not in open_now:
            errors.append(fd)
        write(fd, value)

    monkeypatch.setattr("os.close", recording_close)
    monkeypatch.setattr("os.eventfd_write", recording_write)
    for number in range(200):
        worker = Worker("m", "1", [double], tmp_path / f"{number}.sock")
        open_now.add(worker._wakeup.fileno())
        worker.listen()
        ready = threading.Barrier(2)

        def drain_repeatedly(worker=worker, ready=ready):
            ready.wait()
            try:
                for _ in range(20):
                    worker.drain()
            except OSError as exc:
                errors.append(exc)

        draining = threading.Thread(target=drain_repeatedly)
        draining.start()
        ready.wait()
        worker.close()
        draining.join()
    assert not errors
