"""The state file, and the survey of dist/ while no supervisor runs."""

import json
import os
import stat

import pytest

from base.errors import PexdockError
from runtime.cli.views import release_table
from runtime.supervisor.host import run_dir
from runtime.supervisor.status.state import ReleaseReport, State
from runtime.supervisor.status.state_file import read_state, write_state
from tinypex import write_linked_base, write_tiny


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_state_file_is_private_and_is_read_as_it_was_written(tmp_path):
    """Programs read it as JSON."""
    report = ReleaseReport(file="iris.pex", state="ready", since="now", paths=["/iris"], worker_pids=[3])
    state = State(dist_path="d", pid=os.getpid(), address="http://127.0.0.1:1", generation=3, releases=[report])
    with run_dir.lock_run_dir(tmp_path / "run") as own:
        path = own.path
        write_state(path, state)
        assert mode(path / "state.json") == 0o600
        assert json.loads((path / "state.json").read_text())["releases"][0]["worker_pids"] == [3]
        assert read_state(path, tmp_path) == state
        (path / "state.json").write_text("{")
        with pytest.raises(PexdockError, match="cannot read the state"):
            read_state(path, tmp_path)
        (path / "state.json").unlink()
        assert read_state(path, tmp_path).pid == os.getpid()


def test_without_a_supervisor_dist_is_surveyed(tmp_path):
    """A stale state file is ignored."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.json").write_text("stale")
    dist = tmp_path / "dist"
    assert read_state(tmp_path / "run", dist).releases == []
    write_linked_base(dist / "base.pex")
    write_tiny(dist / "tiny.pex", "tiny", built_on="0.1.0")
    (dist / "zero.pex").touch()
    found = read_state(tmp_path / "run", dist)
    assert found.pid is None
    assert [(each.file, each.state, each.kind, each.base_version) for each in found.releases] == [
        ("base.pex", "not running", "base", ""),
        ("tiny.pex", "not running", "model", "0.1.0"),
        ("zero.pex", "refused", "", ""),
    ]
    assert "the file is empty" in found.releases[2].reason
    table = release_table.as_table(found)
    assert table.startswith(f"no supervisor runs on {dist}")
    assert "the file is empty" in table
