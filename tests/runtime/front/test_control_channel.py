"""Long routing tables, as a front door reads them."""

from __future__ import annotations

import msgspec
import pytest

from base.errors import PeerError
from base.ipc.control import ControlStream, encode_message
from base.ipc.front_door_control import FailureLimit, MirrorSpec, Route, RoutingTable, SplitSpec
from base.ipc.release_spec import EndpointDocs, EndpointSpec, Example, ReleaseSpec
from runtime.front.control_channel import TableReader


def table(generation: int, columns: int, changed: str = "") -> RoutingTable:
    def release(model: str) -> ReleaseSpec:
        docs = {f"column {number}": {"description": model + (changed if model == "b" else "")} for number in range(columns)}
        spec = EndpointSpec("e", f"/{model}", [], b"\0\xff", None, 64, 1, Example({}, [{"x": 1}]), docs=EndpointDocs("t", {}, docs, docs))
        return ReleaseSpec(model, "1", [spec])

    routes = [Route(release("a"), ["/s"], "id a"), Route(release("b"), [], "id b", failure_limit=FailureLimit(20, 50.0))]
    return RoutingTable(generation, routes, startup_complete=True, splits={"a": SplitSpec({"id a": 2}, mirror=MirrorSpec("id b", 3.0))})


@pytest.mark.parametrize("columns", [1, 2000])
def test_a_table_is_read_as_it_was_sent(columns: int) -> None:
    """Short and long ones."""
    sent = table(1, columns)
    (found,) = ControlStream(TableReader().decode).feed_bytes(encode_message(sent))
    assert found == sent
    assert type(found) is RoutingTable
    assert {type(route) for route in found.routes} == {Route}


def test_a_release_that_has_not_changed_is_not_decoded_again() -> None:
    """It is the same object, so that it is compared in no time. A release that has changed under its id is another one."""
    stream = ControlStream(TableReader().decode)
    first, second, third = (stream.feed_bytes(encode_message(table(*each)))[0] for each in [(1, 2000), (2, 2000, "!"), (3, 2000, "!")])
    assert isinstance(first, RoutingTable)
    assert isinstance(second, RoutingTable)
    assert isinstance(third, RoutingTable)
    assert second == table(2, 2000, "!")
    assert second.routes[0].release is first.routes[0].release
    assert second.routes[1].release is not first.routes[1].release
    assert third.routes[1].release is second.routes[1].release


def test_an_invalid_release_in_a_long_table_is_an_error_of_the_peer() -> None:
    line = msgspec.json.encode(table(1, 2000)).replace(b'"version":"1"', b'"version":1', 1) + b"\n"
    with pytest.raises(PeerError):
        ControlStream(TableReader().decode).feed_bytes(line)
