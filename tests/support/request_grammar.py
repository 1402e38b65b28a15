"""Makes requests at random, from pieces that are valid, invalid or unusual. The same number always makes the same requests."""

from __future__ import annotations

import random
from dataclasses import dataclass

_FIRST = {
    "POST": ("POST {} HTTP/1.1", 30),
    "POST elsewhere": ("POST /nowhere HTTP/1.1", 1),
    "GET": ("GET /livez HTTP/1.1", 1),
    "PUT": ("PUT {} HTTP/1.1", 1),
    "OPTIONS": ("OPTIONS {} HTTP/1.1", 1),
    "HTTP/1.0": ("POST {} HTTP/1.0", 1),
    "no version": ("POST {}", 1),
    "two spaces": ("POST  {} HTTP/1.1", 1),
    "a tab": ("POST\t{} HTTP/1.1", 1),
}

_LINES = {
    "a header": ("X-A: y", 8),
    "no space": ("X-B:y", 2),
    "spaces around a value": ("X-C: \t y \t ", 2),
    "no value": ("X-D:", 1),
    "a long value": ("X-E: " + "y" * 3000, 1),
    "a value beyond ASCII": ("X-F: \xe9\xff", 1),
    "a colon in a value": ("X-G: a: b", 1),
    "close": ("Connection: close", 1),
    "close in capitals": ("CONNECTION: CLOSE", 1),
    "close in a list": ("Connection: x-a, close", 1),
    "keep-alive": ("Connection: keep-alive", 1),
    "a space before a colon": ("X-H : y", 1),
    "a space in a name": ("X I: y", 1),
    "no colon": ("X-J", 1),
    "an empty name": (": y", 1),
    "a zero byte": ("X-K: a\x00b", 1),
    "a bare CR": ("X-L: a\rb", 1),
    "a second host": ("Host: other", 1),
}


@dataclass(frozen=True)
class MadeRequests:
    """Requests on one connection.

    Attributes:
        data: Their bytes.
        pieces: Names of what they are made of, for messages.
    """

    data: bytes
    pieces: tuple[str, ...]


def make_requests(seed: int, path: str) -> MadeRequests:
    """Returns one to four requests, which are the same for each path apart from it."""
    chance = random.Random(seed)
    made = [_request(chance, path, number) for number in range(chance.randint(1, 4))]
    return MadeRequests(b"".join(each.data for each in made), tuple(name for each in made for name in each.pieces))


def _request(chance: random.Random, path: str, number: int) -> MadeRequests:
    (first,) = chance.choices(list(_FIRST), [weight for _, weight in _FIRST.values()])
    lines = chance.choices(list(_LINES), [weight for _, weight in _LINES.values()], k=chance.choice((0, 0, 0, 0, 1, 2)))
    framing, framing_lines, body = _framed(chance, b'[{"x":%d}]' % number)
    if first == "GET":
        framing, framing_lines, body = "no body", [], b""
    rest = ["Host: test", *(_LINES[name][0] for name in lines), *framing_lines]
    chance.shuffle(rest)
    head = "\r\n".join([_FIRST[first][0].replace("{}", path), *rest, "", ""]).encode("latin-1")
    if first == "HTTP/1.0" and any(line.lower().endswith(": chunked") for line in framing_lines):
        first = "HTTP/1.0 with chunks"
    return MadeRequests(head + body, (first, *lines, framing))


def _framed(chance: random.Random, body: bytes) -> tuple[str, list[str], bytes]:
    """Returns the name of a way to end a body, its header lines, and the bytes of the body."""
    length, coding = f"Content-Length: {len(body)}", "Transfer-Encoding: chunked"
    return chance.choice(
        [
            *[("a length", [length], body)] * 24,
            ("a length after spaces", [f"content-length: \t {len(body)} "], body),
            ("a length with zeros", [f"Content-Length: 000{len(body)}"], body),
            ("a length that is too short", [f"Content-Length: {len(body) - 1}"], body),
            ("a length that is too long", [f"Content-Length: {len(body) + 7}"], body),
            ("no length", [], b""),
            ("no length, but a body", [], body),
            ("a length of none", ["Content-Length: 0"], b""),
            ("two lengths", [length, "Content-Length: 1"], body),
            ("a negative length", ["Content-Length: -1"], body),
            ("a length and letters", [f"Content-Length: {len(body)}x"], body),
            *[("chunks", [coding], _chunks(chance, body))] * 10,
            ("chunks in capitals", ["TRANSFER-ENCODING: Chunked"], _chunks(chance, body)),
            ("chunks with extensions", [coding], _chunks(chance, body, b";a=b")),
            ("chunks with trailers", [coding], _chunks(chance, body)[:-2] + b"X-T: y\r\nX-U: z\r\n\r\n"),
            ("chunks with a broken size", [coding], b"g\r\n" + _chunks(chance, body)),
            ("chunks without a line's end", [coding], _chunks(chance, body).replace(b"]\r\n", b"]", 1)),
            ("chunks that are not said", [], _chunks(chance, body)),
            ("another coding", ["Transfer-Encoding: gzip"], body),
            ("chunks twice", [coding, coding], _chunks(chance, body)),
        ]
    )


def _chunks(chance: random.Random, body: bytes, extension: bytes = b"") -> bytes:
    pieces, rest = [], body
    while rest:
        size = chance.randint(1, len(rest))
        pieces.append(b"%x%b\r\n%b\r\n" % (size, extension, rest[:size]))
        rest = rest[size:]
    return b"".join(pieces) + b"0" + extension + b"\r\n\r\n"
