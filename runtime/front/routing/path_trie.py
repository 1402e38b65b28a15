"""Maps the path of a request to an endpoint and its parameters. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from base.errors import Cell, Misfit
from runtime.front.routing.canonical_path import split_path

T = TypeVar("T")


@dataclass(frozen=True)
class Match(Generic[T]):
    """The target of a path, and the values of the parameters in it."""

    target: T
    parameters: dict[str, str]


@dataclass
class _Node(Generic[T]):
    children: dict[bytes, _Node[T]] = field(default_factory=dict)
    parameter: _Node[T] | None = None
    target: T | None = None
    names: tuple[str, ...] = ()


class PathTrie(Generic[T]):
    """A tree of path segments for each method. A literal segment wins over a parameter, and a trailing slash makes no difference."""

    def __init__(self) -> None:
        self._roots: dict[bytes, _Node[T]] = {}
        self._slashes_max = 0

    def add_path(self, path: str, target: T) -> None:
        """Adds a path, in which `{name}` matches one whole segment. It replaces a path of the same shape.

        Args:
            path: The path, behind the method if that is not POST (`base.endpoint.path.routed_path`).
            target: What the path leads to.
        """
        method, *segments = path.rstrip("/").split("/")
        node, names = self._roots.setdefault(method.encode(), _Node()), []
        for segment in segments:
            if segment.startswith("{"):
                names.append(segment[1:-1])
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.children.setdefault(segment.encode(), _Node())
        node.target, node.names = target, tuple(names)
        self._slashes_max = max(self._slashes_max, path.count("/") + 1)

    def match(self, raw_path: bytes) -> Match[T] | None:
        """Returns the match of a path behind its method, as received or in its canonical form; None if no endpoint has such a path.

        Raises:
            Misfit: The value of a parameter is empty, or could lead to another place in a file system.
        """
        if raw_path.count(b"/") > self._slashes_max:  # a client can send a path of many thousand segments
            return None
        root = self._roots.get(raw_path.partition(b"/")[0])
        found = None if root is None else self._walk(root, split_path(raw_path), 0, [])
        if found is None:
            return None
        node, values = found
        assert node.target is not None
        return Match(node.target, {name: _decode_value(name, value) for name, value in zip(node.names, values, strict=True)})

    def _walk(self, node: _Node[T], segments: list[bytes], depth: int, values: list[bytes]) -> tuple[_Node[T], list[bytes]] | None:
        if depth == len(segments):
            return (node, values) if node.target is not None else None
        child = node.children.get(segments[depth])
        if child is not None and (found := self._walk(child, segments, depth + 1, values)):
            return found
        if node.parameter is None:
            return None
        return self._walk(node.parameter, segments, depth + 1, [*values, segments[depth]])


def _decode_value(name: str, segment: bytes) -> str:
    try:
        value = segment.decode()
    except UnicodeDecodeError:
        value = ""
    if value in ("", ".", "..") or any(character in "/\\" or character < " " or character == "\x7f" for character in value):
        raise Misfit(f"invalid value of the path parameter {name!r}", cells=[Cell(None, name, "not an admissible value")])
    return value
