"""Real supervisors that follow a real store, by the clients of three clouds: they start from it, change with it, serve on without it."""

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
    """What machines follow: a folder of a bucket."""
    with servers.store(request.param, tmp_path) as url:
        servers.make_bucket(request.param, url, "bucket")
        for variable, value in servers.store_environment(request.param, url, tmp_path).items():
            monkeypatch.setenv(variable, value)
        yield f"{request.param}://bucket/prod"


@pytest.fixture
def bucket(place):
    return from_url(place)


def machine(folder, place="s3://bucket/prod"):
    """A supervisor with a base of its own, which gets its models from the bucket."""
    folder.mkdir()
    return Supervised(folder, dist_url=place, dist_poll_s=0.05)


def put(bucket, folder, version, factor):
    """Drop a version of the model into the store."""
    pex = write_tiny(folder / f"tiny-{version}.pex", "tiny", version, times(factor, "/tiny"))
    obstore.put(bucket, pex.name, pex.read_bytes())


def test_two_machines_follow_one_store(place, bucket, tmp_path):
    """What is in it when they start serves once they are ready, what is dropped takes over, and what vanishes stops nothing."""
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


def test_a_store_that_is_gone_is_said_once_and_a_restart_serves_what_came_before(place, bucket, tmp_path, monkeypatch):
    """In the state and in the log, however often it is tried, without the query of a URL; a first start without it serves what is local."""
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
        assert "Error" in other.state()["dist_reason"]


def test_a_supervisor_ends_at_once_while_its_store_does_not_answer(tmp_path, monkeypatch):
    """A listing that hangs is on a thread that nobody waits for."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for variable, value in servers.s3_environment(url).items():
            monkeypatch.setenv(variable, value)
        one = machine(tmp_path / "one").start()
        one.until(lambda: one.state().get("front_door_pids"))
        connection, _ = silent.accept()
        with connection:
            one.process.terminate()
            assert one.process.wait(10) == 0
        one.__exit__()


def test_a_url_that_means_nothing_is_refused_at_the_start(tmp_path):
    """In one line, which says what would do."""
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
