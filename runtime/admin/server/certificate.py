"""The certificate that the admin side shows on TCP: the front door's. Read again when its files change. Runs on the supervisor's loop."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

import msgspec

from base.errors import PexdockError
from base.ipc.control import TlsFiles
from runtime.file_watch import FileWatch
from runtime.http import tls

log = logging.getLogger(__name__)


class AdminCertificate:
    """What a listener speaks TLS by. Operators are known by their token, so that no certificate of theirs is asked for.

    Args:
        files: those of the front door.

    Raises:
        BadTls: they cannot be used.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = msgspec.structs.replace(files, client_ca_path=None)
        self.context: ssl.SSLContext = tls.make_context(self._files)
        self._seen = self._content()

    async def watch_files(self) -> None:
        """Show a new one to those who come, until it is cancelled. One that cannot be used changes nothing."""
        paths = [Path(path) for path in (self._files.cert_path, self._files.key_path) if path is not None]
        await FileWatch(paths, self._look).run()

    def _look(self) -> None:
        seen = self._content()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            tls.make_context(self._files)  # fails before anything is changed
            self.context.load_cert_chain(self._files.cert_path, self._files.key_path)
        except (PexdockError, OSError, ValueError) as exc:  # one of two files may have been replaced so far
            log.error("the admin side shows the certificate that it has: %s", exc)  # noqa: TRY400 - the reason says it all
        else:
            log.info("the admin side shows a new certificate")

    def _content(self) -> bytes:
        return tls.digest_files(self._files.cert_path, self._files.key_path)
