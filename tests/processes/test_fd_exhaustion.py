"""A front door without free descriptors: clients wait or are refused, others are served, it does not spin, and it recovers by itself."""

from __future__ import annotations

import os
import resource
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from base.ipc.front_door_control import Configure, TlsFiles
from certificates import Authority
from front_harness import Front, Workers
from rawhttp import Raw, post
from waiting import until

FEW = 64
BURST = 200
CANNOT = "cannot accept connections; new ones stay in the backlog: Too many open files"
TICKS_A_S = os.sysconf("SC_CLK_TCK")


@contextmanager
def limited(make: Workers) -> Iterator[Front]:
    """Yields a front door with few descriptors, and a worker."""
    with Front() as front:
        resource.prlimit(front.process.pid, resource.RLIMIT_NOFILE, (FEW, FEW))  # it looks when it has a table
        front.table(make("1.0").route("it"))
        yield front


@pytest.fixture
def front(make: Workers) -> Iterator[Front]:
    """Like `limited`."""
    with limited(make) as front:
        yield front


def ask(raw: Raw) -> int:
    raw.send(post("/tiny", [{"x": 1}]))
    return raw.answer().status


def cpu_s(pid: int) -> float:
    """Returns the CPU time of the process in user and kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_S


def assert_sleeps(front: Front) -> None:
    """Asserts that it uses almost no CPU for a while, unlike a process that spins."""
    before = cpu_s(front.process.pid)
    time.sleep(1)
    assert cpu_s(front.process.pid) - before < 0.5


def test_connections_beyond_the_descriptor_limit_are_refused_with_a_reason(front: Front) -> None:
    """Some descriptors are reserved for workers and segments.

    Open connections continue, and new ones are accepted when some of them end.
    """
    with ExitStack() as stack:
        kept: list[Raw] = []
        while len(kept) < FEW:
            raw = stack.enter_context(Raw(front.address))
            raw.send(post("/tiny", [{"x": 1}]))
            answer = raw.answer()
            if answer.status != 200:
                break
            kept.append(raw)
        assert (answer.status, answer.json()["code"], answer.headers["retry-after"]) == (503, "full", "1")
        assert len(kept) > FEW // 4
        assert len(list(Path(f"/proc/{front.process.pid}/fd").iterdir())) <= FEW * 3 // 4 + 1
        assert_sleeps(front)
        assert [ask(raw) for raw in kept] == [200] * len(kept)
        for raw in kept[::2]:
            raw.socket.close()
        until(lambda: front.ask([{"x": 1}]).status == 200, "there is no room again")


def test_a_burst_that_takes_all_descriptors_breaks_nothing(front: Front) -> None:
    """Clients beyond the limit are refused, with or without a reason; open connections and later ones are served."""
    with Raw(front.address) as before:
        assert ask(before) == 200
        with ExitStack() as stack:
            burst = [stack.enter_context(socket.socket()) for _ in range(BURST)]
            for each in burst:
                each.setblocking(False)
                each.connect_ex(("127.0.0.1", int(front.address.rpartition(":")[2])))
            assert ask(before) == 200
            until(lambda: sum(bool(select.select([each], [], [], 0)[0]) for each in burst) > BURST - FEW, "they are not turned away")
            assert_sleeps(front)
            assert ask(before) == 200
        until(lambda: front.ask([{"x": 1}]).status == 200, "nobody is served any more")


def test_connections_wait_while_there_is_no_descriptor_at_all(make: Workers, capfd: pytest.CaptureFixture[str]) -> None:
    """Not even a descriptor for refusing them is left. They are served once there are some."""
    said = ""

    def has_said() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return CANNOT in said

    with limited(make) as front:  # not the fixture, whose words are lost to `capfd`
        with Raw(front.address) as before:
            assert ask(before) == 200
            limits = resource.prlimit(front.process.pid, resource.RLIMIT_NOFILE, (3, FEW))
            with Raw(front.address) as waiting:
                waiting.send(post("/tiny", [{"x": 1}]))
                until(has_said, "it does not say so")
                assert_sleeps(front)
                assert ask(before) == 200
                resource.prlimit(front.process.pid, resource.RLIMIT_NOFILE, limits)
                assert waiting.answer().status == 200
        assert front.ask([{"x": 1}]).status == 200
    has_said()
    assert said.count(CANNOT) == 1


def test_clients_that_never_start_tls_leave_the_reserved_descriptors(make: Workers, tmp_path: Path) -> None:
    """They are unknown before their handshake, and there are more of them than descriptors."""
    authority = Authority(tmp_path)
    tls = authority.client()
    with Front(Configure(tls=TlsFiles(*map(str, authority.issue("door"))))) as front:
        resource.prlimit(front.process.pid, resource.RLIMIT_NOFILE, (FEW, FEW))
        front.table(make("1.0").route("it"))
        with Raw(front.address, tls) as before, ExitStack() as stack:
            assert ask(before) == 200
            silent = [stack.enter_context(Raw(front.address)) for _ in range(BURST)]
            until(
                lambda: sum(bool(select.select([each.socket], [], [], 0)[0]) for each in silent) > BURST - FEW, "they are not turned away"
            )
            assert len(list(Path(f"/proc/{front.process.pid}/fd").iterdir())) <= FEW * 3 // 4 + 1
            assert ask(before) == 200
