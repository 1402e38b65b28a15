"""How the work of supervisor and worker grows with log lines, sources, cache entries and paths: never faster than they do."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing

import polars as pl
import pytest

import base.artifacts as afs
import base.service as svc
from base.artifacts.cache.cache import Cache, Lease, Pending
from base.async_runner import AsyncRunner
from base.endpoint.path import path_pattern, path_shape
from base.ipc.cache_control import CacheEntries, ListCacheEntries
from base.worker.cache_admin import CacheAdmin
from base.worker.prediction.stream_parts import PartEncoder, PartIterator, part_encoder
from release_states import release
from runtime.admin.schemas import ModelCaches, WorkerCaches
from runtime.cli.views.cache_table import caches_as_text
from runtime.supervisor.host.log_buffer import LogBuffer
from runtime.supervisor.rollout import conflicts
from runtime.supervisor.rollout.path_claims import path_form
from runtime.supervisor.rollout.release import Release
from scaling import growth

LINEAR_MAX = 2.6
"""Largest factor that counts as linear for twice the size. Quadratic work has 4."""


@pytest.mark.parametrize("sources", [1, 40])
def test_lines_are_kept_and_listed_in_linear_time(sources: int) -> None:
    def prepare(size: int) -> Callable[[], object]:
        def keep() -> None:
            buffer = LogBuffer()
            for number in range(size):
                record = logging.LogRecord("runtime", logging.INFO, "", 0, "%s", (f"line {number}",), None)
                record.source, record.pid = f"m{number % sources} 0.1.0", 7
                buffer.handle(record)
            buffer.last_lines(size, bool)

        return keep

    assert growth(prepare, 2000) < LINEAR_MAX


def test_sources_of_the_log_take_linear_time() -> None:
    """Also more of them than are kept."""

    def prepare(size: int) -> Callable[[], object]:
        def keep() -> None:
            buffer = LogBuffer()
            for number in range(size):
                record = logging.LogRecord("runtime", logging.INFO, "", 0, "line", (), None)
                record.source, record.pid = f"m{number} 0.1.0", 7
                buffer.handle(record)

        return keep

    assert growth(prepare, 500) < LINEAR_MAX


def made_of(parameters: object) -> str:
    return str(parameters)


@svc.endpoint(path="/named/{name}", cache_config=afs.CacheConfig(load_model=made_of, max_size=10_000))
def named(model: str, records_df: pl.DataFrame) -> list[str]:
    return [model] * records_df.height


def load_entry(cache: Cache, name: str) -> None:
    """Loads the model of this name."""
    done = threading.Event()
    found = cache.lookup({"name": name}, done.set)
    if isinstance(found, Pending):
        assert done.wait(60)
        found = found.take_lease()
    assert isinstance(found, Lease)
    found.release()


def test_entries_of_a_cache_are_listed_and_shown_in_linear_time() -> None:
    with ExitStack() as stack:

        def prepare(size: int) -> Callable[[], object]:
            assert named.cache_config is not None
            cache = stack.enter_context(closing(Cache(named.cache_config)))
            for number in range(size):
                load_entry(cache, str(number))
            admin = CacheAdmin("tiny", [(named, cache)])

            def show() -> None:
                answer = admin.handle_request(ListCacheEntries(3))
                assert isinstance(answer, CacheEntries)
                assert answer.caches[0].entry_count == size
                caches_as_text([ModelCaches("tiny", "1", [WorkerCaches(7, answer.caches, None)])])

            return show

        assert growth(prepare, 100) < LINEAR_MAX


@pytest.mark.parametrize("kind", ["parts", "rows", "pieces"])
def test_a_stream_is_written_in_linear_time(kind: str) -> None:
    """For its parts, for the rows of a part, and for the pieces to which a long part is cut."""

    def prepare(size: int) -> Callable[[], object]:
        def write() -> None:
            yielded = {"parts": [1] * size, "rows": [pl.DataFrame({"x": range(size)})], "pieces": ["x" * 100 * size]}[kind]
            encoder = PartEncoder(part_encoder(svc.endpoint("/stream")(lambda records_df: None)))
            parts = PartIterator((each for each in yielded), encoder, AsyncRunner())
            while parts.next_part(100):
                pass

        return write

    assert growth(prepare, 500) < LINEAR_MAX


def compare_paths(releases: list[Release]) -> None:
    path_pattern.cache_clear()  # else it would depend on the tests before
    path_shape.cache_clear()
    path_form.cache_clear()
    assert conflicts.find_conflicts(releases) == []


PATTERNS = {
    "literals": lambda number: [f"/m{number}"],
    "parameters": lambda number: [f"/m{number}/{{x}}/{{y}}"],
    "parameters first": lambda number: [f"/{{x}}/m{number}"],
    "both": lambda number: [f"/{{x}}/m{number}", f"/a/{{x}}/m{number}/{{y}}"],
    "crossing": lambda number: [f"/{{x}}/b{number}", f"/a{number}/c"],
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_paths_of_many_models_are_compared_in_linear_time(pattern: str) -> None:
    def prepare(size: int) -> Callable[[], object]:
        models = [release(f"m{number} 0.1", number, "running", ready=True, paths=PATTERNS[pattern](number)) for number in range(size)]
        return lambda: compare_paths(models)

    assert growth(prepare, 100) < LINEAR_MAX


def test_crossing_paths_of_one_model_are_compared_in_linear_time() -> None:
    """Each path of one half overlaps each of the other half, which within a model is allowed."""

    def prepare(size: int) -> Callable[[], object]:
        paths = [path for number in range(size) for path in (f"/a{number}/{{x}}", f"/{{x}}/b{number}")]
        models = [release("m 0.1", 0, "running", ready=True, paths=paths)]
        return lambda: compare_paths(models)

    assert growth(prepare, 100) < LINEAR_MAX


def test_versions_of_one_model_are_compared_in_linear_time() -> None:
    def prepare(size: int) -> Callable[[], object]:
        releases = [release(f"m 0.{number}", number, "running", ready=True, paths=[]) for number in range(size)]
        for number in range(size):
            releases.append(release(f"m 0.{number}", size + number, "refused", file=f"copy-{number}.pex"))
            releases[-1].contended = True

        def compare() -> None:
            assert conflicts.find_conflicts(releases) == conflicts.resolved_conflicts(releases) == []

        return compare

    assert growth(prepare, 100) < LINEAR_MAX


def test_all_releases_with_a_path_of_another_model_are_refused_in_one_round_in_linear_time() -> None:
    def prepare(size: int) -> Callable[[], object]:
        models = [release("a 0.1", 0, "running", ready=True, paths=["/{x}/c"])]
        models += [release(f"m{number} 0.1", number, "running", ready=True, paths=[f"/a{number}", "/{x}/{y}"]) for number in range(size)]

        def refuse() -> None:
            assert len(conflicts.find_conflicts(models)) == size

        return refuse

    assert growth(prepare, 100) < LINEAR_MAX
