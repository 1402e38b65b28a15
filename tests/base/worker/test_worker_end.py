"""The end of a worker, which others hear of on threads of their own."""

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
def hasty_threads():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_who_tells_a_worker_to_end_while_it_does_writes_to_no_descriptor_of_others(tmp_path, hasty_threads, monkeypatch):
    """A looks whether its descriptor is open, B closes it, and A writes: at best an error, at worst into what was opened meanwhile."""
    troubles = []
    open_now = set()
    close, write = os.close, os.eventfd_write

    def noted_close(fd):
        open_now.discard(fd)
        close(fd)

    def noted_write(fd, value):
        if fd not in open_now:
            troubles.append(fd)
        write(fd, value)

    monkeypatch.setattr("os.close", noted_close)
    monkeypatch.setattr("os.eventfd_write", noted_write)
    for number in range(200):
        worker = Worker("m", "1", [double], tmp_path / f"{number}.sock")
        open_now.add(worker._wakeup.fileno())
        worker.listen()
        ready = threading.Barrier(2)

        def tell(worker=worker, ready=ready):
            ready.wait()
            try:
                for _ in range(20):
                    worker.drain()
            except OSError as exc:
                troubles.append(exc)

        telling = threading.Thread(target=tell)
        telling.start()
        ready.wait()
        worker.close()
        telling.join()
    assert not troubles
