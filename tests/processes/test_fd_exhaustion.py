"""A front door without descriptors: who comes waits or is turned away, others are served, it does not spin, and it recovers by itself."""

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
    """A front door with few descriptors, and a worker."""
    with Front() as front:
        resource.prlimit(front.process.pid, resource.RLIMIT_NOFILE, (FEW, FEW))  # it looks when it has a table
        front.table(make("1.0").route("it"))
        yield front


@pytest.fixture
def front(make: Workers) -> Iterator[Front]:
    """As `limited`."""
    with limited(make) as front:
        yield front


def ask(raw: Raw) -> int:
    raw.send(post("/tiny", [{"x": 1}]))
    return raw.answer().status


def cpu_s(pid: int) -> float:
    """What the process has computed so far, on its own behalf and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_S


def assert_sleeps(front: Front) -> None:
    """It computes next to nothing for a while; one that spins would compute all the time."""
    before = cpu_s(front.process.pid)
    time.sleep(1)
    assert cpu_s(front.process.pid) - before < 0.5


def test_connections_for_which_descriptors_run_short_are_turned_away_with_a_reason(front: Front) -> None:
    """Some are kept for workers and segments. Those that are connected go on, and there is room again when some of them go."""
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


def test_a_burst_that_takes_all_descriptors_at_once_ends_nothing(front: Front) -> None:
    """Who gets none is turned away, with or without a reason; those that were connected are served, and so is all that comes later."""
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
    """Not even one that could be given up to hang up on them. They are served once there are some."""
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


def test_clients_who_connect_and_speak_no_tls_leave_what_is_kept(make: Workers, tmp_path: Path) -> None:
    """Nobody knows them before they have; they are as many as there are descriptors, and more."""
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
