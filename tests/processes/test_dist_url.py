"""Real supervisors whose dist/ mirrors a store of each of three clouds: they start from it, follow it, and serve without it."""

import os
import socket

import obstore
import pytest
from obstore.store import from_url

import servers
from supervisor_harness import Supervised
from tinypex import times, write_tiny


@pytest.fixture(params=["s3", "gs", "az"])
def place(request, tmp_path, monkeypatch):
    """Returns the folder of a bucket that the machines follow."""
    with servers.store(request.param, tmp_path) as url:
        servers.make_bucket(request.param, url, "bucket")
        for variable, value in servers.store_environment(request.param, url, tmp_path).items():
            monkeypatch.setenv(variable, value)
        yield f"{request.param}://bucket/prod"


@pytest.fixture
def bucket(place):
    return from_url(place)


def machine(folder, place="s3://bucket/prod"):
    """Returns a supervisor with a local base, which gets its models from the bucket."""
    folder.mkdir()
    return Supervised(folder, dist_url=place, dist_poll_s=0.05)


def put(bucket, folder, version, factor):
    """Puts a version of the model into the store."""
    pex = write_tiny(folder / f"tiny-{version}.pex", "tiny", version, times(factor, "/tiny"))
    obstore.put(bucket, pex.name, pex.read_bytes())


def test_two_machines_follow_one_store(place, bucket, tmp_path):
    """They serve its models once they are ready; a new model takes over, and a removed one stops nothing."""
    put(bucket, tmp_path, "1.0.0", 2)
    with machine(tmp_path / "one", place) as one, machine(tmp_path / "two", place) as two:
        for each in (one, two):
            assert each.predictions("/tiny") == [6]
            assert each.state()["dist_url"] == place
        put(bucket, tmp_path, "1.1.0", 5)
        for each in (one, two):
            each.until(lambda each=each: each.predictions("/tiny") == [15])
        obstore.delete(bucket, "tiny-1.0.0.pex")
        obstore.delete(bucket, "tiny-1.1.0.pex")
        for each in (one, two):
            each.until(lambda each=each: not (each.dist / "tiny-1.1.0.pex").exists())
            each.until(lambda each=each: "is no longer in dist/" in str(each.release("tiny-1.1.0.pex")["warnings"]))
            assert each.predictions("/tiny") == [15]
            assert (each.dist / "base.pex").exists()


def test_an_unreachable_store_is_logged_once_and_a_restart_serves_what_was_fetched(place, bucket, tmp_path, monkeypatch):
    """State and log show it once, without the query of the URL. A first start without the store serves local models."""
    put(bucket, tmp_path, "1.0.0", 2)
    with machine(tmp_path / "one", place) as one:
        assert one.predictions("/tiny") == [6]
    for variable, value in servers.store_environment(place[:2], f"http://127.0.0.1:{servers.free_port()}", tmp_path).items():
        monkeypatch.setenv(variable, value)
    with one:
        assert one.predictions("/tiny") == [6]
        one.until(lambda: "Error" in one.state()["dist_reason"])
        assert one.err.read_text().count("cannot mirror the object store: ") == 1
        assert "?" not in one.state()["dist_reason"]
    other = machine(tmp_path / "other", place)
    write_tiny(other.dist / "local.pex", "local")
    with other:
        assert other.predictions("/local") == [6]
        other.until(lambda: "Error" in other.state()["dist_reason"])


def test_a_supervisor_stops_at_once_while_its_store_hangs(tmp_path, monkeypatch):
    """A hanging listing runs on a thread that nobody waits for."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for variable, value in servers.s3_environment(url).items():
            monkeypatch.setenv(variable, value)
        one = machine(tmp_path / "one").start()
        one.until(lambda: one.state().get("front_door_pids"))
        connection, _ = silent.accept()
        with connection:
            one.process.terminate()
            assert one.process.wait(30) == 0
        one.__exit__()


def test_an_invalid_url_is_refused_at_the_start(tmp_path):
    """The message is one line, and says what would be valid."""
    one = machine(tmp_path / "one")
    for name, value, reason in (
        ("dist_url", "ftp://bucket/prod", "not the URL of an object store"),
        ("dist_url", "s3://key:secret@bucket", "without credentials"),
        ("dist_path", "s3://bucket/prod", "set dist_url"),
    ):
        one.settings = {"run_path": one.run_path, name: value}
        one.err.write_bytes(b"")
        one.start()
        assert one.process.wait(20) == 2
        assert reason in one.err.read_text()
        assert "Traceback" not in one.err.read_text()
    assert not os.path.lexists(tmp_path / "s3:")
