"""The TLS certificate of the admin API on TCP: that of the front door. It is reloaded when its files change."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from base.ipc.front_door_control import TlsFiles
from runtime.file_reload import FileReloader
from runtime.file_watch import FileWatch
from runtime.http import tls


class AdminCertificate:
    """The certificate in force. Clients authenticate with a token, so no client certificate is requested.

    Args:
        files: TLS files of the front door.

    Raises:
        BadTls: The files cannot be used.
    """

    def __init__(self, files: TlsFiles) -> None:
        files = msgspec.structs.replace(files, client_ca_path=None)
        paths = [Path(path) for path in (files.cert_path, files.key_path) if path is not None]
        self._reloader = FileReloader("admin API's certificate", paths, partial(tls.make_context, files), "the previous one stays in force")
        self.context = self._reloader.load()

    async def watch_files(self, on_context: Callable[[ssl.SSLContext], None]) -> None:
        """Reloads the certificate when its files change, until cancelled. Files that cannot be used leave the loaded one in force.

        Args:
            on_context: Called with the context for new connections.
        """

        async def reload() -> None:
            if await self._reloader.reload_if_changed() and self._reloader.value is not None:
                on_context(self._reloader.value)

        await FileWatch(self._reloader.paths, reload).run()
