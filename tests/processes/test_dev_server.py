"""A server in the author's own process: started, stopped and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

import base.artifacts as afs
import base.service as svc
from base.errors import Declaration, NotFound, Unavailable
from base.schema import Schema
from base.testing import TestClient
from load_clients import LoadClients
from privileges import unprivileged

ROOT = Path(__file__).parent.parent.parent
WITHIN_S = 60

PROGRAM = """
import asyncio
import polars as pl
import base.service as svc

@svc.endpoint(path="/double")
def handle(records_df: pl.DataFrame) -> pl.DataFrame:
    return records_df["a"].to_numpy() * 2

async def main():
    server = svc.Server(port=0)
    server.register(endpoint=handle)
    await server.serve()

asyncio.run(main())
"""


@svc.endpoint("/double")
def double(records_df: pl.DataFrame) -> pl.Series:
    return records_df["a"] * 2


def ask(address: str | None) -> bytes:
    assert address is not None
    with urllib.request.urlopen(f"{address}/double", b'[{"a": 1.5}]') as answer:
        return answer.read()


async def serving(server: svc.Server) -> asyncio.Task[None]:
    """Returns a task that serves, once it does."""
    task = asyncio.create_task(server.serve())
    while server.address is None:
        assert not task.done()
        await asyncio.sleep(0.01)
    return task


def test_a_server_can_be_started_again_after_it_stopped() -> None:
    """It works on one loop as often as wanted; `stop` returns when everything has ended."""

    async def main() -> None:
        server = svc.Server(port=0).register(endpoint=double)
        for _ in range(2):
            task = await serving(server)
            assert b"[3.0]" in await asyncio.to_thread(ask, server.address)
            await server.stop()
            assert server.address is None
            await task

    asyncio.run(main())


def test_a_server_serves_once_at_a_time() -> None:
    """A second call while it serves is refused, and the first goes on."""

    async def main() -> None:
        server = svc.Server(port=0).register(endpoint=double)
        task = await serving(server)
        with pytest.raises(RuntimeError, match="serves already"):
            await server.serve()
        assert b"[3.0]" in await asyncio.to_thread(ask, server.address)
        await server.stop()
        await task

    asyncio.run(main())


def test_a_stop_during_the_start_is_honoured() -> None:
    """A stop while nothing serves does nothing."""

    async def main() -> None:
        server = svc.Server(port=0).register(endpoint=double)
        await server.stop()
        task = asyncio.create_task(server.serve())
        await asyncio.sleep(0)
        await server.stop()
        await task

    asyncio.run(main())


def test_cancelling_serve_stops_the_server() -> None:
    """A timeout or a task group can end it this way."""

    async def main() -> None:
        server = svc.Server(port=0).register(endpoint=double)
        task = await serving(server)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert server.address is None

    asyncio.run(main())


def test_an_address_in_use_is_an_oserror() -> None:
    """The server may serve elsewhere or later."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = svc.Server(port=taken.getsockname()[1]).register(endpoint=double)
        with pytest.raises(OSError, match="in use"):
            asyncio.run(server.serve())
    with server.serving() as address:
        assert b"[3.0]" in ask(address)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_serving_program_ends_at_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    """It leaves neither a child process nor a folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    with process.stdout:
        first = process.stdout.readline()
        assert b"[3.0]" in ask(first.rpartition(" ")[2].strip())
        process.send_signal(number)
        assert process.wait(WITHIN_S) == (0 if number is signal.SIGTERM else -signal.SIGINT)
    assert list(tmp_path.iterdir()) == []


DOUBLING = """
import polars as pl
import base.service as svc

@svc.endpoint(path="/double")
def handle(records_df: pl.DataFrame) -> pl.Series:
    return records_df["x"] * 2

svc.Server(port=0).register(handle).run()
"""


@pytest.mark.parametrize("kept", [True, False])
def test_ctrl_c_under_load_resets_no_connection(tmp_path: Path, kept: bool) -> None:
    """A terminal sends it to all processes of the program. Each request is answered until clients are refused."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [*unprivileged(tmp_path), sys.executable, "-c", DOUBLING]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT, start_new_session=True)
    assert process.stdout is not None
    with process.stdout:
        address = process.stdout.readline().rpartition(" ")[2].strip()
        with LoadClients(address, "/double", kept=kept) as callers:
            while callers.statuses[200] < 500:
                time.sleep(0.01)
            os.killpg(process.pid, signal.SIGINT)
            callers.wait()
        assert process.wait(WITHIN_S) == 0
    assert callers.faults == []
    assert set(callers.statuses) == {200}
    assert callers.refused == 16


