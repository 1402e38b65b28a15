"""Shutdown of a real supervisor under load: it reports not ready first, and every accepted request is answered."""

import contextlib
import os
import signal
import socket
import threading
import time
from collections import Counter

import pytest

from load_clients import LoadClients
from privileges import unprivileged
from rawhttp import Raw, get, post
from supervisor_harness import Supervised
from tinypex import held, write_tiny


@pytest.fixture
def supervised(tmp_path):
    supervised = Supervised(tmp_path)
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    return supervised


def readiness(address):
    with Raw(address) as raw:
        raw.send(get("/readyz"))
        return raw.answer().status


def asked(raw):
    raw.send(post("/tiny", [{"x": 2}]))
    answer = raw.answer()
    assert answer.json()["predictions"] == [4]
    return answer


@pytest.mark.parametrize(("kept", "doors"), [(True, 1), (False, 1), (True, 2), (False, 2)])
def test_sigterm_under_load_resets_no_connection_and_answers_every_accepted_request(supervised, tmp_path, kept, doors):
    """16 clients send requests without a pause: each gets its own rows until its connection is refused before it sent anything.

    This needs none of the capabilities of root, which the container image does not have. With two front doors each process gets the signal,
    as service managers send it, and the supervisor gets it last, and more than once at that moment.
    """
    supervised.settings["front_doors"] = doors
    supervised.prefix = unprivileged(tmp_path)
    with supervised, LoadClients(supervised.state()["address"], "/tiny", kept=kept) as callers:
        supervised.until(lambda: callers.statuses[200] > 500)
        before = Counter(callers.statuses)  # at a slow start one front door of two may have been without its worker
        pids = [supervised.process.pid] if doors == 1 else [*reversed(supervised.children()), *[supervised.process.pid] * 2]
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        callers.wait()
        assert supervised.process.wait(20) == 0
    assert callers.faults == []
    assert set(callers.statuses - before) == {200}
    assert callers.refused == 16
    assert "killed" not in supervised.err.read_text()


def test_a_shutdown_during_the_start_announces_nothing(supervised, tmp_path):
    """Not even if the last model becomes ready in the delay before the front doors stop."""
    supervised.settings |= {"pre_stop_delay_s": 60, "drain_s": 120}
    write_tiny(supervised.dist / "held.pex", "held", module=held(tmp_path, "held"))
    supervised.start()
    try:
        supervised.until((tmp_path / "held").exists)
        supervised.until(lambda: "tiny 0.1.0: ready at /tiny" in supervised.err.read_text() and supervised.state()["front_door_pids"])
        supervised.process.send_signal(signal.SIGTERM)
        supervised.until(lambda: "SIGTERM: shutting down" in supervised.err.read_text())
        (tmp_path / "go-held").touch()
        supervised.until(supervised.has_started)
        assert supervised.release("held.pex")["state"] == "ready"
        time.sleep(1.1)  # until then, another signal belongs to the first one
        supervised.process.send_signal(signal.SIGTERM)
        assert supervised.process.wait(30) == 0
    finally:
        supervised.__exit__()
    assert supervised.out.read_text() == ""


def test_only_the_supervisor_stops_a_worker_or_a_front_door(supervised, tmp_path):
    """Signals to one of them neither stop it nor delay its clients, not even while a worker starts."""
    supervised.settings["front_doors"] = 2
    with supervised, contextlib.ExitStack() as stack:
        write_tiny(supervised.dist / "held.pex", "held", module=held(tmp_path, "held"))
        supervised.until((tmp_path / "held").exists)
        children, address = supervised.children(), supervised.state()["address"]
        assert len(children) == 4
        load = [stack.enter_context(LoadClients(address, "/tiny", 4, kept=kept)) for kept in (True, False)]
        supervised.until(lambda: all(each.statuses[200] > 100 for each in load))
        before = [Counter(each.statuses) for each in load]
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            for pid in children:
                os.kill(pid, number)
            answered = [each.statuses[200] for each in load]
            supervised.until(lambda: all(each.statuses[200] > count + 100 for each, count in zip(load, answered, strict=True)))  # noqa: B023
        (tmp_path / "go-held").touch()
        supervised.until_state("held.pex", "ready")
        assert supervised.children() == children
    assert [each.faults for each in load] == [[], []]
    assert [set(each.statuses - old) for each, old in zip(load, before, strict=True)] == [{200}, {200}]


