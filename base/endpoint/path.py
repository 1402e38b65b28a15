"""Paths of endpoints: literal segments, and parameters that take one whole segment each."""

from __future__ import annotations

import re

from base.errors import Declaration

_LITERAL = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+")
"""A path segment that needs no percent-encoding (RFC 3986, pchar)."""
_PLACEHOLDER = re.compile(r"\{(.*)\}")

_RESERVED = frozenset({"livez", "readyz", "metrics", "docs", "openapi.json", "v2"})
"""First segments of the paths that are the front door's own."""


def parse_path(path: str) -> tuple[str, tuple[str, ...]]:
    """The path without a trailing slash, and the names in it.

    Raises:
        Declaration: it does not begin with "/", has an empty or odd segment, or a name that is no identifier or comes twice.
    """
    normal = path.rstrip("/") if path.endswith("/") and not path.endswith("//") else path
    if not normal.startswith("/"):
        raise Declaration(f"path {path!r}: write a path that begins with '/' and has a segment, such as '/predictions/iris'")
    if normal.split("/")[1] in _RESERVED:
        raise Declaration(f"path {path!r}: the front door itself answers there; begin the path with another segment")
    names = []
    for segment in normal.split("/")[1:]:
        placeholder = _PLACEHOLDER.fullmatch(segment)
        if placeholder is None and (not _LITERAL.fullmatch(segment) or segment in {".", ".."}):
            raise Declaration(f"path {path!r}: segment {segment!r} must be plain letters and digits, or one {{name}} and nothing else")
        if placeholder is not None and not placeholder[1].isidentifier():
            raise Declaration(f"path {path!r}: {placeholder[1]!r} is no name for a parameter; use letters, digits and underscores")
        if placeholder is not None:
            names.append(placeholder[1])
    if len(set(names)) < len(names):
        raise Declaration(f"path {path!r}: each parameter may stand in it once")
    return normal, tuple(names)


def path_shape(path: str) -> str:
    """A path without the names in it: `/a/{}/b`."""
    return re.sub(r"\{[^{}]*\}", "{}", path)
