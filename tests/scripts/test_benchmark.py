"""The benchmark's own claims: what it counts, how it compares, and that it leaves nothing behind."""

import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET

import pytest

from benchmark import forms, load, plots, processes, tables
from benchmark.load import Measured, Work
from benchmark.rounds import Results
from benchmark.servers import SERVERS, Server

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
SLOW_S, BOUND_S = 0.3, 0.2


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    path = tmp_path_factory.mktemp("generator") / "openloop"
    subprocess.run(["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", path, load.SOURCE, "-lm"], check=True)
    return path


def answered(generator, tmp_path, replies, rate=20, seconds=1, connections=4):
    """What the generator says of a server that gives each connection these replies in turn; None keeps it waiting."""
    (tmp_path / "request").write_bytes(b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads = [threading.Thread(target=_serve, args=(listener, replies)) for _ in range(connections)]
        for thread in threads:
            thread.start()
        words = [listener.getsockname()[1], rate, seconds, connections, tmp_path / "request", BOUND_S * 1e3]
        done = subprocess.run([generator, *map(str, words)], check=True, capture_output=True, text=True)
        for thread in threads:
            thread.join()
    return json.loads(done.stdout)


def _serve(listener, replies):
    with listener.accept()[0] as connection:
        number = 0
        while connection.recv(65536):
            reply = replies[number % len(replies)]
            number += 1
            if isinstance(reply, float):
                time.sleep(reply)
                reply = OK
            if reply is not None:
                connection.sendall(reply)


def test_an_open_loop_counts_answers_of_either_framing(generator, tmp_path):
    """Replies with a length and replies in chunks are whole when their last byte is there, and none of them failed."""
    found = answered(generator, tmp_path, [OK, CHUNKED])
    assert (found["requests"], found["failed"]) == (20, 0)


def test_an_open_loop_counts_other_statuses_as_failed(generator, tmp_path):
    """A refusal is an answer, but no success."""
    found = answered(generator, tmp_path, [OK.replace(b"200", b"503")])
    assert (found["requests"], found["failed"]) == (20, 20)


def test_an_open_loop_charges_a_stall_to_all_who_were_due(generator, tmp_path):
    """One connection, each answer slower than the gap between requests: those behind wait, from when they were due."""
    found = answered(generator, tmp_path, [SLOW_S], rate=8, connections=1)
    assert found["p99_ms"] > 2 * SLOW_S * 1e3


def test_an_open_loop_counts_what_is_never_answered(generator, tmp_path):
    """A connection that gets no reply holds its request until the end, and it has failed."""
    found = answered(generator, tmp_path, [None], rate=4)
    assert (found["requests"], found["failed"]) == (0, 4)


def test_an_open_loop_tells_what_was_accepted_in_time_from_what_was_refused(generator, tmp_path):
    """On one connection: of three answers one is in time, one is late, and one is a refusal that says when to come again."""
    refusal = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
    found = answered(generator, tmp_path, [OK, refusal, SLOW_S], rate=1.5, seconds=2, connections=1)
    assert (found["good"], found["accepted"], found["refused"], found["told"]) == (1, 2, 1, 1)
    assert found["accepted_p99_ms"] >= SLOW_S * 1e3


def comparison(**medians):
    """Two rounds of one work for each server."""
    work = Work("work", 1, 64)
    servers = [
        Server("Pexdock", "pexdock", ""),
        Server("one", "one", ""),
        Server("two", "two", ""),
        Server("bare", "bare", "", answers=False),
    ]
    results = Results()
    for name, rates in medians.items():
        server = {"ours": "Pexdock"}.get(name, name)
        results.measured[server, "work"] = [Measured(rate, 1, 2, 3, 0, 50, 0) for rate in rates]
    return tables.Comparison(servers, [work], results), work


def test_ratios_are_to_the_best_that_answers_rightly():
    """A server that answers with a constant is shown, and is nobody's measure."""
    found, work = comparison(ours=[300, 300], one=[100, 100], two=[200, 200], bare=[900, 900])
    assert found.best_peer(work, tables.RATE) == ("two", 200)
    assert found.ratio(work, tables.RATE) == 1.5


def test_a_peer_that_fails_requests_is_no_best_peer():
    """Refusals are quick."""
    found, work = comparison(ours=[300], one=[100], two=[200])
    found.results.measured["two", "work"][0] = Measured(200, 1, 2, 3, 1, 50, 0)
    assert found.best_peer(work, tables.RATE) == ("one", 100)


def test_what_is_lost_is_listed():
    """Fewer requests is a loss; an equal time is none."""
    found, work = comparison(ours=[100], one=[200])
    assert [(metric.title, ratio) for _, metric, ratio in found.lost()] == [("requests/s", 0.5)]
    assert "| Pexdock |" in "\n".join(tables.of_work(found, work))


@pytest.mark.parametrize("form", dict.fromkeys(server.form for server in SERVERS), ids=lambda form: form.body(forms.rows(1))[:9].decode())
def test_all_forms_carry_the_same_numbers(form):
    """What differs between servers is how rows are written."""
    numbers = [value for row in forms.rows(2) for value in row.values()]
    text = form.body(forms.rows(2)).decode()
    assert [text.index(f"{value}") for value in numbers] == sorted(text.index(f"{value}") for value in numbers)


def test_a_plot_is_xml_with_a_bar_for_each():
    """The longest first, labels escaped."""
    bars = [plots.Bar("a<b", 1, 1, 1), plots.Bar("Pexdock", 3, 2, 4, ours=True)]
    found = ET.fromstring(plots.draw([plots.Panel("rates", "requests/s", bars)]))
    texts = [text.text for text in found.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["rates (requests/s)", "Pexdock", "3.00", "a<b", "1.00"]


@pytest.fixture(name="adopting")
def _adopting():
    """Orphans come to this process, as they come to the benchmark, for as long as the test takes."""
    processes.adopt()
    yield
    ctypes.CDLL(None).prctl(processes.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.mark.usefixtures("adopting")
def test_what_a_server_starts_ends_with_it(tmp_path):
    """A child in a session of its own that ignores SIGTERM is found and ended, though its parent was killed before."""
    script = "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$ > child; while :; do sleep 60; done' & wait"
    with processes.started(["sh", "-c", script], tmp_path, dict(os.environ)) as process:
        while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():
            assert process.poll() is None
            time.sleep(0.01)
        child = int((tmp_path / "child").read_text())
        assert child in processes.descendants(process.pid)
        process.kill()
    assert not processes.alive(child)


def test_cpu_is_counted_with_children(tmp_path):
    """A busy loop in a child that has been waited for counts for its parent."""
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'for _ in range(3_000_000): pass']); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        assert processes.cpu_s([process.pid]) > 0.05
        process.communicate("\n")
