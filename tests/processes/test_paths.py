"""Which endpoint answers which path, on both ways through the front door, compared with a reference that is worked out here."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

import polars as pl
import pytest
from pydantic import create_model

import base.service as svc
from base.schema import Schema
from base.testing import TestClient
from rawhttp import Raw, chunked, get, post

PATTERNS = ("/a", "/a/{x}", "/{y}/b", "/a/b", "/{any}", "/a/{x}/{z}", "/{x}/b/{z}", "/m01", "/p(q)", "/a/.well-known")
PAGES = {"/livez", "/readyz", "/openapi.json", "/docs", "/docs/start.js"}


class Row(Schema):
    x: pl.Int64


def endpoint_of(pattern: str) -> svc.Endpoint[..., pl.Series]:
    """Returns an endpoint that answers with its pattern and the values of its parameters."""
    names = re.findall(r"\{(\w+)\}", pattern)
    parameters = create_model("Parameters", **dict.fromkeys(names, (str, ...)))  # type: ignore[call-overload]

    def predict(records_df, values):
        return pl.Series([pattern + "".join(f"|{value}" for value in values.model_dump().values())] * len(records_df))

    def predict_plainly(records_df):
        return pl.Series([pattern] * len(records_df))

    handler = predict if names else predict_plainly
    handler.__annotations__ = {"records_df": Row.DataFrame, "values": parameters} if names else {"records_df": Row.DataFrame}
    handler.__name__ = "e" + re.sub(r"\W", "_", pattern)
    return svc.endpoint(path=pattern)(handler)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(*(endpoint_of(pattern) for pattern in PATTERNS)) as client:
        client.post("/a", json=[{"x": 1}])  # the segment that all tests share comes with the first batch
        yield client


def expected(target: str) -> tuple[int, str]:
    """Returns the status of a POST to a request target, and the answer; worked out segment by segment."""
    path = re.sub(r"^http://[^/]*", "", target).partition("?")[0]
    assert path.startswith("/")
    raw = path[1:].split("/")
    if raw[-1] == "":
        raw.pop()
    segments = [re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), each.encode()) for each in raw]
    if "/".join(["", *(each.decode("latin-1") for each in segments)]) in PAGES and not any(b"/" in each for each in segments):
        return 404 if path.endswith("/") else 405, ""
    ranked = sorted(PATTERNS, key=lambda pattern: [part.startswith("{") for part in pattern.split("/")[1:]])
    for pattern in ranked:
        parts = pattern.split("/")[1:]
        if len(parts) == len(segments) and all(
            part.startswith("{") or part.encode() == its for part, its in zip(parts, segments, strict=True)
        ):
            values = [its for part, its in zip(parts, segments, strict=True) if part.startswith("{")]
            return (200, "|".join([pattern, *(value.decode() for value in values)])) if all(map(is_admissible, values)) else (422, "")
    return 404, ""


def is_admissible(value: bytes) -> bool:
    """Returns whether a parameter may have this value: text that is no way to another folder."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return False
    return text not in {"", ".", ".."} and not re.search(r"[/\\\x00-\x1f\x7f]", text)


HAND_MADE = {
    "/m01": (200, "/m01"),
    "/%6d01": (200, "/m01"),
    "/%6D%30%31": (200, "/m01"),
    "/m01/": (200, "/m01"),
    "/m01//": (404, ""),
    "//m01": (404, ""),
    "/M01": (200, "/{any}|M01"),
    "/m01;v=1": (200, "/{any}|m01;v=1"),
    "/m01%3Fx": (200, "/{any}|m01?x"),
    "/m01?x=%2F": (200, "/m01"),
    "http://other/m01": (200, "/m01"),
    "http://other/%6d01?x": (200, "/m01"),
    "/m01%00": (422, ""),
    "/%C3%BCber": (200, "/{any}|über"),
    "/%C0%AE": (422, ""),
    "/%256d01": (200, "/{any}|%6d01"),
    "/m%zz": (200, "/{any}|m%zz"),
    "/p%28q%29": (200, "/p(q)"),
    "/a%2Fb": (422, ""),
    "/a/%2E%2E": (422, ""),
    "/a/../m01": (422, ""),
    "/%2e/b": (422, ""),
    "/a/%2Ewell-known": (200, "/a/.well-known"),
    "/a/b": (200, "/a/b"),
    "/c/b": (200, "/{y}/b|c"),
    "/a/c/d": (200, "/a/{x}/{z}|c|d"),
    "/c/b/d": (200, "/{x}/b/{z}|c|d"),
    "/": (404, ""),
    "//": (422, ""),
    "/%6civez": (405, ""),
    "/livez/": (404, ""),
    "/docs%2Fstart.js": (422, ""),
    "/docs/%73tart.js": (405, ""),
}


def test_a_path_has_one_meaning_however_it_is_written_and_whoever_reads_it(client: TestClient) -> None:
    """Plain predictions and requests for the application go to the same endpoint, also when the path was routed before."""
    assert {target: expected(target) for target in HAND_MADE} == HAND_MADE
    targets = [*HAND_MADE, *random_targets(250)]
    with Raw(client.address) as plain, Raw(client.address) as other:
        for target in targets:
            right = expected(target)
            for raw, request in ((plain, post(target, [{"x": 1}])), (other, chunked(target, [{"x": 1}]))):
                raw.send(request)
                answer = raw.answer()
                found = answer.json()["predictions"][0] if answer.status == 200 else ""
                assert (answer.status, found) == right, (target, answer)


def random_targets(count: int) -> Iterator[str]:
    """Yields request targets in which pieces of the patterns are written in all manners. Each run has the same ones."""
    draw = random.Random(12)
    pieces = ["a", "b", "m01", "p(q)", "c", ".well-known", "livez", "docs", "", ".", "..", "é", "a/b", "%", "\\", "\0", ";", "{x}", "A"]
    manners: list[Callable[[str], str]] = [
        lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
        lambda text: "".join(f"%{byte:02x}" if draw.random() < 0.5 else escaped(byte) for byte in text.encode()),
        lambda text: "".join(escaped(byte) for byte in text.encode()),
        lambda text: "".join(f"%25{byte:02x}" for byte in text.encode()),
    ]
    for _ in range(count):
        segments = [draw.choice(manners)(draw.choice(pieces)) for _ in range(draw.randint(1, 3))]
        path = "/" + "/".join(segments) + draw.choice(["", "", "", "/", "//"])
        yield draw.choice(["", "", "", "http://test", "http://other:1"]) + path + draw.choice(["", "", "", "?", "?a=/b"])


def escaped(byte: int) -> str:
    """Returns a byte as a client must send it at least."""
    character = chr(byte)
    return character if character.isascii() and (character.isalnum() or character in "-._~!$&'()*+,;=:@") else f"%{byte:02X}"


def test_a_page_is_found_by_its_canonical_path_alone(client: TestClient) -> None:
    """No spelling of its path reaches an endpoint whose path is a single parameter."""
    with Raw(client.address) as raw:
        for target, status in (("/livez", 200), ("/%6Civez", 200), ("/livez/", 404), ("/readyz?x", 200), ("/docs%2Fstart.js", 422)):
            raw.send(get(target))
            assert raw.answer().status == status, target
