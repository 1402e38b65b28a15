from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from base.testing import TestClient
from front_harness import Front, Workers, workers
from rawhttp import Raw
from small_disk import Disk, HangingDisk, mounted, mounted_hanging


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Workers]:
    """Makes workers of the model `tiny`."""
    with workers(tmp_path) as make:
        yield make


@pytest.fixture
def front() -> Iterator[Front]:
    """A front door with limits as they are by default."""
    with Front() as front:
        yield front


@pytest.fixture
def raw(served: TestClient) -> Iterator[Raw]:
    """A connection to what the module serves."""
    with Raw(served.address) as raw:
        yield raw


@pytest.fixture(params=["", "?"], ids=["fast", "slow"])
def way(request: pytest.FixtureRequest) -> str:
    """Returns what to append to a path: a query, even an empty one, keeps a request off the fast path."""
    return request.param


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A small file system of its own."""
    with mounted(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture
def hanging_disk(tmp_path: Path) -> Iterator[HangingDisk]:
    """A small file system of its own that can hang."""
    with mounted_hanging(tmp_path / "hanging") as disk:
        yield disk
