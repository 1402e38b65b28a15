"""A `curl` command line that shows how to call an endpoint."""

from __future__ import annotations

import shlex
from urllib.parse import quote, urlencode

import msgspec

from base.ipc.release_spec import EndpointSpec


def curl_command(address: str, endpoint: EndpointSpec) -> str | None:
    """Returns a command line that works as printed, or None for an endpoint that has no example.

    Args:
        address: Scheme, host and port.
        endpoint: The endpoint as its worker describes it.
    """
    if endpoint.example is None:
        return None
    path = endpoint.path
    for name, value in endpoint.example.parameters.items():
        path = path.replace(f"{{{name}}}", quote(value, safe=""))
    query = f"?{urlencode(endpoint.example.query, doseq=True)}" if endpoint.example.query else ""
    rows = msgspec.json.encode(endpoint.example.rows).decode()
    method = [] if endpoint.method == "POST" else ["-X", endpoint.method]
    return shlex.join(["curl", "-s", *method, f"{address}{path}{query}", "-H", "Content-Type: application/json", "-d", rows])
