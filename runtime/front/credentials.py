"""The API keys and TLS files of a front door, which operators may replace while it serves."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from base.ipc.front_door_control import Configure
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
        self._tls: FileReloader[ssl.SSLContext] | None = None
        self.context: ssl.SSLContext | None = None
        self.paths: list[Path] = []
        self._client_ca_paths: list[Path] = []
        self._client_ca = b""
        if configure.api_keys_path is not None:
            path = Path(configure.api_keys_path)
            self._keys = FileReloader("API keys", [path], partial(read_keys, path), "the previous keys stay in force")
            self.paths.append(path)
        if configure.tls is not None:
            files = configure.tls
            paths = [Path(each) for each in (files.cert_path, files.key_path, files.client_ca_path) if each is not None]
            self._tls = FileReloader("TLS files", paths, partial(make_context, files), "the previous TLS context stays in force")
            self._client_ca_paths = [] if files.client_ca_path is None else [Path(files.client_ca_path)]
            self.paths += paths

    def load(self) -> None:
        """Loads all files for the first time. If API keys are configured but cannot be read, no client is admitted.

        Raises:
            BadTls: The certificate cannot be used. There is no fallback to plain HTTP.
        """
        if self._keys is not None:
            self._on_keys(ApiKeys())
            self._reload_keys(self._keys)
        if self._tls is not None:
            self._client_ca = fingerprint(self._client_ca_paths)
            self.context = self._tls.load()

    async def run(self) -> None:
        """Reloads the files when they change, until this is cancelled."""
        await FileWatch(self.paths, self.reload).run()

    def reload(self) -> None:
        """Reads the files that have changed again."""
        if self._keys is not None:
            self._reload_keys(self._keys)
        if self._tls is not None:
            self._reload_tls(self._tls)

    def _reload_keys(self, keys: FileReloader[ApiKeys]) -> None:
        if keys.reload_if_changed() and keys.value is not None:
            self._on_keys(keys.value)

    def _reload_tls(self, tls: FileReloader[ssl.SSLContext]) -> None:
        client_ca = fingerprint(self._client_ca_paths)
        if tls.reload_if_changed() and tls.value is not None:
            self.context = tls.value
            self._on_tls_context(tls.value, close_existing=client_ca != self._client_ca)
            self._client_ca = client_ca
