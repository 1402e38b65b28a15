"""Pexes that are dropped over HTTP: streamed to the disk beside dist/'s files, checked, renamed. Half of one never has a name."""

from __future__ import annotations

import contextlib
import errno
import logging
import re
from collections.abc import AsyncIterator, Iterator
from time import monotonic

from fastapi import Request
from starlette.requests import ClientDisconnect

from base.errors import Conflict, Full, Malformed, PexdockError, PexRefused, TooLarge
from runtime.admin.api.context import AdminContext
from runtime.admin.api.limits import RequestLimits
from runtime.admin.schemas import Dropped
from runtime.blocking import BlockingThreads
from runtime.pex.dist_file import SIGNATURE_MAX_BYTES, SIGNATURE_SUFFIX, DistFileWriter, open_dist_file
from runtime.pex.file import read_pex

log = logging.getLogger(__name__)

DIGEST_HEADER = "x-content-sha256"
_DIGEST = re.compile(r"[0-9a-f]{64}")

_PARALLEL = 4
_GRACE_S = 30.0
_BYTES_PER_S_MIN = 100_000
"""Whoever falls behind this by the time above is cut off, since only a few may send at a time."""

_WRITE_BYTES = 1024 * 1024
_FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE}


class Uploads:
    """The drops under way: a few, each of another name."""

    def __init__(self, powers: AdminContext) -> None:
        self._to = powers.uploads
        self._names: set[str] = set()
        self._threads = BlockingThreads(_PARALLEL)  # the disk may be slow, and the supervisor must not be

    async def receive(self, name: str, request: Request) -> Dropped:
        """Write the body of a request to dist/, whole or not at all.

        Raises:
            PexdockError: nothing was changed in dist/.
        """
        if self._to.dist_url:
            raise Conflict(f"dist/ of this Pexdock follows {self._to.dist_url}: put the file there")
        limit = SIGNATURE_MAX_BYTES if name.endswith(SIGNATURE_SUFFIX) else self._to.pex_max_bytes
        digest = _digest(request)
        _refuse_length(request, limit)
        begun, bounds = monotonic(), RequestLimits.from_scope(request.scope)
        bounds.extend(_GRACE_S, limit + 1)
        with self._reserved(name), _disk_errors(name), open_dist_file(self._to.path, name) as drop:
            async for data in _pieces(request):
                if drop.size_bytes + len(data) > limit:
                    raise TooLarge(_too_large(limit))
                await self._threads.run(lambda data=data: drop.write(data))  # type: ignore[misc]
                bounds.extend(begun + _GRACE_S + drop.size_bytes / _BYTES_PER_S_MIN - monotonic())
            if drop.sha256 != digest:
                raise Malformed(f"what arrived has the sha256 {drop.sha256}, and should have {digest}: send it again")
            await self._threads.run(lambda: _land(drop, name))
        log.info("%s: dropped by an operator, %d bytes, sha256 %s", name, drop.size_bytes, drop.sha256)
        return Dropped(name, drop.size_bytes, drop.sha256)

    @contextlib.contextmanager
    def _reserved(self, name: str) -> Iterator[None]:
        if name in self._names:
            raise Conflict(f"{name} is being dropped by somebody else; wait for that, or give it another name")
        if len(self._names) >= _PARALLEL:
            raise Full(f"{_PARALLEL} files are being dropped already")
        self._names.add(name)
        try:
            yield
        finally:
            self._names.discard(name)


def _digest(request: Request) -> str:
    found = request.headers.get(DIGEST_HEADER, "").lower()
    if not _DIGEST.fullmatch(found):
        raise Malformed(f"the header {DIGEST_HEADER} must hold the sha256 of the file, as `sha256sum` prints it")
    return found


def _refuse_length(request: Request, limit: int) -> None:
    """Before a byte is read, where the client says how many it has."""
    text = request.headers.get("content-length")
    if text and text.isdigit() and int(text) > limit:
        raise TooLarge(_too_large(limit))


def _too_large(limit: int) -> str:
    return f"the file is over {limit} bytes, which is the limit (the setting pex_max_bytes; signatures have one of their own)"


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces that are worth a thread each."""
    some = bytearray()
    try:
        async for data in request.stream():
            some += data
            if len(some) >= _WRITE_BYTES:
                yield bytes(some)
                some.clear()
    except ClientDisconnect as exc:
        raise Malformed("the body ended before it was whole") from exc
    yield bytes(some)


def _land(drop: DistFileWriter, name: str) -> None:
    """Not what is visibly no pex: its sender should hear that now."""
    if not name.endswith(SIGNATURE_SUFFIX):
        try:
            read_pex(drop.flush_to_path(), checksums=False)
        except PexRefused as exc:
            raise PexRefused(f"{name}: {exc.detail.removeprefix(f'{drop.temporary_path.name}: ')}") from exc
    drop.publish()


@contextlib.contextmanager
def _disk_errors(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        log.error("%s: cannot be dropped: %s", name, exc)  # noqa: TRY400 - the operating system's reason says it all
        kind = Full if exc.errno in _FULL_DISK else PexdockError
        raise kind(f"{name} cannot be written to dist/: {exc.strerror or exc}") from exc
