"""The TLS certificate of the admin API on TCP: that of the front door. It is reloaded when its files change."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

import msgspec

from base.errors import PexdockError
from base.ipc.control import TlsFiles
from runtime.file_reload import fingerprint
from runtime.file_watch import FileWatch
from runtime.http import tls

log = logging.getLogger(__name__)


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
        self._loaded = self._content()

    async def watch_files(self) -> None:
        """Reloads the certificate when its files change, until cancelled. Files that cannot be used leave the loaded one in force."""
        paths = [Path(path) for path in (self._files.cert_path, self._files.key_path) if path is not None]
        await FileWatch(paths, self._reload_if_changed).run()

    def _reload_if_changed(self) -> None:
        content = self._content()
        if content == self._loaded:
            return
        self._loaded = content
        try:
            tls.make_context(self._files)  # raises before anything is changed
            self.context.load_cert_chain(self._files.cert_path, self._files.key_path)
        except (PexdockError, OSError, ValueError) as exc:  # only one of the two files may have been replaced yet
            log.error("admin API: cannot load the new certificate, keeping the old one: %s", exc)  # noqa: TRY400 - the reason is enough
        else:
            log.info("admin API: loaded a new certificate")

    def _content(self) -> bytes:
        return fingerprint([Path(each) for each in (self._files.cert_path, self._files.key_path) if each is not None])
