"""The description of a release and its endpoints, as a worker sends it and the routing table carries it. Pure."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec


class Example(msgspec.Struct, frozen=True):
    """A request that the endpoint would answer, for people to copy.

    Attributes:
        parameters: Those of the path.
        query: Those of the query that have no default.
    """

    parameters: dict[str, str]
    rows: list[dict[str, object]]
    query: dict[str, str | list[str]] = {}


class EndpointDocs(msgspec.Struct, frozen=True):
    """The documentation of an endpoint beside its schemas. No decision depends on it, so all of it may be missing.

    Attributes:
        description: Text of the author.
        parameters: JSON Schemas of those parameters of the path that are more than text, by name.
        input: JSON Schema keywords for columns that Arrow types do not express, by column name; by the empty name, for the whole row.
        output: The same for the columns of the output.
        query: OpenAPI's parameter objects of the query's parameters, without their names and places, by name.
    """

    description: str = msgspec.field(default="", name="text")
    parameters: dict[str, dict[str, Any]] = {}
    input: dict[str, dict[str, Any]] = {}
    output: dict[str, dict[str, Any]] = {}
    query: dict[str, dict[str, Any]] = {}


class EndpointSpec(msgspec.Struct, frozen=True):
    """Everything that a front door needs to know about one endpoint.

    `input_schema` and `output_schema` are Arrow schema messages (`pyarrow.Schema.serialize`); None if the endpoint declares none.

    Attributes:
        unexpected: Treatment of fields that the input schema does not have: "ignore" or "reject".
        unbatched: Each batch is one request, and its context travels with it.
        raw: The endpoint takes request bodies undecoded, and returns response bodies.
        streams: The endpoint answers in parts.
        headers: Names of the request headers that the context has, in lower case.
        checks_parameters: The model decides which parameters are valid; a worker can check them before rows are decoded.
        retry: A request whose worker exited may be computed once more.
        docs: Documentation for people.
        timeout_ms: Time limit of a request whose client sets none; None for the limit of the front door.
        query: The parameters that a query may have → whether they may be given more than once; empty if queries are ignored.
        media_type: Media type of a streamed answer, whose parts are sent as they are; empty if the parts are NDJSON.
        call_max_rows: Maximum number of rows in a call of the handler; None if a request is never divided.
        max_concurrency: Number of calls that a worker computes at the same time.
        whole: Each batch is one request, even one without rows, and its answer may have any number of rows.
        job: Each request becomes a job.
        group_by: The columns whose values divide the rows of a request into groups; a batch may hold some of its groups.
        reply_parts: The worker understands reply buffers with the flag PARTS.
        tables: The worker reads frames with the flag TABLE and segments that are files, and streams Arrow to a client that accepts it.
        method: The method of its requests.
    """

    name: str
    path: str
    parameters: list[str]
    input_schema: bytes | None
    output_schema: bytes | None
    batch_max_rows: int
    batch_max_delay_ms: int
    example: Example | None = None
    unexpected: str = "ignore"
    unbatched: bool = msgspec.field(default=False, name="alone")
    raw: bool = False
    streams: bool = False
    headers: list[str] = []
    checks_parameters: bool = msgspec.field(default=False, name="checks")
    retry: bool = True
    docs: EndpointDocs = msgspec.field(default=EndpointDocs(), name="about")
    timeout_ms: int | None = None
    query: dict[str, bool] = {}
    media_type: str = ""
    call_max_rows: int | None = None
    max_concurrency: int = 1
    whole: bool = False
    job: bool = False
    group_by: list[str] = []
    tables: bool = False
    reply_parts: bool = False
    method: str = "POST"


class ReleaseSpec(msgspec.Struct, frozen=True):
    """A release as its worker describes it. Endpoints are numbered on the channel by their position in the list."""

    model: str
    version: str
    endpoints: list[EndpointSpec]


def release_tag(model: str, version: str, release_id: str) -> int:
    """Returns a number of 64 bits that identifies a release in messages of its workers; never 0.

    Args:
        model: Name of the model, as its workers describe it.
        version: Version of the model, likewise.
        release_id: Identifies the content of the release; empty if the worker does not know it.
    """
    digest = hashlib.sha256(f"{model}\0{version}\0{release_id}".encode()).digest()
    return int.from_bytes(digest[:8], "little") or 1
