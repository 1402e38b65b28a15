"""Where operators may ask: always on a Unix socket in the run directory, and on TCP where a port and a token are set."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from starlette.types import ASGIApp

from runtime.admin.guard import Guarded
from runtime.admin.server import AdminServer, tcp_listener, unix_listener
from runtime.admin.token import BadToken, Token
from runtime.settings import Settings
from runtime.supervisor import rundir
from runtime.supervisor.listen import reachable

log = logging.getLogger(__name__)


class Listener(NamedTuple):
    """A bound socket, and the token that is wanted there; None where the file's mode keeps others out."""

    socket: socket.socket
    token: Token | None


@contextlib.contextmanager
def listeners(settings: Settings, run_path: Path) -> Iterator[list[Listener]]:
    """All that the settings ask for, until the end of the block.

    Raises:
        BadToken: there is a port and no token for it.
        CannotListen: an address cannot be had.
    """
    with contextlib.ExitStack() as stack:
        found = [Listener(stack.enter_context(unix_listener(run_path / rundir.ADMIN)), None)]
        if settings.admin_port is not None:
            if settings.admin_token_path is None:
                raise BadToken(
                    "admin_port opens the admin side, where code can be loaded, to the network: name a token by admin_token_path"
                )
            token = Token(settings.admin_token_path)
            found.append(Listener(stack.enter_context(tcp_listener(settings.admin_host, settings.admin_port)), token))
            _warn_of_plain(found[-1].socket)
        yield found


class AdminServers:
    """One server for each listener."""

    def __init__(self, app: ASGIApp, found: list[Listener]) -> None:
        self._servers = [AdminServer(app if each.token is None else Guarded(app, each.token), each.socket) for each in found]
        self.address = next((reachable(each.socket) for each in found if each.token is not None), "")

    async def start(self) -> None:
        """Accept connections from now on."""
        for server in self._servers:
            await server.start()

    async def close(self) -> None:
        """Hang up on everybody. Idempotent."""
        for server in self._servers:
            await server.close()


def _warn_of_plain(listener: socket.socket) -> None:
    host = listener.getsockname()[0]
    if not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        log.warning("the admin side listens on %s without TLS: whoever can read the network can read its token", host)
