"""Completion of commands, options and names of models."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from runtime.cli.main import main
from runtime.supervisor.host import run_dir
from runtime.supervisor.status.state import ModelReport, State
from runtime.supervisor.status.state_file import write_state
from tinypex import ROOT


@pytest.mark.parametrize(
    ("shell", "expected"), [("bash", "complete -o nosort"), ("zsh", "#compdef pexdock"), ("fish", "complete --no-files")]
)
def test_each_shell_gets_its_own_script(shell, expected, monkeypatch):
    """It completes the command under the name by which it was called."""
    if shell == "bash" and shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    done = CliRunner().invoke(main, ["completion", shell], prog_name="pexdock")
    assert done.exit_code == 0
    assert expected in done.output
    assert "_PEXDOCK_COMPLETE" in done.output


def completed(tmp_path, line, **env):
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_PEXDOCK_COMPLETE": "bash_complete"}
    settings = {
        "PEXDOCK_RUN_PATH": str(tmp_path / "run"),
        "PEXDOCK_DIST_PATH": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "PATH": "/usr/bin:/bin",
    }
    command = [sys.executable, "-c", "from runtime.cli.main import main; main(prog_name='pexdock')"]
    done = subprocess.run(command, env={"PATH": os.environ["PATH"], **settings, **words, **env}, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_names_of_models_are_completed_from_the_state_file(tmp_path):
    """No supervisor is asked; if none runs, nothing is completed."""
    assert completed(tmp_path, "pexdock describe i") == []
    with run_dir.lock_run_dir(tmp_path / "run") as run:
        write_state(run.path, State(dist_path="", pid=1, models=[ModelReport(name=name) for name in ("iris", "ice", "other")]))
        assert completed(tmp_path, "pexdock describe i") == ["iris", "ice"]
        assert completed(tmp_path, "pexdock rollback ") == ["iris", "ice", "other"]
    assert completed(tmp_path, "pexdock describe i", PEXDOCK_NO_SUCH_SETTING="1") == []


def test_commands_and_options_are_completed(tmp_path):
    """click completes them."""
    assert completed(tmp_path, "pexdock pr") == ["promote"]
    assert "--wait-probation" in completed(tmp_path, "pexdock deploy --w")
