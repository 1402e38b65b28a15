"""`pexdock deploy`, as people and scripts run it, with a real supervisor."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import stat
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
    """Returns a pex outside of dist/."""
    return write_tiny(tmp_path / "made" / "tiny-0.1.0.pex", "tiny")


def remade(pex, version="0.1.0", module=""):
    return write_tiny(pex.with_name(f"tiny-{version}.pex"), "tiny", version, module)


def test_deploy_exits_with_0_once_the_release_serves(operated, pex):
    """It prints each stage and the serving release; a script gets the same as JSON. The file itself does not change."""
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


def test_deploy_exits_with_1_and_the_reason_if_the_release_fails(operated, pex):
    """It prints the last lines of the worker's log; the previous release keeps serving."""
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


def test_a_pex_that_fails_its_check_never_reaches_dist(operated, pex):
    """Its name is that of the reason alone."""
    pex.write_bytes(pex.read_bytes()[:-100])
    wants = write_tiny(pex.with_name("wants-0.1.0.pex"), "wants", built_on="7.7.7")
    os.mkfifo(pipe := pex.with_name("pipe.pex"))
    reasons = {
        pex: "tiny-0.1.0.pex",
        wants: "base-7.7.7.pex, which is missing",
        pex.with_name("none.pex"): "none.pex",
        pipe: "pipe.pex: it is not a regular file",
    }
    with operated:
        for file, reason in reasons.items():
            refused = operated.run("deploy", file)
            assert refused.returncode == 1
            assert reason in refused.stderr.splitlines()[-1]
        assert [path.name for path in operated.dist.iterdir()] == ["base.pex"]


def contents(operated):
    """Returns the files of dist/ with their content, hidden ones included."""
    return {path.name: path.read_bytes() for path in operated.dist.iterdir()}


def test_a_deployment_that_fails_leaves_dist_as_it_was(operated, pex):
    """A new file is removed, a replaced one restored, and a second file of the same version is not even written."""
    with operated:
        assert operated.run("deploy", pex).returncode == 0
        before = contents(operated)
        good = pex.read_bytes()
        bad = remade(pex, "0.2.0", FAILS)
        for name in ("new.pex", "tiny-0.1.0.pex"):
            failed = operated.run("deploy", bad, "--name", name)
            assert failed.returncode == 1
            assert "dist/ is as it was before" in failed.stderr
            assert contents(operated) == before
        twice = operated.run("deploy", remade(pex, "0.1.0", times(7, "/tiny")), "--name", "other.pex")
        assert twice.returncode == 1
        assert "tiny-0.1.0.pex is tiny 0.1.0 with other content: raise the version" in twice.stderr
        pex.write_bytes(good)
        copy = operated.run("deploy", pex, "--name", "other.pex")
        assert copy.returncode == 1
        assert "dist/ has the same pex already, as tiny-0.1.0.pex; to serve it, run `pexdock promote tiny 0.1.0`" in copy.stderr
        assert contents(operated) == before
        operated.until(lambda: [each["state"] for each in operated.state()["releases"] if each["name"] == "tiny"] == ["ready"])
        assert operated.predictions("/tiny") == [6]
        assert operated.run("deploy", pex).returncode == 0


def test_a_deployed_file_can_be_read_and_run_by_those_who_can_read_dist(operated, pex):
    """This depends neither on the umask of the command nor on the mode of its source."""
    pex.chmod(0o600)
    operated.dist.chmod(0o750)
    with operated:
        command = shlex.join([*operated.command("deploy"), str(pex)])
        assert subprocess.run(["bash", "-c", f"umask 077; exec {command}"], env=operated.environment).returncode == 0
    found = (operated.dist / pex.name).stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o750, operated.dist.stat().st_uid)


def test_an_older_release_becomes_a_standby_which_must_be_confirmed(operated, pex):
    """An operator who intends that says so, for example before a split. The same holds for the release that is kept for a rollback."""
    operated.settings["rollback_window_s"] = 3600
    with operated:
        kept = remade(pex, "0.2.0")
        assert operated.run("deploy", kept).returncode == 0
        assert operated.run("deploy", remade(pex, "0.3.0")).returncode == 0
        operated.until_state("tiny-0.2.0.pex", "kept")
        again = operated.run("deploy", kept)
        assert (again.returncode, operated.run("deploy", kept, "--stand-by").returncode) == (1, 0)
        assert "stands by: a newer release of the model is there" in again.stderr
        older = operated.run("deploy", pex)
        assert older.returncode == 1
        assert "stands by: a newer release of the model is there" in older.stderr
        assert operated.run("deploy", pex, "--stand-by").returncode == 0
        assert operated.run("pin", "tiny", "0.3.0").returncode == 0
        newer = operated.run("deploy", remade(pex, "0.4.0"))
        assert newer.returncode == 1
        assert "stands by: tiny is pinned to 0.3.0" in newer.stderr


