"""The store of fitted contexts: versions of each context as artifacts of a client, and the locks that keep two equal fits apart.

A version is called after the time of its fit and the digest of what it was fitted on. So the newest version, its age, and whether an equal
fit was stored before follow from the names alone, and a version appears in the store as a whole or not at all.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from base.artifacts.clients.downloads import cache_folder
from base.artifacts.clients.protocol import Artifact, StoringClient
from base.errors import BadResult, Cell, Misfit, NotFound, Unavailable

CONTEXT, VERSION = "context_id", "version"

ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_NAME_MAX_BYTES = 200
"""Bytes of a parameter. A file system takes 255 of them as a name, with what a template and an unfinished copy add."""

_LOOKS = 5
"""Number of times that the newest version is looked for, if it is deleted as soon as it is found."""

_SWEEP_S = 600.0
"""Interval at which a worker looks for contexts of all names that are too old, in seconds. It reads the whole list."""

_VERSION = re.compile(r"(\d{13})-([0-9a-f]{32})")


@dataclass(frozen=True, order=True)
class ContextVersion:
    """One stored fit of a context.

    Attributes:
        created_ms: Time of the fit, in milliseconds since 1970.
        digest: Digest of what it was fitted on.
    """

    created_ms: int
    digest: str

    def __str__(self) -> str:
        return f"{self.created_ms:013d}-{self.digest}"

    @classmethod
    def parse(cls, text: str) -> ContextVersion | None:
        """Returns the version of this name; None if it is another name."""
        found = _VERSION.fullmatch(text)
        return None if found is None else cls(int(found[1]), found[2])


class ContextStore:
    """The contexts in one store. It is also the client of the cache that loads them: its artifact is the newest version.

    Args:
        client: Holds the artifacts; its template has `{context_id}` and `{version}`.
        max_age_s: Age at which a context is no longer used; None for no limit.
        wall: Returns seconds since 1970.
    """

    def __init__(self, client: StoringClient, max_age_s: float | None, wall: Callable[[], float] = time.time) -> None:
        self._client = client
        self._max_age_s = max_age_s
        self._wall = wall
        self._swept_s = 0.0
        self.parameters: Sequence[str] = tuple(name for name in client.parameters if name != VERSION)

    def locate(self, parameters: Mapping[str, str]) -> Artifact:
        """Returns the newest version of a context as an artifact.

        Raises:
            NotFound: There is none, or it is too old.
            Misfit: The id is not allowed.
            Unavailable: The store cannot be reached.
        """
        for _ in range(_LOOKS):
            newest = self.newest(parameters)
            if newest is None:
                break
            with suppress(NotFound):  # it was deleted meanwhile, and a newer one may be there
                return self._client.locate({**parameters, VERSION: str(newest)})
        raise NotFound(f"there is no context {parameters[CONTEXT]!r}; fit it first")

    def list(self) -> list[dict[str, str]]:
        """Returns the parameters of all contexts, the last fitted first."""
        versions = sorted(
            ((version, {name: each[name] for name in self.parameters}) for each in self._client.list() if (version := self._usable(each))),
            key=lambda found: found[0],
            reverse=True,
        )
        return list({tuple(sorted(found.items())): found for _, found in versions}.values())

    def newest(self, parameters: Mapping[str, str]) -> ContextVersion | None:
        """Returns the newest version of a context; None if there is none that may be used.

        Raises:
            Misfit: The id is not allowed.
            Unavailable: The store cannot be reached.
        """
        require_names(parameters)
        return max(self._usable_versions(parameters), default=None)

    def save(
        self, parameters: Mapping[str, str], digest: str, write: Callable[[Path], object], keep: int
    ) -> tuple[ContextVersion, int | None]:
        """Stores a new version, and deletes all but the `keep` newest ones.

        Another machine may store an equal fit at the same time. Then one of them stays: the first one that both can see.

        Args:
            parameters: Those of the context.
            digest: Digest of what was fitted on.
            write: Writes the fitted object to the file whose path it gets.
            keep: Number of versions that stay.

        Returns:
            The version, and its bytes; None in place of the bytes if it is the equal version of another machine.

        Raises:
            BadResult: `write` has not written one file.
            Unavailable: The store cannot be reached. Nothing was stored.
        """
        with tempfile.TemporaryDirectory(prefix="pexdock-context-") as folder:
            file = Path(folder) / "context"
            write(file)
            if not file.is_file():
                raise BadResult("save_model must write one file at the path that it gets; pack a folder into one file")
            newest = self.newest(parameters)
            if newest is not None and newest.digest == digest:
                return newest, None
            now_ms = int(self._wall() * 1000)
            version = ContextVersion(now_ms if newest is None else max(now_ms, newest.created_ms + 1), digest)  # whatever the clock does
            size_bytes = file.stat().st_size
            self._client.store({**parameters, VERSION: str(version)}, file)
        equal = [*takewhile(lambda each: each.digest == digest, sorted(self._usable_versions(parameters), reverse=True))]
        first = equal[-1] if equal else version  # which a newer fit has replaced already, or a client has deleted
        surplus = equal[:-1]
        for each in [*surplus, *sorted(self._versions(parameters).difference(surplus), reverse=True)[keep:]]:
            self._client.delete({**parameters, VERSION: str(each)})
        self._sweep()
        return first, size_bytes if first == version else None

    def delete(self, parameters: Mapping[str, str]) -> bool:
        """Deletes all versions of a context. Returns False if there was none.

        Raises:
            Misfit: The id is not allowed.
            Unavailable: The store cannot be reached.
        """
        require_names(parameters)
        versions = sorted(self._versions(parameters))  # the newest last, so that an older one never takes its place for long
        for version in versions:
            self._client.delete({**parameters, VERSION: str(version)})
        return bool(versions)

    @contextmanager
    def locked(self, parameters: Mapping[str, str]) -> Iterator[None]:
        """Keeps other workers of this machine from fitting the same context meanwhile. Waits for the one that does."""
        folder = cache_folder() / "contexts"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = hashlib.sha256(repr((repr(self._client), sorted(parameters.items()))).encode()).hexdigest()
        path = folder / f"{name}.lock"
        descriptor = _lock(path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # whoever waits for it finds out that the path leads to another file, or to none
            os.close(descriptor)

    def _usable(self, found: Mapping[str, str]) -> ContextVersion | None:
        version = ContextVersion.parse(found[VERSION])
        if version is None or ID.fullmatch(found[CONTEXT]) is None:
            return None
        return None if self._is_old(version) else version

    def _is_old(self, version: ContextVersion) -> bool:
        return self._max_age_s is not None and self._wall() - version.created_ms / 1000 > self._max_age_s

    def _usable_versions(self, parameters: Mapping[str, str]) -> set[ContextVersion]:
        return {version for each in self._client.find(parameters) if (version := self._usable(each))}

    def _sweep(self) -> None:
        """Deletes the versions of all contexts that are too old, from time to time."""
        if self._max_age_s is None or abs(self._wall() - self._swept_s) < _SWEEP_S:
            return
        self._swept_s = self._wall()
        with suppress(Unavailable):  # what was fitted is stored
            for each in self._client.list():
                version = ContextVersion.parse(each[VERSION])
                if version is not None and self._is_old(version):
                    self._client.delete(each)

    def _versions(self, parameters: Mapping[str, str]) -> set[ContextVersion]:
        return {version for each in self._client.find(parameters) if (version := ContextVersion.parse(each[VERSION]))}


def require_names(parameters: Mapping[str, str]) -> None:
    """Checks the id of a context, and the length of the other parameters of its path. What else these must not have, the client checks.

    Raises:
        Misfit: One is not allowed.
    """
    for name, text in parameters.items():
        reason = ""
        if name == CONTEXT and ID.fullmatch(text) is None:
            reason = "must have 1 to 128 letters, digits, '_', '-' or '.', and not begin with '.'"
        elif len(text.encode(errors="surrogatepass")) > _NAME_MAX_BYTES:
            reason = f"must have at most {_NAME_MAX_BYTES} bytes"
        if reason:
            raise Misfit(f"{name} {reason}", cells=[Cell(None, name, reason)])


def _lock(path: Path) -> int:
    """Returns a descriptor that holds the lock of a file, which is at `path`. Its former holder may have removed the file meanwhile."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def store_of(client: Any, max_age_s: float | None) -> ContextStore:
    """Returns the store of contexts in a client.

    Raises:
        TypeError, ValueError: The client cannot hold contexts. The message says what to change.
    """
    missing = [name for name in ("store", "delete", "find") if not hasattr(client, name)]
    if missing:
        raise TypeError(f"{type(client).__name__} cannot store contexts; use FsClient or ObjectStoreClient, or add {', '.join(missing)}")
    lacking = [name for name in (CONTEXT, VERSION) if name not in client.parameters]
    if lacking or len(getattr(client, "templates", [0])) != 1:
        raise ValueError(f"the client needs one path template with {{{CONTEXT}}} and {{{VERSION}}}, such as '{{{CONTEXT}}}/{{{VERSION}}}'")
    return ContextStore(client, max_age_s)
