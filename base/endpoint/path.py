"""Paths of endpoints: literal segments, and parameters that take one whole segment each."""

from __future__ import annotations

import re
from functools import lru_cache

from base.errors import Declaration

_LITERAL = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+")
"""A path segment that needs no percent-encoding (RFC 3986, pchar)."""
_PLACEHOLDER = re.compile(r"\{(.*)\}")

METHODS = ("POST", "PUT", "DELETE")
"""Methods that an endpoint may have."""

RESERVED = frozenset({"livez", "readyz", "metrics", "docs", "openapi.json", "v2", "jobs"})
"""First segments of the front door's own paths."""


def parse_path(path: str) -> tuple[str, tuple[str, ...]]:
    """Returns the path without a trailing slash, and the names of its parameters.

    Raises:
        Declaration: The path does not begin with "/", has an empty segment or one with characters that are not allowed, or has a parameter
            that is not an identifier or appears twice.
    """
    normal = path.rstrip("/") if path.endswith("/") and not path.endswith("//") else path
    if not normal.startswith("/"):
        raise Declaration(f"path {path!r} must begin with '/' and have a segment, such as '/predictions/iris'")
    if normal.split("/")[1] in RESERVED:
        raise Declaration(f"path {path!r} is reserved for the front door; begin the path with another segment")
    names = []
    for segment in normal.split("/")[1:]:
        placeholder = _PLACEHOLDER.fullmatch(segment)
        if placeholder is None and (not _LITERAL.fullmatch(segment) or segment in {".", ".."}):
            raise Declaration(f"path {path!r}: segment {segment!r} must be plain letters and digits, or exactly one {{name}}")
        if placeholder is not None and not placeholder[1].isidentifier():
            raise Declaration(f"path {path!r}: {placeholder[1]!r} is not a valid parameter name; use letters, digits and underscores")
        if placeholder is not None:
            names.append(placeholder[1])
    if len(set(names)) < len(names):
        raise Declaration(f"path {path!r} has the same parameter twice; give each its own name")
    return normal, tuple(names)


def routed_path(method: str, path: str) -> str:
    """Returns the path by which a route is found: `/a` for POST, and `PUT/a` for PUT, which no client can send as a path."""
    return path if method == "POST" else f"{method}{path}"


@lru_cache(4096)
def path_pattern(path: str) -> tuple[str | None, ...]:
    """Returns the segments of a path: a literal segment, or None for a parameter."""
    return tuple(None if segment.startswith("{") else segment for segment in path.strip("/").split("/"))


@lru_cache(4096)
def path_shape(path: str) -> str:
    """Returns the path without the names of its parameters: `/a/{}/b`."""
    return re.sub(r"\{[^{}]*\}", "{}", path)
