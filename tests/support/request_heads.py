"""Requests by name that are ambiguous, too large, or unusual but valid. All are for one row, `x` = 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping

ROWS = b'[{"x":1}]'
LENGTH = f"Content-Length: {len(ROWS)}"
CHUNKED = "Transfer-Encoding: chunked"
CHUNKS = b"9\r\n" + ROWS + b"\r\n0\r\n\r\n"
MB = 1024**2

Made = Callable[[str], bytes]
"""Makes a request for a path."""


def request(*lines: str, body: bytes = ROWS, host: str = "Host: test\r\n", first: str = "POST {} HTTP/1.1") -> Made:
    """Returns a request with these lines in its head; everything else of it is right by default."""
    head = "\r\n".join((first, host + "Content-Type: application/json", *lines, "", ""))
    return lambda path: head.replace("{}", path, 1).encode("latin-1") + body


def length(said: str) -> Made:
    return request(f"Content-Length: {said}")


def coding(*said: str, first: str = "POST {} HTTP/1.1") -> Made:
    return request(*(f"Transfer-Encoding: {each}" for each in said), body=CHUNKS, first=first)


def chunks(body: bytes) -> Made:
    return request(CHUNKED, body=body)


def first(line: str, host: str = "Host: test\r\n") -> Made:
    return request(LENGTH, first=line, host=host)


def header(line: str) -> Made:
    return request(line, LENGTH)


LENGTHS: Mapping[str, Made] = {
    "a length and chunks": request(LENGTH, CHUNKED, body=CHUNKS),
    "chunks and a length": request(CHUNKED, LENGTH, body=CHUNKS),
    "chunks, and a length of none": request(CHUNKED, "Content-Length: 0", body=CHUNKS),
    "two lengths": request(LENGTH, "Content-Length: 200"),
    "two lengths, the first too long": request("Content-Length: 200", LENGTH),
    "the same length twice": request(LENGTH, LENGTH),
    "a list of lengths": length("9, 9"),
    "a list of two lengths": length("9, 200"),
    "a negative length": length("-9"),
    "a length with a sign": length("+9"),
    "a hexadecimal length": length("0x9"),
    "a length with a space in it": length("0 9"),
    "a length in the way of floats": length("9.0"),
    "a length with an exponent": length("9e0"),
    "a length with an underscore": length("0_9"),
    "a length in other digits": length("\xb9"),
    "a length of forty digits": length("9" * 40),
    "a length beyond 64 bits": length(str(2**64 + 9)),
    "a length of 5000 digits": length("0" * 4999 + "9"),
    "a length that is empty": length(""),
    "a length that is a word": length("nine"),
    "a space before a length's colon": request("Content-Length : 9"),
    "a folded length": length("\r\n 9"),
}

CODINGS: Mapping[str, Made] = {
    "a coding that ends like chunked": coding("xchunked"),
    "a coding that begins like chunked": coding("chunkedx"),
    "chunked, then identity": coding("chunked, identity"),
    "identity": coding("identity"),
    "compressed and chunked": coding("gzip, chunked"),
    "chunked twice in one": coding("chunked, chunked"),
    "chunked twice": coding("chunked", "chunked"),
    "chunked, and identity in another": coding("chunked", "identity"),
    "identity, and chunked in another": coding("identity", "chunked"),
    "chunked with a parameter": coding("chunked;q=1"),
    "chunked in quotes": coding('"chunked"'),
    "chunked after a vertical tab": coding("\x0bchunked"),
    "chunked before a form feed": coding("chunked\x0c"),
    "chunked after a space that is none": coding("\xa0chunked"),
    "chunked with a comma": coding("chunked,"),
    "an empty coding": coding(""),
    "a coding on a folded line": coding("\r\n chunked"),
    "a coding that goes on on the next line": coding("x,\r\n chunked"),
    "a space before a coding's colon": request("Transfer-Encoding : chunked", body=CHUNKS),
    "a coding on a line that begins with a space": request("X: y", " Transfer-Encoding: chunked", body=CHUNKS),
    "a coding with a zero byte in its name": request("Transfer-Enco\x00ding: chunked", body=CHUNKS),
    "a coding behind a bare LF": request(f"X: y\n{CHUNKED}", LENGTH),
    "a coding behind a bare CR": request(f"X: y\r{CHUNKED}", LENGTH),
    "chunks in HTTP/1.0": coding("chunked", first="POST {} HTTP/1.0"),
    "kept chunks in HTTP/1.0": request(CHUNKED, "Connection: keep-alive", body=CHUNKS, first="POST {} HTTP/1.0"),
}

CHUNKS_THAT_LIE: Mapping[str, Made] = {
    "a negative size": chunks(b"-9\r\n" + ROWS + b"\r\n0\r\n\r\n"),
    "a size with a sign": chunks(b"+9\r\n" + ROWS + b"\r\n0\r\n\r\n"),
    "a size beyond 64 bits": chunks(b"10000000000000009\r\n" + ROWS + b"\r\n0\r\n\r\n"),
    "a size of forty digits": chunks(b"f" * 40 + b"\r\n" + ROWS + b"\r\n0\r\n\r\n"),
    "a size with a prefix": chunks(b"0x9\r\n" + ROWS + b"\r\n0\r\n\r\n"),
    "a size that is no number": chunks(b"x\r\n" + ROWS + b"\r\n0\r\n\r\n"),
    "a size that is not there": chunks(b"\r\n" + ROWS + b"\r\n0\r\n\r\n"),
    "a size after a space": chunks(b" 9\r\n" + ROWS + b"\r\n0\r\n\r\n"),
    "a size before a space": chunks(b"9 \r\n" + ROWS + b"\r\n0\r\n\r\n"),
    "a size before a bare LF": chunks(b"9\n" + ROWS + b"\r\n0\r\n\r\n"),
    "a size before a bare CR": chunks(b"9\r" + ROWS + b"\r\n0\r\n\r\n"),
    "data before a bare LF": chunks(b"9\r\n" + ROWS + b"\n0\r\n\r\n"),
    "data that goes on": chunks(b"9\r\n" + ROWS + b"xx\r\n0\r\n\r\n"),
    "data with no line's end": chunks(b"9\r\n" + ROWS + b"0\r\n\r\n"),
    "an extension with a bare LF": chunks(b"9;a\n" + ROWS + b"\r\n0\r\n\r\n"),
    "an extension's value with a bare LF": chunks(b"9;a=b\n" + ROWS + b"\r\n0\r\n\r\n"),
    "an extension with a bare CR": chunks(b"9;a\rb\r\n" + ROWS + b"\r\n0\r\n\r\n"),
    "a quoted extension with a line's end": chunks(b'9;a="\r\n' + ROWS + b'"\r\n0\r\n\r\n'),
    "an extension with a zero byte": chunks(b"9;\x00\r\n" + ROWS + b"\r\n0\r\n\r\n"),
    "a trailer without a colon": chunks(b"9\r\n" + ROWS + b"\r\n0\r\nx\r\n\r\n"),
    "a trailer that is folded": chunks(b"9\r\n" + ROWS + b"\r\n0\r\nX: a\r\n b\r\n\r\n"),
    "a length in the trailers": chunks(b"9\r\n" + ROWS + b"\r\n0\r\nContent-Length: 50\r\n\r\n"),
}

HEADS: Mapping[str, Made] = {
    "bare LFs": lambda path: request(LENGTH)(path).replace(b"\r\n", b"\n"),
    "a bare LF at the end": lambda path: request(LENGTH)(path).replace(b"\r\n\r\n", b"\r\n\n"),
    "bare CRs": lambda path: request(LENGTH)(path).replace(b"\r\n", b"\r"),
    "a bare CR in a value": header("X: a\rb"),
    "a folded line": header("X: a\r\n b"),
    "a line folded by a tab": header("X: a\r\n\tb"),
    "a space before a colon": header("X : a"),
    "a tab before a colon": header("X\t: a"),
    "a space in a name": header("X Y: a"),
    "a line without a colon": header("X"),
    "a name that is empty": header(": a"),
    "a zero byte in a name": header("X\x00: a"),
    "a zero byte in a value": header("X: a\x00b"),
    "a control byte in a name": header("X\x01: a"),
    "a control byte in a value": header("X: a\x01b"),
    "a delete in a value": header("X: a\x7fb"),
    "a byte beyond ASCII in a name": header("X\xe9: a"),
    "no host": first("POST {} HTTP/1.1", host=""),
    "two hosts": first("POST {} HTTP/1.1", host="Host: test\r\nHost: other\r\n"),
    "the same host twice": first("POST {} HTTP/1.1", host="Host: test\r\nHost: test\r\n"),
    "two hosts in HTTP/1.0": first("POST {} HTTP/1.0", host="Host: test\r\nHost: other\r\n"),
    "two content types": header("Content-Type: text/csv"),
    "the same content type twice": header("content-type: application/json"),
    "two time limits": header("X-Request-Timeout-Ms: 90000\r\nX-Request-Timeout-Ms: 80000"),
    "two releases": header("X-Pexdock-Version: 1\r\nX-Pexdock-Version: 1"),
    "two credentials": header("Authorization: Bearer a\r\nauthorization: Bearer b"),
    "two API keys": header("X-API-Key: a\r\nX-API-Key: b"),
    "two codings of a body": header("Content-Encoding: gzip\r\nContent-Encoding: identity"),
    "a host with a path": first("POST {} HTTP/1.1", host="Host: test/x\r\n"),
    "a host with a space": first("POST {} HTTP/1.1", host="Host: my test\r\n"),
    "a host with a user": first("POST {} HTTP/1.1", host="Host: me@test\r\n"),
    "a zero byte in the target": first("POST {}\x00 HTTP/1.1"),
    "a control byte in the target": first("POST {}\x01 HTTP/1.1"),
    "a delete in the target": first("POST {}\x7f HTTP/1.1"),
    "a tab in the target": first("POST {}\tx HTTP/1.1"),
    "a space in the target": first("POST {} x HTTP/1.1"),
    "a bare CR in the target": first("POST {}\rx HTTP/1.1"),
    "a byte beyond ASCII in the target": first("POST {}\xe9 HTTP/1.1"),
    "a fragment": first("POST {}#x HTTP/1.1"),
    "no target": first("POST HTTP/1.1"),
    "a target without a slash": first("POST tiny HTTP/1.1"),
    "an asterisk": first("OPTIONS * HTTP/1.1"),
    "a URL without a path": first("POST http://test HTTP/1.1"),
    "a URL of another kind": first("POST ftp://test{} HTTP/1.1"),
    "a host and a port": first("CONNECT test:80 HTTP/1.1"),
    "no version": first("POST {}"),
    "HTTP/0.9": first("POST {} HTTP/0.9"),
    "HTTP/1.2": first("POST {} HTTP/1.2"),
    "HTTP/2.0": first("POST {} HTTP/2.0"),
    "HTTP in small letters": first("POST {} http/1.1"),
    "a version of two digits": first("POST {} HTTP/1.10"),
    "a space behind the version": first("POST {} HTTP/1.1 "),
    "a verb in small letters": first("post {} HTTP/1.1"),
    "a verb that nobody knows": first("STEAL {} HTTP/1.1"),
    "a space before the verb": first(" POST {} HTTP/1.1"),
    "no HTTP": lambda _: b"\x16\x03\x01\x02\x00\x01" * 100,
}

TOO_MUCH: Mapping[str, Made] = {
    "a hundred thousand headers": request(*(f"X-{i}: y" for i in range(100_000)), LENGTH),
    "a header of 10 MB": header("X: " + "y" * 10 * MB),
    "a name of 10 MB": header("X" * 10 * MB + ": y"),
    "a target of 10 MB": first("POST {}" + "x" * 10 * MB + " HTTP/1.1"),
    "a query of 10 MB": first("POST {}?" + "x" * 10 * MB + " HTTP/1.1"),
    "a hundred thousand trailers": chunks(CHUNKS[:-2] + b"".join(b"X-%d: y\r\n" % i for i in range(100_000)) + b"\r\n"),
    "a trailer of 10 MB": chunks(CHUNKS[:-2] + b"X: " + b"y" * 10 * MB + b"\r\n\r\n"),
    "an extension of 10 MB": chunks(b"9;" + b"a" * 10 * MB + b"\r\n" + ROWS + b"\r\n0\r\n\r\n"),
    "leading zeros of 10 MB": chunks(b"0" * 10 * MB + b"9\r\n" + ROWS + b"\r\n0\r\n\r\n"),
    "empty lines of 10 MB": lambda _: b"\r\n" * 5 * MB,
}

REFUSED = {**LENGTHS, **CODINGS, **CHUNKS_THAT_LIE, **HEADS}

TAKEN: Mapping[str, Made] = {
    "chunks": coding("chunked"),
    "chunked in capitals": coding("CHUNKED"),
    "spaces around chunked": coding("  chunked  "),
    "spaces around a length": length("   9  "),
    "leading zeros in a length": length("0009"),
    "leading zeros in a size": chunks(b"0009\r\n" + ROWS + b"\r\n0\r\n\r\n"),
    "an extension": chunks(b"9;a=b;c\r\n" + ROWS + b"\r\n0;d\r\n\r\n"),
    "a quoted extension": chunks(b'9;a="b;c"\r\n' + ROWS + b"\r\n0\r\n\r\n"),
    "trailers that look like headers": chunks(CHUNKS[:-2] + b"Content-Type: image/png\r\nX-Pexdock-Version: 999\r\nHost: other\r\n\r\n"),
    "an empty line before": lambda path: b"\r\n" + request(LENGTH)(path),
    "a URL": first("POST http://elsewhere:80{} HTTP/1.1"),
    "an empty host": first("POST {} HTTP/1.1", host="Host:\r\n"),
    "a host that is an address": first("POST {} HTTP/1.1", host="Host: [::1]:8080\r\n"),
    "a name of all that names may have": header("X!#$%&'*+-.^_`|~9: y"),
    "a value beyond ASCII": header("X: \xe9"),
    "a head of 60 KB": header("X: " + "y" * 60_000),
}
