"""A command line that shows how an endpoint is asked."""

from __future__ import annotations

import shlex
from urllib.parse import quote

import msgspec

from base.ipc.control import EndpointSpec


def curl(address: str, endpoint: EndpointSpec) -> str | None:
    """A `curl` line that works as printed, or None for an endpoint that has no example.

    Args:
        address: scheme, host and port.
        endpoint: as its worker describes it.
    """
    if endpoint.example is None:
        return None
    path = endpoint.path
    for name, value in endpoint.example.parameters.items():
        path = path.replace(f"{{{name}}}", quote(value, safe=""))
    rows = msgspec.json.encode(endpoint.example.rows).decode()
    words = ["curl", "-s", f"{address}{path}", "-H", "Content-Type: application/json", "-d", rows]
    return shlex.join(words)
