"""A local folder that mirrors an object store.

The clients of S3 and Google Cloud Storage run against a real S3 API on loopback, and that of Azure against Azurite.
"""

import json
import urllib.request
from urllib.parse import unquote

import obstore
import pytest
from obstore.store import from_url

import servers
from runtime.supervisor.dist.mirror import DistMirror
from runtime.supervisor.dist.object_store import RemoteDist

BIG = 1000

COUNTED = pytest.mark.parametrize("store", ["s3", "gs"], indirect=True, scope="module")
"""moto tells which requests it got."""


@pytest.fixture(scope="module", params=["s3", "gs", "az"])
def store(request, tmp_path_factory):
    """Returns the scheme of URLs, and the server that they lead to."""
    with servers.store(request.param, tmp_path_factory.mktemp("store")) as url:
        yield request.param, url


@pytest.fixture
def place(store, tmp_path, monkeypatch):
    """Returns the URL of an empty bucket. The code under test finds the server by its environment."""
    scheme, url = store
    name = f"bucket{abs(hash(tmp_path))}"  # moto takes no escaped name, and one client escapes all but letters and digits
    servers.make_bucket(scheme, url, name)
    for variable, value in servers.store_environment(scheme, url, tmp_path).items():
        monkeypatch.setenv(variable, value)
    return f"{scheme}://{name}"


@pytest.fixture
def bucket(place):
    """Returns where the test puts objects: the folder `prod` of the bucket."""
    return from_url(f"{place}/prod")


@pytest.fixture
def mirror(place, tmp_path):
    """Returns a function that makes a mirror of the bucket in `tmp_path`/dist, as a process has it."""
    made = []

    def make(folder=tmp_path / "dist"):
        made.append(DistMirror(RemoteDist(f"{place}/prod"), folder, BIG))
        return made[-1]

    yield make
    for each in made:
        each.close()


def pexes(folder):
    """Returns name and content of the pexes that the watcher would see."""
    return {path.name: path.read_text() for path in folder.iterdir() if not path.name.startswith(".")}


def requests_of(store, call):
    """Returns the requests that the server got while `call` ran, as moto recorded them."""
    _, url = store
    for each in ("reset", "start"):
        urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/recorder/{each}-recording", method="POST")).close()
    call()
    urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/recorder/stop-recording", method="POST")).close()
    with urllib.request.urlopen(f"{url}/moto-api/recorder/download-recording") as answer:
        return [json.loads(line)["url"] for line in answer.read().decode().splitlines()]


@COUNTED
def test_pexes_keep_their_times_and_an_unchanged_store_costs_one_listing(store, bucket, mirror, tmp_path):
    """Signatures come too. Other, hidden and nested objects are ignored."""
    for key in ("a-1.pex", "b-1.pex", "b-1.pex.sig", ".hidden.pex", "notes.txt", "old/c-1.pex"):
        obstore.put(bucket, key, key.encode())
    following = mirror()
    assert following.is_empty
    assert following.sync() == []
    assert pexes(tmp_path / "dist") == {"a-1.pex": "a-1.pex", "b-1.pex": "b-1.pex", "b-1.pex.sig": "b-1.pex.sig"}
    modified = obstore.head(bucket, "a-1.pex")["last_modified"].timestamp()
    assert (tmp_path / "dist/a-1.pex").stat().st_mtime == pytest.approx(modified)
    (asked,) = requests_of(store, following.sync)
    assert "list-type=2" in asked
    assert not following.is_empty


def test_changed_objects_are_fetched_and_vanished_ones_removed(bucket, mirror, tmp_path):
    """Each change is a new file under its name, so nobody reads an incomplete one."""
    for key in ("a.pex", "b.pex"):
        obstore.put(bucket, key, b"one")
    following = mirror()
    following.sync()
    before = (tmp_path / "dist/a.pex").stat().st_ino
    with (tmp_path / "dist/a.pex").open() as reader:
        obstore.put(bucket, "a.pex", b"two")
        obstore.delete(bucket, "b.pex")
        assert following.sync() == []
        assert reader.read() == "one"
    assert pexes(tmp_path / "dist") == {"a.pex": "two"}
    assert (tmp_path / "dist/a.pex").stat().st_ino != before


def test_foreign_files_in_the_folder_stay(place, bucket, mirror, tmp_path):
    """They also stay if an object has the same name, which is logged, and if they replaced a file whose object vanished."""
    dist = tmp_path / "dist"
    dist.mkdir()
    (dist / "base.pex").write_text("mine")
    (dist / "taken.pex").write_text("mine")
    for key in ("taken.pex", "a.pex", "z.pex"):
        obstore.put(bucket, key, b"theirs")
    following = mirror()
    (trouble,) = following.sync()
    assert trouble.startswith(f"taken.pex exists already in {dist} and did not come from {place}")
    (dist / "a.pex").write_text("mine, too")
    obstore.delete(bucket, "a.pex")
    following.sync()
    assert pexes(dist) == {"base.pex": "mine", "taken.pex": "mine", "a.pex": "mine, too", "z.pex": "theirs"}


