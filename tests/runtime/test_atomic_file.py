"""Files that are replaced as a whole."""

from pathlib import Path

import pytest

from runtime.atomic_file import replace_atomically, write_atomically


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_and_no_temporary_file_is_left(tmp_path: Path, durable: bool):
    """This is so with and without a flush to the disk."""
    path = tmp_path / "file"
    for content in (b"first", b"second"):
        write_atomically(path, content, mode=0o600, durable=durable)
        assert path.read_bytes() == content
        assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_error_leaves_the_file_as_it_was(tmp_path: Path):
    """Neither half of the new content nor the temporary file stays."""
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(RuntimeError):
        _fail_halfway(path)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("file", "before")]


def test_a_rename_that_fails_removes_the_temporary_file(tmp_path: Path):
    """A folder cannot be replaced by a file."""
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(path, b"content")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def _fail_halfway(path: Path):
    with replace_atomically(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "before"
        raise RuntimeError
