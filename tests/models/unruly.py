"""A model that does, at `/unruly`, what the first row's `do` names, and answers each row with its `x` doubled."""

import os
import signal
import sys
import tempfile
import time

import polars as pl

import base.service as svc


def blocks_signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def forks():
    """Both come back from here."""
    os.fork()


def forks_and_raises():
    if os.fork() == 0:
        raise ValueError("only in the copy")


def forks_and_exits():
    if os.fork() == 0:
        sys.exit(3)


def forks_and_stays():
    if os.fork() == 0:
        time.sleep(3600)


def prints_a_gigabyte():
    line = b"x" * 65_535 + b"\n"
    for _ in range(2**14):
        os.write(1, line)


def closes_every_descriptor():
    os.closerange(0, 65_536)


def changes_directory():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)


def nothing():
    pass


@svc.endpoint(path="/unruly", batch_max_size=1)
def predict(records_df: pl.DataFrame):
    globals()[records_df["do"][0]]()
    return records_df["x"] * 2
