"""`pexdock doctor` on machines and folders that lack something."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from handmade_pexes import model, write_pex
from runtime.cli.main import main
from runtime.doctor import folders
from runtime.settings import Settings
from runtime.supervisor.status.state import State
from tinypex import ROOT, SDK_VERSION, write_linked_base, write_tiny


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Its exit code, and what it finds, by subject."""
    monkeypatch.chdir(tmp_path)
    write_linked_base(tmp_path / "dist" / "base.pex")
    settings = {"port": "0", "run_path": tmp_path / "run", "cache_path": tmp_path / "cache", "state_path": tmp_path / "state"}
    for name, value in settings.items():
        monkeypatch.setenv(f"PEXDOCK_{name.upper()}", str(value))

    def run(*words):
        result = CliRunner().invoke(main, ["doctor", "--json", *words])
        return result.exit_code, {each["subject"]: each for each in json.loads(result.output)}

    return run


def test_it_exits_with_0_if_there_is_no_problem(told, tmp_path):
    """Each check prints a line, without advice."""
    write_tiny(tmp_path / "dist" / "tiny.pex", "tiny")
    code, found = told()
    assert code == 0
    assert {"memory", "descriptors", "kernel", "inotify", "clock", "dist", "run directory", "cache", "port", "interpreter"} <= found.keys()
    assert found["tiny.pex"] == {"subject": "tiny.pex", "level": "ok", "text": f"tiny 0.1.0, on base {SDK_VERSION}", "advice": ""}
    assert [each for each in found.values() if each["level"] == "problem"] == []
    lines = CliRunner().invoke(main, ["doctor"]).output
    assert "tiny.pex" in lines
    assert "\x1b" not in lines


def test_a_pex_that_cannot_be_served_is_a_problem_with_its_reason(told, tmp_path):
    """It may be for another interpreter, lack its base, or be broken."""
    dist = tmp_path / "dist"
    write_pex(dist / "old.pex", model("old"), constraints=["CPython==3.8.*"])
    write_tiny(dist / "wants.pex", "wants", built_on="7.7.7")
    (dist / "broken.pex").write_bytes(b"no zip")
    code, found = told()
    assert code == 1
    for file, reason in (("old.pex", "it needs CPython==3.8.*"), ("wants.pex", "base-7.7.7.pex, which is missing"), ("broken.pex", "zip")):
        assert (found[file]["level"], reason in found[file]["text"]) == ("problem", True), found[file]
        assert found[file]["advice"]


def test_no_base_and_no_dist_are_problems(told, tmp_path):
    """Both come with advice."""
    (tmp_path / "dist" / "base.pex").unlink()
    code, found = told()
    assert (code, found["base"]["level"]) == (1, "problem")
    assert "pexdock build base" in found["base"]["advice"]
    (tmp_path / "dist").rmdir()
    assert told()[1]["dist"]["level"] == "problem"


def test_a_pex_from_the_future_is_a_warning(told, tmp_path):
    """A clock is wrong; the pex is served nevertheless."""
    os.utime(tmp_path / "dist" / "base.pex", (time.time() + 3600,) * 2)
    code, found = told()
    assert (code, found["clock"]["level"]) == (0, "warning")
    assert "base.pex" in found["clock"]["text"]


def test_folders_that_are_open_to_other_users_are_named(told, tmp_path):
    """An open run directory is a problem, an open dist/ a warning."""
    (tmp_path / "run").mkdir(mode=0o755)
    (tmp_path / "dist").chmod(0o777)
    code, found = told()
    assert (code, found["run directory"]["level"], found["dist"]["level"]) == (1, "problem", "warning")
    assert "chmod 700" in found["run directory"]["advice"]


def test_what_decides_on_trust_and_all_users_can_change_is_a_warning(told, tmp_path, monkeypatch):
    """So is a cache, from which code runs."""
    for name in ("cache", "state"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o777)
    digests = tmp_path / "digests"
    digests.touch()
    digests.chmod(0o646)
    monkeypatch.setenv("PEXDOCK_TRUSTED_DIGESTS_PATH", str(digests))
    _, found = told()
    for subject, path in (("cache", tmp_path / "cache"), ("state_path", tmp_path / "state"), ("trusted_digests_path", digests)):
        assert (found[subject]["level"], found[subject]["text"]) == ("warning", f"every user can write to {path}")


