"""A guide in Markdown as its claims: its Python blocks as one program, and its HTTP blocks as requests with their responses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_HEADER = re.compile(r"([A-Za-z-]+): (.*)")
_REQUEST = re.compile(r"(POST|PUT|DELETE) ")
_ANSWER = "→ "


class Exchange(NamedTuple):
    """A request of an `http` block and the response that the guide shows.

    Attributes:
        line: Line of the guide, from 1.
        method: Method of the request.
        status: Status, such as 200.
        answer: Body as the guide shows it, without its last line break; empty if it shows none.
    """

    line: int
    method: str
    path: str
    headers: dict[str, str]
    body: str
    status: int
    answer: str


def blocks(markdown: str, language: str) -> list[tuple[int, str]]:
    """Returns the blocks of one language, each with the number of its first line, from 1."""
    return [(markdown.count("\n", 0, found.start(2)) + 1, found[2]) for found in _BLOCK.finditer(markdown) if found[1] == language]


def program(markdown: str) -> str:
    """Returns all Python blocks as one module, in which each line has its number of the guide."""
    lines: list[str] = []
    for first, block in blocks(markdown, "python"):
        lines += [""] * (first - 1 - len(lines)) + block.splitlines()
    return "\n".join(lines) + "\n"


def exchanges(markdown: str) -> Iterator[Exchange]:
    """Returns every request that is shown, in order.

    An exchange is a method, a path and the body; lines of headers, then more lines of the body; `→`, which may be in the first line, the
    status and the response; more lines of the response.

    Raises:
        ValueError: A block has another form.
    """
    for first, block in blocks(markdown, "http"):
        lines = block.splitlines()
        starts = [number for number, text in enumerate(lines) if _REQUEST.match(text)]
        if not starts or starts[0] != 0:
            raise ValueError(f"line {first}: an exchange begins with a method")
        for start, end in pairwise([*starts, len(lines)]):
            yield _exchange(first + start, [*lines[start].replace(f" {_ANSWER}", f"\n{_ANSWER}").splitlines(), *lines[start + 1 : end]])


def _exchange(line: int, lines: list[str]) -> Exchange:
    arrows = [number for number, text in enumerate(lines) if text.startswith(_ANSWER)]
    if len(arrows) != 1:
        raise ValueError(f"line {line}: an exchange has one answer")
    method, _, rest_of_line = lines[0].partition(" ")
    path, _, body = rest_of_line.partition(" ")
    status, _, answer = lines[arrows[0]].removeprefix(_ANSWER).partition(" ")
    headers: dict[str, str] = {}
    rest = lines[1 : arrows[0]]
    while rest and (found := _HEADER.fullmatch(rest[0])):
        headers[found[1].lower()] = found[2]
        rest = rest[1:]
    return Exchange(line, method, path, headers, _text([body, *rest]), int(status), _text([answer, *lines[arrows[0] + 1 :]]))


def _text(lines: list[str]) -> str:
    """Joins the rest of the first line, unless it is empty, with the other lines."""
    return "\n".join(lines if lines[0] else lines[1:])


def agrees(shown: str, media_type: str, text: str) -> bool:
    """Returns whether a response is what the guide shows: part of a JSON object (ids and titles are ignored), or the whole text."""
    if not shown:
        return True
    if media_type.partition(";")[0] in {"application/json", "application/problem+json"}:
        return _within(json.loads(shown), json.loads(text))
    return shown == text.rstrip("\n")


def _within(shown: Any, answered: Any) -> bool:
    """Compares values: of the top object the guide may show some fields; everything below must be equal, including the kinds of numbers."""
    if isinstance(shown, dict) and isinstance(answered, dict):
        return all(name in answered and _canonical(shown[name]) == _canonical(answered[name]) for name in shown)
    return _canonical(shown) == _canonical(answered)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
