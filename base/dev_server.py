"""Server: serves endpoints from the author's own process, with a front door as its child.

The handler runs in this process, so a breakpoint in it stops here. In production a supervisor starts the same two kinds of process the
other way round; the front door cannot tell the difference.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec

from base.curl_example import curl
from base.endpoint.endpoint import Endpoint
from base.errors import Declaration, PexdockError, Unavailable
from base.ipc.cache_control import CacheState
from base.ipc.control import (
    Configure,
    ControlMessage,
    Drain,
    MetricsReport,
    ReleaseSpec,
    Route,
    RoutingTable,
    TableApplied,
)
from base.ipc.control_connection import ControlConnection
from base.process import module_command
from base.telemetry.emf import Emf
from base.telemetry.emf_writer import report_writer
from base.telemetry.recorder import Reporter, WorkerMetrics
from base.worker.cache_admin import Caches
from base.worker.worker import Worker

log = logging.getLogger(__name__)

_FRONT_START_S = 60.0
_LAST_MESSAGES_S = 5.0
"""Time limit for reading the last messages of a front door that has exited; they are in the socket already."""


class Server:
    """Serves endpoints over HTTP.

    Args:
        host: where to listen; loopback unless told otherwise.
        port: 0 takes any that is free.
        limits: of the front door.
        release: the model's name and version, as messages and documentation show them.
        emf: where metrics go; None where nobody wants them.

    Attributes:
        address: as a URL, while it serves; None before and after.

    A server that has ended may serve again.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8080,
        limits: Configure | None = None,
        release: tuple[str, str] = ("development", "0"),
        emf: Emf | None = None,
    ) -> None:
        self._host, self._port = host, port
        self._limits = msgspec.structs.replace(limits or Configure(), metrics=None if emf is None else emf.metrics_config)
        self._emf = emf
        self._endpoints: list[Endpoint[..., Any]] = []
        self._release = release
        self._lock = threading.Lock()  # guards the next five
        self._front: _Front | None = None
        self._caches: Caches | None = None
        self._running = False
        self._stopping = False
        self.address: str | None = None
        self._changed = threading.Condition(self._lock)

    def register(self, endpoint: Endpoint[..., Any]) -> Self:
        """Adds an endpoint; returns the server, so that calls can be chained.

        Raises:
            Declaration: another endpoint has a path of the same shape. Nothing was added.
        """
        for other in self._endpoints:
            if other.path_shape == endpoint.path_shape:
                raise Declaration(f"endpoint {endpoint.name}: {endpoint.path} is served by {other.name} already")
        self._endpoints.append(endpoint)
        return self

    def run(self) -> None:
        """Serves until SIGINT or SIGTERM, or `stop`. Afterwards no process, socket or file is left.

        Raises:
            OSError: the address is taken or not ours.
            PexdockError: the endpoints cannot be served.
            RuntimeError: it serves already.
        """
        self._begin()
        try:
            self._listen()
        finally:
            self._ended()

    def _listen(self) -> None:
        with socket.create_server((self._host, self._port), backlog=2048) as listener:
            folder = Path(tempfile.mkdtemp(prefix="pexdock-"))
            try:
                self._serve(listener, folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    async def serve(self) -> None:
        """Like `run`, from a coroutine: handlers are called on a thread beside the loop. Cancelling it stops the server; so does SIGTERM.

        Raises:
            RuntimeError, OSError, PexdockError: as `run`.
        """
        self._begin()
        running = asyncio.get_running_loop().run_in_executor(None, self._listen)
        try:
            with _terminated(self._drain):
                await asyncio.shield(running)
        except asyncio.CancelledError:
            self._drain()
            await running
            raise
        finally:
            self._ended()

    async def stop(self) -> None:
        """Ends `serve` or `run` once what was received is answered, and returns when it has ended. Nothing happens where nothing serves."""
        self._drain()
        await asyncio.to_thread(self._wait, lambda: not self._running)

    def entries(self) -> list[CacheState]:
        """What the cache of each endpoint holds; nothing while nothing is served. From any thread, as `refresh`."""
        with self._lock:
            caches = self._caches
        return [] if caches is None else caches.entries()

    def refresh(self, endpoint: str | None = None, parameters: Mapping[str, str] | None = None) -> int:
        """Begins to load again what the caches hold; see `Caches.refresh`, whose errors it raises.

        Raises:
            Unavailable: nothing is served.
        """
        with self._lock:
            caches = self._caches
        if caches is None:
            raise Unavailable("this server does not serve")
        return caches.refresh(endpoint, parameters)

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serves from a thread of its own while it is entered, and gives the address; for tests and notebooks.

        Raises:
            RuntimeError, OSError, PexdockError: as `run`.
        """
        errors: list[BaseException] = []

        def serve() -> None:
            try:
                self._listen()
            except BaseException as exc:  # noqa: BLE001 - it is raised where the server was started
                errors.append(exc)
            finally:
                self._ended()

        self._begin()
        thread = threading.Thread(target=serve, name="server", daemon=True)
        thread.start()
        try:
            self._wait(lambda: not self._running or self.address is not None)
            if self.address is None:
                raise errors[0] if errors else RuntimeError("the front door did not start; its log tells why")
            yield self.address
        finally:
            self._drain()
            thread.join()

    def _begin(self) -> None:
        with self._lock:
            if self._running:
                raise RuntimeError("this server serves already; stop it first, or make another one for another port")
            self._running, self._stopping = True, False

    def _ended(self) -> None:
        with self._lock:
            self._running, self.address = False, None
            self._changed.notify_all()

    def _drain(self) -> None:
        with self._lock:
            self._stopping = self._running
            front = self._front
        if front is not None:
            front.drain()

    def _wait(self, condition: Callable[[], bool]) -> None:
        with self._lock:
            self._changed.wait_for(condition)

    def _serve(self, listener: socket.socket, folder: Path) -> None:
        recorder = None if self._emf is None else WorkerMetrics(*self._release, self._emf.values_max)
        worker = Worker(*self._release, self._endpoints, folder / "worker.sock", recorder=recorder)
        try:
            words = worker.listen()
            with self._reporting(recorder) as report, _Front(listener, self._limits, worker, report) as front, _signals(front):
                with self._lock:
                    self._front, self._caches = front, worker.caches
                    stopping = self._stopping
                if stopping:  # it was stopped before there was anything to drain
                    front.drain()
                # The front door's greeting is answered by the worker's loop, which this thread runs only after this.
                threading.Thread(target=self._announce, args=(front, words, listener, folder), daemon=True).start()
                worker.run()
        finally:
            worker.close()
            with self._lock:
                self._front = self._caches = None

    @contextmanager
    def _reporting(self, recorder: WorkerMetrics | None) -> Iterator[Callable[[MetricsReport], None]]:
        """While it is entered, what is measured in this process is written; gives what takes the reports of the front door."""
        with report_writer(self._emf) as report:
            if recorder is None or self._emf is None:
                yield report
            else:
                with Reporter(recorder, self._emf.interval_s, report):
                    yield report

    def _announce(self, front: _Front, words: ReleaseSpec, listener: socket.socket, folder: Path) -> None:
        host, port = listener.getsockname()[:2]
        front.send(RoutingTable(1, [Route(words, [str(folder / "worker.sock")])], startup_complete=True))
        if front.wait_applied():
            address = f"http://{host}:{port}"
            with self._lock:
                self.address = address
                self._changed.notify_all()
            lines = [f"serving at {address}", *(f"  POST {endpoint.path}" for endpoint in words.endpoints)]
            lines += [f"  {line}" for endpoint in words.endpoints if (line := curl(address, endpoint))]
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()


@contextmanager
def _terminated(drain: Callable[[], None]) -> Iterator[None]:
    """While it is entered, SIGTERM drains; where the loop is not the main thread's, or somebody else handles it, nothing changes."""
    loop = asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    loop.add_signal_handler(signal.SIGTERM, drain)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


class _signals:  # noqa: N801 - used as a statement
    """While it is entered, SIGINT and SIGTERM drain the front door. Outside the main thread signals are somebody else's."""

    def __init__(self, front: _Front) -> None:
        self._front = front
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, lambda *_: self._front.drain())

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class _Front:
    """The child process that speaks HTTP. When it exits, the worker drains, since no client can reach it; so a shutdown begins here."""

    def __init__(self, listener: socket.socket, limits: Configure, worker: Worker, report: Callable[[MetricsReport], None]) -> None:
        self._limits = limits
        self._report = report
        self._applied = threading.Event()
        self._overdue: threading.Timer | None = None
        self._control, theirs = socket.socketpair()
        fds = (theirs.fileno(), listener.fileno())
        command, additions = module_command("runtime.front")
        command += ["--control-fd", str(fds[0]), "--listen-fd", str(fds[1])]
        self._child = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL, env=os.environ | additions)
        theirs.close()
        self._connection = ControlConnection(self._control, "the front door", self._on_message, worker.drain)

    def __enter__(self) -> Self:
        self.send(self._limits)
        self._connection.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.drain()
        self._child.wait()
        self._connection.join(_LAST_MESSAGES_S)
        if self._overdue is not None:
            self._overdue.cancel()
        self._control.close()

    def drain(self) -> None:
        """Lets the front door answer what it has accepted and exit; kills it if that takes too long. Idempotent."""
        if self._overdue is None:
            self._overdue = threading.Timer(self._limits.drain_s + 2, self._child.kill)
            self._overdue.daemon = True
            self._overdue.start()
            self.send(Drain())

    def send(self, message: ControlMessage) -> None:
        """Sends a message to the front door."""
        self._connection.send(message)

    def wait_applied(self) -> bool:
        """Waits until the front door serves; returns False if it does not in time."""
        return self._applied.wait(_FRONT_START_S)

    def _on_message(self, message: ControlMessage) -> None:
        match message:
            case TableApplied():
                self._applied.set()
            case MetricsReport():
                self._report(message)
            case _:
                pass  # such as Listening: only the routing table counts


def serve_installed(argv: Iterable[str] | None = None) -> None:
    """Serves the model that is installed in this process, found by its entry points: what a pex does when it is run by hand."""
    import argparse  # noqa: PLC0415 - for a command only

    from base.endpoint.discovery import discover  # noqa: PLC0415

    parser = argparse.ArgumentParser(description="Serve this model by itself, for trying it out.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    arguments = parser.parse_args(None if argv is None else list(argv))
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        model, version, endpoints = discover()
        server = Server(arguments.host, arguments.port, release=(model, version))
        for endpoint in endpoints:
            server.register(endpoint)
        server.run()
    except (PexdockError, OSError) as exc:
        sys.exit(f"this model cannot be served: {exc}")
