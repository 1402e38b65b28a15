"""The run directory: the sockets and the state file of a running supervisor. Its lock shows that the supervisor runs.

The directory may be removed while the supervisor runs, for example by a cleaner of the folder for temporary files; it is made again then.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from base.errors import PexdockError
from runtime.blocking import run_within

LOCK = "lock"
STATE = "state.json"
SOCKET_SUFFIX = ".sock"
ADMIN = f"admin{SOCKET_SUFFIX}"
JOBS = f"jobs{SOCKET_SUFFIX}"

_LOCK_ATTEMPTS = 100
"""Each fails only if another supervisor removes the folder at that very instant, so that even a few in a row mean something else."""

REMOVE_MAX_S = 5.0
"""Time limit for removing files at the end, in seconds."""


class RunDirTaken(PexdockError):
    """The run directory cannot be used: another supervisor uses it, or it is not private to this user."""

    code = "run_dir_taken"


class RunDir:
    """The run directory of this process.

    Args:
        path: The directory.
        lock: Descriptor that has locked its lock file.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock
        self._restoring = threading.Lock()

    @property
    def is_present(self) -> bool:
        """True while the path leads to the lock of this process: neither the directory nor its lock file was removed or replaced."""
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(self._lock), (self.path / LOCK).stat())
        return False

    def restore(self) -> bool:
        """Makes and locks the directory again if it is not present. Returns whether it was made. May be called from any thread.

        Raises:
            RunDirTaken: It cannot be made, another user has made it, or another supervisor uses it by now. Nothing was changed.
        """
        with self._restoring:
            if self.is_present:
                return False
            lock = _lock(self.path)
            replaced, self._lock = self._lock, lock  # in this order, since a thread may ask `is_present`
            os.close(replaced)
            self.write_pid()
            return True

    def write_pid(self) -> None:
        """Writes the id of this process into the lock file.

        Raises:
            RunDirTaken: The file cannot be written.
        """
        try:
            os.ftruncate(self._lock, 0)
            os.write(self._lock, f"{os.getpid()}\n".encode())
        except OSError as exc:
            raise RunDirTaken(f"cannot use {self.path}: {exc.strerror}; make room, or choose another folder with --run-path") from exc

    def close(self) -> None:
        """Removes the directory, unless another supervisor has made it, and releases the lock. Does not wait long for a disk that hangs."""
        run_within(REMOVE_MAX_S, f"run_path ({self.path})", self._remove)

    def _remove(self) -> None:
        if self.is_present:
            _remove_contents(self.path)
            (self.path / LOCK).unlink(missing_ok=True)  # still locked, so that a process that waits for the lock sees that its file is gone
            with contextlib.suppress(OSError):
                self.path.rmdir()  # fails if something else is in it
        os.close(self._lock)


@contextlib.contextmanager
def lock_run_dir(path: Path) -> Iterator[RunDir]:
    """Makes and locks the run directory. At the end, removes it with all of our files in it.

    The lock belongs to the descriptor, so the kernel releases it however the supervisor ends. The next supervisor then takes over the
    directory and the files that are left in it.

    Raises:
        RunDirTaken: The directory cannot be used; nothing was changed.
    """
    found = RunDir(path, _lock(path))
    try:
        try:
            _remove_contents(path)
        except OSError as exc:
            raise RunDirTaken(f"cannot use {path}: {exc.strerror}; make room, or choose another folder with --run-path") from exc
        found.write_pid()
        yield found
    finally:
        found.close()


def find_supervisor_pid(path: Path) -> int | None:
    """Returns the pid of the supervisor that uses this run directory; None if there is none.

    Raises:
        RunDirTaken: The directory belongs to another user.
    """
    try:
        with (path / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_pid(path)
    except PermissionError as exc:
        if path.stat().st_uid == os.geteuid():
            raise RunDirTaken(f"{path} does not allow access to its owner: run `chmod 700 {path}`") from exc
        raise RunDirTaken(f"{path} belongs to another user; run the command as that user") from exc
    except OSError:
        pass
    return None


def _lock(path: Path) -> int:
    """Returns a locked descriptor of the present lock file at `path`."""
    failure = None
    for _ in range(_LOCK_ATTEMPTS):
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            refuse_shared_dir(path)
            lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError as exc:  # another supervisor has just removed the folder, or none can be made there, as in /proc
            failure = exc
            continue
        except OSError as exc:
            raise RunDirTaken(f"cannot use {path}: {exc.strerror}; choose another folder with --run-path") from exc
        is_ours = _try_lock(path, lock)
        # Without this check: A opens the file; B, which holds it, removes it and exits; A locks, or waits for, a file that is gone.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), (path / LOCK).stat()):
                if is_ours:
                    return lock
                os.close(lock)
                running = f"another supervisor (pid {_read_pid(path)}) runs on {path}"
                raise RunDirTaken(f"{running}; stop it, or choose another folder with --run-path")
        os.close(lock)
    reason = failure.strerror if failure else "its lock file does not stay there"
    raise RunDirTaken(f"cannot use {path}: {reason}; choose another folder with --run-path") from failure


def _try_lock(path: Path, lock: int) -> bool:
    """Locks the descriptor; returns False if a supervisor holds the lock.

    `find_supervisor_pid` takes a shared lock for an instant. So if a shared lock is refused, a supervisor holds the exclusive lock. Waiting
    for the exclusive lock means waiting only for such calls: each starting supervisor locks the folder first, so only one gets this far.
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
    """Checks that no other user can write to the directory, and so put sockets in place of ours.

    Raises:
        RunDirTaken: Another user can write to it.
    """
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise RunDirTaken(f"{path} is not a folder of this user; choose another one with --run-path")
    if found.st_mode & 0o077:
        raise RunDirTaken(f"{path} is open to other users; run `chmod 700 {path}`, or choose another folder with --run-path")


def _remove_contents(path: Path) -> None:
    """Removes sockets and state by their names. Other files stay, in case the folder is not a run directory and was named by mistake."""
    for file in path.iterdir():
        if file.suffix == SOCKET_SUFFIX or file.name.lstrip(".").startswith(STATE):
            file.unlink(missing_ok=True)


def _read_pid(path: Path) -> int:
    """Returns the pid in the lock file; 0 while it is being written."""
    with contextlib.suppress(OSError, ValueError):
        return int((path / LOCK).read_text())
    return 0
