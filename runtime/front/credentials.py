"""What operators may replace while a front door serves: the keys of its clients, and the files of TLS."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from base.errors import PexdockError
from base.ipc.control import Configure, TlsFiles
from runtime.file_watch import FileWatch
from runtime.http import api_keys, tls

log = logging.getLogger(__name__)


class Renew(Protocol):
    """Has the listener speak TLS by the context in force."""

    def __call__(self, *, hang_up: bool) -> Awaitable[None]:
        """Returns once it does; with `hang_up` those who came before are hung up on."""


class CredentialWatcher:
    """Reads the files, and reads them again when they change. What cannot be understood changes nothing, and is logged.

    Args:
        configure: names the files.
        put: takes the keys in force.
        renew: called when `context` has changed.
    """

    def __init__(self, configure: Configure, put: Callable[[api_keys.ApiKeys], None], renew: Renew) -> None:
        self._tls = configure.tls
        self._keys_path = None if configure.api_keys_path is None else Path(configure.api_keys_path)
        self._put = put
        self._renew = renew
        self._keys: api_keys.ApiKeys | None = None
        self._seen = self._ca = b""
        self._complaint = ""
        self._called = asyncio.Event()
        self.context: ssl.SSLContext | None = None

    @property
    def paths(self) -> list[Path]:
        """The files that are watched."""
        found = [] if self._tls is None else [self._tls.cert_path, self._tls.key_path, self._tls.client_ca_path]
        return [Path(path) for path in found if path is not None] + ([] if self._keys_path is None else [self._keys_path])

    def load(self) -> None:
        """Read all for the first time. Where there should be keys and none can be read, nobody is admitted until they can.

        Raises:
            BadTls: the certificate cannot be used; plain HTTP is never spoken in its place.
        """
        if self._keys_path is not None:
            self._put(api_keys.ApiKeys())
            self._read_keys(self._keys_path)
        if self._tls is not None:
            self._seen, self._ca = _contents(self._tls)
            self.context = tls.make_context(self._tls)

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(FileWatch(self.paths, self._called.set).run())
            while True:
                await self._called.wait()
                self._called.clear()
                await self._look()

    async def _look(self) -> None:
        if self._keys_path is not None:
            self._read_keys(self._keys_path)
        if self._tls is not None:
            await self._look_at_tls(self._tls)

    async def _look_at_tls(self, files: TlsFiles) -> None:
        seen, ca = _contents(files)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self.context = tls.make_context(files)
            await self._renew(hang_up=ca != self._ca)
        except (PexdockError, OSError) as exc:  # one of two files may have been replaced so far
            self._complain(f"{exc}; TLS stays as it was")
        else:
            self._ca, self._complaint = ca, ""
            log.info("the files of TLS were read anew")

    def _read_keys(self, path: Path) -> None:
        try:
            found = api_keys.read_keys(path)
        except PexdockError as exc:
            self._complain(f"{exc}; keys stay as they were")
            return
        if found != self._keys:
            self._keys, self._complaint = found, ""
            self._put(found)
            log.info("%d keys admit clients", len(found))

    def _complain(self, text: str) -> None:
        """Once, however often something happens near the files."""
        if text != self._complaint:
            self._complaint = text
            log.error(text)


def _contents(files: TlsFiles) -> tuple[bytes, bytes]:
    """Digests of all files together, and of the authorities alone."""
    return tls.digest_files(files.cert_path, files.key_path, files.client_ca_path), tls.digest_files(files.client_ca_path)
