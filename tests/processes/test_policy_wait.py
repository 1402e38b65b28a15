"""Traffic commands return when requests have moved, and their exit code reports whether they have."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from operated_supervisor import Operated
from tinypex import times, write_tiny

HELD = """
    import pathlib, time
    pathlib.Path("FOLDER", "at").touch()
    while not pathlib.Path("FOLDER", "go").exists():
        time.sleep(0.01)
"""


@pytest.fixture
def operated(tmp_path: Path) -> Operated:
    """A supervisor with two front doors, whose 0.2.0 serves and 0.1.0 is a standby."""
    made = Operated(tmp_path, front_doors=2, unresponsive_s=0)
    for version, factor in (("0.1.0", 10), ("0.2.0", 20)):
        drop(made, version, times(factor, "/tiny"))
    return made


def drop(operated: Operated, version: str, module: str) -> None:
    write_tiny(operated.dist / f"tiny-{version}.pex", "tiny", version, module)


def answers(operated: Operated) -> set[int]:
    """Returns responses over many connections, which the kernel distributes over both front doors."""
    return {operated.predictions("/tiny", 1)[0] for _ in range(30)}


def serves(document: str) -> list[str]:
    return [share["version"] for share in json.loads(document)["serves"]]


@pytest.mark.timeout(180)
def test_when_a_traffic_command_returns_every_front_door_applies_it(operated: Operated) -> None:
    """This holds for a pin that has to start its release, its removal, a split, a promotion, and a rollback."""
    with operated:
        for words, served, factors in (
            (("pin", "tiny", "0.1.0"), ["0.1.0"], {10}),
            (("pin", "tiny", "--off"), ["0.2.0"], {20}),
            (("split", "tiny", "0.1.0=1", "0.2.0=1"), ["0.1.0", "0.2.0"], {10, 20}),
            (("promote", "tiny", "0.1.0"), ["0.1.0"], {10}),
            (("rollback", "tiny"), ["0.2.0"], {20}),
        ):
            done = operated.run(*words, "--json")
            assert (done.returncode, sorted(serves(done.stdout))) == (0, served), (words, done.stderr)
            assert answers(operated) == factors, words


def test_a_policy_is_not_in_force_before_every_front_door_applies_it(operated: Operated) -> None:
    """The command exits with 3 at its timeout, and the policy stays; a repeated command returns at once."""
    operated.settings["rollback_window_s"] = 600
    with operated:
        for to in ("0.1.0", "--off"):  # so that the release is warm, and only the front door is waited for
            assert operated.run("pin", "tiny", to).returncode == 0
        hanging = operated.state()["front_door_pids"][1]
        os.kill(hanging, signal.SIGSTOP)
        late = operated.run("pin", "tiny", "0.1.0", "--timeout", 4)
        assert late.returncode == 3
        assert "timeout: it still waits: front doors have not applied it yet" in late.stderr
        os.kill(hanging, signal.SIGCONT)
        assert operated.run("pin", "tiny", "0.1.0").returncode == 0
        assert answers(operated) == {10}


def test_a_command_for_a_release_that_cannot_start_exits_with_1_and_the_reason(operated: Operated) -> None:
    """Serving goes on, and scripts get the same as JSON."""
    drop(operated, "0.1.0", "    raise RuntimeError('no way')")
    with operated:
        failed = operated.run("pin", "tiny", "0.1.0", "--json")
        assert failed.returncode == 1
        assert "tiny failed: 0.1.0: " in failed.stderr
        assert "no way" in failed.stderr
        assert (json.loads(failed.stdout)["pin"], serves(failed.stdout)) == ("0.1.0", ["0.2.0"])
        assert answers(operated) == {20}


def test_waiting_is_optional_and_ends_when_the_policy_is_replaced(operated: Operated, tmp_path: Path) -> None:
    """`--no-wait` returns once the policy is stored; Ctrl-C ends only the wait; so does another policy."""
    drop(operated, "0.1.0", HELD.replace("FOLDER", str(tmp_path)) + times(10, "/tiny"))
    with operated:
        assert operated.run("pin", "tiny", "0.1.0", "--no-wait").returncode == 0
        operated.until((tmp_path / "at").exists)
        assert answers(operated) == {20}
        for end, code, said in ((interrupt, 130, "the change stays in effect"), (order_otherwise, 1, "superseded by another change")):
            command = [*operated.command("pin"), "tiny", "0.1.0"]
            with subprocess.Popen(
                command, env=operated.environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
            ) as waiting:
                assert waiting.stderr is not None
                assert "waits: 0.1.0 is starting" in waiting.stderr.readline()
                end(operated, waiting)
                assert waiting.wait(20) == code
                assert said in waiting.stderr.read()
        (tmp_path / "go").touch()


def interrupt(_: Operated, waiting: subprocess.Popen[str]) -> None:
    waiting.send_signal(signal.SIGINT)


def order_otherwise(operated: Operated, _: subprocess.Popen[str]) -> None:
    assert operated.admin.delete("/models/tiny/pin").status_code == 200
