"""The document: the operations of all endpoints, and the components that they share."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

from base.ipc.control import ReleaseSpec
from runtime.front.openapi import request_headers
from runtime.front.openapi.operation import make_operation, request_row_schema
from runtime.http import problem_schemas


def add_releases(document: dict[str, Any], releases: Iterable[ReleaseSpec]) -> dict[str, Any]:
    """The same document with all that these releases serve.

    Args:
        document: OpenAPI 3.1 of other operations; it is changed.
        releases: in force.
    """
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas |= problem_schemas.SCHEMAS
    components.setdefault("responses", {}).update(problem_schemas.response_components())
    components.setdefault("headers", {}).update(problem_schemas.HEADERS)
    components.setdefault("parameters", {}).update(request_headers.PARAMETERS)
    names: set[str] = set(schemas)
    for release in releases:
        for words in release.endpoints:
            name = _name(f"{release.model}.{words.name}", names)
            names.add(name)
            if not words.raw:
                schemas[name] = request_row_schema(words)
            document["paths"][words.path] = {"post": make_operation(release, words, name)}
    return document


def _name(wanted: str, taken: Collection[str]) -> str:
    """A name that a component may have, and that none has yet."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", wanted)
    number = 2
    while name in taken:
        name = f"{re.sub(r'-[0-9]+$', '', name)}-{number}"
        number += 1
    return name
