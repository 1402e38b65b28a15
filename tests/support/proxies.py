"""Proxies in front of real servers. They keep their connections to servers and never repeat a request, so no fault is hidden."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from servers import free_port

UP_WITHIN_S = 30

_HAPROXY = """
global
    log stdout format raw local0
defaults
    mode http
    log global
    retries 0
    timeout connect 20s
    timeout client 60s
    timeout server 60s
    timeout check 20s
    http-reuse always
    option httpchk GET /readyz
    option httplog
frontend clients
    bind 127.0.0.1:{port}
    default_backend servers
backend servers
    balance roundrobin
{servers}
"""

_NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/replies;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream servers {{
        {servers}
        keepalive 32;
    }}
    server {{
        listen 127.0.0.1:{port};
        keepalive_requests 1000000;
        location / {{
            proxy_pass http://servers;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_next_upstream off;
        }}
    }}
}}
"""


class Proxy:
    """A running proxy.

    Attributes:
        address: Its URL.
    """

    def __init__(self, port: int, log_path: Path) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._log_path = log_path

    def log(self) -> list[str]:
        """Returns the lines that it has logged."""
        return self._log_path.read_text().splitlines()


@contextmanager
def haproxy(folder: Path, servers: Mapping[str, str]) -> Iterator[Proxy]:
    """Starts HAProxy in front of servers, given by name and address. It sends them requests while their `/readyz` is good."""
    lines = [f"    server {name} {address} check inter 250ms fall 1 rise 1" for name, address in servers.items()]
    port = free_port()
    config = _write(folder, "haproxy.cfg", _HAPROXY.format(port=port, servers="\n".join(lines)))
    with _running(["haproxy", "-db", "-f", str(config)], port, folder / "haproxy.log") as proxy:
        yield proxy


@contextmanager
def nginx(folder: Path, servers: Sequence[str]) -> Iterator[Proxy]:
    """Starts nginx in front of servers, given by address. It has no health checks, so it sends requests to each of them forever."""
    port = free_port()
    lines = "\n".join(f"server {address} max_fails=0;" for address in servers)
    config = _write(folder, "nginx.conf", _NGINX.format(folder=folder, port=port, servers=lines))
    with _running(["nginx", "-e", "stderr", "-c", str(config)], port, folder / "nginx.log") as proxy:
        yield proxy


def _write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@contextmanager
def _running(command: Sequence[str], port: int, log_path: Path) -> Iterator[Proxy]:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0].upper()} IS NOT TESTED: it is not installed")
    proxy = Proxy(port, log_path)
    with log_path.open("wb") as log, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process:
        try:
            _wait_until_up(process, port, log_path)
            yield proxy
        finally:
            process.kill()


def _wait_until_up(process: subprocess.Popen[bytes], port: int, log_path: Path) -> None:
    deadline = time.monotonic() + UP_WITHIN_S
    listening = f":{port:04X} 00000000:0000 0A "
    while listening not in Path("/proc/net/tcp").read_text():
        assert process.poll() is None, log_path.read_text()
        assert time.monotonic() < deadline, log_path.read_text()
        time.sleep(0.02)
