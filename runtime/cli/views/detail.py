"""The details of a model, as text for people and as JSON for programs. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa

from base.schema.wire import columns_from_arrow
from runtime.admin.schemas import EndpointDetail, ModelDetail
from runtime.cli.views.model import history_as_text, memory, models_as_text
from runtime.cli.views.release_table import releases_as_text
from runtime.front.openapi.row_schema import row_schema
from runtime.text_table import format_table


def detail_as_json(found: ModelDetail) -> dict[str, Any]:
    """Returns the document of the admin API, with JSON Schema in place of Arrow schemas."""
    document: dict[str, Any] = msgspec.to_builtins(found)
    return document | {"endpoints": [_endpoint_as_json(endpoint) for endpoint in found.endpoints]}


def detail_as_text(found: ModelDetail) -> str:
    """Returns one paragraph each for traffic, endpoints, releases, workers and history."""
    return "\n\n".join(_paragraphs(found))


def _endpoint_as_json(endpoint: EndpointDetail) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(endpoint)
    del document["input_schema"], document["output_schema"]
    return document | {
        "input": _json_schema(endpoint.input_schema, reply=False),
        "output": _json_schema(endpoint.output_schema, reply=True),
    }


def _json_schema(schema: bytes | None, *, reply: bool) -> dict[str, Any] | None:
    return None if schema is None else row_schema(_arrow_schema(schema), {}, reply=reply)


def _arrow_schema(schema: bytes) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(schema))


def _paragraphs(found: ModelDetail) -> Iterator[str]:
    yield models_as_text([found.model])
    for endpoint in found.endpoints:
        yield "\n".join(_endpoint_lines(endpoint))
    if found.releases:
        yield releases_as_text(found.releases)
    if found.workers:
        head = ("VERSION", "WORKER", "STATE", "RESTARTS", "MEMORY (PSS)", "RSS")
        rows = []
        for each in found.workers:
            state = f"{each.state} (jobs)" if each.runs_jobs else each.state
            rows.append((each.version, str(each.pid or "-"), state, str(each.restarts), memory(each.pss_bytes), memory(each.rss_bytes)))
        yield "\n".join(format_table([head, *rows]))
    if found.model.history:
        yield history_as_text(found.model)


def _endpoint_lines(endpoint: EndpointDetail) -> Iterator[str]:
    limits = (
        f"batches of up to {endpoint.batch_max_rows} rows, within {endpoint.batch_max_delay_ms} ms" if endpoint.batched else "unbatched"
    )
    yield f"{endpoint.method} {endpoint.path}  ({endpoint.name}; {limits})"
    if endpoint.text:
        yield f"    {endpoint.text.splitlines()[0]}"
    if endpoint.query:
        yield f"    query   {', '.join(_parameter(name, each) for name, each in endpoint.query.items())}"
    yield f"    input   {_columns(endpoint.input_schema)}"
    yield f"    output  {_columns(endpoint.output_schema)}"


def _parameter(name: str, described: dict[str, Any]) -> str:
    """Returns a parameter as in `horizon = 12` or, without a default, `horizon (required)`."""
    schema = described.get("schema", {})
    return f"{name} = {schema['default']!r}" if "default" in schema else f"{name} (required)" if described.get("required") else name


def _columns(schema: bytes | None) -> str:
    """Returns the columns as in `sepal_width Float64, petal_width Float64 or null`."""
    if schema is None:
        return "any (no schema is declared)"
    return ", ".join(
        f"{name} {column.dtype}" + (" or null" if column.nullable else "") + ("" if column.default is None else f" = {column.default[0]!r}")
        for name, column in columns_from_arrow(_arrow_schema(schema)).items()
    )
