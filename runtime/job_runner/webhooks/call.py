"""Makes one call of a webhook, to an address that was checked, and follows no redirects."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from functools import partial

import httptools

from base.errors import PexdockError
from runtime.blocking import BlockingThreads
from runtime.jobs.webhook_hosts import WebhookHosts, WebhookUrl

_HEAD_MAX_BYTES = 64 * 1024
_READ_BYTES = 4096

_LOOKUPS = 4
"""Lookups of host names at a time, each of which has a thread while a name server does not answer."""


class WebhookFailed(PexdockError):
    """The webhook was not told. The message says why."""

    code = "webhook_failed"


class WebhookCaller:
    """Calls webhooks.

    Args:
        hosts: Hosts that may be called.
        timeout_s: Time limit of a call, in seconds.
        tls: Verifies the certificates of hosts; None for what this machine trusts.
    """

    def __init__(self, hosts: WebhookHosts, timeout_s: float, tls: ssl.SSLContext | None = None) -> None:
        self._hosts = hosts
        self._timeout_s = timeout_s
        self._tls = tls
        self._lookups = BlockingThreads(_LOOKUPS)

    async def post(self, url: WebhookUrl, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        """Posts a JSON document.

        Raises:
            WebhookFailed: The host did not answer with a status from 200 to 299.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                reader, writer = await self._connect(url)
                try:
                    writer.write(_request(url, headers, body))
                    status = await _read_status(reader)
                finally:
                    writer.transport.abort()
        except (OSError, UnicodeError, httptools.HttpParserError) as exc:  # also a timeout, errors of TLS, and a name that is none
            raise WebhookFailed(f"{url.host}: {str(exc) or type(exc).__name__}") from exc
        if not 200 <= status < 300:
            raise WebhookFailed(f"{url.host}: it answered with status {status}")

    async def _connect(self, url: WebhookUrl) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connects to the first address of the host that may be called. No later lookup can lead elsewhere."""
        found = await self._lookups.run(partial(socket.getaddrinfo, url.host, url.port, type=socket.SOCK_STREAM))
        addresses = [str(each[4][0]) for each in found]
        allowed = [address for address in dict.fromkeys(addresses) if self._hosts.allows(address)]
        if not allowed:
            raise WebhookFailed(f"{url.host}: its address {addresses[0]} is not public; add it or its network to job_webhook_hosts")
        if self._tls is None and url.is_tls:
            self._tls = await self._lookups.run(ssl.create_default_context)  # it reads all authorities
        tls = {"ssl": self._tls, "server_hostname": url.host} if url.is_tls else {}
        for address in allowed[:-1]:
            try:
                return await asyncio.open_connection(address, url.port, **tls)  # type: ignore[arg-type]
            except OSError:
                pass  # the next address may work
        return await asyncio.open_connection(allowed[-1], url.port, **tls)  # type: ignore[arg-type]


class _Response:
    """The status of a response, once its head is complete. Interim responses are skipped."""

    def __init__(self) -> None:
        self.status = 0
        self.parser = httptools.HttpResponseParser(self)

    def on_headers_complete(self) -> None:
        """Notes the status."""
        if self.parser.get_status_code() >= 200:
            self.status = self.status or self.parser.get_status_code()


async def _read_status(reader: asyncio.StreamReader) -> int:
    response, size = _Response(), 0
    while not response.status:
        data = await reader.read(_READ_BYTES)
        size += len(data)
        if not data or size > _HEAD_MAX_BYTES:
            raise ConnectionError("it sent no HTTP response" if not data else f"the head of its response has over {_HEAD_MAX_BYTES} bytes")
        response.parser.feed_data(data)
    return response.status


def _request(url: WebhookUrl, headers: Sequence[tuple[str, str]], body: bytes) -> bytes:
    standard = [
        ("host", url.authority),
        ("user-agent", "pexdock"),
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("connection", "close"),
    ]
    head = "".join(f"{name}: {value}\r\n" for name, value in [*standard, *headers])
    return f"POST {url.target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body
