"""The file of traffic policies, which outlives a supervisor."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from base.errors import Unavailable
from runtime.supervisor.rollout.policy_record import HISTORY_MAX, PolicyRecord, TrafficShift
from runtime.supervisor.rollout.policy_store import FILE, PolicyStore, PolicyStoreUnusable
from runtime.supervisor.rollout.traffic_policy import Shadow, Split, TrafficPolicy
from small_disk import mounted_hanging

RECORD = PolicyRecord(
    TrafficPolicy(split=Split({"0.1.0": 9, "canary": 1}, "header:x-user"), labels={"canary": "0.2.0"}, rolled_back={"f" * 64: "it died"})
)


def put(store: PolicyStore, model: str, record: PolicyRecord) -> None:
    """Stores a record whatever was stored before."""
    asyncio.run(store.put_record(model, lambda _: record))


def test_policies_are_there_for_the_next_supervisor(tmp_path: Path) -> None:
    """The file is complete, only this user can read it, and no temporary file is left."""
    folder = tmp_path / "deep" / "state"
    with PolicyStore(folder) as store:
        put(store, "iris", RECORD)
        put(store, "rose", PolicyRecord(TrafficPolicy(pin="1.0")))
    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o600
    assert sorted(path.name for path in folder.iterdir()) == ["lock", FILE]
    (folder / f".{FILE}.1.part").touch()  # of a supervisor that was killed while it wrote
    with PolicyStore(folder) as store:
        assert sorted(path.name for path in folder.iterdir()) == ["lock", FILE]
        assert store.records == {"iris": RECORD, "rose": PolicyRecord(TrafficPolicy(pin="1.0"))}


def test_two_supervisors_cannot_write_the_same_file(tmp_path: Path) -> None:
    """The second would overwrite the policies of the first."""
    with PolicyStore(tmp_path), pytest.raises(PolicyStoreUnusable, match="--state-path"), PolicyStore(tmp_path):
        pass
    with PolicyStore(tmp_path) as store:
        assert store.records == {}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is damaged"),
        ('{"format": 1, "models": {"iris": {"traffic": {"pin": 3}}}}', "is damaged"),
        ('{"format": 1, "models": {}, "more": 1}', "is damaged"),
        ('{"format": 2, "models": {"iris": 7}}', "newer Pexdock"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, content: str, reason: str) -> None:
    """A forgotten pin would move requests. The file is left unchanged, so that people can repair it."""
    (tmp_path / FILE).write_text(content)
    with pytest.raises(PolicyStoreUnusable, match=reason), PolicyStore(tmp_path):
        pass
    assert (tmp_path / FILE).read_text() == content


def test_an_order_that_cannot_be_stored_is_refused_and_a_traffic_shift_is_not(tmp_path: Path) -> None:
    """Nobody ordered the shift; it is in force until the supervisor exits."""
    with PolicyStore(tmp_path / "state") as store:
        put(store, "iris", RECORD)
        (tmp_path / "state" / f".{FILE}.{os.getpid()}.part").mkdir()  # as a full disk, writing fails, also for root
        with pytest.raises(Unavailable, match="Is a directory"):
            put(store, "iris", PolicyRecord())
        assert store.records == {"iris": RECORD}
        store.set_records({"iris": PolicyRecord()})
        asyncio.run(store.finish())
        assert store.records == {"iris": PolicyRecord()}
    assert json.loads((tmp_path / "state" / FILE).read_text())["models"]["iris"]["traffic"]["labels"] == {"canary": "0.2.0"}


def test_the_history_is_bounded_and_ends_with_the_latest_shift(tmp_path: Path) -> None:
    """A model that is dropped every minute does not fill the disk."""
    record = PolicyRecord()
    for number in range(HISTORY_MAX + 5):
        record = record.with_shift(TrafficShift("now", str(number), ""))
    assert [shift.what for shift in record.history] == [str(number) for number in range(5, HISTORY_MAX + 5)]


def test_the_file_of_pexdock_0_1_0_is_read_and_written_under_the_same_names(tmp_path: Path) -> None:
    """An upgrade keeps every pin, split, label and rollback, and a downgrade to 0.1.0 can read the file again."""
    content = {
        "format": 1,
        "models": {
            "iris": {
                "traffic": {
                    "pin": "",
                    "split": {"weights": {"0.1.0": 9, "canary": 1}, "by": "header:x-user"},
                    "shadow": {"to": "0.3.0", "percent": 12.5},
                    "labels": {"canary": "0.2.0"},
                    "taken_back": {"f" * 64: "it was rolled back at 2025-11-02T10:00:00+00:00"},
                    "served": ["a" * 64, "b" * 64],
                },
                "history": [{"at": "2025-11-02T09:00:00+00:00", "what": "0.1.0 (aaaaaaaaaaaa)", "why": "it is the first"}],
            },
            "rose": {
                "traffic": {"pin": "1.0", "split": None, "shadow": None, "labels": {}, "taken_back": {}, "served": []},
                "history": [],
            },
        },
    }
    (tmp_path / FILE).write_text(json.dumps(content))
    with PolicyStore(tmp_path) as store:
        iris = store.records["iris"]
        assert iris.traffic == TrafficPolicy(
            split=Split({"0.1.0": 9, "canary": 1}, "header:x-user"),
            shadow=Shadow("0.3.0", 12.5),
            labels={"canary": "0.2.0"},
            rolled_back={"f" * 64: "it was rolled back at 2025-11-02T10:00:00+00:00"},
            served=["a" * 64, "b" * 64],
        )
        assert iris.history == [TrafficShift("2025-11-02T09:00:00+00:00", "0.1.0 (aaaaaaaaaaaa)", "it is the first")]
        assert store.records["rose"] == PolicyRecord(TrafficPolicy(pin="1.0"))
        put(store, "iris", iris)
    written = json.loads((tmp_path / FILE).read_text())
    assert [record.pop("paths") for record in written["models"].values()] == [[], []]  # 0.1.0 ignores what it does not know here
    assert written == content


def test_removed_policies_are_stored_again_from_memory(tmp_path: Path) -> None:
    """The folder is locked again, too."""
    folder = tmp_path / "state"
    with PolicyStore(folder) as store:
        assert not asyncio.run(store.restore())
        put(store, "iris", RECORD)
        content = (folder / FILE).read_bytes()
        shutil.rmtree(folder)
        assert asyncio.run(store.restore())
        assert (folder / FILE).read_bytes() == content
        with pytest.raises(PolicyStoreUnusable), PolicyStore(folder):
            pass
        assert not asyncio.run(store.restore())


def test_a_folder_that_was_never_usable_is_not_restored() -> None:
    """The start has logged that, and nothing has to be tried again."""
    with PolicyStore(Path("/proc/none/state")) as store:
        store.set_records({"iris": RECORD})
        assert not asyncio.run(store.restore())


def pinned(record: PolicyRecord) -> PolicyRecord:
    return replace(record, traffic=TrafficPolicy(pin="1.0"))


def test_orders_wait_for_a_disk_that_hangs_and_lose_no_automatic_change(tmp_path: Path) -> None:
    """The loop goes on. Each order keeps what changed while it was being written, and one that is no longer valid then changes nothing."""
    shift = TrafficShift("now", "0.2.0", "it is the newest release that is ready")

    def labelled_first(record: PolicyRecord) -> PolicyRecord:
        if record.history:
            raise Unavailable("there was a shift meanwhile")
        return replace(record, traffic=TrafficPolicy(labels={"canary": "1.0"}))

    async def order(store: PolicyStore, hang: Callable[[], None], go_on: Callable[[], None]) -> None:
        hang()
        orders = [
            asyncio.ensure_future(store.put_record("iris", pinned)),
            asyncio.ensure_future(store.put_record("rose", labelled_first)),
            asyncio.ensure_future(store.put_record("iris", lambda record: replace(record, paths=["/iris"]))),
        ]
        done, _ = await asyncio.wait(orders, timeout=0.2)
        assert not done
        assert store.records == {}
        store.set_records({"iris": PolicyRecord(history=[shift]), "lily": PolicyRecord(history=[shift])})
        store.write_changes()
        assert set(store.records) == {"iris", "lily"}  # in force before it is written
        go_on()
        await asyncio.gather(*orders)
        assert store.records["iris"] == PolicyRecord(TrafficPolicy(pin="1.0"), history=[shift], paths=["/iris"])
        assert store.records["rose"].traffic.labels == {"canary": "1.0"}
        hang()
        late = asyncio.ensure_future(store.put_record("fern", labelled_first))
        assert not (await asyncio.wait({late}, timeout=0.2))[0]
        store.set_records({"fern": PolicyRecord(history=[shift])})
        store.write_changes()
        go_on()
        with pytest.raises(Unavailable, match="meanwhile"):
            await late
        assert store.records["fern"] == PolicyRecord(history=[shift])
        await store.finish()

    with mounted_hanging(tmp_path / "disk") as disk:
        with PolicyStore(disk.path / "state") as store:
            asyncio.run(order(store, disk.hang, disk.go_on))
            in_force = store.records
        with PolicyStore(disk.path / "state") as store:
            assert store.records == in_force


def test_an_order_that_fails_after_a_long_write_changes_nothing(tmp_path: Path) -> None:
    """What changed by itself meanwhile is kept, and stored as soon as that is possible."""
    slow = tmp_path / f".{FILE}.{os.getpid()}.part"
    changed = PolicyRecord(paths=["/iris"])

    async def order(store: PolicyStore) -> None:
        os.mkfifo(slow)  # opening it waits for a reader, and it cannot be synced
        ordered = asyncio.ensure_future(store.put_record("iris", pinned))
        assert not (await asyncio.wait({ordered}, timeout=0.2))[0]
        store.set_records({"iris": changed})
        store.write_changes()
        reader = os.open(slow, os.O_RDWR)
        with pytest.raises(Unavailable, match="cannot use"):
            await ordered
        os.close(reader)
        assert store.records == {"iris": changed}
        await store.finish()

    with PolicyStore(tmp_path) as store:
        asyncio.run(order(store))
    with PolicyStore(tmp_path) as store:
        assert store.records == {"iris": changed}
