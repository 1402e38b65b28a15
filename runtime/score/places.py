"""Finds input files, and publishes output files, in folders and in object stores. Blocks."""

from __future__ import annotations

import fnmatch
import glob
import io
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from base.artifacts.clients.object_store import open_store
from base.errors import NotFound, PexdockError, Unavailable
from runtime.atomic_file import sync_path

if TYPE_CHECKING:
    from obstore import ObjectMeta

ASIDE = "_score/aside"
"""Folder, in a local output, of files that are not complete."""

_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class InputFile:
    """One file to score.

    Attributes:
        name: Its path or URL.
        relative: Its path below the part of its pattern that has no wildcard.
        size: Its size in bytes.
        stamp: Changes with its content: the time of its last change, or the ETag of an object.
        store: The store that has it; None for a local file.
        key: Its key in the store.
        tag: Its ETag; empty if it has none.
    """

    name: str
    relative: str
    size: int
    stamp: str
    store: Any = None
    key: str = ""
    tag: str = ""

    def open(self) -> io.RawIOBase:
        """Returns the content, which can be read by position.

        Raises:
            OSError: The file cannot be read.
        """
        return io.FileIO(self.name) if self.store is None else _ObjectContent(self)

    def require_unchanged(self) -> None:
        """Raises PexdockError if the file has other content than when it was found."""
        try:
            found = _local_file(self.name, "") if self.store is None else _head_object(self.store, self.key, self.name)
        except FileNotFoundError:
            found = None
        if found is None or (found.size, found.stamp) != (self.size, self.stamp):
            raise PexdockError(f"{self.name} was {'changed' if found else 'removed'} while it was read; {_START_ANEW}")


_START_ANEW = "start again with another output, so that all results are of one state of the files"


class _ObjectContent(io.RawIOBase):
    """The content of an object. Each read is one request, which fails if the object was replaced."""

    def __init__(self, file: InputFile) -> None:
        super().__init__()
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size}[whence]
        return self._at

    def tell(self) -> int:
        """Returns the position."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer, up to the end of the object. Returns the number of bytes."""
        import obstore  # noqa: PLC0415 - only users of a store pay for the import

        file, end = self._file, min(self._at + len(buffer), self._file.size)
        if end <= self._at:
            return 0
        options: Any = {"range": (self._at, end)} | ({"if_match": file.tag} if file.tag else {})
        with _store_errors(file.name):
            content = memoryview(obstore.get(file.store, file.key, options=options).bytes())
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


def find_inputs(pattern: str) -> list[InputFile]:
    """Returns the files that match a pattern, ordered by name.

    Args:
        pattern: A path or a URL. `*` and `?` match within one name, and `**` any number of folders.

    Raises:
        NotFound: No file matches.
        PexdockError: A store cannot be reached.
    """
    if not pattern:
        raise NotFound("an input is empty; name files such as 'folder/*.parquet'")
    found = _find_objects(pattern) if "://" in pattern else _find_local(pattern)
    if not found:
        if "://" not in pattern and Path(pattern).is_dir():
            raise NotFound(f"{pattern} is a folder; name files in it, such as '{pattern.rstrip('/')}/*.parquet'")
        raise NotFound(f"no file matches {pattern}; name files such as 'folder/*.parquet'")
    return sorted(found, key=lambda file: file.name)


def _find_local(pattern: str) -> list[InputFile]:
    root, rest = _split_pattern(os.path.abspath(pattern))  # noqa: PTH100 - `Path` would drop a second slash, but no wildcard
    root = root or "/"
    if "**" in rest.split("/"):
        # `glob` would follow links to folders, in a circle as often as the system allows.
        files = (os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names)  # noqa: PTH118 - texts
        paths = [path for path in files if _matches(os.path.relpath(path, root).split("/"), rest.split("/"))]
    else:
        paths = glob.glob(os.path.abspath(pattern))  # noqa: PTH207, PTH100 - as above
    return [_local_file(path, os.path.relpath(path, root)) for path in paths if os.path.isfile(path)]  # noqa: PTH113 - texts


def _local_file(path: str, relative: str) -> InputFile:
    found = os.stat(path)  # noqa: PTH116 - a text
    return InputFile(path, relative, found.st_size, f"{found.st_mtime_ns}")


def _find_objects(pattern: str) -> list[InputFile]:
    import obstore  # noqa: PLC0415 - see `_ObjectContent`

    root, rest = _split_pattern(pattern)
    with _store_errors(pattern):
        store = open_store(root)
        if not _WILDCARD.search(rest):
            try:
                return [_head_object(store, rest, f"{root}/{rest}")]
            except FileNotFoundError:
                return []
        found = (each for page in obstore.list(store) for each in page if _matches(each["path"].split("/"), rest.split("/")))
        return [_object_file(store, f"{root}/{each['path']}", each) for each in found]


def _head_object(store: Any, key: str, name: str) -> InputFile:
    import obstore  # noqa: PLC0415 - see `_ObjectContent`

    return _object_file(store, name, obstore.head(store, key))


def _object_file(store: Any, name: str, found: ObjectMeta) -> InputFile:
    tag = found["e_tag"] or ""
    return InputFile(name, found["path"], found["size"], tag.strip('"') or found["last_modified"].isoformat(), store, found["path"], tag)


