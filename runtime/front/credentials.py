"""The API keys and TLS files of a front door, which operators may replace while it serves."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from base.ipc.front_door_control import Configure, TlsFiles
from runtime.file_reload import FileReloader, fingerprint
from runtime.file_watch import FileWatch
from runtime.http.api_keys import ApiKeys, read_keys
from runtime.http.tls import make_context


class OnTlsContext(Protocol):
    """A callback for a changed TLS context."""

    def __call__(self, context: ssl.SSLContext, *, close_existing: bool) -> None:
        """Uses the context for new connections. With `close_existing`, closes the connections that were accepted before."""


class CredentialWatcher:
    """Loads API keys and TLS files, and reloads them when they change. Logs files that cannot be used, and keeps the last good ones.

    Args:
        configure: Names the files.
        on_keys: Called with the keys in force.
        on_tls_context: Called when the TLS context has changed.

    Attributes:
        context: The TLS context in force; None for plain HTTP.
        paths: The files that are watched.
    """

    def __init__(self, configure: Configure, on_keys: Callable[[ApiKeys], None], on_tls_context: OnTlsContext) -> None:
        self._on_keys = on_keys
        self._on_tls_context = on_tls_context
        self._keys: FileReloader[ApiKeys] | None = None
        self._tls: FileReloader[_LoadedTls] | None = None
        self.context: ssl.SSLContext | None = None
        self.paths: list[Path] = []
        if configure.api_keys_path is not None:
            path = Path(configure.api_keys_path)
            self._keys = FileReloader("API keys", [path], partial(read_keys, path), "the previous keys stay in force")
            self.paths.append(path)
        if configure.tls is not None:
            files = configure.tls
            paths = [Path(each) for each in (files.cert_path, files.key_path, files.client_ca_path) if each is not None]
            self._tls = FileReloader("TLS files", paths, partial(_load_tls, files), "the previous TLS context stays in force")
            self.paths += paths

    async def load(self) -> None:
        """Loads all files for the first time. If API keys are configured but cannot be read, no client is admitted.

        Raises:
            BadTls: The certificate cannot be used. There is no fallback to plain HTTP.
        """
        if self._keys is not None:
            self._on_keys(ApiKeys())
            await self._reload_keys(self._keys)
        if self._tls is not None:
            self.context = self._tls.load().context

    async def run(self) -> None:
        """Reloads the files when they change, until this is cancelled."""
        await FileWatch(self.paths, self.reload).run()

    async def reload(self) -> None:
        """Reads the files that have changed again."""
        if self._keys is not None:
            await self._reload_keys(self._keys)
        if self._tls is not None:
            await self._reload_tls(self._tls)

    async def _reload_keys(self, keys: FileReloader[ApiKeys]) -> None:
        if await keys.reload_if_changed() and keys.value is not None:
            self._on_keys(keys.value)

    async def _reload_tls(self, tls: FileReloader[_LoadedTls]) -> None:
        before = tls.value
        if await tls.reload_if_changed() and before is not None and tls.value is not None:
            self.context = tls.value.context
            self._on_tls_context(self.context, close_existing=tls.value.client_ca != before.client_ca)


class _LoadedTls(NamedTuple):
    """A TLS context, and the fingerprint of the client CAs in it."""

    context: ssl.SSLContext
    client_ca: bytes


def _load_tls(files: TlsFiles) -> _LoadedTls:
    client_ca = fingerprint([] if files.client_ca_path is None else [Path(files.client_ca_path)])
    return _LoadedTls(make_context(files), client_ca)
