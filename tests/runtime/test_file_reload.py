"""Values that are loaded again when their files change."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from base.errors import PexdockError
from runtime.file_reload import FileReloader


def make_reloader(path: Path) -> FileReloader[int]:
    def load() -> int:
        try:
            return int(path.read_text())
        except OSError as exc:
            raise PexdockError(f"{path.name} cannot be read") from exc

    return FileReloader("number", [path], load, "the previous number stays")


def reload(reloader: FileReloader[int]) -> bool:
    return asyncio.run(reloader.reload_if_changed())


def test_a_value_is_loaded_again_only_when_its_file_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "number"
    path.write_text("1")
    reloader = make_reloader(path)
    assert (reloader.load(), reload(reloader)) == (1, False)
    path.write_text("2")
    assert (reload(reloader), reloader.value) == (True, 2)
    path.chmod(0o600)
    assert (reload(reloader), reload(reloader)) == (True, False)


def test_a_failure_is_logged_once_and_leaves_the_last_value(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The next good file ends it, whatever came in between."""
    path = tmp_path / "number"
    path.write_text("1")
    reloader = make_reloader(path)
    reloader.load()
    path.unlink()
    for _ in range(2):
        assert (reload(reloader), reloader.value, reloader.failed) == (False, 1, True)
    assert caplog.messages == ["cannot load the number: number cannot be read; the previous number stays"]
    path.write_text("many")
    assert (reload(reloader), reloader.value, reloader.failed) == (False, 1, True)
    path.write_text("1")
    assert (reload(reloader), reloader.value, reloader.failed) == (True, 1, False)


def test_a_first_value_that_cannot_be_loaded_raises(tmp_path: Path) -> None:
    reloader = make_reloader(tmp_path / "number")
    with pytest.raises(PexdockError):
        reloader.load()
    (tmp_path / "number").write_text("3")
    assert (reload(reloader), reloader.value) == (True, 3)