@COUNTED
def test_the_next_process_fetches_only_incomplete_files(store, bucket, mirror, tmp_path):
    """A file that differs from what was fetched is fetched again; temporary files of a killed process are removed."""
    dist = tmp_path / "dist"
    for key in ("a.pex", "b.pex", "c.pex"):
        obstore.put(bucket, key, key.encode())
    first = mirror()
    first.sync()
    first.close()
    (dist / "a.pex").write_text("spoilt")
    (dist / "b.pex").unlink()
    (dist / ".c.pex.mirror").write_text("ha")
    again = mirror()
    asked = requests_of(store, again.sync)
    assert sorted(unquote(url).rpartition("/")[2] for url in asked if "list-type" not in url) == ["a.pex", "b.pex"]
    assert pexes(dist) == {name: name for name in ("a.pex", "b.pex", "c.pex")}
    assert not (dist / ".c.pex.mirror").exists()


def test_an_object_that_cannot_be_fetched_delays_no_other(bucket, mirror, tmp_path):
    """It is too large, or has a name that no file can have."""
    name = "n" * 250 + ".pex"
    for key, content in {"a.pex": b"x" * (BIG + 1), name: b"long", "z.pex": b"whole"}.items():
        obstore.put(bucket, key, content)
    troubles = sorted(mirror().sync())
    assert troubles[0] == f"a.pex has {BIG + 1} bytes, and the limit is {BIG} (pex_max_bytes)"
    assert "File name too long" in troubles[1]
    assert pexes(tmp_path / "dist") == {"z.pex": "whole"}


def test_an_object_that_is_replaced_during_its_fetch_is_fetched_again(place, bucket, tmp_path):
    """It never gets the stamp of the old object, and never mixes both."""

    class Slow(RemoteDist):
        def download_pex(self, pex, file):
            if pex.name == "a.pex":
                obstore.put(bucket, "a.pex", b"two")
            super().download_pex(pex, file)

    obstore.put(bucket, "a.pex", b"one")
    obstore.put(bucket, "b.pex", b"one")
    url = f"{place}/prod"
    following = DistMirror(Slow(url), tmp_path / "dist", BIG)
    (trouble,) = following.sync()
    assert trouble.startswith("a.pex: ")
    assert pexes(tmp_path / "dist") == {"b.pex": "one"}
    following.close()
    again = DistMirror(RemoteDist(url), tmp_path / "dist", BIG)
    assert again.sync() == []
    assert pexes(tmp_path / "dist") == {"a.pex": "two", "b.pex": "one"}
    again.close()


def test_an_unreachable_store_changes_nothing(place, bucket, mirror, tmp_path, monkeypatch):
    """Neither a store that is down nor one that refuses is taken for an empty one."""
    obstore.put(bucket, "a.pex", b"one")
    mirror().sync()
    scheme = place.partition(":")[0]
    dead = servers.store_environment(scheme, f"http://127.0.0.1:{servers.free_port()}", tmp_path)
    for url, environment in ((f"{scheme}://no-such-bucket/prod", {}), (f"{place}/prod", dead)):
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        gone = DistMirror(RemoteDist(url), tmp_path / "other", BIG)
        with pytest.raises(obstore.exceptions.BaseError):
            gone.sync()
        gone.close()
    assert pexes(tmp_path / "dist") == {"a.pex": "one"}


def test_a_folder_is_mirrored_by_one_process_at_a_time(bucket, mirror, tmp_path):
    """A second process watches the folder, and takes over when the first is gone."""
    first, second = mirror(), mirror()
    first.sync()
    obstore.put(bucket, "a.pex", b"one")
    assert second.sync() == []
    assert pexes(tmp_path / "dist") == {}
    first.close()
    second.sync()
    assert pexes(tmp_path / "dist") == {"a.pex": "one"}


def test_a_replaced_folder_is_filled_again(bucket, mirror, tmp_path):
    """Somebody may remove dist/, and it is created again."""
    dist = tmp_path / "dist"
    obstore.put(bucket, "a.pex", b"one")
    following = mirror()
    following.sync()
    dist.rename(tmp_path / "away")
    following.sync()
    assert pexes(dist) == {"a.pex": "one"}


def test_another_store_for_the_same_folder_replaces_the_first(place, bucket, mirror, tmp_path):
    """Files of the first store that are not in the second are removed."""
    for key in ("a.pex", "b.pex"):
        obstore.put(bucket, key, b"one")
    first = mirror()
    first.sync()
    first.close()
    other = from_url(f"{place}/test")
    obstore.put(other, "a.pex", b"two")
    second = DistMirror(RemoteDist(f"{place}/test"), tmp_path / "dist", BIG)
    assert second.sync() == []
    second.close()
    assert pexes(tmp_path / "dist") == {"a.pex": "two"}


@COUNTED
def test_the_etag_counts_and_the_time_does_not(store, bucket, mirror):
    """An object that is put again unchanged has another time and the same ETag, and is not fetched."""
    obstore.put(bucket, "a.pex", b"one")
    following = mirror()
    following.sync()
    obstore.put(bucket, "a.pex", b"one")
    assert len(requests_of(store, following.sync)) == 1
