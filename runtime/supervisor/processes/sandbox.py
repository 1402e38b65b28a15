"""Restricts the resources of a worker: environment variables, a scratch folder, a user and memory. Runs in the supervisor.

A model's code has all permissions of its user. So a worker gets no more than it needs: no token, no secrets of another model, and no files
of others if workers have a user of their own.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import resource
import shutil
import signal
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from packaging.utils import canonicalize_name

from base.errors import PexdockError
from runtime.blocking import run_within
from runtime.supervisor.host.run_dir import REMOVE_MAX_S

INHERITED_VARIABLES = (
    *("PATH", "HOME", "USER", "LOGNAME", "HOSTNAME", "LANG", "LANGUAGE", "LC_*", "TZ", "LD_*", "XDG_*", "DO_NOT_TRACK"),
    *("SSL_CERT_*", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "*_PROXY", "*_proxy"),
    *("*_NUM_THREADS", "OMP_*", "MKL_*", "OPENBLAS_*", "POLARS_*", "ARROW_*", "RAYON_*", "MALLOC_*", "CUDA_*", "NVIDIA_*"),
    *("MLFLOW_*", "AWS_*", "AZURE_*", "GOOGLE_*"),
)
"""Patterns of the variables that every worker inherits: paths, settings of libraries, and credentials for artifacts."""


_OUT_OF_MEMORY_CODES = (-signal.SIGABRT, -signal.SIGSEGV)
_OUT_OF_MEMORY_TEXTS = ("MemoryError", "memory allocation of", "bad_alloc", "annot allocate memory")


class User(NamedTuple):
    """The user of a process."""

    uid: int
    gid: int
    groups: list[int]
    name: str
    home: str

    @classmethod
    def look_up(cls, name: str) -> User:
        """Returns the user with this name or number.

        Raises:
            PexdockError: There is no such user, or this process may not start processes of another user.
        """
        if os.geteuid() != 0:
            raise PexdockError("worker_user is set, but only root can start processes as another user; start Pexdock as root")
        try:
            found = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
        except KeyError as exc:
            raise PexdockError(f"worker_user: there is no user {name!r} on this machine") from exc
        return cls(found.pw_uid, found.pw_gid, os.getgrouplist(found.pw_name, found.pw_gid), found.pw_name, found.pw_dir)


@dataclass(frozen=True)
class Sandbox:
    """The limits of all workers.

    Attributes:
        scratch_path: Folder in which each worker gets its own folder.
        inherits: Patterns of further variables to inherit; `model:PATTERN` for the workers of one model.
        user: The user of workers; None for the supervisor's own user.
        max_bytes: Private memory that a worker may allocate; 0 disables the limit.
        max_bytes_setting: Name of the setting that has this limit.
    """

    scratch_path: Path
    inherits: tuple[str, ...] = ()
    user: User | None = None
    max_bytes: int = 0
    max_bytes_setting: str = "worker_max_bytes"

    def environment_for(self, model: str, parent: Mapping[str, str]) -> dict[str, str]:
        """Returns the variables of `parent` that a worker of this model inherits."""
        named = [(owner, pattern) for owner, _, pattern in (entry.rpartition(":") for entry in self.inherits)]
        own = [pattern for owner, pattern in named if not owner or canonicalize_name(owner) == canonicalize_name(model)]
        patterns = (*INHERITED_VARIABLES, *own)
        found = {name: value for name, value in parent.items() if any(fnmatchcase(name, pattern) for pattern in patterns)}
        if self.user is not None:
            return found | {"HOME": self.user.home, "USER": self.user.name, "LOGNAME": self.user.name}
        name = found.get("USER") or found.get("LOGNAME") or _own_name()  # without these, `getpass.getuser` fails for an unknown uid
        return {"USER": name, "LOGNAME": name} | found

    def home(self, named: str | None, scratch: Path) -> str:
        """Returns the home folder of a worker: the named one if the worker can write there, or else its scratch folder.

        Args:
            named: HOME in the environment for the worker; None if it is not set.
            scratch: The worker's folder for temporary files.
        """
        try:
            if self.user is None:
                usable = named is not None and Path(named).is_dir() and os.access(named, os.W_OK | os.X_OK)
            else:
                usable = Path(self.user.home).stat().st_uid == self.user.uid
        except OSError:
            usable = False
        return named if named is not None and usable else str(scratch)

    def restore_scratch_root(self) -> bool:
        """Makes the folder for the scratch folders again if it was removed. Returns whether it was.

        Raises:
            PexdockError: It cannot be made, or another user has made it.
        """
        if self.scratch_path.is_dir():
            return False
        make_scratch_root(self.scratch_path, shared=self.user is not None)
        return True

    def create_scratch_folder(self, name: str) -> Path:
        """Makes a new folder for one worker, which no other user may enter."""
        folder = self.scratch_path / name
        folder.mkdir(mode=0o700)
        if self.user is not None:
            os.chown(folder, self.user.uid, self.user.gid)
        return folder

    def limit_memory(self, pid: int) -> None:
        """Limits the memory of a process that was just started; allocations beyond the limit fail.

        RLIMIT_DATA counts private, writable memory. RLIMIT_AS would also count the segments that front doors share with the worker.
        """
        if self.max_bytes:
            with contextlib.suppress(ProcessLookupError):
                _, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
                limit = self.max_bytes if hard == resource.RLIM_INFINITY else min(self.max_bytes, hard)
                resource.prlimit(pid, resource.RLIMIT_DATA, (limit, limit))

    def explain_exit(self, code: int, lines: Sequence[str]) -> str:
        """Returns a hint at the memory limit if the exit status or the last lines suggest that a worker has reached it; else empty."""
        out_of_memory = code in _OUT_OF_MEMORY_CODES or any(text in line for line in lines for text in _OUT_OF_MEMORY_TEXTS)
        limit = f"; its memory limit is {self.max_bytes / 1e6:.0f} MB ({self.max_bytes_setting})"
        return limit if self.max_bytes and out_of_memory else ""

    def cache_folder(self, cache_path: Path) -> Path:
        """Returns the folder for downloads of workers. Workers with a user of their own have a separate folder."""
        return cache_path if self.user is None else cache_path / "users" / str(self.user.uid)

    def make_cache_folder(self, cache_path: Path) -> None:
        """Makes the folder for downloads of workers if they have a separate one. Blocks."""
        if self.user is not None:
            folder = self.cache_folder(cache_path)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.chown(folder, self.user.uid, self.user.gid)


def _own_name() -> str:
    """Returns the name of the user of this process, or its number if it has none, as in a container that runs as an arbitrary user."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


