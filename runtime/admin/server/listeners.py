"""Where operators may ask: always on a Unix socket in the run directory, and on TCP where a port and a token are set."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from starlette.types import ASGIApp

from runtime.admin.server.auth import TokenAuthMiddleware
from runtime.admin.server.server import AdminServer, tcp_listener, unix_listener
from runtime.admin.token import BadToken, Token
from runtime.settings import Settings
from runtime.supervisor.host import run_dir
from runtime.supervisor.host.listeners import local_url

if TYPE_CHECKING:
    from runtime.admin.server.certificate import AdminCertificate

log = logging.getLogger(__name__)


class AdminListener(NamedTuple):
    """A bound socket, the token that is wanted there (None where the file's mode keeps others out), and what TLS is spoken by."""

    socket: socket.socket
    token: Token | None = None
    certificate: AdminCertificate | None = None


@contextlib.contextmanager
def open_listeners(settings: Settings, run_path: Path) -> Iterator[list[AdminListener]]:
    """All that the settings ask for, until the end of the block.

    Raises:
        BadToken: there is a port and no token for it.
        BadTls: the certificate cannot be used.
        CannotListen: an address cannot be had.
    """
    with contextlib.ExitStack() as stack:
        found = [AdminListener(stack.enter_context(unix_listener(run_path / run_dir.ADMIN)))]
        if settings.admin_port is not None:
            if settings.admin_token_path is None:
                raise BadToken(
                    "admin_port opens the admin side, where code can be loaded, to the network: name a token by admin_token_path"
                )
            token = Token(settings.admin_token_path)
            certificate = _certificate(settings)
            found.append(AdminListener(stack.enter_context(tcp_listener(settings.admin_host, settings.admin_port)), token, certificate))
            if certificate is None:
                _warn_of_plain(found[-1].socket)
        yield found


class AdminServers:
    """One server for each listener."""

    def __init__(self, app: ASGIApp, found: list[AdminListener]) -> None:
        self._servers = [_server(app, each) for each in found]
        self._certificates = [each.certificate for each in found if each.certificate is not None]
        self._following: list[asyncio.Task[None]] = []
        scheme = "https" if self._certificates else "http"
        self.address = next((local_url(each.socket, scheme) for each in found if each.token is not None), "")

    async def start(self) -> None:
        """Accept connections from now on."""
        loop = asyncio.get_running_loop()
        self._following = [loop.create_task(certificate.watch_files()) for certificate in self._certificates]
        for server in self._servers:
            await server.start()

    async def close(self) -> None:
        """Hang up on everybody. Idempotent."""
        for task in self._following:
            task.cancel()
        for server in self._servers:
            await server.close()


def _server(app: ASGIApp, listener: AdminListener) -> AdminServer:
    context = listener.certificate.context if listener.certificate is not None else None
    return AdminServer(app if listener.token is None else TokenAuthMiddleware(app, listener.token), listener.socket, context)


def _certificate(settings: Settings) -> AdminCertificate | None:
    if settings.tls is None:
        return None
    from runtime.admin.server.certificate import AdminCertificate  # noqa: PLC0415 - OpenSSL is for those who use it

    return AdminCertificate(settings.tls)


def _warn_of_plain(listener: socket.socket) -> None:
    host = listener.getsockname()[0]
    if not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        log.warning("the admin side listens on %s without TLS: whoever can read the network can read its token", host)
