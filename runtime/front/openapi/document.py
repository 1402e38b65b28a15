"""The document: the operations of all endpoints, and the components that they share."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

from base.ipc.release_spec import ReleaseSpec
from runtime.front.openapi import request_headers
from runtime.front.openapi.jobs import add_jobs, add_to_operation
from runtime.front.openapi.operation import make_operation, request_row_schema
from runtime.http import problem_schemas


def add_releases(document: dict[str, Any], releases: Iterable[ReleaseSpec], *, has_jobs: bool = False) -> dict[str, Any]:
    """Adds the endpoints of releases to a document and returns it.

    Args:
        document: OpenAPI 3.1 document of other operations; it is changed.
        releases: The releases in force.
        has_jobs: Whether requests may become jobs.
    """
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas |= problem_schemas.SCHEMAS
    components.setdefault("responses", {}).update(problem_schemas.response_components())
    components.setdefault("headers", {}).update(problem_schemas.HEADERS)
    components.setdefault("parameters", {}).update(request_headers.PARAMETERS)
    if has_jobs:
        add_jobs(document)
    names: set[str] = set(schemas)
    for release in releases:
        for endpoint in release.endpoints:
            name = _unique_name(f"{release.model}.{endpoint.name}", names)
            names.add(name)
            if not endpoint.raw:
                schemas[name] = request_row_schema(endpoint)
            operation = make_operation(release, endpoint, name)
            if has_jobs:
                add_to_operation(operation, endpoint)
            document["paths"].setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    return document


def _unique_name(wanted: str, taken: Collection[str]) -> str:
    """Returns a valid component name that is not taken."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", wanted)
    number = 2
    while name in taken:
        name = f"{re.sub(r'-[0-9]+$', '', name)}-{number}"
        number += 1
    return name