@contextlib.contextmanager
def scratch_root(path: Path, *, shared: bool) -> Iterator[Path]:
    """Makes the folder for the scratch folders of all workers, removes leftovers of killed workers, and removes the folder at the end.

    Args:
        path: The folder.
        shared: Whether workers run as another user, who must be able to reach their own folders in it.

    Raises:
        PexdockError: The folder cannot be made, or another user may write to it.
    """
    make_scratch_root(path, shared=shared)
    try:
        _remove_worker_folders(path)
        yield path
    finally:
        run_within(REMOVE_MAX_S, f"scratch_path ({path})", lambda: _remove_scratch_root(path))


def make_scratch_root(path: Path, *, shared: bool) -> None:
    """Makes the folder for the scratch folders of all workers unless it exists.

    Raises:
        PexdockError: As `scratch_root`.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise PexdockError(f"{path} is not a folder that only this user can write to; choose another one with --scratch-path")
        path.chmod(0o711 if shared else 0o700)
    except OSError as exc:
        raise PexdockError(f"cannot use {path}: {exc.strerror}; choose another folder with --scratch-path") from exc


def _remove_scratch_root(path: Path) -> None:
    _remove_worker_folders(path)
    with contextlib.suppress(OSError):
        path.rmdir()  # fails if something else is in it


def _remove_worker_folders(path: Path) -> None:
    for folder in path.glob("w[0-9]*"):
        remove_folder(folder)


def remove_folder(folder: Path) -> None:
    """Removes a folder, even if the model has removed its own permissions from folders in it."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        for place, _, _ in os.walk(folder):
            with contextlib.suppress(OSError):
                os.chmod(place, 0o700)  # noqa: PTH101 - `place` is a string
        shutil.rmtree(folder, ignore_errors=True)