def test_readiness_is_false_first_and_requests_within_the_pre_stop_delay_are_answered(supervised):
    """This includes new connections. Then they are refused, and everything ends within drain_s."""
    supervised.settings |= {"pre_stop_delay_s": 5, "drain_s": 40}
    with supervised, LoadClients(supervised.state()["address"], "/tiny") as callers:
        address = supervised.state()["address"]
        assert readiness(address) == 200
        began = time.monotonic()
        supervised.process.send_signal(signal.SIGTERM)
        supervised.until(lambda: readiness(address) == 503)
        answered = callers.statuses[200]
        with Raw(address) as late:
            late.send(post("/tiny", [{"x": 4}]))
            assert late.answer().json()["predictions"] == [8]
        supervised.until(lambda: callers.statuses[200] > answered + 100)
        assert callers.refused == 0
        callers.wait()
        assert supervised.process.wait(40) == 0
        assert 5 <= time.monotonic() - began < 40
    assert callers.faults == []
    assert set(callers.statuses) == {200}


def test_an_idle_connection_may_send_one_more_request_and_learns_that_it_is_the_last(supervised):
    """Its client cannot know of the shutdown before; closing at once would reset a request in flight."""
    with supervised, Raw(supervised.state()["address"]) as raw, Raw(supervised.state()["address"]) as other:
        assert "connection" not in asked(raw).headers
        assert "connection" not in asked(other).headers
        supervised.process.send_signal(signal.SIGTERM)
        supervised.until(lambda: asked(raw).headers.get("connection") == "close")
        assert raw.ended()
        assert other.ended()
        assert supervised.process.wait(20) == 0


def test_a_client_that_sends_without_waiting_gets_its_responses_and_no_reset(supervised):
    """It cannot know which of its requests is the last, so it is still sending when the connection ends."""

    def send_on():
        with contextlib.suppress(OSError):
            while True:
                raw.send(post("/tiny", [{"x": 2}]) * 10)

    with supervised, Raw(supervised.state()["address"]) as raw:
        sending = threading.Thread(target=send_on)
        sending.start()
        assert raw.answer().status == 200
        supervised.process.send_signal(signal.SIGTERM)
        answers = raw.answers()
        raw.socket.shutdown(socket.SHUT_RDWR)
        sending.join()
        assert supervised.process.wait(20) == 0
    assert all(answer.json()["predictions"] == [4] for answer in answers)
    assert [at for at, answer in enumerate(answers, 1) if "connection" in answer.headers] == [len(answers)]


def test_clients_that_wait_for_a_crashed_front_door_are_answered_before_the_end(supervised):
    """They connected to its socket, which outlives it, and its restart was far away when the shutdown began."""
    supervised.settings |= {"restart_delay_min_s": 60, "restart_delay_max_s": 60, "drain_s": 50}
    with supervised, contextlib.ExitStack() as stack:
        address, (door,) = supervised.state()["address"], supervised.state()["front_door_pids"]
        os.kill(door, signal.SIGKILL)
        supervised.until(lambda: "restarting in 60.0 s" in supervised.err.read_text())
        waiting = [stack.enter_context(Raw(address)) for _ in range(8)]
        for raw in waiting:
            raw.send(post("/tiny", [{"x": 3}]))
        supervised.process.send_signal(signal.SIGTERM)
        assert [raw.answer().json()["predictions"] for raw in waiting] == [[6]] * 8
        assert supervised.process.wait(30) == 0


def test_sigint_skips_the_pre_stop_delay(supervised):
    """SIGINT comes from a keyboard, and no load balancer routes to that."""
    supervised.settings |= {"pre_stop_delay_s": 60, "drain_s": 120}
    with supervised:
        supervised.process.send_signal(signal.SIGINT)
        assert supervised.process.wait(20) == 0


def test_a_second_signal_ends_the_pre_stop_delay(supervised):
    """Whoever sends two signals is in a hurry."""
    supervised.settings |= {"pre_stop_delay_s": 60, "drain_s": 120}
    with supervised:
        address = supervised.state()["address"]
        supervised.process.send_signal(signal.SIGTERM)
        supervised.until(lambda: readiness(address) == 503)
        time.sleep(1.1)  # until then, another signal belongs to the first one
        supervised.process.send_signal(signal.SIGTERM)
        assert supervised.process.wait(20) == 0


def test_a_pre_stop_delay_longer_than_the_shutdown_is_refused(supervised):
    """It would be cut off silently."""
    supervised.settings |= {"pre_stop_delay_s": 9}
    supervised.start()
    assert supervised.process.wait(30) == 2
    assert (
        "pre_stop_delay_s is 9, but must not exceed drain_s, 8, which includes it: lower it or raise drain_s" in supervised.err.read_text()
    )
