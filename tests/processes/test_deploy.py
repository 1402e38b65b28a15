"""`pexdock deploy`, as people and scripts run it, on a real supervisor."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess

import pytest

from operated_supervisor import OTHER_TOKEN, Operated, write_token
from tinypex import times, write_tiny

FAILS = """
    raise RuntimeError("no way")
"""

DIES_LATER = """
    import os
    import polars as pl
    import base.service as svc

    @svc.endpoint(path="/tiny")
    def predict(records_df: pl.DataFrame):
        if records_df["x"][0] == 77:
            os._exit(3)
        return records_df["x"]
"""


@pytest.fixture
def operated(tmp_path):
    return Operated(tmp_path)


@pytest.fixture
def pex(tmp_path):
    """Outside of dist/."""
    return write_tiny(tmp_path / "made" / "tiny-0.1.0.pex", "tiny")


def remade(pex, version="0.1.0", module=""):
    return write_tiny(pex.with_name(f"tiny-{version}.pex"), "tiny", version, module)


def test_it_ends_with_0_once_the_release_serves(operated, pex):
    """It shows each stage on the way, and what serves; a script gets the same as JSON. The file itself stays as it was."""
    with operated:
        done = operated.run("deploy", pex)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "tiny 0.1.0 serves at /tiny\n"
        assert "starting" in done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        assert operated.predictions("/tiny") == [6]
        again = operated.run("deploy", remade(pex, module=times(5, "/tiny")), "--json")
        assert again.returncode == 0, again.stderr
        assert {key: json.loads(again.stdout)[key] for key in ("file", "outcome", "name", "version")} == {
            "file": "tiny-0.1.0.pex",
            "outcome": "serves",
            "name": "tiny",
            "version": "0.1.0",
        }
        assert operated.predictions("/tiny") == [15]
        assert (operated.dist / "tiny-0.1.0.pex").read_bytes() == pex.read_bytes()
        assert operated.run("deploy", pex).returncode == 0  # it is there already


def test_it_ends_with_1_and_the_reason_where_the_release_fails(operated, pex):
    """With the last lines of its worker; what served before goes on."""
    with operated:
        assert operated.run("deploy", pex).returncode == 0
        failed = operated.run("deploy", remade(pex, "0.2.0", FAILS))
        assert (failed.returncode, failed.stdout) == (1, "")
        assert "tiny 0.2.0 failed: " in failed.stderr
        assert "no way" in failed.stderr
        assert any(line.startswith("  | ") and "no way" in line for line in failed.stderr.splitlines())
        assert operated.predictions("/tiny") == [6]
        mended = operated.run("deploy", remade(pex, "0.2.0", times(7, "/tiny")))
        assert (mended.returncode, operated.predictions("/tiny")) == (0, [21]), mended.stderr


def test_what_check_refuses_never_lies_in_dist(operated, pex):
    """Its name is that of the reason alone."""
    pex.write_bytes(pex.read_bytes()[:-100])
    wants = write_tiny(pex.with_name("wants-0.1.0.pex"), "wants", built_on="7.7.7")
    with operated:
        for file, reason in ((pex, "tiny-0.1.0.pex"), (wants, "base-7.7.7.pex, which is missing"), (pex.with_name("none.pex"), "none.pex")):
            refused = operated.run("deploy", file)
            assert refused.returncode == 1
            assert reason in refused.stderr.splitlines()[-1]
        assert [path.name for path in operated.dist.iterdir()] == ["base.pex"]


def test_a_release_that_is_not_the_newest_stands_by_which_may_be_well(operated, pex):
    """Whoever means that says so, as before a split."""
    with operated:
        assert operated.run("deploy", remade(pex, "0.3.0")).returncode == 0
        older = operated.run("deploy", pex)
        assert older.returncode == 1
        assert "stands by: a newer release of the model is there" in older.stderr
        assert operated.run("deploy", pex, "--stand-by").returncode == 0
        assert operated.run("pin", "tiny", "0.3.0").returncode == 0
        newer = operated.run("deploy", remade(pex, "0.4.0"))
        assert newer.returncode == 1
        assert "stands by: tiny is pinned to 0.3.0" in newer.stderr


def test_it_ends_with_3_when_the_time_is_over(operated, pex):
    """What was dropped goes its way all the same."""
    remade(pex, module="    import time; time.sleep(4)" + times(2, "/tiny"))
    with operated:
        late = operated.run("deploy", pex, "--timeout", 2)
        assert late.returncode == 3
        assert "timeout: it still is starting" in late.stderr
        operated.until_state("tiny-0.1.0.pex", "ready")


def test_ctrl_c_ends_the_following_and_not_the_roll_out(operated, pex):
    """Ends with 130, as a shell expects."""
    remade(pex, module="    import time; time.sleep(2)" + times(2, "/tiny"))
    with operated:
        command = [*operated.command("deploy"), str(pex)]
        with subprocess.Popen(command, env=operated.environment, stderr=subprocess.PIPE, text=True) as deploying:
            operated.until_state("tiny-0.1.0.pex", "starting")
            deploying.send_signal(signal.SIGINT)
            assert deploying.wait(20) == 130
            assert "the deployment goes on" in deploying.stderr.read()
        operated.until_state("tiny-0.1.0.pex", "ready")


def test_a_release_that_is_taken_back_in_its_probation_is_no_success(operated, pex):
    """Followed to the end of it; what served before serves again."""
    operated.settings |= {"probation_s": 30, "probation_crashes_max": 1, "rollback_window_s": 60}
    with operated:
        assert operated.run("deploy", pex).returncode == 0
        command = [*operated.command("deploy"), str(remade(pex, "0.2.0", DIES_LATER)), "--wait-probation"]
        with subprocess.Popen(command, env=operated.environment, stderr=subprocess.PIPE, text=True) as deploying:
            operated.until_state("tiny-0.2.0.pex", "ready")
            while deploying.poll() is None:
                operated.predictions("/tiny", 77)
            assert deploying.returncode == 1
            said = deploying.stderr.read()
        assert "serves, on probation until" in said
        assert "rolled back: " in said
        assert operated.until(lambda: operated.predictions("/tiny") == [6])


def test_a_base_is_deployed_as_a_model_is(operated, tmp_path):
    """It serves once models can run on it."""
    base = write_tiny(tmp_path / "made" / "base-7.0.0.pex", "pexdock", "7.0.0", endpoint=False)
    with operated:
        done = operated.run("deploy", base)
        assert (done.returncode, done.stdout) == (0, "pexdock 7.0.0 is available to models\n"), done.stderr


def test_it_goes_to_another_machine_with_a_token(operated, pex, tmp_path):
    """By address; its signature goes with it. Without the right token it is told so."""
    operated.listen_on_tcp(tmp_path)
    pex.with_name(f"{pex.name}.sig").write_bytes(b"signed")
    with operated:
        there = ("--admin", operated.state()["admin_address"], "--run-path", tmp_path / "none", "--dist-path", tmp_path / "none")
        done = operated.run("deploy", pex, *there)
        assert (done.returncode, done.stdout) == (0, "tiny 0.1.0 serves at /tiny\n"), done.stderr
        assert (operated.dist / "tiny-0.1.0.pex.sig").read_bytes() == b"signed"
        write_token(tmp_path / "other", OTHER_TOKEN)
        refused = operated.run("deploy", pex, *there, "--admin-token-path", tmp_path / "other")
        assert refused.returncode == 1
        assert "missing or invalid token" in refused.stderr
        tables = [operated.run(*words, *there).stdout for words in (("models",), ("describe", "tiny"), ("logs", "tiny"))]
        assert all("tiny" in table for table in tables)


def test_on_a_terminal_the_end_has_a_colour_unless_nobody_wants_any(operated, pex, monkeypatch):
    """NO_COLOR is honoured; a pipe has none, as shown above."""
    with operated:
        assert "\x1b[32mtiny 0.1.0 serves" in on_a_terminal(operated, "deploy", str(pex))
        monkeypatch.setenv("NO_COLOR", "1")
        assert "\x1b[3" not in on_a_terminal(operated, "deploy", str(pex))


def on_a_terminal(operated, *words):
    ours, theirs = pty.openpty()
    try:
        subprocess.run(operated.command(*words), env=operated.environment, cwd=operated.dist, stdout=theirs, stderr=theirs, timeout=40)
    finally:
        os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        shown = b""
        try:
            while data := terminal.read(65536):
                shown += data
        except OSError:  # a terminal's way to say that its other side is closed
            pass
    return shown.decode()


def test_without_a_supervisor_nothing_is_dropped(operated, pex):
    """It says how to start one."""
    done = operated.run("deploy", pex)
    assert done.returncode == 1
    assert "start one with `pexdock serve`" in done.stderr
    assert not (operated.dist / pex.name).exists()
