"""The TLS certificate of the admin API on TCP: that of the front door. It is reloaded when its files change."""

from __future__ import annotations

import ssl
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
        self._files = msgspec.structs.replace(files, client_ca_path=None)
        self.context: ssl.SSLContext = tls.make_context(self._files)
        paths = [Path(path) for path in (files.cert_path, files.key_path) if path is not None]
        self._reloader = FileReloader("admin API's certificate", paths, self._load, "the previous one stays in force")
        self._reloader.load()

    async def watch_files(self) -> None:
        """Reloads the certificate when its files change, until cancelled. Files that cannot be used leave the loaded one in force."""
        await FileWatch(self._reloader.paths, self._reloader.reload_if_changed).run()

    def _load(self) -> None:
        tls.make_context(self._files)  # raises before anything is changed
        self.context.load_cert_chain(self._files.cert_path, self._files.key_path)
