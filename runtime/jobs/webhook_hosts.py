"""Decides which webhooks are called, so that no client makes Pexdock send requests to where it should not. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from base.errors import Misfit

_URL_MAX_CHARS = 2048
_PORTS = {"https": 443, "http": 80}
_PRINTABLE = re.compile(r"[!-~]+")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_TRANSLATED = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
"""Addresses that a gateway translates to IPv4 ones, perhaps private ones (RFC 6052, RFC 8215)."""


class WebhookConfig(msgspec.Struct, frozen=True):
    """The settings of webhooks of jobs.

    Attributes:
        hosts: Hosts and networks that may be called; empty for none.
        secret_path: File with the secrets that sign calls; empty without hosts.
        interval_ms: Shortest time between two calls of one job, in milliseconds.
        timeout_s: Time limit of a call, in seconds.
        attempts: Calls after which a webhook that fails is given up.
        calls_max: Calls of one host at a time, for each client.
        jobs_max: Jobs whose webhooks are told at a time.
    """

    hosts: tuple[str, ...] = ()
    secret_path: str = ""
    interval_ms: float = 500
    timeout_s: float = 10
    attempts: int = 8
    calls_max: int = 8
    jobs_max: int = 1000


class WebhookUrl(NamedTuple):
    """The parts of a URL that may be called. `host` is a name or an address, in lower case; `target` is the path with the query."""

    is_tls: bool
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """Returns the value of the header `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS["https" if self.is_tls else "http"] else f"{host}:{self.port}"


class WebhookHosts:
    """Hosts that may be called, and networks in which they may be.

    Args:
        entries: Names or addresses, each with a port or without for the standard ones, and networks such as `10.1.0.0/16`. A host whose
            address is not public may be called only if a network or an address of the list holds it.

    Raises:
        ValueError: An entry is none of these.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._hosts: set[tuple[str, int | None]] = set()
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for entry in entries:
            self._add(entry)

    def parse_url(self, url: str) -> WebhookUrl:
        """Returns the parts of a URL that may be called.

        Raises:
            Misfit: The URL is malformed, or its host is not in the list.
        """
        if len(url) > _URL_MAX_CHARS or not _PRINTABLE.fullmatch(url):
            raise Misfit(f"the webhook must be a URL of at most {_URL_MAX_CHARS} printable ASCII characters")
        try:
            parts = urlsplit(url)
            port, host = parts.port or _PORTS[parts.scheme], parts.hostname or ""
        except (ValueError, KeyError):
            raise Misfit("the webhook must be a URL such as https://hooks.example.com/jobs") from None
        if parts.username is not None or parts.fragment or not host:
            raise Misfit("the URL of the webhook must have a host, and neither a user nor a fragment")
        is_standard = port == _PORTS[parts.scheme]
        if (host, port) not in self._hosts and not (is_standard and (host, None) in self._hosts):
            raise Misfit(f"webhooks may not call {host}:{port}; ask the operator to add it to job_webhook_hosts")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return WebhookUrl(parts.scheme == "https", host, port, target)

    def allows(self, address: str) -> bool:
        """Returns whether a host of the list may be called at this address."""
        found = _address(address)
        if found is None:
            return False
        is_public = found.is_global and not found.is_multicast
        if isinstance(found, ipaddress.IPv6Address):
            wraps = found.sixtofour is not None or found.teredo is not None or any(found in network for network in _TRANSLATED)
            is_public = is_public and not wraps
        return is_public or any(found in network for network in self._networks)

    def _add(self, entry: str) -> None:
        if "/" in entry:
            self._networks.append(ipaddress.ip_network(entry))
            return
        address, port = _address(entry), None
        host = entry.lower()
        if address is None:
            head, colon, digits = host.rpartition(":")
            if colon:
                host, port = head.removeprefix("[").removesuffix("]"), int(digits)
            address = _address(host)
        if address is not None:
            self._networks.append(ipaddress.ip_network(address))
            host = str(address)
        elif not _NAME.fullmatch(host):
            raise ValueError(f"{entry} is no host, host:port or network")
        self._hosts.add((host, port))


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
