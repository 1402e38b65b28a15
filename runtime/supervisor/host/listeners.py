"""The sockets on which clients connect: bound once by the supervisor, inherited by front doors, open until front doors take no more."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from base.errors import PexdockError

_BACKLOG = 2048


class CannotListen(PexdockError):
    """The address cannot be had. Nothing was started."""

    code = "cannot_listen"


@contextlib.contextmanager
def bind_listeners(host: str, port: int, count: int) -> Iterator[list[socket.socket]]:
    """Listening sockets on one address, closed at the end.

    Several share the port (SO_REUSEPORT), and the kernel spreads connections over them by hash. One socket for all front doors would
    not do: whichever wakes first takes every connection that waits, and they stay with it.

    Args:
        host: a name or an address of this machine.
        port: 0 takes any that is free.
        count: how many; at least 1.

    Raises:
        CannotListen: the address is not ours, or taken by anybody, another supervisor included.
    """
    with contextlib.ExitStack() as stack:
        try:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            listeners = [stack.enter_context(_alone(str(address[0]), port, family))]
            if count > 1:
                # Alone first: whoever shares a port by SO_REUSEPORT would share it with a second supervisor too, in silence.
                port = listeners.pop().getsockname()[1]
                stack.close()
                for _ in range(count):
                    shared = socket.create_server((str(address[0]), port), family=family, backlog=_BACKLOG, reuse_port=True)
                    listeners.append(stack.enter_context(shared))
        except OSError as exc:
            raise CannotListen(f"cannot listen on {host} port {port}: {exc.strerror or exc}; {_way_out(exc)}") from exc
        yield listeners


def local_url(listener: socket.socket, scheme: str = "http") -> str:
    """The address as a client on this machine writes it."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared with, not bound to
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _alone(host: str, port: int, family: int) -> socket.socket:
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def _way_out(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "name an address of this machine with --host"
    return "stop the process that has it, or choose another with --port (0 takes any free one)"
