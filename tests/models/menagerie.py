"""Endpoints, one for each thing that a handler may do, served from this process: `python tests/models/menagerie.py FOLDER`."""

import logging
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl

import base.artifacts as afs
import base.service as svc
from base.errors import PeerError
from base.schema import Schema

STORE = Path(sys.argv[1])
kept: list[pl.DataFrame] = []
calls: list[int] = []
loads = threading.Event()


class Numbers(Schema):
    a: pl.Float64
    tag: pl.String | None = None


class Sums(Schema):
    total: pl.Float64
    tag: pl.String | None


@svc.endpoint(path="/double", batch_max_size=1000)
def double(records_df: Numbers.DataFrame) -> pl.Series:
    calls.append(records_df.height)
    return records_df["a"] * 2


@svc.endpoint(path="/{anything}")
def takes_every_path(records_df: pl.DataFrame) -> pl.DataFrame:
    return records_df


@svc.endpoint(path="/calls")
def how_often(records_df: pl.DataFrame) -> list[int]:
    return [len(calls)] * records_df.height


@svc.endpoint(path="/load")
def lets_load(records_df: pl.DataFrame) -> pl.DataFrame:
    loads.set()
    return records_df


@svc.endpoint(path="/sums")
def sums(records_df: Numbers.DataFrame) -> Sums.DataFrame:
    return records_df.select(total="a", tag="tag")


@svc.endpoint(path="/any/{name}")
def anything(records_df: pl.DataFrame) -> pl.DataFrame:
    return records_df


@svc.endpoint(path="/guilty", batch_max_size=1000)
def raises_on_a_negative(records_df: Numbers.DataFrame) -> np.ndarray:
    time.sleep(0.02)  # lets requests gather behind it
    if (records_df["a"] < 0).any():
        raise ValueError("secret of the model")
    return records_df["a"].to_numpy()


@svc.endpoint(path="/exits")
def calls_exit(records_df: Numbers.DataFrame) -> pl.DataFrame:
    sys.exit("nobody asked it to")


@svc.endpoint(path="/wrong")
def raises_an_error_of_the_wire(records_df: Numbers.DataFrame) -> pl.DataFrame:
    raise PeerError("not a handler's business")


@svc.endpoint(path="/short")
def returns_too_few_rows(records_df: Numbers.DataFrame) -> pl.DataFrame:
    return records_df.head(records_df.height - 1)


@svc.endpoint(path="/wide")
def returns_much(records_df: Numbers.DataFrame) -> pl.DataFrame:
    return records_df.select("a", text=pl.lit("x" * 1000))


@svc.endpoint(path="/keep")
def keeps_its_frame(records_df: pl.DataFrame) -> list[float]:
    kept.append(records_df)
    return records_df["a"].to_list()


@svc.endpoint(path="/kept")
def tells_what_it_kept(records_df: pl.DataFrame) -> pl.DataFrame:
    frame = kept[0]
    return pl.DataFrame({"first": [frame["a"][0]], "sum": [frame["a"].sum()]})


@svc.endpoint(path="/slow", warm_up=False)
def slow(records_df: Numbers.DataFrame) -> pl.Series:
    sys.stderr.write("slow has begun\n")
    time.sleep(3)
    return records_df["a"]


@svc.endpoint(path="/dies")
def dies(records_df: pl.DataFrame) -> pl.DataFrame:
    os._exit(9)


@svc.endpoint(path="/loud", warm_up=False)
def prints_much(records_df: Numbers.DataFrame) -> pl.Series:
    sys.stdout.write("x" * 1_000_000 + "\n")
    return records_df["a"]


def load(path: str) -> str:
    """What is called slow waits until /load is asked; what is called broken cannot be read."""
    name = Path(path).stem
    if name == "slow":
        assert loads.wait(20)
    if name == "broken":
        raise RuntimeError("cannot be read")
    assert threading.current_thread() is not threading.main_thread()
    return f"{name}: {Path(path).read_text()}"


@svc.endpoint(
    path="/stored/{name}",
    cache_config=afs.CacheConfig(client=afs.FsClient(base_path=STORE, path_template="/{name}.txt"), load_model=load),
)
def stored(model: str, records_df: Numbers.DataFrame) -> list[str]:
    return [model] * records_df.height


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    server = svc.Server(port=0)
    for each in list(vars().values()):
        if isinstance(each, svc.Endpoint):
            server.register(each)
    server.run()
