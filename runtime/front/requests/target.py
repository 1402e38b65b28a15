"""The target of a path: an endpoint and parameters."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import msgspec

from base.errors import TooLarge
from base.ipc.protocol import BODY_MAX_BYTES
from runtime.front.requests.endpoint import ServedEndpoint


class Target:
    """An endpoint, and the path's parameters encoded for a worker. All requests for a path share one.

    Attributes:
        path: The path in its canonical form (`runtime.front.routing.canonical_path`).
        admitted: Whether the parameters need no check against an artifact spec, or have passed it.
        split: Whether a traffic split chooses the release; the endpoint is then only the first choice.

    Raises:
        TooLarge: the parameters do not fit into a message to a worker.
    """

    __slots__ = ("admitted", "endpoint", "group", "parameters", "path", "split")

    def __init__(self, endpoint: ServedEndpoint, parameters: Mapping[str, str], path: bytes) -> None:
        self.endpoint = endpoint
        self.path = path
        self.admitted = not endpoint.spec.checks_parameters
        self.split = False
        self.parameters = msgspec.json.encode(parameters, order="sorted")
        self.group: Hashable = (self.parameters, "")
        check_parameter_bytes(self.parameters)


def check_parameter_bytes(encoded: bytes) -> None:
    """Raises TooLarge if encoded parameters do not fit into a message to a worker."""
    if len(encoded) > BODY_MAX_BYTES:
        raise TooLarge(f"path parameters, query and headers are limited to {BODY_MAX_BYTES} bytes together")
