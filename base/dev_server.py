"""Server: serves endpoints from the author's own process, with a front door as its child.

The handler runs in this process, so a breakpoint in it stops here. In production a supervisor starts the same two kinds of process; the
front door cannot tell the difference.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec

from base.curl_example import curl_command
from base.endpoint.discovery import discover
from base.endpoint.endpoint import Endpoint
from base.errors import Declaration, PexdockError, Unavailable
from base.forks import ProcessHandler, call_in_forked_child, handle_signal
from base.front_door_process import FrontDoorProcess
from base.ipc.cache_control import CacheState
from base.ipc.front_door_control import Configure
from base.ipc.metrics_report import MetricsReport
from base.ipc.release_spec import ReleaseSpec
from base.log import log_beside_model
from base.telemetry.emf import Emf
from base.telemetry.emf_writer import EmfWriter
from base.telemetry.recorder import Reporter, WorkerMetrics
from base.worker.cache_admin import CacheAdmin
from base.worker.worker import Worker

_BACKLOG = 2048


class Server:
    """Serves endpoints over HTTP. A server that has stopped can serve again.

    Args:
        host: Address to listen on.
        port: TCP port; 0 takes any free one.
        limits: Limits of the front door.
        release: Name and version of the model, as messages and the API documentation show them.
        emf: Output of the metrics; None for no metrics.

    Attributes:
        address: URL of the server while it serves; None before and after.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8080,
        limits: Configure | None = None,
        release: tuple[str, str] = ("development", "0"),
        emf: Emf | None = None,
    ) -> None:
        configuration = msgspec.structs.replace(limits or Configure(), metrics=None if emf is None else emf.metrics_config)
        self._settings = _Settings(host, port, configuration, release, emf)
        self._endpoints: list[Endpoint[..., Any]] = []
        self._changed = threading.Condition()  # guards the next two
        self._session: _Session | None = None
        self.address: str | None = None

    def register(self, endpoint: Endpoint[..., Any]) -> Self:
        """Adds an endpoint. Returns the server, so that calls can be chained.

        Raises:
            Declaration: Another endpoint has a path of the same shape. Nothing was added.
        """
        for other in self._endpoints:
            if other.path_shape == endpoint.path_shape:
                raise Declaration(f"endpoint {endpoint.name}: {other.name} serves {endpoint.path} already")
        self._endpoints.append(endpoint)
        return self

    def run(self) -> None:
        """Serves until SIGINT, SIGTERM or `stop`. Afterwards no process, socket or file is left.

        Raises:
            OSError: The address is in use, or is not an address of this machine.
            PexdockError: The endpoints cannot be served.
            RuntimeError: The server is already running.
        """
        self._serve_session(self._start_session())

    async def serve(self) -> None:
        """Serves as `run` does, from a coroutine; handlers run on a thread beside the loop. Cancellation or SIGTERM stops the server.

        Raises:
            RuntimeError, OSError, PexdockError: As `run`.
        """
        session = self._start_session()
        serving = asyncio.get_running_loop().run_in_executor(None, self._serve_session, session)
        try:
            with _drain_on_sigterm_of_loop(session.drain):
                await asyncio.shield(serving)
        except asyncio.CancelledError:
            session.drain()
            await serving
            raise

    async def stop(self) -> None:
        """Stops `serve` or `run` after the accepted requests are answered, and waits for that. Has no effect on a stopped server."""
        session = self._session
        if session is not None:
            session.drain()
            await asyncio.to_thread(self._wait_until, lambda: self._session is not session)

    def entries(self) -> list[CacheState]:
        """Returns the cache entries of each endpoint; an empty list while the server is not running. Thread-safe."""
        session = self._session
        caches = None if session is None else session.caches
        return [] if caches is None else caches.list_entries()

    def refresh(self, endpoint: str | None = None, parameters: Mapping[str, str] | None = None) -> int:
        """Starts to reload cache entries; see `CacheAdmin.refresh`, whose errors it raises. Thread-safe.

        Raises:
            Unavailable: The server is not running.
        """
        session = self._session
        caches = None if session is None else session.caches
        if caches is None:
            raise Unavailable("this server does not serve")
        return caches.refresh(endpoint, parameters)

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serves from a thread of its own during a `with` block, and yields the address; for tests and notebooks.

        Raises:
            RuntimeError, OSError, PexdockError: As `run`.
        """
        errors: list[BaseException] = []
        session = self._start_session()

        def serve() -> None:
            try:
                self._serve_session(session)
            except BaseException as exc:  # noqa: BLE001 - it is raised where the server was started
                errors.append(exc)

        thread = threading.Thread(target=serve, name="server", daemon=True)
        thread.start()
        try:
            self._wait_until(lambda: self._session is not session or self.address is not None)
            address = self.address
            if address is None:
                thread.join()
                raise errors[0] if errors else RuntimeError("the front door did not start; see its log")
            yield address
        finally:
            session.drain()
            thread.join()

    def _start_session(self) -> _Session:
        with self._changed:
            if self._session is not None:
                raise RuntimeError("this server serves already: stop it first, or make another one for another port")
            self._session = _Session(self._settings, self._endpoints, self._on_serving)
            return self._session

    def _serve_session(self, session: _Session) -> None:
        try:
            session.run()
        finally:
            with self._changed:
                self._session = self.address = None
                self._changed.notify_all()

    def _on_serving(self, address: str) -> None:
        with self._changed:
            self.address = address
            self._changed.notify_all()

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(condition)


@dataclass(frozen=True)
class _Settings:
    """The arguments of a server; see `Server`."""

    host: str
    port: int
    configuration: Configure
    release: tuple[str, str]
    emf: Emf | None


class _Session:
    """One run of a server: a worker in this process, and a front door as its child.

    Args:
        on_serving: Called with the URL once the front door serves.

    Attributes:
        caches: The caches of the worker while it serves.
    """

    def __init__(self, settings: _Settings, endpoints: Sequence[Endpoint[..., Any]], on_serving: Callable[[str], None]) -> None:
        self._settings = settings
        self._endpoints = endpoints
        self._on_serving = on_serving
        self._lock = threading.Lock()  # guards the next two
        self._front_door: FrontDoorProcess | None = None
        self._draining = False
        self.caches: CacheAdmin | None = None

    def run(self) -> None:
        """Serves until it is drained."""
        settings = self._settings
        with socket.create_server((settings.host, settings.port), backlog=_BACKLOG) as listener:
            call_in_forked_child(listener.close)
            folder = Path(tempfile.mkdtemp(prefix="pexdock-"))
            try:
                self._serve(listener, folder / "worker.sock")
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def drain(self) -> None:
        """Makes `run` return after the accepted requests are answered. Thread-safe."""
        with self._lock:
            self._draining = True
            front_door = self._front_door
        if front_door is not None:
            front_door.drain()

    def _serve(self, listener: socket.socket, worker_socket: Path) -> None:
        settings = self._settings
        recorder = None if settings.emf is None else WorkerMetrics(*settings.release, settings.emf.values_max)
        worker = Worker(*settings.release, self._endpoints, worker_socket, recorder=recorder)
        worker.watch_turns(settings.configuration.loop_turn_warn_ms, recorder)
        try:
            release = worker.listen()
            worker.check_batches()
            with (
                _reporting(settings.emf, recorder) as report,
                FrontDoorProcess(listener, settings.configuration, report, worker.drain) as front_door,
                _drain_on_signals(front_door.drain),
            ):
                with self._lock:
                    self._front_door, self.caches = front_door, worker.caches
                    draining = self._draining
                if draining:  # the server was stopped before there was anything to drain
                    front_door.drain()
                # The worker's loop answers the greeting of the front door, and this thread runs that loop only afterwards.
                announcing = (front_door, release, listener.getsockname()[:2], str(worker_socket))
                threading.Thread(target=self._announce, args=announcing, daemon=True).start()
                worker.run()
        finally:
            worker.close()
            with self._lock:
                self._front_door = self.caches = None

    def _announce(self, front_door: FrontDoorProcess, release: ReleaseSpec, name: tuple[str, int], worker_socket: str) -> None:
        if not front_door.route_to(release, worker_socket) or self._draining:
            return
        address = "http://{}:{}".format(*name)
        self._on_serving(address)
        lines = [f"serving at {address}", *(f"  {endpoint.method} {endpoint.path}" for endpoint in release.endpoints)]
        lines += [f"  {line}" for endpoint in release.endpoints if (line := curl_command(address, endpoint))]
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()


@contextmanager
def _reporting(emf: Emf | None, recorder: WorkerMetrics | None) -> Iterator[Callable[[MetricsReport], None]]:
    """Writes the metrics of this process during a `with` block, and yields the function that takes the reports of the front door."""
    with EmfWriter(emf) as log:
        if recorder is None or emf is None:
            yield log.write_report
        else:
            with Reporter(recorder, emf.interval_s, log.write_report):
                yield log.write_report


@contextmanager
def _drain_on_sigterm_of_loop(drain: Callable[[], None]) -> Iterator[None]:
    """Drains at SIGTERM during a `with` block, unless the loop is not in the main thread or SIGTERM has another handler already."""
    loop = asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    loop.add_signal_handler(signal.SIGTERM, drain)
    # The loop learns of signals by a descriptor, which forked children share. This handler does nothing but end with this process.
    signal.signal(signal.SIGTERM, ProcessHandler(lambda: None, signal.SIG_DFL))
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


@contextmanager
def _drain_on_signals(drain: Callable[[], None]) -> Iterator[None]:
    """Drains at SIGINT and SIGTERM during a `with` block. Outside the main thread signals are not handled."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: handle_signal(number, drain) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def serve_installed(argv: Iterable[str] | None = None) -> None:
    """Serves the model that is installed in this process, found by its entry points. A pex that is run by hand does this."""
    parser = argparse.ArgumentParser(description="Serve this model by itself, to try it out.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    arguments = parser.parse_args(None if argv is None else list(argv))
    del sys.argv[1:]  # a model that parses arguments when it is imported must not meet ours
    log_beside_model()
    try:
        model, version, endpoints = discover()
        server = Server(arguments.host, arguments.port, release=(model, version))
        for endpoint in endpoints:
            server.register(endpoint)
        server.run()
    except (PexdockError, OSError) as exc:
        sys.exit(f"this model cannot be served: {exc}")
