"""`pexdock describe`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from runtime.cli.options import AS_JSON, MODEL, asking, show_json

if TYPE_CHECKING:
    from runtime.admin.client.client import AdminClient
    from runtime.admin.schemas import EndpointDetail, ModelDetail


@click.command()
@MODEL
@AS_JSON
@asking
def describe(client: AdminClient, model: str, as_json: bool) -> None:
    """Show all that is known of MODEL: where its requests go, endpoints with their schemas, releases, workers, what happened."""
    import msgspec  # noqa: PLC0415

    from runtime.cli.views.model import painted  # noqa: PLC0415

    found = client.model_detail(model)
    if as_json:
        document = msgspec.to_builtins(found) | {"endpoints": [_described(endpoint) for endpoint in found.endpoints]}
        show_json(document)
    else:
        click.echo(painted("\n\n".join(_parts(found))))


def _described(endpoint: EndpointDetail) -> dict[str, Any]:
    """As it came, with JSON Schema in place of Arrow's."""
    import msgspec  # noqa: PLC0415

    document: dict[str, Any] = msgspec.to_builtins(endpoint)
    del document["input_schema"], document["output_schema"]
    return document | {"input": _row_schema(endpoint.input_schema, reply=False), "output": _row_schema(endpoint.output_schema, reply=True)}


def _row_schema(schema: bytes | None, *, reply: bool) -> dict[str, Any] | None:
    import pyarrow as pa  # noqa: PLC0415

    from runtime.front.openapi.row_schema import row_schema  # noqa: PLC0415

    return None if schema is None else row_schema(pa.ipc.read_schema(pa.py_buffer(schema)), {}, reply=reply)


def _parts(found: ModelDetail) -> Iterator[str]:
    from runtime.cli.views.model import history_as_text, memory, models_as_text  # noqa: PLC0415
    from runtime.cli.views.release_table import releases_as_text  # noqa: PLC0415
    from runtime.text_table import format_table  # noqa: PLC0415

    yield models_as_text([found.model])
    for endpoint in found.endpoints:
        yield "\n".join(_endpoint_lines(endpoint))
    if found.releases:
        yield releases_as_text(found.releases)
    if found.workers:
        head = ("VERSION", "WORKER", "STATE", "RESTARTS", "MEMORY (PSS)", "RSS")
        rows = [
            (each.version, str(each.pid or "-"), each.state, str(each.restarts), memory(each.pss_bytes), memory(each.rss_bytes))
            for each in found.workers
        ]
        yield "\n".join(format_table([head, *rows]))
    if found.model.history:
        yield history_as_text(found.model)


def _endpoint_lines(endpoint: EndpointDetail) -> Iterator[str]:
    yield f"POST {endpoint.path}  ({endpoint.name}; batches of {endpoint.batch_max_rows} rows, {endpoint.batch_max_delay_ms} ms at most)"
    if endpoint.text:
        yield f"    {endpoint.text.splitlines()[0]}"
    yield f"    rows     {_columns(endpoint.input_schema)}"
    yield f"    answers  {_columns(endpoint.output_schema)}"


def _columns(schema: bytes | None) -> str:
    """`sepal_width Float64, petal_width Float64 or null`."""
    import pyarrow as pa  # noqa: PLC0415

    from base.schema.wire import columns_from_arrow  # noqa: PLC0415

    if schema is None:
        return "any; no schema is declared"
    columns = columns_from_arrow(pa.ipc.read_schema(pa.py_buffer(schema)))
    return ", ".join(
        f"{name} {column.dtype}" + (" or null" if column.nullable else "") + ("" if column.default is None else f" = {column.default[0]!r}")
        for name, column in columns.items()
    )
