"""Serves the texts of files as models, to show by HTTP what a cache does: `refreshed.py FOLDER`."""

from __future__ import annotations

import logging
import resource
import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl

import base.artifacts as afs
import base.service as svc


class Spec(afs.ArtifactSpec[str]):
    version: Annotated[int, afs.LatestKey()]


def load(content: bytes) -> str:
    """What says that it is slow waits for the file `go`, and says in another one that it did."""
    if content == b"slow":
        while not Path(sys.argv[1], "go").exists():
            time.sleep(0.01)
        with Path(sys.argv[1], "waited").open("a") as file:
            file.write("once\n")
    if content == b"broken":
        raise RuntimeError("cannot be read")
    return content.decode()


@svc.endpoint(
    path="/text/{version}",
    cache_config=afs.CacheConfig(
        client=afs.FsClient(base_path=sys.argv[1], path_template="/v{version}.txt"),
        load_model=load,
        load_as="bytes",
        spec=Spec,
        interval=0.2,
        load_timeout_s=3.0,
    ),
)
def text(model: str, records_df: pl.DataFrame) -> list[str]:
    return [model] * records_df.height


@svc.endpoint(path="/counted/{word}", cache_config=afs.CacheConfig(load_model=lambda parameters: len(parameters["word"])))
def counted(model: int, records_df: pl.DataFrame) -> list[int]:
    return [model] * records_df.height


@svc.endpoint(path="/version/{version}", cache_config=text.cache_config)
def version(model: str, records_df: pl.DataFrame, spec: Spec, version: int) -> list[str]:
    return [f"{model}: {spec.version!r} {version!r}"] * records_df.height


def fill(parameters: dict[str, str]) -> np.ndarray:
    return np.full(int(parameters["mb"]) * 2**17, 1.0)  # 8 bytes each, and no page of them shared


@svc.endpoint(
    path="/filled/{mb}", cache_config=afs.CacheConfig(load_model=fill, max_size=1, unload=lambda model: unloaded.append(model.nbytes))
)
def filled(model: np.ndarray, records_df: pl.DataFrame) -> pl.Series:
    return records_df["a"] * float(model[-1])


unloaded: list[int] = []


@svc.endpoint(path="/memory")
def memory(records_df: pl.DataFrame) -> pl.DataFrame:
    """What this process has in memory, and the bytes of each model that was unloaded."""
    rss = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return records_df.select(rss=pl.lit(rss), unloaded=pl.lit(unloaded, dtype=pl.List(pl.Int64)))


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    server = svc.Server(port=0)
    for each in (text, counted, version, filled, memory):
        server.register(endpoint=each)
    server.run()
