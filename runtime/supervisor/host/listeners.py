"""Listening sockets for clients: bound once by the supervisor, inherited by front doors, and open until these stop accepting."""

from __future__ import annotations

import contextlib
import ipaddress
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
            listeners = [stack.enter_context(bind_listener(host, port, _BACKLOG))]
            if count > 1:
                # Bound exclusively first: with SO_REUSEPORT alone, a second supervisor would silently share the port.
                port = listeners.pop().getsockname()[1]
                stack.close()
                listeners = [stack.enter_context(bind_listener(host, port, _BACKLOG, reuse_port=True)) for _ in range(count)]
        except OSError as exc:
            raise CannotListen(f"cannot listen on {host} port {port}: {exc.strerror or exc}; {_advice(exc)}") from exc
        yield listeners


def local_url(listener: socket.socket, scheme: str = "http") -> str:
    """Returns the URL of a listener for clients on this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared with, not bound to
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def bind_listener(host: str, port: int, backlog: int, *, reuse_port: bool = False) -> socket.socket:
    """Returns a listening socket. On `::` it accepts clients over IPv6 and IPv4, unless the kernel cannot.

    Raises:
        OSError: The address cannot be bound.
    """
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    both = family == socket.AF_INET6 and ipaddress.ip_address(str(address[0])).is_unspecified and socket.has_dualstack_ipv6()
    return socket.create_server((str(address[0]), port), family=family, backlog=backlog, reuse_port=reuse_port, dualstack_ipv6=both)


def describe_reach(listener: socket.socket) -> str:
    """Returns from where clients can reach a listening socket, for people."""
    host = ipaddress.ip_address(str(listener.getsockname()[0]).partition("%")[0])
    if host.is_loopback:
        return "reachable from this machine alone"
    if not host.is_unspecified:
        return f"reachable at {host}"
    if host.version == 4:
        return "reachable from every network over IPv4, but not over IPv6"
    both = not listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return f"reachable from every network over IPv6{' and IPv4' if both else ', but not over IPv4'}"


def _advice(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "choose an address of this machine with --host"
    return "stop the process that uses it, or choose another port with --port (0 for any free one)"