def _split_pattern(pattern: str) -> tuple[str, str]:
    """Returns the folder that has no wildcard, and the rest of the pattern."""
    parts = pattern.split("/")
    first = next((i for i, part in enumerate(parts) if _WILDCARD.search(part)), len(parts) - 1)
    return "/".join(parts[:first]), "/".join(parts[first:])


def _matches(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Returns whether the names of a path match those of a pattern, by the rules of `glob`: no wildcard matches a leading dot."""
    if not names or not pattern:
        return not names and not pattern
    first, *rest = pattern
    if first == "**" and rest:
        return _matches(names, rest) or (not names[0].startswith(".") and _matches(names[1:], pattern))
    if first == "**":
        return not any(name.startswith(".") for name in names)
    is_shown = first.startswith(".") or not names[0].startswith(".")
    return is_shown and fnmatch.fnmatchcase(names[0], first) and _matches(names[1:], rest)


class OutputFolder(Protocol):
    """A folder of results.

    Attributes:
        aside: Local folder for files that are not complete.
    """

    aside: Path

    def sizes(self) -> Mapping[str, int]:
        """Returns the path of each file in it → its size in bytes."""

    def read(self, name: str) -> bytes:
        """Returns the content of a file."""

    def publish(self, aside: Path, name: str) -> None:
        """Moves a complete file from `aside` to its place, at once and as a whole."""

    def names(self) -> set[str]:
        """Returns the names of what is directly in it."""

    def clear(self) -> None:
        """Removes everything in it."""


class LocalFolder:
    """A folder of this machine. A file that it has published survives a power failure.

    Args:
        path: The folder; it is made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.aside = path / ASIDE

    def sizes(self) -> Mapping[str, int]:
        """Returns the path of each file → its size."""
        files = [Path(place) / name for place, _, names in os.walk(self._path) for name in names]
        return {str(file.relative_to(self._path)): file.stat().st_size for file in files if self.aside not in file.parents}

    def read(self, name: str) -> bytes:
        """Returns the content of a file."""
        return (self._path / name).read_bytes()

    def publish(self, aside: Path, name: str) -> None:
        """Renames a file into its place."""
        sync_path(aside)
        place = self._path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        aside.replace(place)
        sync_path(place.parent)

    def names(self) -> set[str]:
        """Returns the names of what is directly in it."""
        return {each.name for each in self._path.iterdir()} if self._path.is_dir() else set()

    def clear(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self._path)


class StoreFolder:
    """The objects below a URL. Stores show only complete objects.

    Args:
        url: The URL.
        aside: Local folder in which files are written before they are uploaded.
    """

    def __init__(self, url: str, aside: Path) -> None:
        self._url = url
        self.aside = aside
        with _store_errors(url):
            self._store = open_store(url)

    def sizes(self) -> Mapping[str, int]:
        """Returns the key of each object → its size."""
        import obstore  # noqa: PLC0415 - see `_ObjectContent`

        with _store_errors(self._url):
            return {each["path"]: each["size"] for page in obstore.list(self._store) for each in page}

    def read(self, name: str) -> bytes:
        """Returns the content of an object."""
        import obstore  # noqa: PLC0415 - see `_ObjectContent`

        with _store_errors(self._url):
            return bytes(obstore.get(self._store, name).bytes())

    def publish(self, aside: Path, name: str) -> None:
        """Uploads a file, in parts if it is large."""
        import obstore  # noqa: PLC0415 - see `_ObjectContent`

        with _store_errors(self._url):
            obstore.put(self._store, name, aside)
        aside.unlink()

    def names(self) -> set[str]:
        """Returns the names of what is directly below the URL."""
        import obstore  # noqa: PLC0415 - see `_ObjectContent`

        with _store_errors(self._url):
            return {each["path"].rpartition("/")[2] for each in obstore.list_with_delimiter(self._store)["objects"]}

    def clear(self) -> None:
        """Removes all objects."""
        import obstore  # noqa: PLC0415 - see `_ObjectContent`

        with _store_errors(self._url):
            obstore.delete(self._store, list(self.sizes()))
        shutil.rmtree(self.aside)


def folder_at(place: str, aside: Path) -> OutputFolder:
    """Returns the folder at a path or a URL.

    Args:
        place: The path or URL.
        aside: Local folder for incomplete files of a URL.
    """
    return StoreFolder(place, aside) if "://" in place else LocalFolder(Path(place).absolute())


def open_output(place: str, scratch: Path) -> OutputFolder:
    """Returns the same, with an empty folder for incomplete files, which is in `scratch` for a URL."""
    folder = folder_at(place, scratch / "aside")
    shutil.rmtree(folder.aside, ignore_errors=True)  # of a run that was killed
    folder.aside.mkdir(parents=True)
    return folder


def file_name(relative: str, number: int, ending: str) -> str:
    """Returns the name of one part of the results of an input file."""
    path = PurePosixPath(relative)
    return str(path.with_name(f"{path.stem}-{number:05}{ending}"))


@contextmanager
def _store_errors(url: str) -> Iterator[None]:
    """Turns errors of the library, which have no narrower common base, into Unavailable."""
    try:
        yield
    except (PexdockError, FileNotFoundError):
        raise
    except Exception as exc:
        raise Unavailable(f"{url}: {exc}") from exc
