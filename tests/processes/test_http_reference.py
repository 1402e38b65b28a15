"""The front door reads requests as uvicorn with h11 does, which shares no code with its parser. Each difference has its reason here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import polars as pl
import pytest

import base.service as svc
import request_heads
from base.schema import Schema
from base.testing import TestClient
from http_verdicts import Verdict, verdict_of
from rawhttp import chunked, get, post
from reference_server import reference_server
from request_grammar import make_requests
from request_heads import Made, request

GOOD = b'[{"x":5}]'
MADE = 400
"""Number of connections with requests that are made at random."""

MORE: Mapping[str, Made] = {
    "a page": lambda _: get("/livez"),
    "a page with a body": request("Content-Length: 5", body=b"12345", first="GET /livez HTTP/1.1"),
    "a page with chunks": request("Transfer-Encoding: chunked", body=request_heads.CHUNKS, first="GET /livez HTTP/1.1"),
    "another method": request(request_heads.LENGTH, first="DELETE {} HTTP/1.1"),
    "options": lambda path: get(path, "OPTIONS"),
    "another path": lambda _: post("/nowhere", GOOD),
    "no body": request(body=b""),
    "a body that is no JSON": lambda path: post(path, b"nope"),
    "a body that is no JSON between others": lambda path: post(path, GOOD) + post(path, b"nope") + post(path, GOOD),
    "a method between others": lambda path: post(path, GOOD) + get(path) + post(path, GOOD),
    "no HTTP between others": lambda path: post(path, GOOD) + b"nope\r\n\r\n" + post(path, GOOD),
    "no HTTP behind chunks": lambda path: chunked(path, [{"x": 5}]) + b"nope\r\n\r\n" + post(path, GOOD),
    "no HTTP behind both": lambda path: post(path, GOOD) + chunked(path, [{"x": 5}]) + post(path, GOOD) + b"nope\r\n\r\n",
    "twenty of both kinds": lambda path: (post(path, GOOD) + chunked(path, [{"x": 5}], size=1)) * 10,
    "an expectation": lambda path: post(path, GOOD, "Expect: 100-continue"),
    "an expectation in HTTP/1.0": lambda path: post(path, GOOD, "Expect: 100-continue", version="1.0"),
    "an expectation that nobody knows": lambda path: post(path, GOOD, "Expect: the-unexpected"),
    "close": lambda path: post(path, GOOD, "Connection: close"),
    "close between others": lambda path: post(path, GOOD) + post(path, GOOD, "Connection: close") + post(path, GOOD),
    "close and keep-alive": lambda path: post(path, GOOD, "Connection: keep-alive, close"),
    "close in a second line": lambda path: post(path, GOOD, "Connection: keep-alive", "Connection: close"),
    "HTTP/1.0": lambda path: post(path, GOOD, version="1.0"),
    "HTTP/1.0 with keep-alive": lambda path: post(path, GOOD, "Connection: keep-alive", version="1.0"),
    "HTTP/1.0 without a host": request(request_heads.LENGTH, first="POST {} HTTP/1.0", host=""),
    "an offer of another protocol": lambda path: post(path, GOOD, "Connection: Upgrade", "Upgrade: h2c"),
    "an offer of WebSocket": lambda path: post(path, GOOD, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    "an offer in HTTP/1.0": lambda path: post(path, GOOD, "Connection: Upgrade", "Upgrade: h2c", version="1.0"),
    "an offer in HTTP/1.0 without a host": request(
        request_heads.LENGTH, "Upgrade: h2c", "Connection: Upgrade", first="POST {} HTTP/1.0", host=""
    ),
    "an offer in HTTP/1.0 with keep-alive": request(
        request_heads.LENGTH, "Connection: Upgrade, keep-alive", "Upgrade: h2c", first="POST {} HTTP/1.0"
    ),
    "an offer and close": lambda path: post(path, GOOD, "Connection: Upgrade", "Upgrade: h2c", "Connection: Close"),
    "an offer in HTTP/1.0 of a page": request("Connection: Upgrade", "Upgrade: h2c", first="GET /livez HTTP/1.0", host=""),
    "an empty line between others": lambda path: post(path, GOOD) + b"\r\n" + post(path, GOOD),
    "two spaces in the first line": request(request_heads.LENGTH, first="POST  {} HTTP/1.1"),
    "an escaped letter in the path": request(request_heads.LENGTH, first="POST /t%69ny HTTP/1.1"),
    "HEAD of an endpoint": lambda path: get(path, "HEAD"),
    "HEAD of a page": lambda _: get("/livez", "HEAD"),
    "HEAD between others": lambda path: post(path, GOOD) + get(path, "HEAD") + post(path, GOOD),
    "HEAD that is refused": lambda path: post(path, GOOD) + get(path, "HEAD").replace(b"Host", b"Ho st"),
}  # fmt: skip

METHODS = {
    "HEAD of an endpoint": ["HEAD"],
    "HEAD of a page": ["HEAD"],
    "HEAD between others": ["POST", "HEAD", "POST"],
    "HEAD that is refused": ["POST", "HEAD"],
}

CASES = {**request_heads.REFUSED, **request_heads.TAKEN, **MORE}


class Difference(NamedTuple):
    """A difference that is meant: verdicts of the front door and of the reference."""

    ours: str
    theirs: str


REFUSED = "4xx closed"
STRICT = Difference(REFUSED, "2xx(1) kept")
NO_ENDPOINT = Difference(REFUSED, "4xx kept")

DIFFERENCES: Mapping[str, Mapping[str, Difference]] = {
    "Two lengths, or a length and a coding, are refused (RFC 9112, 6.3: a server may), since a proxy could believe the other one.": {
        "a length and chunks": STRICT,
        "chunks and a length": STRICT,
        "chunks, and a length of none": STRICT,
        "the same length twice": STRICT,
        "a list of lengths": STRICT,
    },
    "A header that has one value comes once (RFC 9110, 5.3: a sender must not repeat it); the reference leaves it to its application.": {
        "two content types": STRICT,
        "the same content type twice": STRICT,
        "two time limits": STRICT,
        "two releases": STRICT,
        "two credentials": STRICT,
        "two API keys": STRICT,
        "two codings of a body": STRICT,
    },
    "Folded lines are refused (RFC 9112, 5.2: a server must refuse them or replace the fold).": {
        "a folded length": STRICT,
        "a coding on a folded line": STRICT,
        "a folded line": STRICT,
        "a line folded by a tab": STRICT,
        "a trailer that is folded": STRICT,
        "a coding on a line that begins with a space": Difference(REFUSED, "4xx 4xx closed"),
    },
    "Chunks in HTTP/1.0 are refused (RFC 9112, 6.1: their framing is faulty).": {
        "chunks in HTTP/1.0": Difference(REFUSED, "2xx(1) closed"),
        "kept chunks in HTTP/1.0": Difference(REFUSED, "2xx(1) closed"),
    },
    "A line ends with CRLF only (RFC 9112, 2.2: a server may accept LF).": {
        "bare LFs": STRICT,
        "a bare LF at the end": STRICT,
        "an extension with a bare CR": STRICT,
    },
    "Control characters are refused (RFC 9110, 5.5), also in extensions of chunks.": {
        "an extension with a zero byte": STRICT,
        "a control byte in a value": STRICT,
        "a delete in a value": STRICT,
    },
    "A number that no memory holds is refused at once (RFC 9112, 7.1), rather than waited for.": {
        "a length beyond 64 bits": Difference(REFUSED, "waits"),
        "a size beyond 64 bits": Difference(REFUSED, "waits"),
    },
    "Only what the grammar of chunks allows is accepted (RFC 9112, 7.1), and no length among trailers (RFC 9110, 6.5.1).": {
        "a size before a space": STRICT,
        "a length in the trailers": STRICT,
    },
    "A Host is a host and a port (RFC 9112, 3.2: a server must refuse an invalid one).": {
        "a host with a path": STRICT,
        "a host with a space": STRICT,
        "a host with a user": STRICT,
    },
    "A target that is neither a path nor a URL is refused; the reference leaves it to its application.": {
        "a fragment": NO_ENDPOINT,
        "a target without a slash": NO_ENDPOINT,
        "an asterisk": NO_ENDPOINT,
        "a URL without a path": NO_ENDPOINT,
        "a URL of another kind": NO_ENDPOINT,
        "a host and a port": NO_ENDPOINT,
    },
    "Only HTTP/1.1 and 1.0 are spoken.": {
        "HTTP/0.9": Difference(REFUSED, "2xx(1) closed"),
        "HTTP/1.2": STRICT,
        "HTTP/2.0": STRICT,
    },
    "A method that nobody knows ends the connection; the reference leaves it to its application.": {
        "a verb in small letters": NO_ENDPOINT,
        "a verb that nobody knows": NO_ENDPOINT,
    },
    "Empty lines before a request are ignored (RFC 9112, 2.2: a server should).": {
        "an empty line before": Difference("2xx(1) kept", REFUSED),
        "an empty line between others": Difference("2xx(5) 2xx(5) kept", "2xx(5) 4xx closed"),
    },
    "The parser takes several spaces in the first line for one (RFC 9112, 3: a server may).": {
        "two spaces in the first line": Difference("2xx(1) kept", REFUSED),
    },
    "A whole URL is a target like its path (RFC 9112, 3.2.2: a server must accept it); the reference compares it as it is.": {
        "a URL": Difference("2xx(1) kept", "4xx kept"),
    },
    "A refusal of HEAD has no body (RFC 9110, 9.3.2); the reference sends one.": {
        "HEAD that is refused": Difference("2xx(5) 4xx closed", "2xx(5) 4xx forged"),
    },
}  # fmt: skip

MEANT = {name: difference for cases in DIFFERENCES.values() for name, difference in cases.items()}

PIECES_READ_OTHERWISE = ("two spaces", "HTTP/1.0 with chunks")
"""Pieces of requests that are made at random, whose difference has its reason above."""


class Numbers(Schema):
    x: pl.Float64


@svc.endpoint("/tiny")
def tiny(records_df: Numbers.DataFrame) -> pl.Series:
    return records_df["x"]


class Servers(NamedTuple):
    """The front door, the reference, and threads for their clients."""

    ours: str
    theirs: str
    pool: ThreadPoolExecutor

    def verdicts(self, make: Callable[[str], bytes], name: str = "") -> tuple[Future[Verdict], ...]:
        """Returns the verdicts of the fast path, of the ASGI application and of the reference."""
        methods, silent_s = METHODS.get(name, ()), 2.0 if name in MEANT and "waits" in MEANT[name].theirs else 30.0
        return (
            self.pool.submit(verdict_of, self.ours, make("/tiny"), methods),
            self.pool.submit(verdict_of, self.ours, make("/tiny?"), methods),
            self.pool.submit(verdict_of, self.theirs, make("/tiny"), methods, silent_s=silent_s),
        )


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with TestClient(tiny) as client, reference_server() as theirs, ThreadPoolExecutor(16) as pool:
        client.post("/tiny", json=[{"x": 1}])  # the segment that all tests share comes with the first batch
        yield Servers(client.address, theirs, pool)


def test_requests_are_read_as_the_reference_reads_them(servers: Servers) -> None:
    """They are accepted or refused, end where they end there, and leave the connection open or not, apart from the table."""
    found = {name: servers.verdicts(make, name) for name, make in CASES.items()}
    for name, verdicts in found.items():
        fast, slow, theirs = (str(each.result()) for each in verdicts)
        assert fast == slow, name
        assert (fast, theirs) == MEANT.get(name, (theirs, theirs)), name


def test_requests_made_at_random_are_read_as_the_reference_reads_them(servers: Servers) -> None:
    """Several come on one connection, good ones and bad ones, with everything that may be in them."""
    found = {seed: servers.verdicts(lambda path, seed=seed: make_requests(seed, path).data) for seed in range(MADE)}
    ends, otherwise = set(), set()
    for seed, verdicts in found.items():
        made = make_requests(seed, "/tiny")
        fast, slow, theirs = (each.result() for each in verdicts)
        assert fast == slow, made
        different = {piece for piece in PIECES_READ_OTHERWISE if piece in made.pieces}
        assert fast == theirs or different, (made, str(fast), str(theirs))
        otherwise |= different if fast != theirs else set()
        ends.add((len(fast.responses), fast.end))
    assert otherwise == set(PIECES_READ_OTHERWISE)
    assert {(n, end) for n in (1, 2, 3, 4) for end in ("kept", "closed")} <= ends


def test_requests_are_read_alike_whatever_their_packets_are(servers: Servers) -> None:
    """Each byte is a packet of its own, on both paths."""
    found = {
        (name, path): (
            servers.pool.submit(verdict_of, servers.ours, make(path), METHODS.get(name, ())),
            servers.pool.submit(verdict_of, servers.ours, make(path), METHODS.get(name, ()), size=1),
        )
        for name, make in CASES.items()
        if len(make("/tiny")) < 2000
        for path in ("/tiny", "/tiny?")
    }
    for case, verdicts in found.items():
        whole, split = (each.result() for each in verdicts)
        assert whole == split, case
