from __future__ import annotations

import os
from pathlib import Path

import pytest

from base.artifacts.clients.filesystem import ARTIFACTS_PATH_VARIABLE, FsClient
from base.errors import Declaration, Misfit, NotFound, Unavailable


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ARTIFACTS_PATH_VARIABLE, raising=False)


def made(path: Path, modified_s: float = 1_000.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("model")
    os.utime(path, (modified_s, modified_s))
    return path


def test_an_artifact_is_found_by_its_parameters(tmp_path: Path) -> None:
    """It may be a file or a folder; other parameters are ignored."""
    file = made(tmp_path / "US" / "v2.bin")
    client = FsClient(tmp_path, "/{country}/v{n}.bin")
    assert client.locate({"n": "2", "country": "US", "other": "../.."}).location == file
    assert FsClient(tmp_path, "{country}").locate({"country": "US"}).location == file.parent
    assert client.parameters == ("country", "n")


def test_the_error_for_a_missing_artifact_names_no_path(tmp_path: Path) -> None:
    """The message goes to the client of the request."""
    with pytest.raises(NotFound) as missing:
        FsClient(tmp_path, "/{country}/{n}").locate({"country": "US", "n": "x" * 300})
    assert "country='US'" in str(missing.value)
    assert str(tmp_path) not in str(missing.value)
    with pytest.raises(NotFound):
        FsClient(tmp_path / "nowhere", "/{country}").locate({"country": "US"})
    made(tmp_path / "file")
    with pytest.raises(NotFound):
        FsClient(tmp_path, "/file/{n}").locate({"n": "1"})


@pytest.mark.parametrize("value", ["..", ".", "", "../secret", "/etc", "a\0", "..\\secret"])
def test_no_value_leads_out_of_the_base_path(tmp_path: Path, value: str) -> None:
    """Such a value is refused before the disk is touched."""
    made(tmp_path / "secret" / "model")
    (tmp_path / "base").mkdir()
    with pytest.raises(Misfit):
        FsClient(tmp_path / "base", "/{name}/model").locate({"name": value})


def test_percent_signs_are_plain_characters(tmp_path: Path) -> None:
    """Values are decoded before they come here; nothing is decoded twice."""
    made(tmp_path / "secret")
    with pytest.raises(NotFound):
        FsClient(tmp_path / "base", "/{name}").locate({"name": "%2e%2e%2fsecret"})


def test_a_symbolic_link_does_not_lead_out(tmp_path: Path) -> None:
    """This holds for the last component and for those before it; the fallback is not served instead."""
    made(tmp_path / "secret" / "model")
    base = tmp_path / "base"
    made(base / "fallback")
    (base / "folder").symlink_to(tmp_path / "secret")
    (base / "file").symlink_to(tmp_path / "secret" / "model")
    (base / "circle").symlink_to(base / "circle")
    with pytest.raises(NotFound):
        FsClient(base, ["/{name}/model", "/fallback"]).locate({"name": "folder"})
    for name in ("file", "circle"):
        with pytest.raises(NotFound):
            FsClient(base, "/{name}").locate({"name": name})
    assert FsClient(base, "/{name}").list() == [{"name": "fallback"}]


def test_a_symbolic_link_inside_the_base_path_is_followed(tmp_path: Path) -> None:
    """Deployments use links such as current → v2. A base path may itself be a link."""
    model = made(tmp_path / "base" / "v2")
    (tmp_path / "base" / "current").symlink_to("v2")
    (tmp_path / "link").symlink_to(tmp_path / "base")
    assert FsClient(tmp_path / "link", "/{name}").locate({"name": "current"}).location == model


def test_the_first_template_with_an_artifact_is_used(tmp_path: Path) -> None:
    """It serves a subdivision's model, else its country's, else none."""
    client = FsClient(tmp_path, ["/{country}/{subdivision}/model", "/{country}/model"])
    country = made(tmp_path / "US" / "model")
    own = made(tmp_path / "US" / "US-CA" / "model")
    assert client.locate({"country": "US", "subdivision": "US-CA"}).location == own
    assert client.locate({"country": "US", "subdivision": "US-TX"}).location == country
    with pytest.raises(NotFound, match="country='GB', subdivision='GB-ENG'"):
        client.locate({"country": "GB", "subdivision": "GB-ENG"})
    with pytest.raises(Misfit):  # the country's model must not answer for a subdivision that is none
        client.locate({"country": "US", "subdivision": ".."})


def test_a_listing_is_newest_first_and_has_only_matching_artifacts(tmp_path: Path) -> None:
    """Each artifact has the parameters of its template."""
    made(tmp_path / "US" / "model", 3_000)
    made(tmp_path / "US" / "US-CA" / "model", 1_000)
    made(tmp_path / "GB" / "GB-ENG" / "model", 2_000)
    made(tmp_path / "GB" / "GB-ENG" / "notes.txt", 9_000)
    made(tmp_path / "README", 9_000)
    client = FsClient(tmp_path, ["/{country}/{subdivision}/model", "/{country}/model"])
    assert client.list() == [
        {"country": "US"},
        {"country": "GB", "subdivision": "GB-ENG"},
        {"country": "US", "subdivision": "US-CA"},
    ]
    assert FsClient(tmp_path / "nowhere", "/{a}").list() == []


def test_a_listed_artifact_can_be_located(tmp_path: Path) -> None:
    """This holds for unusual names as well."""
    for name in ("plain", "with space", "ünïcode", "-dash", ".hidden"):
        made(tmp_path / name)
    client = FsClient(tmp_path, "/{name}")
    assert {client.locate(found).location.name for found in client.list()} == {"plain", "with space", "ünïcode", "-dash", ".hidden"}


def test_a_relative_base_path_is_resolved_at_each_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is resolved against the variable's folder if that is set, else against the working directory, and never at import."""
    client = FsClient("store", "/{name}")
    here, there = made(tmp_path / "here" / "store" / "m"), made(tmp_path / "there" / "store" / "m")
    monkeypatch.chdir(tmp_path / "here")
    assert client.locate({"name": "m"}).location == here
    monkeypatch.setenv(ARTIFACTS_PATH_VARIABLE, str(tmp_path / "there"))
    assert client.locate({"name": "m"}).location == there
    assert FsClient(tmp_path / "here" / "store", "/{name}").locate({"name": "m"}).location == here


def test_a_client_without_a_template_is_refused() -> None:
    """It could not find anything."""
    with pytest.raises(Declaration):
        FsClient("store", [])


def test_an_artifact_that_is_stored_is_found_until_it_is_deleted(tmp_path: Path) -> None:
    """It replaces one that was there; folders that it leaves empty go with it, and those of others stay."""
    root, source = tmp_path / "store", tmp_path / "source"
    client = FsClient(root, "{country}/v{n}.bin")
    for text in ("one", "two"):
        source.write_text(text)
        client.store({"country": "US", "n": "1"}, source)
    client.store({"country": "US", "n": "2"}, source)
    client.store({"country": "GB", "n": "2"}, source)
    assert client.locate({"country": "US", "n": "1"}).location.read_text() == "two"
    assert sorted(found["n"] for found in client.find({"country": "US"})) == ["1", "2"]
    assert [found["country"] for found in client.find({"n": "1"})] == ["US"]
    assert sum(1 for _ in client.find({})) == 3
    for n in ("1", "2", "2"):
        client.delete({"country": "US", "n": n})
    assert [path.name for path in root.iterdir()] == ["GB"]
    assert not list(client.find({"country": "US"}))


def test_nothing_is_stored_outside_or_where_it_cannot_be(tmp_path: Path) -> None:
    """The reason is for the client of the request, so it names no path; nothing unfinished is left."""
    root, source, outside = tmp_path / "store", tmp_path / "source", tmp_path / "outside"
    source.write_text("model")
    for folder in (root, outside):
        folder.mkdir()
    (root / "link").symlink_to(outside)
    (root / "file").write_text("no folder")
    client = FsClient(root, "{folder}/{n}")
    with pytest.raises(Misfit):
        client.store({"folder": "..", "n": "1"}, source)
    with pytest.raises(NotFound):
        client.store({"folder": "link", "n": "1"}, source)
    with pytest.raises(NotFound):
        client.delete({"folder": "link", "n": "1"})
    with pytest.raises(Unavailable, match="try again later") as refused:
        client.store({"folder": "file", "n": "1"}, source)
    assert str(tmp_path) not in str(refused.value)
    with pytest.raises(Unavailable):
        client.store({"folder": "new", "n": "1"}, tmp_path / "missing")
    assert not list(outside.iterdir())
    assert not list((root / "new").iterdir())
