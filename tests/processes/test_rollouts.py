"""How requests move between releases: by command, by probation, across restarts. A real supervisor, real workers, real requests."""

from __future__ import annotations

import functools
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from constant_load import Load
from operated_supervisor import Operated
from tinypex import times, write_tiny

TINY = functools.partial(times, path="/tiny")

FAILS = """
    import polars as pl
    import base.service as svc
    from base.schema import Schema

    class Row(Schema):
        x: pl.Int64

    @svc.endpoint(path="/tiny", warm_up=False)
    def predict(records_df: Row.DataFrame):
        raise RuntimeError("broken")
"""

DIES = FAILS.replace('raise RuntimeError("broken")', "import os; os._exit(9)")


@pytest.fixture
def supervised(tmp_path: Path) -> Operated:
    made = Operated(tmp_path, rollback_window_s=600, probation_s=600, restart_delay_min_s=0.05)
    write_tiny(made.dist / "tiny-0.1.0.pex", "tiny", module=TINY(10))
    return made


def drop(supervised: Operated, version: str, module: str) -> None:
    write_tiny(supervised.dist / f"tiny-{version}.pex", "tiny", version, module)


def run_command(supervised: Operated, method: str, what: str, **words: object) -> dict:
    """Runs a traffic command, and returns the state of the model afterwards."""
    body = {"json": words} if method != "DELETE" and what != "rollback" else {}
    reply = supervised.admin.request(method, f"/models/tiny/{what}", **body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def model(supervised: Operated) -> dict:
    return next((each for each in supervised.state().get("models", []) if each["name"] == "tiny"), {})


def serves(supervised: Operated, *versions: str) -> Callable[[], bool]:
    return lambda: [each["version"] for each in model(supervised).get("serves", [])] == list(versions)


def test_the_previous_release_stays_up_and_serves_again_without_a_start(supervised: Operated) -> None:
    """After a rollback its process is the same, and the rolled back release does not return as the newest."""
    with supervised:
        (pid,) = supervised.release("tiny-0.1.0.pex")["worker_pids"]
        drop(supervised, "0.2.0", TINY(20))
        supervised.until(lambda: supervised.predictions("/tiny") == [60])
        kept = supervised.until_state("tiny-0.1.0.pex", "kept")
        assert kept["worker_pids"] == [pid]
        assert model(supervised)["previous"]["version"] == "0.1.0"
        with Load(supervised.state()["address"], "/tiny", [{"x": 3}], connections=4) as load:
            supervised.until(lambda: load.statuses[200] > 100)
            run_command(supervised, "POST", "rollback")
            supervised.until(lambda: load.values()["[30]"] > 100)
        assert set(load.statuses) == {200}
        assert set(load.values()) == {"[30]", "[60]"}
        assert supervised.until_state("tiny-0.1.0.pex", "ready")["worker_pids"] == [pid]
        (back,) = model(supervised)["taken_back"]
        assert (back["version"], back["reason"][:17]) == ("0.2.0", "by an operator at")
        supervised.until_state("tiny-0.2.0.pex", "standby")
        drop(supervised, "0.3.0", TINY(40))
        supervised.until(lambda: supervised.predictions("/tiny") == [120])
    kept = json.loads((supervised.settings["state_path"] / "traffic.json").read_text())
    assert [(flip["what"].split()[0], flip["why"]) for flip in kept["models"]["tiny"]["history"]] == [
        ("0.1.0", "it is the first release"),
        ("0.2.0", "it is the newest release that is ready"),
        ("0.1.0", "rolled back"),
        ("0.3.0", "it is the newest release that is ready"),
    ]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [(FAILS, "requests failed; the limit is 50 %"), (DIES, "3 of its workers crashed within 600 s")],
    ids=["errors", "deaths"],
)
def test_a_release_that_fails_on_probation_is_rolled_back_at_once(supervised: Operated, bad: str, reason: str) -> None:
    """The previous release serves again from its warm standby. The reason is in the state, and survives a restart of the supervisor."""
    with supervised:
        (pid,) = supervised.release("tiny-0.1.0.pex")["worker_pids"]
        with Load(supervised.state()["address"], "/tiny", [{"x": 3}], connections=4, pause_s=0.01) as load:
            drop(supervised, "0.2.0", bad)
            supervised.until(lambda: model(supervised).get("taken_back"))
            supervised.until(serves(supervised, "0.1.0"))
            before = load.statuses[200]
            supervised.until(lambda: load.statuses[200] > before + 100)
        assert supervised.until_state("tiny-0.1.0.pex", "ready")["worker_pids"] == [pid]
        assert reason in model(supervised)["taken_back"][0]["reason"]
    with supervised:
        assert supervised.predictions("/tiny") == [30]
        assert reason in model(supervised)["taken_back"][0]["reason"]
        run_command(supervised, "POST", "promote", version="0.2.0")
        supervised.until(serves(supervised, "0.2.0"))
        assert model(supervised)["taken_back"] == []


