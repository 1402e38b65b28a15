"""The target of a path and the head of a request."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING

import msgspec

from base.endpoint.raw import request_frame
from base.errors import TooLarge
from base.ipc.protocol import BODY_MAX_BYTES
from runtime.front.codecs import media_types
from runtime.front.codecs.decoder import body_reader
from runtime.front.codecs.encoder import ResponseFormat
from runtime.front.codecs.rows import Rows
from runtime.front.memory.body_buffer import BodyBuffer
from runtime.front.requests import headers

if TYPE_CHECKING:
    from runtime.front.routing.traffic_split import ReleaseSelector, SplitRoute
    from runtime.front.scheduling.endpoint_queue import EndpointQueue


class Target:
    """What a path leads to: an endpoint, and parameters as a worker reads them. Made once for many requests.

    Attributes:
        path: as it came over the wire.
        admitted: no spec has to be asked about the parameters, or it was and has admitted them.
        split_route: None where it leads nowhere else, and nothing is copied.

    Raises:
        TooLarge: the parameters do not fit into a message.
    """

    __slots__ = ("admitted", "endpoint", "group", "parameters", "path", "split_route")

    def __init__(self, endpoint: EndpointQueue, parameters: Mapping[str, str], path: bytes) -> None:
        self.endpoint = endpoint
        self.path = path
        self.admitted = not endpoint.spec.checks_parameters
        self.split_route: SplitRoute | None = None
        self.parameters = msgspec.json.encode(parameters, order="sorted")
        self.group: Hashable = (self.parameters, "")
        _check_size(self.parameters)


class RequestHead:
    """What the head of a request says, where it has an endpoint. Requests with equal heads share one.

    Attributes:
        version: of the release that it asks for; empty where it does not.
        selector: who decides which release answers; None where that is decided.
        split_route: says whether the request is copied; None where it is not.
        timeout_s, urgency: of its requests.
    """

    __slots__ = ("accept", "content_type", "form", "hints", "read", "selector", "split_route", "target", "timeout_s", "urgency", "version")

    def __init__(self, target: Target, content_type: str, accept: str, version: str = "") -> None:
        self.target = target
        self.version = version
        self.selector: ReleaseSelector | None = None
        self.split_route: SplitRoute | None = None
        self.apply_hints(headers.NONE)
        self.content_type = content_type
        self.accept = accept
        self.form = ResponseFormat.negotiate(accept)
        raw = target.endpoint.spec.raw
        self.read: Callable[[bytes], Rows] = _read_raw if raw else body_reader(target.endpoint.decoder, content_type)

    def apply_hints(self, said: headers.RequestHints) -> None:
        """Its head says this of how it is served; the endpoint decides what comes of that."""
        endpoint = self.target.endpoint
        self.hints = said
        self.timeout_s = endpoint.timeout_s(said.timeout_ms)
        self.urgency = endpoint.urgency(said.urgency)

    @property
    def is_arrow(self) -> bool:
        """Whether the body is an Arrow stream that is read here."""
        return not self.target.endpoint.spec.raw and media_types.media_type_of(self.content_type) == media_types.ARROW

    def rows(self, body: bytes | BodyBuffer) -> Rows:
        """The rows of a body, as `read`; where it is an arrival they keep that."""
        return self.target.endpoint.decoder.from_body_buffer(body) if isinstance(body, BodyBuffer) else self.read(body)


def _read_raw(body: bytes) -> Rows:
    return Rows(request_frame(body), "")


def _check_size(said: bytes) -> None:
    if len(said) > BODY_MAX_BYTES:
        raise TooLarge(f"path parameters, query and headers may have {BODY_MAX_BYTES} bytes together")
