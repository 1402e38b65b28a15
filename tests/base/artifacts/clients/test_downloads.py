from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from base.artifacts.clients.downloads import CACHE_PATH_VARIABLE, Downloads


def writing(size: int, calls: list[Path]):
    def fetch(path: Path) -> None:
        calls.append(path)
        path.write_bytes(b"x" * size)

    return fetch


def kept(root: Path) -> int:
    return len(list((root / "kept").iterdir()))


def test_a_download_is_fetched_once(tmp_path: Path) -> None:
    """Many threads ask for it; each gets a lock of its own."""
    downloads, calls, found = Downloads(tmp_path), [], []
    threads = [threading.Thread(target=lambda: found.append(downloads.artifact("f", "model.bin", writing(3, calls)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(calls) == 1
    assert {artifact.location for artifact in found} == {next((tmp_path / "kept").iterdir()) / "model.bin"}
    for artifact in found:
        artifact.release()
        artifact.release()


def test_a_failed_download_leaves_nothing(tmp_path: Path) -> None:
    """The next attempt starts anew, also after a process that died during a download."""
    downloads = Downloads(tmp_path)

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("the line is cut")

    with pytest.raises(OSError, match="cut"):
        downloads.artifact("f", "m", fail)
    assert list((tmp_path / "new").iterdir()) == []
    assert kept(tmp_path) == 0
    died = f"""
import os
from base.artifacts.clients.downloads import Downloads
Downloads({str(tmp_path)!r}).artifact("f", "m", lambda path: (path.write_bytes(b"half"), os._exit(3)))
"""
    assert subprocess.run([sys.executable, "-c", died], check=False).returncode == 3
    assert [path.read_bytes() for path in (tmp_path / "new").glob("*/m")] == [b"half"]
    artifact = downloads.artifact("f", "m", writing(3, []))
    assert artifact.location.read_bytes() == b"xxx"
    artifact.release()


def test_the_least_recently_used_downloads_make_room(tmp_path: Path) -> None:
    """The bytes of the others stay below the bound; downloads in use stay whatever the bound."""
    downloads, calls = Downloads(tmp_path, max_bytes=100), []
    for number, name in enumerate("abc"):
        downloads.artifact(name, name, writing(40, calls)).release()
        if name != "c":
            (path,) = [path for path in (tmp_path / "kept").iterdir() if (path / name).exists()]
            os.utime(path, (number, number))
    assert sorted(path.name for path in (tmp_path / "kept").glob("*/*")) == ["b", "c"]
    held = [downloads.artifact(name, name, writing(60, calls)) for name in "de"]
    assert all(artifact.location.exists() for artifact in held)
    for artifact in held:
        artifact.release()
    downloads.artifact("g", "g", writing(60, calls)).release()
    assert kept(tmp_path) == 1


def test_downloads_that_a_cleaner_removes_are_fetched_again(tmp_path: Path) -> None:
    """The whole folder while one is in use, its file alone, or the folder during a download, which fails once."""
    root, calls = tmp_path / "artifacts", []
    downloads = Downloads(root)
    held = downloads.artifact("f", "m", writing(3, calls))
    shutil.rmtree(root)
    again = downloads.artifact("f", "m", writing(3, calls))
    assert (again.location, again.location.read_bytes(), len(calls)) == (held.location, b"xxx", 2)
    held.release()
    again.location.unlink()
    third = downloads.artifact("f", "m", writing(4, calls))
    assert (third.location.read_bytes(), len(calls)) == (b"xxxx", 3)

    def fetch_while_it_is_removed(path: Path) -> None:
        shutil.rmtree(root)
        path.write_bytes(b"lost")

    with pytest.raises(FileNotFoundError):
        downloads.artifact("g", "n", fetch_while_it_is_removed)
    for fingerprint, name in (("g", "n"), ("f", "m")):
        artifact = downloads.artifact(fingerprint, name, writing(5, calls))
        assert artifact.location.read_bytes() == b"xxxxx"
        artifact.release()
    for artifact in (again, third):
        artifact.release()


def test_a_download_in_use_by_another_process_is_not_deleted(tmp_path: Path) -> None:
    """Its lock ends with that process, however that ends."""
    code = f"""
import sys
from base.artifacts.clients.downloads import Downloads
held = Downloads({str(tmp_path)!r}, 100).artifact("theirs", "theirs", lambda path: path.write_bytes(b"x" * 90))
print("held", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        Downloads(tmp_path, 100).artifact("ours", "ours", writing(90, [])).release()
        assert len(list((tmp_path / "kept").glob("*/theirs"))) == 1
        child.kill()
    Downloads(tmp_path, 100).artifact("more", "more", writing(90, [])).release()
    assert [path.name for path in (tmp_path / "kept").glob("*/*")] == ["more"]


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default folder lies below the user's cache folder."""
    monkeypatch.setenv(CACHE_PATH_VARIABLE, str(tmp_path))
    assert Downloads().root == tmp_path / "artifacts"
    monkeypatch.delenv(CACHE_PATH_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert Downloads().root == tmp_path / "xdg/pexdock/artifacts"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert Downloads().root == Path.home() / ".cache/pexdock/artifacts"