def test_a_failing_release_without_a_previous_one_keeps_serving(supervised: Operated) -> None:
    """Half of the responses are better than none, so it is not on probation."""
    drop(supervised, "0.1.0", FAILS)
    with supervised:
        for _ in range(30):
            assert supervised.predictions("/tiny") == [500]
        assert model(supervised)["taken_back"] == []
        assert serves(supervised, "0.1.0")()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_pin_outlives_the_supervisor(supervised: Operated, number: signal.Signals) -> None:
    """It does so however the supervisor ends: the newest release never answers, not even while the pinned one starts."""
    with supervised:
        run_command(supervised, "PUT", "pin", to="0.1")
        drop(supervised, "0.2.0", TINY(20))
        supervised.until_state("tiny-0.2.0.pex", "standby")
        assert supervised.predictions("/tiny") == [30]
        supervised.process.send_signal(number)
        supervised.process.wait()
    with supervised:
        assert supervised.predictions("/tiny") == [30]
        assert model(supervised)["pin"] == "0.1.0"
        assert supervised.release("tiny-0.2.0.pex")["state"] == "standby"
        run_command(supervised, "DELETE", "pin")
        supervised.until(lambda: supervised.predictions("/tiny") == [60])
    assert "0.2.0: ready" not in supervised.err.read_text().split("tiny: unpinned")[0]


def test_a_pin_to_a_missing_release_is_shown_and_the_newest_serves(supervised: Operated) -> None:
    """The table shows it to operators, and serving does not stop."""
    drop(supervised, "0.2.0", TINY(20))
    with supervised:
        run_command(supervised, "PUT", "pin", to="0.1.0")
        supervised.until(lambda: supervised.predictions("/tiny") == [30])
    (supervised.dist / "tiny-0.1.0.pex").unlink()
    with supervised:
        assert supervised.predictions("/tiny") == [60]
        assert model(supervised)["remarks"] == ["0.1.0 is pinned, but there is no release 0.1.0 that could serve"]


def test_unreadable_policies_stop_the_start(supervised: Operated) -> None:
    """One line says what to do, and nothing is served by a guess."""
    supervised.settings["state_path"].mkdir()
    (supervised.settings["state_path"] / "traffic.json").write_text("{")
    supervised.start()
    assert supervised.process.wait(20) == 1
    assert "is damaged" in supervised.err.read_text()
    assert "move it away" in supervised.err.read_text()


def test_two_releases_divide_the_requests_and_the_others_stand_by(supervised: Operated) -> None:
    """Both run and answer; without the split the newest serves."""
    drop(supervised, "0.2.0", TINY(20))
    drop(supervised, "0.3.0", TINY(40))
    with supervised:
        run_command(supervised, "PUT", "split", weights={"0.1.0": 1, "0.2.0": 1})
        supervised.until(serves(supervised, "0.1.0", "0.2.0"))
        supervised.until(lambda: {tuple(supervised.predictions("/tiny")) for _ in range(10)} == {(30,), (60,)})
        assert [each["percent"] for each in model(supervised)["serves"]] == [50.0, 50.0]
        run_command(supervised, "DELETE", "split")
        supervised.until(lambda: {tuple(supervised.predictions("/tiny")) for _ in range(10)} == {(120,)})


def test_a_failing_canary_does_not_change_the_split(supervised: Operated) -> None:
    """The other release answers everything meanwhile."""
    with supervised:
        run_command(supervised, "PUT", "pin", to="0.1.0")
        drop(supervised, "0.2.0", FAILS)
        supervised.until_state("tiny-0.2.0.pex", "standby")
        run_command(supervised, "PUT", "split", weights={"0.1.0": 1, "0.2.0": 1})
        with Load(supervised.state()["address"], "/tiny", [{"x": 3}], connections=2, pause_s=0.01) as load:
            supervised.until(lambda: model(supervised).get("taken_back"))
            supervised.until(serves(supervised, "0.1.0"))
            failed = load.statuses[500]
            before = load.statuses[200]
            supervised.until(lambda: load.statuses[200] > before + 100)
        assert load.statuses[500] - failed < 10
        assert "0.2.0 was rolled back" in model(supervised)["remarks"][0]


def test_a_release_whose_file_was_replaced_in_place_can_be_rolled_back_to(supervised: Operated) -> None:
    """Both contents are 0.1.0; the previous one serves again, although no file contains it any more."""
    with supervised:
        drop(supervised, "0.1.0", TINY(20))
        supervised.until(lambda: supervised.predictions("/tiny") == [60])
        run_command(supervised, "POST", "rollback")
        supervised.until(lambda: supervised.predictions("/tiny") == [30])
        supervised.until(lambda: [each["version"] for each in model(supervised)["taken_back"]] == ["0.1.0"])


def test_a_previous_release_is_kept_for_the_rollback_window_and_then_ends(supervised: Operated) -> None:
    """Only one previous release is kept."""
    supervised.settings |= {"rollback_window_s": 3, "probation_s": 0}
    with supervised:
        drop(supervised, "0.2.0", TINY(20))
        supervised.until_state("tiny-0.1.0.pex", "kept")
        drop(supervised, "0.3.0", TINY(40))
        supervised.until_state("tiny-0.2.0.pex", "kept")
        supervised.until_state("tiny-0.1.0.pex", "standby")
        supervised.until_state("tiny-0.2.0.pex", "standby")
        assert model(supervised)["previous"] is None
        run_command(supervised, "POST", "rollback")
        supervised.until(lambda: supervised.predictions("/tiny") == [60])
