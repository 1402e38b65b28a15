"""SIGHUP: a real supervisor reads its settings again, applies what can change while it runs, and says what cannot."""

from __future__ import annotations

import os
import pty
import signal
import time
from collections.abc import Iterator

import httpx
import pytest

from operated_supervisor import Operated
from tinypex import times, write_tiny


@pytest.fixture(scope="module")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    operated = Operated(tmp_path_factory.mktemp("reload"), front_doors=2)
    write_tiny(operated.dist / "tiny.pex", "tiny", module=times(2, "/tiny"))
    (operated.dist / "pexdock.toml").write_text("body_max_bytes = 200\n")
    with operated:
        yield operated


def reload(operated: Operated, toml: str, *expected: str) -> None:
    """Replaces pexdock.toml, sends SIGHUP, and waits until the log says what is expected."""
    (operated.dist / "pexdock.toml").write_text(toml)
    before = len(operated.err.read_text())
    operated.process.send_signal(signal.SIGHUP)
    operated.until(lambda: all(text in operated.err.read_text()[before:] for text in expected))


def statuses(operated: Operated, size: int) -> set[int]:
    """Returns the statuses of requests of about so many bytes, of which each front door gets some."""
    body = b'[{"x": 3}]' + b" " * size
    address = operated.state()["address"]
    return {httpx.post(f"{address}/tiny", content=body, headers={"content-type": "application/json"}).status_code for _ in range(16)}


def test_a_limit_of_front_doors_changes_without_a_restart(operated: Operated) -> None:
    """No process is replaced for it, and a front door that starts later has the new limit, too."""
    pids = operated.state()["front_door_pids"]
    assert statuses(operated, 500) == {413}
    reload(operated, "body_max_bytes = 1000\n", "body_max_bytes changes from 200")
    operated.until(lambda: statuses(operated, 500) == {200})
    assert operated.state()["front_door_pids"] == pids
    os.kill(pids[0], signal.SIGKILL)
    operated.until(lambda: operated.state()["front_door_pids"] not in (pids, pids[1:]) and len(operated.state()["front_door_pids"]) == 2)
    operated.until(operated.is_ready)
    assert statuses(operated, 500) == {200}
    assert statuses(operated, 2000) == {413}


def test_a_setting_that_needs_a_restart_is_named_and_the_others_apply(operated: Operated) -> None:
    """Its old value stays in force."""
    address = operated.state()["address"]
    reload(
        operated,
        "body_max_bytes = 300\nrequest_timeout_s = 7\n",
        "body_max_bytes changes from",
        "request_timeout_s changes from 60.0 to 7.0, which needs a restart: the old value stays in force",
    )
    operated.until(lambda: statuses(operated, 500) == {413})
    assert operated.state()["address"] == address


@pytest.mark.parametrize(
    ("toml", "reason"),
    [
        ("body_max_bytes = 'many'\n", "`body_max_bytes` in pexdock.toml is 'many'"),
        ("body_max_bytes =\n", "cannot read pexdock.toml as TOML"),
    ],
)
def test_a_wrong_file_changes_nothing(operated: Operated, toml: str, reason: str) -> None:
    """The log has the reason, and the supervisor serves on."""
    reload(operated, toml, "the settings cannot be read again, and stay as they are: ", reason)
    assert operated.predictions("/tiny") == [6]


def test_a_file_that_is_gone_changes_nothing(operated: Operated) -> None:
    """The log says that it is gone. Otherwise all defaults would take effect."""
    toml = operated.dist / "pexdock.toml"
    toml.unlink()
    operated.process.send_signal(signal.SIGHUP)
    said = "the settings cannot be read again, and stay as they are: settings file pexdock.toml does not exist: restore it"
    operated.until(lambda: said in operated.err.read_text())


def test_the_log_level_and_the_workers_of_later_releases_change(operated: Operated) -> None:
    """A release that is deployed afterwards has as many workers as are set by then."""
    reload(operated, "workers_per_release = 2\n", "workers_per_release changes from 1 to 2")
    write_tiny(operated.dist / "late.pex", "late", module=times(7, "/late"))
    operated.until(lambda: len(operated.release("late.pex").get("worker_pids", [])) == 2)
    assert len(operated.release("tiny.pex")["worker_pids"]) == 1
    reload(operated, "log_level = 'error'\nworkers_per_release = 2\n", "SIGHUP")
    write_tiny(operated.dist / "silent.pex", "silent", module=times(7, "/silent"))
    operated.until_state("silent.pex", "ready")
    assert "silent" not in operated.err.read_text()


def test_a_closed_terminal_still_stops_it(tmp_path: object) -> None:
    """Then SIGHUP means that nobody is there any more."""
    operated = Operated(tmp_path)  # type: ignore[arg-type]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(operated.dist)
        os.execve(operated.command()[0], operated.command("serve"), operated.environment)
    end = time.monotonic() + 60
    while not (operated.run_path / "state.json").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    os.close(terminal)
    assert os.waitpid(pid, 0)[1] == 0
    assert not operated.run_path.exists()
