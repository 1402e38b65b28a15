"""The leak check itself, since a check that cannot fail proves nothing."""

import os
import socket
import subprocess
import sys

import pytest

import leaks


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(leaks, "GONE_WITHIN_S", 0.2)


def test_a_child_that_lives_on_is_reported_and_killed(tmp_path):
    """The check names a child that outlives the block, and ends it."""
    with pytest.raises(AssertionError, match=r"time\.sleep"), leaks.none_in(tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert child.wait(5) < 0


def test_an_orphan_is_reported(tmp_path):
    """The check finds a process whose parent, our child, has ended."""
    orphan = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    with pytest.raises(AssertionError, match=r"time\.sleep"), leaks.none_in(tmp_path):
        subprocess.run([sys.executable, "-W", "ignore", "-c", orphan], check=True)


def test_a_child_of_a_process_from_before_is_not_reported(tmp_path):
    """A supervisor that a wider fixture started may start a worker while a test runs."""
    with (
        leaks.none_in(tmp_path),
        subprocess.Popen(["sh", "-c", "read x; sleep 60 & echo started; read x; kill $!"], stdin=-1, stdout=-1) as child,
    ):
        with leaks.none_in(tmp_path):
            child.stdin.write(b"\n")
            child.stdin.flush()
            assert child.stdout.readline() == b"started\n"
        child.communicate(b"\n")


def test_a_segment_is_reported_while_open_or_mapped(tmp_path):
    """A memfd leaks as a descriptor as well as a mapping."""
    with pytest.raises(AssertionError, match="memfd:left"), leaks.none_in(tmp_path):
        descriptor = os.memfd_create("left")
    os.close(descriptor)


def test_a_socket_file_is_reported(tmp_path):
    """A socket file leaks even if the socket itself was closed."""
    with pytest.raises(AssertionError, match=r"left\.sock"), leaks.none_in(tmp_path), socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "left.sock"))
    (tmp_path / "left.sock").unlink()
