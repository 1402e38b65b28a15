"""What a worker is given of the machine: variables, a folder for scratch, a user, memory. Runs in the supervisor.

A model's code may do whatever its user may. So it gets no more than it needs: no token, no other model's secrets, no files of others
where a user of its own is named.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import resource
import shutil
import signal
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from packaging.utils import canonicalize_name

from base.errors import PexdockError

INHERITED_VARIABLES = (
    *("PATH", "HOME", "USER", "LOGNAME", "HOSTNAME", "LANG", "LANGUAGE", "LC_*", "TZ", "LD_*", "XDG_*", "DO_NOT_TRACK"),
    *("SSL_CERT_*", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "*_PROXY", "*_proxy"),
    *("*_NUM_THREADS", "OMP_*", "MKL_*", "OPENBLAS_*", "POLARS_*", "ARROW_*", "RAYON_*", "MALLOC_*", "CUDA_*", "NVIDIA_*"),
    *("MLFLOW_*", "AWS_*", "AZURE_*", "GOOGLE_*"),
)
"""What every worker inherits: where things are, how libraries behave, and what artifacts are read with."""


_ENDS_WITHOUT_MEMORY = (-signal.SIGABRT, -signal.SIGSEGV)
_WORDS_OF_MEMORY = ("MemoryError", "memory allocation of", "bad_alloc", "annot allocate memory")


class User(NamedTuple):
    """Whom a process runs as."""

    uid: int
    gid: int
    groups: list[int]
    name: str
    home: str

    @classmethod
    def look_up(cls, name: str) -> User:
        """The user of this name or number.

        Raises:
            PexdockError: there is none, or this process may not become anybody else.
        """
        if os.geteuid() != 0:
            raise PexdockError("worker_user needs Pexdock to be started by root, which alone may start processes of others")
        try:
            found = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
        except KeyError as exc:
            raise PexdockError(f"worker_user: there is no user {name!r}") from exc
        return cls(found.pw_uid, found.pw_gid, os.getgrouplist(found.pw_name, found.pw_gid), found.pw_name, found.pw_dir)


@dataclass(frozen=True)
class Sandbox:
    """What all workers have in common.

    Args:
        scratch_path: where each worker gets a folder of its own.
        inherits: patterns of variables besides the usual ones; `model:PATTERN` for the workers of one model.
        user: whom they run as; None for the supervisor's own user.
        max_bytes: of memory that a worker may ask for; 0 for any.
    """

    scratch_path: Path
    inherits: tuple[str, ...] = ()
    user: User | None = None
    max_bytes: int = 0

    def environment_for(self, model: str, parent: Mapping[str, str]) -> dict[str, str]:
        """The variables of `parent` that a worker of this model gets."""
        named = [(owner, pattern) for owner, _, pattern in (each.rpartition(":") for each in self.inherits)]
        own = [pattern for owner, pattern in named if not owner or canonicalize_name(owner) == canonicalize_name(model)]
        found = {
            name: value for name, value in parent.items() if any(fnmatchcase(name, pattern) for pattern in (*INHERITED_VARIABLES, *own))
        }
        if self.user is not None:
            found |= {"HOME": self.user.home, "USER": self.user.name, "LOGNAME": self.user.name}
        return found

    def create_scratch_folder(self, name: str) -> Path:
        """A new, empty folder for one worker, which nobody else may enter."""
        folder = self.scratch_path / name
        folder.mkdir(mode=0o700)
        if self.user is not None:
            os.chown(folder, self.user.uid, self.user.gid)
        return folder

    def limit_memory(self, pid: int) -> None:
        """Bound the memory of a process that was just started. What it asks for beyond that it does not get.

        RLIMIT_DATA counts what is private and writable. RLIMIT_AS would count the segments as well, which front doors share with it.
        """
        if self.max_bytes:
            with contextlib.suppress(ProcessLookupError):
                _, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
                most = self.max_bytes if hard == resource.RLIM_INFINITY else min(self.max_bytes, hard)
                resource.prlimit(pid, resource.RLIMIT_DATA, (most, most))

    def explain_exit(self, code: int, lines: Sequence[str]) -> str:
        """What to add to how a worker ended: that its memory is bounded, where it looks as if that had ended it."""
        looks_so = code in _ENDS_WITHOUT_MEMORY or any(word in line for line in lines for word in _WORDS_OF_MEMORY)
        return f"; it may have {self.max_bytes / 1e6:.0f} MB (worker_max_bytes)" if self.max_bytes and looks_so else ""

    def cache_folder(self, cache_path: Path) -> Path:
        """Where workers keep downloads: a folder of their own where they have a user of their own."""
        if self.user is None:
            return cache_path
        folder = cache_path / "users" / str(self.user.uid)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chown(folder, self.user.uid, self.user.gid)
        return folder


def remove_in_background(folder: Path) -> None:
    """Remove a worker's folder, however much lies in it, while others are served."""
    threading.Thread(target=_remove, args=(folder,), daemon=True).start()


@contextlib.contextmanager
def scratch_root(path: Path, *, shared: bool) -> Iterator[Path]:
    """The folder for all workers' folders, emptied of what killed workers left; it goes at the end.

    Args:
        path: the folder.
        shared: workers of another user must find their own folders in it, whose names they know.

    Raises:
        PexdockError: somebody else may write into it.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PexdockError(f"{path} is not a folder of this user alone: name another one with --scratch-path")
    path.chmod(0o711 if shared else 0o700)
    try:
        _empty(path)
        yield path
    finally:
        _empty(path)
        with contextlib.suppress(OSError):
            path.rmdir()  # stays if somebody else keeps something in it


def _empty(path: Path) -> None:
    for folder in path.glob("w[0-9]*"):
        _remove(folder)


def _remove(folder: Path) -> None:
    """Also folders that a model has taken its own rights from."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        for place, _, _ in os.walk(folder):
            with contextlib.suppress(OSError):
                os.chmod(place, 0o700)  # noqa: PTH101 - `place` is a string
        shutil.rmtree(folder, ignore_errors=True)
