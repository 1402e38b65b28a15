"""The object store client against a real S3 API on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import S3Store

import base.artifacts as afs
import servers
from base.artifacts.cache.cache import Cache, Pending
from base.contexts.store import ContextStore
from base.errors import NotFound, Unavailable
from fake_store import WITHIN_S

OPTIONS: dict[str, Any] = {
    "access_key_id": "any",
    "secret_access_key": "any",
    "region": "us-east-1",
    "client_options": {"allow_http": True},
    "retry_config": {"max_retries": 0},
}


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.moto(tmp_path_factory.mktemp("moto")) as url:
        yield url


@pytest.fixture
def bucket(s3: str, tmp_path: Path) -> S3Store:
    name = f"bucket-{abs(hash(tmp_path))}"
    urllib.request.urlopen(urllib.request.Request(f"{s3}/{name}", method="PUT")).close()
    return S3Store(name, endpoint=s3, **OPTIONS)


def client(store: S3Store, template: str | list[str], cache: Path, **options: Any) -> afs.ObjectStoreClient:
    url = f"s3://{store.config['bucket']}/models"
    return afs.ObjectStoreClient(url, template, options={**OPTIONS, "endpoint": store.config["endpoint"]}, cache_path=cache, **options)


@pytest.mark.parametrize("name", ["plain", "with space", "ünïcode", "per%20cent+&?#", "-dash", ".hidden", "a=b@c:d~"])
def test_an_object_is_found_by_its_parameters_and_listed(bucket: S3Store, tmp_path: Path, name: str) -> None:
    """Values may have any characters; what is listed can be located."""
    obstore.put(bucket, f"models/US/v{name}.bin", b"content")
    store = client(bucket, "/{country}/v{n}.bin", tmp_path)
    assert store.list() == [{"country": "US", "n": name}]
    artifact = store.locate({"n": name, "country": "US"})
    assert artifact.location.read_bytes() == b"content"
    assert (artifact.location.name, artifact.size_bytes) == (f"v{name}.bin", 7)
    artifact.release()


def test_a_large_object_is_downloaded_in_parts(bucket: S3Store, tmp_path: Path) -> None:
    """There are more than two parts, and the last one is short."""
    content = bytes(range(256)) * 65_536 * 2 + b"the end"
    obstore.put(bucket, "models/large", content)
    artifact = client(bucket, "{name}", tmp_path).locate({"name": "large"})
    assert artifact.location.read_bytes() == content
    artifact.release()


def test_a_folder_has_all_objects_below_it(bucket: S3Store, tmp_path: Path) -> None:
    """Objects whose names merely begin alike are not part of it."""
    for key in ("m/MLmodel", "m/data/model.bin", "m-other/file"):
        obstore.put(bucket, f"models/{key}", key.encode())
    store = client(bucket, "{name}", tmp_path)
    artifact = store.locate({"name": "m"})
    files = sorted(path.relative_to(artifact.location).as_posix() for path in artifact.location.rglob("*") if path.is_file())
    assert files == ["MLmodel", "data/model.bin"]
    assert sorted(each["name"] for each in store.list()) == ["m", "m-other"]
    artifact.release()


def test_a_missing_object_is_not_found_and_a_fallback_is(bucket: S3Store, tmp_path: Path) -> None:
    """The store reported it as missing. The message names parameters and no place."""
    obstore.put(bucket, "models/US/any", b"country's")
    store = client(bucket, ["{country}/{place}", "{country}/any"], tmp_path)
    artifact = store.locate({"country": "US", "place": "CA"})
    assert artifact.location.read_bytes() == b"country's"
    artifact.release()
    with pytest.raises(NotFound, match=r"country='GB', place='X'$"):
        store.locate({"country": "GB", "place": "X"})


def test_an_unreachable_store_means_try_later(tmp_path: Path) -> None:
    """It never means that the artifact does not exist, which would be a wrong answer."""
    address = f"http://127.0.0.1:{servers.free_port()}"
    store = afs.ObjectStoreClient("s3://bucket", "{name}", options={**OPTIONS, "endpoint": address}, cache_path=tmp_path)
    with pytest.raises(Unavailable) as refused:
        store.locate({"name": "x"})
    assert address not in str(refused.value)
    with pytest.raises(Unavailable):
        store.list()


def moto(s3: str, command: str, method: str) -> str:
    """Returns the response of moto's request recorder."""
    request = urllib.request.Request(f"{s3}/moto-api/recorder/{command}", b"" if method == "POST" else None, method=method)
    with urllib.request.urlopen(request) as answer:
        return str(answer.read().decode())


