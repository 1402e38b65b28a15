"""Listening sockets for clients: bound once by the supervisor, inherited by front doors, and open until these stop accepting."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Iterator, Sequence

from base.errors import PexdockError

_BACKLOG = 2048

_FREE_PORT_ATTEMPTS = 20
"""Attempts to find a port that is free for several hosts. One is nearly always enough."""


class CannotListen(PexdockError):
    """The address is not available. Nothing was started."""

    code = "cannot_listen"


@contextlib.contextmanager
def bind_listeners(hosts: Sequence[str], port: int, count: int) -> Iterator[list[list[socket.socket]]]:
    """Yields the listening sockets of each front door, one for each host, and closes them at the end.

    Several sockets share the port (SO_REUSEPORT), and the kernel distributes connections among them by hash. With a single socket, the
    front door that wakes first would accept and keep all waiting connections.

    Args:
        hosts: Names or addresses of this machine, at least one.
        port: The port; 0 for any port that is free for all hosts.
        count: Number of front doors, at least 1.

    Raises:
        CannotListen: An address does not belong to this machine, or another process, such as another supervisor, uses it.
    """
    with contextlib.ExitStack() as stack:
        # Bound exclusively first: with SO_REUSEPORT alone, a second supervisor would silently share the port.
        doors = [[stack.enter_context(listener) for listener in bind_hosts(hosts, port, _BACKLOG)]]
        if count > 1:
            port = doors[0][0].getsockname()[1]
            stack.close()
            doors = [[stack.enter_context(each) for each in bind_hosts(hosts, port, _BACKLOG, reuse_port=True)] for _ in range(count)]
        yield doors


def bind_hosts(hosts: Sequence[str], port: int, backlog: int, *, reuse_port: bool = False) -> list[socket.socket]:
    """Returns a listening socket for each host, all on the same port. On `::` it accepts IPv4, too, unless another host is one of IPv4.

    Raises:
        CannotListen: An address cannot be bound. Nothing is.
    """
    for left in reversed(range(_FREE_PORT_ATTEMPTS if port == 0 and len(hosts) > 1 else 1)):
        bound: list[socket.socket] = []
        host = hosts[0]
        try:
            addresses = [socket.getaddrinfo(host := each, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0] for each in hosts]
            both = socket.has_dualstack_ipv6() and all(found[0] == socket.AF_INET6 for found in addresses)
            for host, (family, *_, address) in zip(hosts, addresses, strict=True):  # noqa: B007 - the error names the host
                number = bound[0].getsockname()[1] if bound else port
                dual = both and ipaddress.ip_address(str(address[0]).partition("%")[0]).is_unspecified
                bound.append(
                    socket.create_server(
                        (str(address[0]), number), family=family, backlog=backlog, reuse_port=reuse_port, dualstack_ipv6=dual
                    )
                )
        except OSError as exc:
            for listener in bound:
                listener.close()
            if not left or not bound:  # else the port that was free for the first host is taken for another one
                raise CannotListen(f"cannot listen on {host} port {port}: {exc.strerror or exc}; {_advice(exc)}") from exc
        else:
            break
    return bound


def local_url(listener: socket.socket, scheme: str = "http") -> str:
    """Returns the URL of a listener for clients on this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared with, not bound to
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


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
    if error.errno == errno.EACCES:
        return "choose a port of 1024 or more with --port, or give the process the capability CAP_NET_BIND_SERVICE"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return "choose an address of this machine with --host"
    return "stop the process that uses it, or choose another port with --port (0 for any free one)"
