"""Listening sockets for clients: bound once by the supervisor, inherited by front doors, and open until these stop accepting."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from base.errors import PexdockError

_BACKLOG = 2048


class CannotListen(PexdockError):
    """The address is not available. Nothing was started."""

    code = "cannot_listen"


@contextlib.contextmanager
def bind_listeners(host: str, port: int, count: int) -> Iterator[list[socket.socket]]:
    """Yields listening sockets on one address, and closes them at the end.

    Several sockets share the port (SO_REUSEPORT), and the kernel distributes connections among them by hash. With a single socket, the
    front door that wakes first would accept and keep all waiting connections.

    Args:
        host: A name or address of this machine.
        port: The port; 0 for any free port.
        count: Number of sockets, at least 1.

    Raises:
        CannotListen: The address does not belong to this machine, or another process, such as another supervisor, uses it.
    """
    with contextlib.ExitStack() as stack:
        try:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            listeners = [stack.enter_context(_bind_exclusively(str(address[0]), port, family))]
            if count > 1:
                # Bound exclusively first: with SO_REUSEPORT alone, a second supervisor would silently share the port.
                port = listeners.pop().getsockname()[1]
                stack.close()
                for _ in range(count):
                    shared = socket.create_server((str(address[0]), port), family=family, backlog=_BACKLOG, reuse_port=True)
                    listeners.append(stack.enter_context(shared))
        except OSError as exc:
            raise CannotListen(f"cannot listen on {host} port {port}: {exc.strerror or exc}; {_advice(exc)}") from exc
        yield listeners


def local_url(listener: socket.socket, scheme: str = "http") -> str:
    """Returns the URL of a listener for clients on this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared with, not bound to
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _bind_exclusively(host: str, port: int, family: int) -> socket.socket:
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def _advice(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "choose an address of this machine with --host"
    return "stop the process that uses it, or choose another port with --port (0 for any free one)"
