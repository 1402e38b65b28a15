"""The file that outlives a supervisor."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from base.errors import Unavailable
from runtime.supervisor.rollout.policy_record import HISTORY_MAX, PolicyRecord, TrafficShift
from runtime.supervisor.rollout.policy_store import FILE, PolicyStore, PolicyStoreUnusable
from runtime.supervisor.rollout.traffic_policy import Shadow, Split, TrafficPolicy

SAID = PolicyRecord(
    TrafficPolicy(split=Split({"0.1.0": 9, "canary": 1}, "header:x-user"), labels={"canary": "0.2.0"}, rolled_back={"f" * 64: "it died"})
)


def test_what_was_said_is_there_for_the_next_supervisor(tmp_path: Path) -> None:
    """Whole, for this user alone, and nothing is left beside it."""
    folder = tmp_path / "deep" / "state"
    with PolicyStore(folder) as store:
        store.put_record("iris", SAID)
        store.put_record("rose", PolicyRecord(TrafficPolicy(pin="1.0")))
    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o600
    assert sorted(path.name for path in folder.iterdir()) == ["lock", FILE]
    with PolicyStore(folder) as store:
        assert store.records == {"iris": SAID, "rose": PolicyRecord(TrafficPolicy(pin="1.0"))}


def test_two_supervisors_do_not_write_one_file(tmp_path: Path) -> None:
    """The second would forget what the first was told."""
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
def test_what_cannot_be_read_is_no_silence(tmp_path: Path, content: str, reason: str) -> None:
    """A pin that is forgotten would move requests; the file stays as it is, for people to mend."""
    (tmp_path / FILE).write_text(content)
    with pytest.raises(PolicyStoreUnusable, match=reason), PolicyStore(tmp_path):
        pass
    assert (tmp_path / FILE).read_text() == content


def test_an_order_that_cannot_be_kept_is_refused_and_a_flip_is_not(tmp_path: Path) -> None:
    """Nobody ordered the flip; it counts until the supervisor ends."""
    with PolicyStore(tmp_path / "state") as store:
        store.put_record("iris", SAID)
        (tmp_path / "state" / f".{FILE}.{os.getpid()}.part").mkdir()  # as a full disk, writing fails, also for root
        with pytest.raises(Unavailable, match="free some space"):
            store.put_record("iris", PolicyRecord())
        assert store.records == {"iris": SAID}
        store.put_if_possible("iris", PolicyRecord())
        assert store.records == {"iris": PolicyRecord()}
    assert json.loads((tmp_path / "state" / FILE).read_text())["models"]["iris"]["traffic"]["labels"] == {"canary": "0.2.0"}


def test_the_history_is_bounded_and_ends_with_the_last(tmp_path: Path) -> None:
    """A model that is dropped each minute fills no disk."""
    said = PolicyRecord()
    for number in range(HISTORY_MAX + 5):
        said = said.with_shift(TrafficShift("now", str(number), ""))
    assert [flip.what for flip in said.history] == [str(number) for number in range(5, HISTORY_MAX + 5)]


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
        store.put_record("iris", iris)
    assert json.loads((tmp_path / FILE).read_text()) == content
