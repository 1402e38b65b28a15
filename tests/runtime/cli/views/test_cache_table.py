"""Cache entries and refreshes as text for people."""

from __future__ import annotations

import re
from pathlib import Path

from base.ipc.cache_control import CacheState, EntryState
from runtime.admin.schemas import ModelCaches, ModelRefresh, WorkerCaches, WorkerProblem, WorkerRefresh
from runtime.cli.views.cache_table import caches_as_text, refresh_as_text


def entry(name: str, state: str = "fresh", **other: object) -> EntryState:
    known = {"age_s": 12.4, "next_refresh_s": 200.0, "loads": 1, "failures": 0, "last_error": None, "bytes": 1_234_567, "in_use": 0}
    return EntryState(parameters={"name": name, "date": "1 May"}, state=state, **(known | other))


def test_entries_are_listed_in_one_table_most_recently_used_first() -> None:
    """Cells are easy to read, and parameters have the form that `pexdock refresh` accepts."""
    entries = [
        entry("a", "loading", age_s=None, next_refresh_s=None, loads=0, bytes=0),
        entry("b", "stale", next_refresh_s=0.0, failures=3, last_error="load_failed: it\nbroke"),
        entry("c"),
    ]
    model = ModelCaches("iris", "0.1.0", [WorkerCaches(7, [CacheState("predict", "/p/{name}/{date}", 3, entries)])])
    assert caches_as_text([model]).splitlines() == [
        "iris 0.1.0",
        "  WORKER  ENDPOINT  PARAMETERS           STATE    AGE   NEXT REFRESH  LOADS  FAILURES  BYTES   LAST ERROR",
        "  7       predict   name=c 'date=1 May'  fresh    12 s  in 3 min      1      0         1.2 MB  -",
        "  7       predict   name=b 'date=1 May'  stale    12 s  now           1      3         1.2 MB  load_failed: it broke",
        "  7       predict   name=a 'date=1 May'  loading  -     -             0      0         0 B     -",
    ]


def test_remarks_about_workers_follow_the_table() -> None:
    """A worker that does not answer, has loaded nothing, has no caches, or has more entries than are shown."""
    workers = [
        WorkerCaches(7, error=WorkerProblem("unavailable", "the worker is not ready: starting")),
        WorkerCaches(8, [CacheState("predict", "/p", 0, []), CacheState("other", "/o", 9, [entry("a")])]),
        WorkerCaches(9),
    ]
    assert caches_as_text([ModelCaches("iris", "0.1.0", workers)]).splitlines()[3:] == [
        "  worker 7: the worker is not ready: starting",
        "  worker 8: predict has loaded nothing yet",
        "  worker 8: other has 9 entries; the latest used are shown",
        "  worker 9: no endpoint has a cache",
    ]


def test_a_long_error_is_cut() -> None:
    """Each entry stays on one line."""
    model = ModelCaches("iris", "0.1.0", [WorkerCaches(7, [CacheState("predict", "/p", 1, [entry("a", last_error="x" * 500)])])])
    assert caches_as_text([model]).splitlines()[2].endswith("x" * 119 + "…")


def test_models_are_separated_by_an_empty_line() -> None:
    """Each has a heading of its own."""
    model = ModelCaches("iris", "0.1.0", [WorkerCaches(7)])
    assert caches_as_text([model, model]) == "\n\n".join(["iris 0.1.0\n  worker 7: no endpoint has a cache"] * 2)


def test_refreshes_are_counted_by_worker_and_zero_is_explained() -> None:
    """A worker that did not answer comes with the reason."""
    troubled = WorkerRefresh(8, error=WorkerProblem("unavailable", "the worker is not ready: starting"))
    assert refresh_as_text(ModelRefresh("iris", "0.1.0", 2, [WorkerRefresh(7, 2), troubled])).splitlines() == [
        "iris 0.1.0: 2 refreshes started",
        "  worker 7: 2",
        "  worker 8: the worker is not ready: starting",
    ]
    assert "no matching entry is cached" in refresh_as_text(ModelRefresh("iris", "0.1.0", 0, [WorkerRefresh(7)]))


def test_the_documentation_shows_the_real_table() -> None:
    """It explains the columns by their names."""
    page = (Path(__file__).parents[4] / "docs" / "operations" / "caches.md").read_text()
    model = ModelCaches("iris", "0.1.0", [WorkerCaches(7, [CacheState("predict", "/p", 1, [entry("a")])])])
    head = re.split(" {2,}", caches_as_text([model]).splitlines()[1].strip())
    assert head in [re.split(" {2,}", line.strip()) for line in page.splitlines()]
    assert set(re.findall(r"^\| `([A-Z ]+)` \|", page, re.MULTILINE)) <= set(head)
