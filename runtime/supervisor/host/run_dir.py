"""The run directory: sockets and the state file, for as long as one supervisor runs. Its lock says that one does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from base.errors import PexdockError

LOCK = "lock"
STATE = "state.json"
SOCKET_SUFFIX = ".sock"
ADMIN = f"admin{SOCKET_SUFFIX}"


class RunDirTaken(PexdockError):
    """The run directory cannot be had: another supervisor runs on it, or it is not private to this user."""

    code = "run_dir_taken"


@contextlib.contextmanager
def lock_run_dir(path: Path) -> Iterator[Path]:
    """Takes the run directory, made if need be, and removes it at the end with all that is ours in it.

    The lock belongs to the descriptor, so the kernel lets go of it however the supervisor ends. Then the next one takes over what is left.

    Raises:
        RunDirTaken: nothing was changed.
    """
    lock = _lock(path)
    try:
        try:
            _empty(path)
            os.ftruncate(lock, 0)
            os.write(lock, f"{os.getpid()}\n".encode())
        except OSError as exc:
            raise RunDirTaken(f"{path} cannot be used: {exc.strerror}; make room, or name another folder with --run-path") from exc
        yield path
    finally:
        _empty(path)
        (path / LOCK).unlink(missing_ok=True)  # while it is still locked: whoever waits for it sees that its file is gone
        with contextlib.suppress(OSError):
            path.rmdir()  # stays if somebody else keeps something in it
        os.close(lock)


def find_supervisor_pid(path: Path) -> int | None:
    """The pid of the supervisor that runs on this run directory; None if none does.

    Raises:
        RunDirTaken: it belongs to another user.
    """
    try:
        with (path / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid(path)
    except PermissionError as exc:
        raise RunDirTaken(f"{path} belongs to another user; ask as that user") from exc
    except OSError:
        pass
    return None


def _lock(path: Path) -> int:
    """The locked descriptor of the lock file that is at `path` now."""
    while True:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            refuse_shared_dir(path)
            lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:  # B removed the folder just now
            continue
        except OSError as exc:
            raise RunDirTaken(f"{path} cannot be used: {exc.strerror}; name another folder with --run-path") from exc
        is_ours = _flock(path, lock)
        # A opens the file; B, which held it, removes it and ends; A locks, or is refused, what nobody can see any more.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), (path / LOCK).stat()):
                if is_ours:
                    return lock
                os.close(lock)
                who = f"a supervisor runs already on {path} (pid {_pid(path)})"
                raise RunDirTaken(f"{who}: stop that one, or name another folder with --run-path")
        os.close(lock)


def _flock(path: Path, lock: int) -> bool:
    """Whether no supervisor had the lock, which is ours then.

    `holder` shares it for an instant when it asks, so a lock that cannot be shared is a supervisor's. Only those who ask are waited for: of
    those that start, one at a time gets so far, since each locks the folder first.
    """
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except BlockingIOError:
        return False
    finally:
        os.close(folder)
    return True


def refuse_shared_dir(path: Path) -> None:
    """Whoever else could write here could put sockets of their own in place of ours. Raises RunDirTaken."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise RunDirTaken(f"{path} is not a folder of this user: name another one with --run-path")
    if found.st_mode & 0o077:
        raise RunDirTaken(f"{path} is open to other users: `chmod 700 {path}`, or name another folder with --run-path")


def _empty(path: Path) -> None:
    """Remove sockets and state. Only what has our names: a folder that somebody named by mistake keeps its files."""
    for file in path.iterdir():
        if file.suffix == SOCKET_SUFFIX or file.name.lstrip(".").startswith(STATE):
            file.unlink(missing_ok=True)


def _pid(path: Path) -> int:
    """The pid in the lock file; 0 while it is being written."""
    with contextlib.suppress(OSError, ValueError):
        return int((path / LOCK).read_text())
    return 0
