"""What an ASGI scope says of a request."""

from __future__ import annotations

import pytest

from base.errors import Malformed
from base.ipc.release_spec import EndpointSpec
from runtime.front.app.asgi import request_context

SPEC = EndpointSpec("alone", "/alone", [], None, None, 64, 1, unbatched=True, headers=["x-user"])


def test_a_handler_gets_the_query_and_only_the_headers_that_its_author_named() -> None:
    """Whatever else a client sends."""
    headers = {b"x-user": b"me", b"authorization": b"Bearer key"}
    found = request_context(SPEC, {"query_string": b"a=1&a=2&b=&c=%C3%A4"}, headers, "", "id")
    assert found.headers == {"x-user": "me"}
    assert found.query == {"a": ["1", "2"], "b": [""], "c": ["ä"]}
    assert found.id == "id"


@pytest.mark.parametrize(
    ("query", "reason"),
    [(b"a=%FF", "is not UTF-8"), (b"\xff", "is not UTF-8"), (b"&".join([b"a=1"] * 1001), "more than 1000 fields")],
    ids=["not UTF-8", "not ASCII", "too many fields"],
)
def test_a_query_that_cannot_be_read_is_the_clients_fault(query: bytes, reason: str) -> None:
    """It is never cut or guessed at."""
    with pytest.raises(Malformed, match=reason):
        request_context(SPEC, {"query_string": query}, {}, "", "id")