def test_a_download_is_kept_and_changes_with_the_object(s3: str, bucket: S3Store, tmp_path: Path) -> None:
    """The ETag is in the fingerprint: an unchanged object is requested and not downloaded again."""
    store = client(bucket, "{name}", tmp_path)
    obstore.put(bucket, "models/m", b"one")
    first = store.locate({"name": "m"})
    for each in ("reset", "start"):
        moto(s3, f"{each}-recording", "POST")
    again = store.locate({"name": "m"})
    moto(s3, "stop-recording", "POST")
    asked = [json.loads(line) for line in moto(s3, "download-recording", "GET").splitlines()]
    assert {each["method"] for each in asked} == {"HEAD"}
    assert (again, again.location) == (first, first.location)
    obstore.put(bucket, "models/m", b"two")
    changed = store.locate({"name": "m"})
    assert changed.fingerprint != first.fingerprint
    assert (first.location.read_bytes(), changed.location.read_bytes()) == (b"one", b"two")
    for artifact in (first, again, changed):
        artifact.release()


def test_latest_is_what_the_manifest_says(bucket: S3Store, tmp_path: Path) -> None:
    """The manifest is a small object beside the versions."""
    obstore.put(bucket, "models/US/LATEST", b"7\n")
    store = client(bucket, "{country}/{version}/model", tmp_path)
    assert store.manifest({"country": "US", "version": "latest"}, "version", "LATEST") == "7"
    with pytest.raises(NotFound):
        store.manifest({"country": "GB", "version": "latest"}, "version", "LATEST")


def test_workers_share_a_download(bucket: S3Store, tmp_path: Path) -> None:
    """Eight processes want the same object at once, and it is written once."""
    obstore.put(bucket, "models/m", b"x" * 5_000_000)
    code = f"""
import base.artifacts as afs
client = afs.ObjectStoreClient("s3://{bucket.config["bucket"]}/models", "{{name}}", cache_path={str(tmp_path)!r},
    options={ {**OPTIONS, "endpoint": bucket.config["endpoint"]}!r})
found = client.locate({{"name": "m"}})
print(found.location.stat().st_ino, found.location.stat().st_size)
"""
    children = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(8)]
    said = {child.communicate(timeout=50)[0] for child in children}
    assert [child.returncode for child in children] == [0] * 8
    assert len(said) == 1
    assert said.pop().split()[1] == "5000000"


def test_a_model_keeps_serving_when_its_store_is_unreachable(tmp_path: Path) -> None:
    """A refresh then fails, is retried later, and is reported."""
    with servers.moto(tmp_path) as url:
        urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT")).close()
        obstore.put(S3Store("bucket", endpoint=url, **OPTIONS), "m", b"model")
        store = afs.ObjectStoreClient("s3://bucket", "{name}", options={**OPTIONS, "endpoint": url}, cache_path=tmp_path / "cache")
        cache = Cache(afs.CacheConfig(client=store, load_model=bytes.decode, load_as="bytes", interval=3600))
        assert wait_for(cache) == "model"
    assert cache.refresh() == 1
    while cache.entry_states()[0].failures == 0:
        assert cache._threads.join(WITHIN_S)
    (entry,) = cache.entry_states()
    assert (entry.state, (entry.last_error or "").partition(" (")[0]) == (
        "stale",
        "unavailable: the artifact store is unavailable; try again later",
    )
    assert entry.next_refresh_s is not None
    assert entry.next_refresh_s < 1
    assert wait_for(cache) == "model"
    cache.close()


def wait_for(cache: Cache) -> Any:
    woken = threading.Event()
    found = cache.lookup({"name": "m"}, woken.set)
    if isinstance(found, Pending):
        assert woken.wait(WITHIN_S)
        found = found.take_lease()
    with found as model:
        return model


def test_a_context_that_one_machine_fitted_serves_on_another(bucket: S3Store, tmp_path: Path) -> None:
    """Each has its own folder for downloads; a newer version is found, and a deleted context is gone for both."""
    one, other = (ContextStore(client(bucket, "fits/{context_id}/{version}", tmp_path / name), None) for name in ("one", "other"))
    context = {"context_id": "customer-7"}
    first, size_bytes = one.save(context, "1" * 32, lambda path: path.write_text("first"), 2)
    assert (other.newest(context), size_bytes) == (first, 5)
    artifact = other.locate(context)
    assert artifact.location.read_text() == "first"
    artifact.release()
    for digit in "23":
        newest, _ = other.save(context, digit * 32, lambda path, digit=digit: path.write_text(digit), 2)  # type: ignore[misc]
    assert one.newest(context) == newest
    assert one.list() == [context]
    keys = [each["path"] for page in obstore.list(bucket) for each in page]
    assert len(keys) == 2
    one.save({"context_id": "customer-77"}, "4" * 32, lambda path: path.write_text("another"), 2)
    assert one.delete(context)
    assert not other.delete(context)
    with pytest.raises(NotFound, match="fit it first"):
        other.locate(context)
    assert other.list() == [{"context_id": "customer-77"}]
