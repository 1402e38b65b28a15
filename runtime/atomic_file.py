"""Replaces files as a whole: a temporary file beside the target is written and then renamed, so that no reader ever sees half a file.

Standard library only, since `runtime.pex.unpack` imports it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replace_atomically(path: Path, *, durable: bool = False, suffix: str = "part") -> Iterator[Path]:
    """Yields a path beside `path` to write to. At the end of the block that file takes the place of `path`.

    An error in the block or in the rename leaves `path` as it was, and removes the temporary file.

    Args:
        path: The file to replace.
        durable: Flushes the file and its folder to the disk, so that a power failure leaves the old content or the new.
        suffix: Suffix of the temporary file, whose name also has a leading dot and the process id.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{suffix}")
    try:
        yield temporary
        if durable:
            sync_path(temporary)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # the error that is being raised says more
            temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_path(path.parent)


def write_atomically(path: Path, content: bytes, *, mode: int = 0o666, durable: bool = False, suffix: str = "part") -> None:
    """Replaces the content of `path`; see `replace_atomically`.

    Args:
        path: The file to replace.
        content: The new content.
        mode: Permissions of the file, from which the umask is taken.
        durable: As in `replace_atomically`.
        suffix: As in `replace_atomically`.

    Raises:
        OSError: The file could not be written; the content of `path` has not changed.
    """
    with replace_atomically(path, durable=durable, suffix=suffix) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, made with its mode
            file.write(content)


def sync_path(path: Path) -> None:
    """Flushes a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
