"""The change from one routing table to the next, with workers that are bare sockets."""

import asyncio
import socket
import time
from pathlib import Path

import httpx
import pytest

from base.ipc.front_door_control import Configure, Listening, Route, RoutesDrained, RoutingTable, TableApplied
from base.ipc.release_spec import EndpointSpec, ReleaseSpec
from front_process import DEADLINE_S, FrontDoor
from runtime.front.requests.deadlines import Deadlines
from runtime.front.scheduling.batch_queue import QueueLimits
from runtime.front.scheduling.dispatchers import Dispatchers


def words(version, path="/a"):
    return ReleaseSpec("tiny", version, [EndpointSpec("predict", path, [], None, None, 1, 1)])


@pytest.fixture
def silent(tmp_path):
    """Returns the path of a worker that accepts connections and never answers."""
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as worker:
        worker.bind(str(path))
        worker.listen()
        yield str(path)
    path.unlink()


@pytest.fixture
def door(request):
    """A front door that is configured and has no table yet."""
    with FrontDoor(getattr(request, "param", None)) as door:
        yield door


def test_connections_wait_until_the_first_table_is_in_force(door):
    """A restarted front door must not answer 404 for an endpoint that it does not know yet."""
    with socket.create_connection(door.address.removeprefix("http://").split(":"), timeout=1.5) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(DEADLINE_S)
        door.send_message(RoutingTable(4, [], startup_complete=True))
        assert client.recv(12) == b"HTTP/1.1 200"
    assert [door.next_message() for _ in range(3)] == [Listening(), TableApplied(4), RoutesDrained(4)]


@pytest.mark.parametrize("door", [Configure(request_timeout_s=1.0)], indirect=True)
def test_a_silent_worker_delays_neither_its_table_nor_the_next(door, silent):
    """It may be in the middle of a prediction of minutes. Requests wait for it, as they would in its queue."""
    before = time.monotonic()
    door.send_message(RoutingTable(1, [Route(words("1"), [silent])], startup_complete=True))
    assert [door.next_message() for _ in range(3)] == [Listening(), TableApplied(1), RoutesDrained(1)]
    assert time.monotonic() - before < DEADLINE_S / 2
    assert httpx.post(door.address + "/a", json=[{"x": 1}], timeout=20).status_code == 504
    door.send_message(RoutingTable(2, [], startup_complete=True))
    assert [door.next_message(), door.next_message()] == [TableApplied(2), RoutesDrained(2)]
    assert httpx.post(door.address + "/a", json=[{"x": 1}], timeout=DEADLINE_S).status_code == 404


def test_a_table_stays_in_force_until_the_workers_of_the_next_have_answered(silent):
    """Otherwise requests in between would find a release whose worker is not up yet."""

    async def scenario():
        dispatch = Dispatchers(QueueLimits(10, 2**20), 2**24, Deadlines(1.0))
        old, new = [Route(words("1"), [])], [Route(words("2"), [silent])]
        dispatch.apply(old)
        (link,) = dispatch.prepare(new)
        assert [release.spec.version for release in dispatch.releases] == ["1"]
        assert dispatch.apply(new) == []
        assert [release.spec.version for release in dispatch.releases] == ["2"]
        assert not link.up
        dispatch.apply([])
        await asyncio.sleep(0)

    asyncio.run(scenario())


@pytest.mark.parametrize("door", [Configure(), Configure(loop_turn_warn_ms=100.0)], indirect=True, ids=["plain", "watched"])
def test_an_idle_front_door_sleeps(door):
    """None of its threads wakes up to poll: a second passes without a context switch."""
    door.send_message(RoutingTable(1, [], startup_complete=True))
    assert [door.next_message() for _ in range(3)] == [
        Listening(),
        TableApplied(1),
        RoutesDrained(1),
    ]  # imports may take longer than a client waits
    assert httpx.get(door.address + "/livez", timeout=DEADLINE_S).status_code == 200  # its connection is gone by then
    until = time.monotonic() + DEADLINE_S
    before = switches(door.process.pid)
    while True:
        time.sleep(1.0)
        after = switches(door.process.pid)
        if after == before:
            break
        assert time.monotonic() < until, f"{after - before} switches in the last second"
        before = after


def switches(pid):
    """Returns how often threads of a process went to sleep."""
    statuses = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    return sum(int(line.split()[1]) for status in statuses for line in status.splitlines() if line.startswith("voluntary_ctxt_switches"))
