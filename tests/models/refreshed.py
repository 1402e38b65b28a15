"""Serves the texts of files as models, to show by HTTP what a cache does: `refreshed.py FOLDER`."""

from __future__ import annotations

import logging
import sys
import time
from typing import Annotated

import polars as pl

import base.artifacts as afs
import base.service as svc


class Spec(afs.ArtifactSpec[str]):
    version: Annotated[int, afs.LatestKey()]


def load(content: bytes) -> str:
    """Slow for what says so."""
    if content == b"slow":
        time.sleep(2)
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
        load_timeout_s=0.5,
    ),
)
def text(model: str, records_df: pl.DataFrame) -> list[str]:
    return [model] * records_df.height


@svc.endpoint(path="/counted/{word}", cache_config=afs.CacheConfig(load_model=lambda parameters: len(parameters["word"])))
def counted(model: int, records_df: pl.DataFrame) -> list[int]:
    return [model] * records_df.height


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    svc.Server(port=0).register(endpoint=text).register(endpoint=counted).run()
