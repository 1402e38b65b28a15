"""The store of fitted contexts: versions, their age and order, locks, other machines, and names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from obstore.store import LocalStore, MemoryStore

import base.artifacts as afs
from base.contexts.store import ContextStore, ContextVersion
from base.errors import Misfit, NotFound


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEXDOCK_CACHE_PATH", str(tmp_path / "cache"))


FITS = """
import sys, time
from pathlib import Path
import polars as pl
sys.path.insert(0, sys.argv[1])
from base.artifacts import FsClient
from base.contexts.store import ContextStore
store, parameters = ContextStore(FsClient(sys.argv[2], "fits/{context_id}/{version}"), None), {"context_id": "shared"}
with store.locked(parameters):
    if store.newest(parameters) is None:
        with open(sys.argv[3], "a") as log:
            log.write("fitted\\n")
        time.sleep(0.2)
        store.save(parameters, "a" * 32, lambda path: path.write_text("2.0"), 2)
"""


def test_several_processes_fit_one_context_once(tmp_path: Path, cache_folder: None) -> None:
    """As the workers of a release do."""
    root = Path(__file__).resolve().parents[3]
    arguments = [sys.executable, "-c", FITS, str(root), str(tmp_path / "store"), str(tmp_path / "log")]
    processes = [subprocess.Popen(arguments) for _ in range(6)]
    assert [each.wait() for each in processes] == [0] * 6
    assert (tmp_path / "log").read_text() == "fitted\n"
    assert not list((tmp_path / "cache" / "contexts").iterdir())


def test_a_lock_of_a_process_that_was_killed_is_free(tmp_path: Path, cache_folder: None) -> None:
    """A fit that dies with its worker leaves nothing that others wait for."""
    code = FITS.replace("time.sleep(0.2)", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    root = Path(__file__).resolve().parents[3]
    arguments = [str(root), str(tmp_path / "store"), str(tmp_path / "log")]
    assert subprocess.run([sys.executable, "-c", code, *arguments], check=False).returncode < 0
    assert subprocess.run([sys.executable, "-c", FITS, *arguments], check=True).returncode == 0
    assert (tmp_path / "log").read_text() == "fitted\n" * 2


def test_old_contexts_are_not_used_and_are_fitted_again(tmp_path: Path, cache_folder: None) -> None:
    """By the time of their fit, which their name has."""
    now_s = 1_000_000.0
    store = ContextStore(afs.FsClient(tmp_path, "{context_id}/{version}"), 60.0, lambda: now_s)
    version, size_bytes = store.save({"context_id": "a"}, "0" * 32, lambda path: path.write_text("1.5"), 2)
    assert (size_bytes, store.newest({"context_id": "a"})) == (3, version)
    assert store.list() == [{"context_id": "a"}]
    now_s += 61
    assert store.newest({"context_id": "a"}) is None
    assert store.list() == []
    with pytest.raises(NotFound, match="fit it first"):
        store.locate({"context_id": "a"})


def test_versions_keep_their_order_whatever_the_clock_does(tmp_path: Path) -> None:
    """A version that is stored later is newer, even if the clock was set back; and files of others are no versions."""
    now_s = 2_000_000.0
    store = ContextStore(afs.FsClient(tmp_path, "{context_id}/{version}"), None, lambda: now_s)
    first, _ = store.save({"context_id": "a"}, "1" * 32, lambda path: path.write_text("1"), 5)
    now_s -= 3600
    second, _ = store.save({"context_id": "a"}, "0" * 32, lambda path: path.write_text("2"), 5)
    (tmp_path / "a" / ".9999999999999-unfinished").write_text("3")
    (tmp_path / "a" / "notes.txt").write_text("4")
    assert first < second == store.newest({"context_id": "a"})
    assert store.locate({"context_id": "a"}).location.read_text() == "2"
    assert ContextVersion.parse("notes.txt") is None
    with pytest.raises(Misfit):
        store.newest({"context_id": "../a"})


class Racing(afs.FsClient):
    """A store in which another machine stores at the last moment before each of ours."""

    def __init__(self, root: Path, race: Callable[[], object]) -> None:
        super().__init__(root, "{context_id}/{version}")
        self.race = race

    def store(self, parameters: Mapping[str, str], source: Path) -> None:
        self.race()
        super().store(parameters, source)


def write(path: Path) -> None:
    path.write_text("1.5")


A = {"context_id": "a"}


@pytest.mark.parametrize("skew_s", [-3600.0, 3600.0])
def test_of_equal_versions_of_two_machines_one_stays(tmp_path: Path, skew_s: float) -> None:
    """Also if both have looked before either has stored, and whatever their clocks say: the first by its name."""
    other = ContextStore(afs.FsClient(tmp_path, "{context_id}/{version}"), None, lambda: 1e6 + skew_s)
    theirs: list[ContextVersion] = []
    one = ContextStore(Racing(tmp_path, lambda: theirs.append(other.save(A, "1" * 32, write, 2)[0])), None, lambda: 1e6)
    version, size_bytes = one.save(A, "1" * 32, write, 2)
    assert [each.name for each in (tmp_path / "a").iterdir()] == [str(version)]
    assert (version == theirs[0], size_bytes) == ((True, None) if skew_s < 0 else (False, 3))


def test_a_fit_that_another_machine_has_stored_meanwhile_is_dropped(tmp_path: Path) -> None:
    """Nothing is stored for it. A fit of another table that is newer stays, and so does what was fitted on this one before."""
    store = ContextStore(afs.FsClient(tmp_path, "{context_id}/{version}"), None)
    first, _ = store.save(A, "1" * 32, write, 9)
    assert store.save(A, "1" * 32, write, 9) == (first, None)
    second, _ = store.save(A, "2" * 32, write, 9)
    third, size_bytes = store.save(A, "1" * 32, write, 9)
    assert size_bytes == 3
    assert sorted(each.name for each in (tmp_path / "a").iterdir()) == [str(each) for each in (first, second, third)]
    newer = ContextStore(Racing(tmp_path, lambda: store.save(A, "3" * 32, write, 9)), None, lambda: 1e6)
    assert newer.save(A, "4" * 32, write, 9)[1] == 3
    assert store.newest(A) in {ContextVersion(third.created_ms + 1, "4" * 32), max(store._versions(A))}


def test_contexts_that_are_too_old_leave_the_store(tmp_path: Path) -> None:
    """At a later fit of any context: their names are digests of tables that nobody sends again. What others keep there stays."""
    now_s = 1e6
    store = ContextStore(afs.FsClient(tmp_path, "{context_id}/{version}"), 3600.0, lambda: now_s)
    store.save(A, "1" * 32, write, 2)
    (tmp_path / "a" / "notes.txt").write_text("of others")
    now_s += 3601
    store.save({"context_id": "b"}, "2" * 32, write, 2)
    assert sorted(str(each.relative_to(tmp_path)) for each in tmp_path.glob("*/*")) == [
        "a/notes.txt",
        f"b/{now_s * 1000:013.0f}-{'2' * 32}",
    ]


class Vanishing(afs.FsClient):
    """A store from which another machine deletes a version as soon as it was listed."""

    def __init__(self, root: Path, vanish: Callable[[Mapping[str, str]], object]) -> None:
        super().__init__(root, "{context_id}/{version}")
        self.vanish = vanish

    def locate(self, parameters: Mapping[str, str]) -> Any:
        self.vanish(parameters)
        return super().locate(parameters)


def test_a_version_that_is_replaced_while_it_is_looked_up_is_not_missed(tmp_path: Path) -> None:
    """The newest one that is there then is found; a context that was deleted is not."""
    store = ContextStore(afs.FsClient(tmp_path, "{context_id}/{version}"), None)
    old, _ = store.save(A, "1" * 32, write, 1)

    def replace(parameters: Mapping[str, str]) -> None:
        if parameters["version"] == str(old):
            store.save(A, "2" * 32, write, 1)

    found = ContextStore(Vanishing(tmp_path, replace), None).locate(A)
    assert found.location.name == str(store.newest(A)) != str(old)
    with pytest.raises(NotFound, match="fit it first"):
        ContextStore(Vanishing(tmp_path, lambda _: store.delete(A)), None).locate(A)


@pytest.mark.parametrize("store", ["folder", "memory", "local"])
@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "",
        "../b",
        "/etc/b",
        "a/b",
        "a\\b",
        "a\0",
        "a\n",
        "x" * 129,
        "\uff0e\uff0e",
        "\u2025",
        "a\u0301",
        "\u2215etc",
        "~",
        "%2e%2e",
    ],
)
def test_names_never_leave_the_folder_of_a_store(tmp_path: Path, store: str, name: str) -> None:
    """In no store: nothing is found, written or deleted."""
    (tmp_path / "store").mkdir()
    (tmp_path / "etc").mkdir()
    objects = {"memory": MemoryStore, "local": lambda: LocalStore(tmp_path / "store")}
    template = "fits/{context_id}/{version}"
    client: Any = (
        afs.FsClient(tmp_path / "store", template) if store == "folder" else afs.ObjectStoreClient(objects[store](), template)  # type: ignore[operator]
    )
    contexts = ContextStore(client, None)
    for act in (
        lambda: contexts.save({"context_id": name}, "1" * 32, write, 2),
        lambda: contexts.newest({"context_id": name}),
        lambda: contexts.locate({"context_id": name}),
        lambda: contexts.delete({"context_id": name}),
    ):
        with pytest.raises(Misfit, match="context_id must have 1 to 128"):
            act()
    assert [*contexts.list()] == []
    assert not [*(tmp_path / "store").rglob("*")]
