"""A store of artifacts without files, which counts loads, blocks them, and makes them fail."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import base.artifacts as afs
from base.errors import NotFound

WITHIN_S = 30


class Store:
    """A client of which every artifact exists except those called "missing". Counts its loads, and can block them."""

    parameters = ("name",)

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.fails: dict[str, BaseException] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Semaphore(0)

    def locate(self, parameters: Mapping[str, str]) -> afs.Artifact:
        if parameters["name"] == "missing":
            raise NotFound("no artifact for name='missing'")
        return afs.Artifact(Path("/store") / parameters["name"])

    def list(self) -> list[dict[str, str]]:
        return [{"name": "b"}, {"name": "a", "more": "x"}, {"name": "c"}, {"name": "d"}]

    def load(self, path: str) -> Any:
        self.began.release()
        assert self.gate.wait(WITHIN_S)
        name = Path(path).name
        self.loaded.append(name)
        if name in self.fails:
            raise self.fails[name]
        return Model(name)


class Model:
    def __init__(self, name: str) -> None:
        self.name = name
