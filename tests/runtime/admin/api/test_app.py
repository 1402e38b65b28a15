"""The OpenAPI document of the admin API."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
from openapi_spec_validator import validate

from runtime.admin.api.app import create_app
from runtime.admin.api.context import AdminContext, UploadTarget
from runtime.supervisor.host.log_buffer import LogBuffer
from runtime.supervisor.status.state import State
from runtime.supervisor.status.state_feed import StateFeed


def test_the_openapi_document_is_valid_and_describes_all_responses() -> None:
    """Every successful response refers to the schema of its document."""

    context = AdminContext(lambda: State(dist_path="dist"), StateFeed(), None, LogBuffer(), UploadTarget(Path("dist"), "", 1), lambda: None)

    async def ask() -> dict:
        transport = httpx.ASGITransport(create_app(context))
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
            return (await client.get("/openapi.json")).json()

    document = asyncio.run(ask())
    validate(document)
    operations = {f"{method} {path}": each for path, methods in document["paths"].items() for method, each in methods.items()}
    assert operations.keys() == {
        "get /models",
        "get /models/{model}/cache",
        "post /models/{model}/refresh",
        "put /dist/{file}",
        "get /models/{model}",
        *(f"{method} /models/{{model}}/{noun}" for method in ("put", "delete") for noun in ("pin", "split", "shadow", "labels/{label}")),
        "post /models/{model}/promote",
        "post /models/{model}/rollback",
        "get /jobs",
        "get /jobs/{job_id}",
        "delete /jobs/{job_id}",
        "get /logs",
        "post /drain",
    }
    for operation in operations.values():
        good = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
        follows = "follow" in {each["name"] for each in operation.get("parameters", ())}
        assert [answer["content"].keys() for answer in good] == [{"application/json"} | ({"application/x-ndjson"} if follows else set())]
        name = good[0]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert document["components"]["schemas"][name]["type"] == "object"
        assert {"application/problem+json"} == {
            media for status, answer in operation["responses"].items() if status[0] in "45" for media in answer["content"]
        }
        assert operation["responses"].keys() >= {"401", "422", "503", "504"}
    assert document["security"] == [{"Token": []}]
    assert document["components"]["securitySchemes"]["Token"]["scheme"] == "bearer"
    assert document["components"]["schemas"]["EntryState"]["properties"]["state"] == {"type": "string"}
