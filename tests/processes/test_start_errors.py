"""What the commands say when the machine does not let them work: one line with the path, the setting and the remedy, and no traceback."""

import os
import subprocess
from pathlib import Path

import pytest

from supervisor_harness import Supervised
from tinypex import write_tiny

POWERLESS = ("setpriv", "--inh-caps=-dac_override", "--bounding-set=-dac_override,-dac_read_search")
"""Runs a command so that root needs permissions, as other users do."""


@pytest.fixture
def supervised(tmp_path):
    return Supervised(tmp_path, scratch_path=tmp_path / "scratch")


def run(supervised, *words, prefix=(), **variables):
    env = supervised.environment | variables
    command = [*prefix, *supervised.command(*words)]
    return subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, timeout=50)


def assert_explained(done, *texts):
    assert done.returncode in {1, 2}
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("pexdock: ")
    for text in texts:
        assert text in last


@pytest.mark.parametrize("name", ["dist_path", "run_path", "scratch_path"])
def test_a_folder_on_a_read_only_file_system_is_named_with_its_setting(supervised, disk, name):
    """Without that folder nothing can be served."""
    supervised.settings[name] = disk.path / "folder"
    disk.let_write(allowed=False)
    assert_explained(run(supervised, "serve"), str(disk.path / "folder"), "Read-only file system", f"--{name.replace('_', '-')}")


@pytest.mark.parametrize("name", ["cache_path", "state_path"])
def test_a_folder_of_another_user_is_not_used(supervised, name):
    """That user could put code or traffic policies there. Each command that would use it, and `doctor`, names the owner and the remedy."""
    if os.getuid() != 0:
        pytest.skip("NOT TESTED: only root may give a folder to another user")
    folder = supervised.settings[name]
    folder.mkdir(mode=0o777)
    os.chown(folder, 12399, 12399)
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    assert_explained(run(supervised, "serve"), f"{folder}", "belongs to user 12399", "make user 0 its owner", name.split("_")[0])
    if name == "cache_path":
        assert "belongs to user 12399" in run(supervised, "unpack").stderr
        assert f"{folder} belongs to user 12399" in run(supervised, "doctor").stdout
    assert list(folder.iterdir()) == []


def test_a_dist_folder_that_had_to_be_made_is_named(supervised, tmp_path):
    """A path with a typing error would otherwise look like a machine without models."""
    supervised.settings["dist_path"] = tmp_path / "dits"
    with supervised:
        assert f"{tmp_path / 'dits'} did not exist, and was made; set dist_path" in supervised.err.read_text()


def test_a_dist_folder_without_permission_is_named_by_every_command(supervised):
    """`doctor` shows it among its findings."""
    prefix = POWERLESS if os.getuid() == 0 else ()
    supervised.dist.chmod(0)
    for command in ("serve", "models", "unpack"):
        assert_explained(run(supervised, command, prefix=prefix), f"{supervised.dist} (setting dist_path)", "Permission denied", "access")
    found = run(supervised, "doctor", prefix=prefix)
    supervised.dist.chmod(0o755)
    assert f"this user cannot read {supervised.dist}" in found.stdout
    assert found.stderr == ""


def test_what_the_system_refuses_names_the_setting_and_the_remedy(supervised, tmp_path):
    """Files that are missing, a settings file without permission, and two settings that contradict each other."""
    prefix = POWERLESS if os.getuid() == 0 else ()
    (toml := tmp_path / "pexdock.toml").touch(mode=0)
    for variables, texts in (
        ({"PEXDOCK_TLS_CERT_PATH": "/no"}, ("/no", "No such file or directory", "tls_cert_path")),
        ({"PEXDOCK_API_KEYS_PATH": "/no"}, ("/no", "No such file or directory", "api_keys_path")),
        ({"PEXDOCK_TRUSTED_KEYS_PATH": "/no"}, ("/no", "No such file or directory", "setting trusted_keys_path")),
        ({"PEXDOCK_CONFIG": str(toml)}, (f"cannot read {toml}: Permission denied", "give user")),
        ({"PEXDOCK_RESTART_DELAY_MIN_S": "31"}, ("restart_delay_min_s is 31, but must not exceed restart_delay_max_s, 30",)),
    ):
        assert_explained(run(supervised, "serve", prefix=prefix, **variables), *texts)


def test_a_port_of_the_system_is_no_port_in_use(supervised):
    """To stop other processes would not help."""
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 1:
        pytest.skip("NOT TESTED: on this machine, every user may listen on each port")
    prefix = [word.replace("-dac_override", "-net_bind_service", 1) for word in POWERLESS] if os.getuid() == 0 else []
    done = run(supervised, "serve", prefix=prefix, PEXDOCK_PORT="1")
    assert_explained(done, "port 1: Permission denied", "1024 or more with --port", "CAP_NET_BIND_SERVICE")


def test_a_dist_folder_that_can_only_be_listed_is_no_empty_one(supervised):
    """Without permission to search it, no file in it can be read: Pexdock does not start, and names the permission and the remedy."""
    prefix = POWERLESS if os.getuid() == 0 else ()
    supervised.dist.chmod(0o444)
    done = run(supervised, "serve", prefix=prefix)
    supervised.dist.chmod(0o755)
    assert_explained(done, f"{supervised.dist} (setting dist_path)", "Permission denied", "access")
    assert "is ignored" not in done.stderr


def test_a_machine_without_a_folder_for_temporary_files_names_the_settings(supervised):
    """Python searches the variables, three folders of the machine, and the current folder; here all of them are read-only."""
    del supervised.settings["scratch_path"]
    code = "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/proc']; from runtime.cli.main import main; main(['serve'])"
    done = subprocess.run([*supervised.command()[:1], "-c", code], env=supervised.environment, capture_output=True, text=True)
    assert_explained(done, "no writable folder for temporary files", "TMPDIR", "scratch_path")


def test_a_user_without_a_home_is_told_which_path_to_set(supervised):
    """Without HOME and without an entry in the table of users, `~` means nothing."""
    if os.getuid() != 0:
        pytest.skip("NOT TESTED: only root may become a user that does not exist")
    del supervised.settings["cache_path"]
    env = {name: value for name, value in supervised.environment.items() if not name.startswith(("HOME", "XDG_"))}
    code = "import os; os.setuid(54321); from pathlib import Path; from runtime import settings; settings.load()"
    done = subprocess.run([*supervised.command()[:1], "-c", f"import runtime.settings; {code}"], env=env, capture_output=True, text=True)
    assert "BadSetting: the default of cache_path is invalid here: ~/.cache/pexdock needs a home folder" in done.stderr
    assert "set --cache-path" in done.stderr