def test_the_caches_of_a_server_can_be_read_and_refreshed_from_its_own_process() -> None:
    """This works while it serves and from any thread, since handlers may run on another one."""
    texts = ["one"]

    @svc.endpoint("/cached/{name}", cache_config=afs.CacheConfig(load_model=lambda parameters: texts[-1]))
    def cached(model: str, records_df: pl.DataFrame) -> list[str]:
        return [model] * records_df.height

    def predicted(address: str) -> bytes:
        with urllib.request.urlopen(f"{address}/cached/a", b'[{"a": 1}]') as answer:
            return answer.read()

    server = svc.Server(port=0).register(double).register(cached)
    assert server.entries() == []
    with pytest.raises(Unavailable):
        server.refresh()
    with server.serving() as address:
        assert b'"one"' in predicted(address)
        (cache,) = server.entries()
        assert [(cache.endpoint, entry.parameters, entry.loads) for entry in cache.entries] == [("cached", {"name": "a"}, 1)]
        texts.append("two")
        with pytest.raises(NotFound):
            server.refresh("double")
        assert server.refresh("cached", {"name": "a"}) == 1
        deadline = time.monotonic() + WITHIN_S
        while server.entries()[0].entries[0].loads < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert b'"two"' in predicted(address)
    assert server.entries() == []


STOPPED = """
import polars as pl
import base.service as svc

@svc.endpoint(path="/double")
def handle(records_df: pl.DataFrame) -> pl.Series:
    breakpoint()
    return records_df["a"] * 2

svc.Server(port=0).register(handle).run()
"""


def test_a_breakpoint_in_a_handler_stops_in_the_authors_own_terminal() -> None:
    """The debugger shows the rows of the request. When it continues, the handler answers the waiting request."""
    command = [sys.executable, "-u", "-c", STOPPED]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, process.stdout.readline().split()[-1])
        process.stdin.write('p ("rows", records_df.rows())\nc\n')
        process.stdin.flush()
        assert any("('rows', [(1.5,)])" in line for line in process.stdout)
        assert b"[3.0]" in waiting.result()
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN_S) == 0


FORKING = """
import asyncio, multiprocessing, os, pathlib, signal, sys, time
import polars as pl
import base.service as svc

def stay(pipe):
    links = [str(each.readlink()) for each in pathlib.Path("/proc/self/fd").iterdir() if each.is_symlink()]
    pipe.send(sum(link.startswith("socket:") for link in links))
    time.sleep(600)

@svc.endpoint(path="/forks")
def handle(records_df: pl.DataFrame) -> list:
    reading, writing = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=stay, args=(writing,))
    process.start()
    sockets = reading.recv()
    process.terminate()
    process.join()
    return [f"{process.exitcode} {sockets}"]

server = svc.Server(port=0).register(handle)
START
"""
STARTS = {"run": "server.run()", "serve": "asyncio.run(server.serve())"}


@pytest.mark.parametrize("how", STARTS)
def test_a_child_that_a_handler_forks_is_ended_by_sigterm_and_the_server_is_not(tmp_path: Path, how: str) -> None:
    """The child has neither the server's handlers nor its sockets, except for those of the author's own event loop."""
    program = tmp_path / "program.py"
    program.write_text(FORKING.replace("START", STARTS[how]))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, env=environment, text=True) as child:
        try:
            assert child.stdout is not None
            address = child.stdout.readline().split()[-1]
            of_loop = 2 if how == "serve" else 0  # a socket pair by which other threads wake it
            for _ in range(5):
                with urllib.request.urlopen(f"{address}/forks", b'[{"a": 1}]', timeout=WITHIN_S) as answer:
                    assert f'"-15 {of_loop}"'.encode() in answer.read()
            child.send_signal(signal.SIGTERM)
            assert child.wait(WITHIN_S) == 0
        finally:
            child.kill()


class Measure(Schema):
    x: pl.Float64


def test_a_handler_that_would_mix_rows_of_clients_does_not_start(capfd: pytest.CaptureFixture[str]) -> None:
    """Neither in a server nor in a test, and on no thread is an error left over. The client of one that works on whole requests starts."""

    def deviation(records_df: Measure.DataFrame) -> pl.Series:
        return records_df["x"] - records_df["x"].mean()

    mixing, whole = svc.endpoint("/mixing")(deviation), svc.endpoint("/whole", batched=False)(deviation)
    with pytest.raises(Declaration, match=r"endpoint deviation: its answer for a row depends .* Add batched=False"), TestClient(mixing):
        pass
    with pytest.raises(Declaration, match="depends on the rows beside it"):
        svc.Server(port=0).register(mixing).run()
    with TestClient(whole) as client:
        assert client.post("/whole", json=[{"x": 1}, {"x": 3}]).json()["predictions"] == [-1, 1]
    assert "Traceback" not in capfd.readouterr().err


def test_a_server_in_development_has_no_jobs_and_answers_at_once() -> None:
    """So an author sees what the handler returns, and a client's preference is ignored, as it may be."""

    @svc.endpoint("/long", job=True)
    def long(records_df: pl.DataFrame, context: svc.Context) -> pl.Series:
        context.progress(0.5, "half of it")
        return records_df["a"] * 3

    with TestClient(long, double) as client:
        for path, found in (("/long", 3.0), ("/double", 2.0)):
            answer = client.post(path, json=[{"a": 1.0}], headers={"prefer": "respond-async"})
            assert (answer.status, answer.json()["predictions"]) == (200, [found])
        answer = client.get("/jobs/a")
        assert (answer.status, "pexdock serve" in answer.json()["detail"]) == (404, True)