@pytest.mark.parametrize("setting", ["state_path", "scratch_path", "emf_path", "access_log_path"])
def test_a_place_that_cannot_be_written_is_a_problem(told, tmp_path, monkeypatch, setting):
    """Its setting is named. A file in the place of a folder cannot be written into, not even by root."""
    (tmp_path / "taken").touch()
    monkeypatch.setenv(f"PEXDOCK_{setting.upper()}", str(tmp_path / "taken" / "new" / "file"))
    code, found = told()
    assert (code, found[setting]["level"]) == (1, "problem")
    assert str(tmp_path / "taken") in found[setting]["text"]
    assert setting in found[setting]["advice"]


def test_artifacts_that_are_not_there_are_a_warning(told, tmp_path, monkeypatch):
    """Only if the setting names them, since not all models have artifacts."""
    assert "artifacts_path" not in told()[1]
    monkeypatch.setenv("PEXDOCK_ARTIFACTS_PATH", str(tmp_path / "nowhere"))
    code, found = told()
    assert (code, found["artifacts_path"]["level"]) == (0, "warning")
    assert "create it" in found["artifacts_path"]["advice"]


def test_a_port_that_is_in_use_is_a_problem(told, monkeypatch):
    """It is found before a start fails."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("PEXDOCK_PORT", str(taken.getsockname()[1]))
        code, found = told()
    assert (code, found["port"]["level"]) == (1, "problem")


def test_more_segments_than_memory_is_a_problem(told, monkeypatch):
    """The kernel would kill a process while it works."""
    monkeypatch.setenv("PEXDOCK_SHARED_MEMORY_MAX_BYTES", "900TB")
    code, found = told()
    assert (code, found["memory"]["level"]) == (1, "problem")
    assert "shared_memory_max_bytes" in found["memory"]["advice"]


def test_a_token_that_others_can_read_is_a_problem(told, tmp_path, monkeypatch):
    """Pexdock would refuse to start with it."""
    monkeypatch.setenv("PEXDOCK_ADMIN_PORT", "0")
    assert told()[1]["admin token"]["level"] == "problem"
    token = tmp_path / "token"
    token.write_text("x" * 40)
    token.chmod(0o644)
    monkeypatch.setenv("PEXDOCK_ADMIN_TOKEN_PATH", str(token))
    assert "that others cannot read" in told()[1]["admin token"]["text"]
    token.chmod(0o600)
    assert told()[1]["admin token"]["level"] == "ok"


@pytest.mark.parametrize(("count", "level"), [(40, "problem"), (400, "warning")])
def test_too_few_descriptors_are_named_with_the_way_to_raise_the_limit(told, count, level):
    """A shell or a container may limit them."""
    command = f'ulimit -n {count} && exec "{sys.executable}" -m runtime doctor --json'
    done = subprocess.run(["bash", "-c", command], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60)
    found = {each["subject"]: each for each in json.loads(done.stdout)}
    assert found["descriptors"]["level"] == level
    assert "ulimit -n" in found["descriptors"]["advice"]


@pytest.mark.parametrize(
    ("host", "reach"),
    [
        ("0.0.0.0", "reachable from every network over IPv4, but not over IPv6"),
        ("::", "reachable from every network over IPv6 and IPv4"),
        ("localhost", "reachable from this machine alone"),
    ],
)
def test_the_reach_of_the_port_is_told(tmp_path, host, reach):
    """The port is bound for it as it would be at the start."""
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("NOT TESTED: this machine has no IPv6")
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    finding = folders._port(Settings(host=host, port=port, dist_path=tmp_path), State(dist_path="dist"))
    assert (finding.level, finding.text) == ("ok", f"{host} port {port} is free; it is {reach}")
