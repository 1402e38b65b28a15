"""A model that does, at `/silent`, what the first row's `do` names to the log of its process, and then fails or answers as `then` says."""

import io
import logging
import logging.config
import os
import sys
import time

import polars as pl

import base.artifacts as afs
import base.service as svc


def disables_loggers():
    logging.config.dictConfig({"version": 1})


def forbids_levels():
    logging.disable(logging.CRITICAL)


def removes_handlers():
    logging.basicConfig(force=True, handlers=[logging.NullHandler()])
    logging.lastResort = None


def breaks_records():
    logging.setLogRecordFactory(lambda *_, **__: 1 / 0)


def repairs_records():
    logging.setLogRecordFactory(logging.LogRecord)


def replaces_stderr():
    sys.stderr = sys.stdout = io.StringIO()


def redirects_stderr():
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.dup2(null, 1)


def prints_much():
    line = b"x" * 999 + b"\n"
    for _ in range(6000):
        os.write(1, line)


def logs():
    logging.getLogger("silent").info("an information")
    logging.getLogger("silent").warning("a warning\nof two lines")
    sys.stdout.write("a print\n")
    os.write(1, b"a print without an end")
    logging.getLogger("silent").error("an error")


def configures():
    """As in a plain program, where nobody has called it before."""
    logging.basicConfig(format="own format: %(message)s", stream=sys.stdout)
    logging.getLogger("silent").warning("in it")


def nothing():
    pass


def raises():
    raise ValueError("the reason")


def returns_too_few():
    return []


def sleeps():
    time.sleep(2)
    return [0]


def exits():
    sys.exit(3)


def answers():
    return [0]


@svc.endpoint(path="/silent", batch_max_size=1)
def does(records_df: pl.DataFrame):
    globals()[records_df["do"][0]]()
    return globals()[records_df["then"][0]]()


def load(path):
    if path.endswith("passwd"):
        raise OSError("no licence")


CACHE = afs.CacheConfig(client=afs.FsClient(base_path="/etc", path_template="/{name}"), load_model=load)


@svc.endpoint(path="/loads/{name}", cache_config=CACHE)
def loads(records_df: pl.DataFrame, model: object):
    return [0]


predict = [does, loads]