def test_deploy_exits_with_3_at_its_timeout(operated, pex):
    """The rollout goes on all the same."""
    remade(pex, module="    import time; time.sleep(4)" + times(2, "/tiny"))
    with operated:
        late = operated.run("deploy", pex, "--timeout", 2)
        assert late.returncode == 3
        assert re.search("timeout: it still is (verifying|starting)", late.stderr), late.stderr
        operated.until_state("tiny-0.1.0.pex", "ready")


def test_ctrl_c_ends_the_command_and_not_the_rollout(operated, pex):
    """The exit code is 130, as a shell expects."""
    remade(pex, module="    import time; time.sleep(2)" + times(2, "/tiny"))
    with operated:
        command = [*operated.command("deploy"), str(pex)]
        with subprocess.Popen(command, env=operated.environment, stderr=subprocess.PIPE, text=True) as deploying:
            operated.until_state("tiny-0.1.0.pex", "starting")
            deploying.send_signal(signal.SIGINT)
            assert deploying.wait(20) == 130
            assert "the deployment goes on" in deploying.stderr.read()
        operated.until_state("tiny-0.1.0.pex", "ready")


def test_a_release_that_is_rolled_back_on_probation_is_no_success(operated, pex):
    """The command follows the probation to its end; the previous release serves again."""
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
        kept = contents(operated)
        assert "tiny-0.2.0.pex" in kept  # it can be promoted
        copy = operated.run("deploy", pex.with_name("tiny-0.2.0.pex"), "--name", "tiny-again.pex")
        again = operated.run("deploy", pex.with_name("tiny-0.2.0.pex"), "--name", "tiny-0.1.0.pex")  # the file of what serves
        for refused in (copy, again):
            assert refused.returncode == 1
            assert "tiny 0.2.0 was rolled back: " in refused.stderr
            assert "run `pexdock promote tiny 0.2.0`" in refused.stderr
        assert contents(operated) == kept


def test_a_base_is_deployed_like_a_model(operated, tmp_path):
    """It counts as deployed once models can run on it."""
    base = write_tiny(tmp_path / "made" / "base-7.0.0.pex", "pexdock", "7.0.0", endpoint=False)
    with operated:
        done = operated.run("deploy", base)
        assert (done.returncode, done.stdout) == (0, "pexdock 7.0.0 is available to models\n"), done.stderr


def test_deploy_reaches_another_machine_with_a_token(operated, pex, tmp_path):
    """It uploads by URL, with the signature. With a wrong token it prints the reason. It says where a file that fails stays."""
    operated.listen_on_tcp(tmp_path)
    pex.with_name(f"{pex.name}.sig").write_bytes(b"signed")
    with operated:
        there = ("--admin", operated.state()["admin_address"], "--run-path", tmp_path / "none", "--dist-path", tmp_path / "none")
        done = operated.run("deploy", pex, *there)
        assert (done.returncode, done.stdout) == (0, "tiny 0.1.0 serves at /tiny\n"), done.stderr
        assert (operated.dist / "tiny-0.1.0.pex.sig").read_bytes() == b"signed"
        failed = operated.run("deploy", remade(pex, "0.2.0", FAILS), *there)
        assert (failed.returncode, (operated.dist / "tiny-0.2.0.pex").exists()) == (1, True)
        assert "tiny-0.2.0.pex stays in dist/ on the other machine: remove it there" in failed.stderr
        write_token(tmp_path / "other", OTHER_TOKEN)
        refused = operated.run("deploy", pex, *there, "--admin-token-path", tmp_path / "other")
        assert refused.returncode == 1
        assert "missing or invalid token" in refused.stderr
        tables = [operated.run(*words, *there).stdout for words in (("models",), ("describe", "tiny"), ("logs", "tiny"))]
        assert all("tiny" in table for table in tables)


def test_the_result_is_coloured_only_on_a_terminal(operated, pex, monkeypatch):
    """NO_COLOR is honoured; a pipe gets no colour."""
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


def test_without_a_supervisor_nothing_is_deployed(operated, pex):
    """The message says how to start one."""
    done = operated.run("deploy", pex)
    assert done.returncode == 1
    assert "start one with `pexdock serve`" in done.stderr
    assert not (operated.dist / pex.name).exists()
