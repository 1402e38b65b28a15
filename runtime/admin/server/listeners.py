"""The listeners of the admin API: a Unix socket in the run directory, and a TCP port if one is set together with a token."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from starlette.types import ASGIApp

from runtime.admin.server.auth import TokenAuthMiddleware
from runtime.admin.server.connection import Limits
from runtime.admin.server.server import HttpServer, bind_unix, tcp_listeners, unix_listener
from runtime.admin.token import BadToken, Token
from runtime.blocking import BlockingThreads
from runtime.settings import Settings
from runtime.supervisor.host import run_dir
from runtime.supervisor.host.listeners import local_url

if TYPE_CHECKING:
    from runtime.admin.server.certificate import AdminCertificate

log = logging.getLogger(__name__)


class AdminListener(NamedTuple):
    """A bound socket, with the token it requires (None if the file mode controls access) and its certificate (None for plain HTTP)."""

    socket: socket.socket
    token: Token | None = None
    certificate: AdminCertificate | None = None


@contextlib.contextmanager
def open_listeners(settings: Settings, run_path: Path) -> Iterator[list[AdminListener]]:
    """Binds the listeners that the settings configure, and closes them at the end of the block.

    Raises:
        BadToken: A port is set without a token.
        BadTls: The certificate cannot be used.
        CannotListen: An address cannot be bound.
    """
    with contextlib.ExitStack() as stack:
        found = [AdminListener(stack.enter_context(unix_listener(run_path / run_dir.ADMIN)))]
        if settings.admin_port is not None:
            if settings.admin_token_path is None:
                raise BadToken(
                    "admin_port requires a token, since the admin API can load code: set admin_token_path to the path of its file"
                )
            token = Token(settings.admin_token_path)
            certificate = _certificate(settings)
            bound = stack.enter_context(tcp_listeners(settings.admin_host, settings.admin_port))
            found += [AdminListener(listener, token, certificate) for listener in bound]
            if certificate is None:
                for listener in bound:
                    _warn_if_exposed(listener)
        yield found


class AdminServers:
    """The servers of all listeners, of which the first is the Unix socket.

    Attributes:
        address: URL of the TCP listener; empty without one.
    """

    def __init__(self, app: ASGIApp, found: list[AdminListener], limits: Limits) -> None:
        self._unix_path = Path(found[0].socket.getsockname())
        self._servers = [_server(app, each, limits) for each in found]
        self._certificate = found[-1].certificate  # all listeners on TCP have the same
        self._disk = BlockingThreads(1, f"run_path ({self._unix_path.parent})")
        self._reloading: asyncio.Task[None] | None = None
        scheme = "http" if self._certificate is None else "https"
        self.address = next((local_url(each.socket, scheme) for each in found if each.token is not None), "")

    async def start(self) -> None:
        """Starts to accept connections."""
        if self._certificate is not None:
            self._reloading = asyncio.get_running_loop().create_task(self._certificate.watch_files(self._apply_tls))
        for server in self._servers:
            await server.start()

    async def restore(self) -> None:
        """Binds the Unix socket again if its file was removed.

        Raises:
            CannotListen: It cannot be bound.
        """
        listener = await self._disk.run(lambda: None if self._unix_path.exists() else bind_unix(self._unix_path))
        if listener is not None:
            self._servers[0].replace_listener(listener)

    async def close(self) -> None:
        """Closes all listeners and connections. Idempotent."""
        if self._reloading is not None:
            self._reloading.cancel()
        for server in self._servers:
            await server.close()

    def _apply_tls(self, context: ssl.SSLContext) -> None:
        for server in self._servers[1:]:
            server.apply_tls(context)


def connection_limits(settings: Settings) -> Limits:
    """Returns the limits of connections to the admin API."""
    return Limits(head_s=settings.head_timeout_s, keep_alive_s=settings.keep_alive_s, handshake_s=settings.tls_handshake_timeout_s)


def _server(app: ASGIApp, listener: AdminListener, limits: Limits) -> HttpServer:
    context = listener.certificate.context if listener.certificate is not None else None
    return HttpServer(app if listener.token is None else TokenAuthMiddleware(app, listener.token), listener.socket, context, limits)


def _certificate(settings: Settings) -> AdminCertificate | None:
    if settings.tls is None:
        return None
    from runtime.admin.server.certificate import AdminCertificate  # noqa: PLC0415 - imports OpenSSL only if TLS is configured

    return AdminCertificate(settings.tls)


def _warn_if_exposed(listener: socket.socket) -> None:
    host = listener.getsockname()[0]
    if not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        log.warning("admin API: listening on %s without TLS, so its token crosses the network in plain text; set tls_cert_path", host)
