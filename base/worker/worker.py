"""The loop of a worker: one release, its front doors, and the parent that started it.

One thread computes, so no two handlers compute at the same time, though async ones may wait for something at the same time. Loads run on
the threads of the caches.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import select
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from base.async_runner import AsyncRunner
from base.endpoint.dependencies import Dependencies
from base.endpoint.describe import describe_endpoint
from base.endpoint.endpoint import Endpoint
from base.errors import PeerError, Unavailable
from base.forks import call_after_fork, call_in_forked_child
from base.ipc.channel import Channel, socket_address
from base.ipc.control import WIRE_VERSION, ControlMessage, ExitCode
from base.ipc.protocol import Welcome
from base.ipc.release_spec import ReleaseSpec, release_tag
from base.log import get_logger
from base.telemetry.loop_watchdog import LoopWatchdog
from base.telemetry.recorder import WorkerMetrics
from base.worker.cache_admin import CacheAdmin
from base.worker.control_channel import ControlChannel
from base.worker.link.async_calls import AsyncCalls
from base.worker.link.front_link import FrontLink
from base.worker.prediction.predictor import Predictor
from base.worker.turn_watch import turn_watchdog
from base.worker.wakeup import Wakeup
from base.worker.warm_up import check_batches, warm_up

log = get_logger(__name__)

_BACKLOG = 64


class Worker:
    """Serves one release to any front door that connects.

    Args:
        model: Name of the release.
        version: Version of the release.
        endpoints: The endpoints of the release.
        socket_path: Path of the socket to listen on. This worker creates and removes the file.
        control: The control socket of the parent; None if the parent sends no control messages.
        recorder: The metrics of the worker; None for no metrics.

    Attributes:
        caches: Administers the caches of the endpoints. Thread-safe.
    """

    def __init__(
        self,
        model: str,
        version: str,
        endpoints: Sequence[Endpoint[..., Any]],
        socket_path: Path,
        control: socket.socket | None = None,
        recorder: WorkerMetrics | None = None,
    ) -> None:
        self._model, self._version = model, version
        self._async_runner = AsyncRunner()
        self._async_calls = AsyncCalls(self._async_runner)
        self._dependencies = Dependencies(self._async_runner)
        self._predictors = [
            Predictor(each, None if recorder is None else recorder.endpoint_metrics(each.name), self._async_runner, self._dependencies)
            for each in endpoints
        ]
        self._watchdog: LoopWatchdog | None = None
        self.caches = CacheAdmin(model, [(predictor.endpoint, predictor.cache) for predictor in self._predictors])
        self._socket_path = socket_path
        self._parent = None if control is None else ControlChannel(control, self.caches.handle_request, self.drain, self._on_parent_gone)
        self._poll = select.epoll()  # not the module `selectors`, which takes longer than the system call
        self._readers: dict[int, FrontLink | Callable[[], None]] = {}
        self._links: set[FrontLink] = set()
        self._wakeup = Wakeup()
        self._draining = False
        self._exit_code = ExitCode.OK
        self._listener: socket.socket | None = None
        call_in_forked_child(self._on_forked)
        call_after_fork(self._after_fork)

    def listen(self, release_id: str = "") -> ReleaseSpec:
        """Listens, opens dependencies and starts the loads that authors want ahead of requests. Returns the spec of the release.

        Args:
            release_id: Identifies the content of the release; empty if it is not known.

        Raises:
            Declaration: An endpoint cannot be served. `close` must still be called.
            Unavailable: The socket cannot be made. `close` must still be called.
        """
        self._welcome = Welcome(WIRE_VERSION, self._model, self._version, release_tag(self._model, self._version, release_id))
        release = ReleaseSpec(self._model, self._version, [describe_endpoint(predictor.endpoint) for predictor in self._predictors])
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._listener = listener
        try:
            with socket_address(str(self._socket_path)) as address:
                listener.bind(address)
        except OSError as exc:  # the supervisor makes the folder again, so the next start may succeed
            raise Unavailable(f"cannot listen on {self._socket_path}: {exc.strerror}; make its folder writable for this user") from exc
        listener.listen(_BACKLOG)
        self._watch(listener.fileno(), self._accept)
        self._watch(self._wakeup.fileno(), self._resume_links)
        for predictor in self._predictors:
            predictor.open()
        if self._parent is not None:
            self._parent.start()
        return release

    def warm_up(self, *, lenient: bool, batch_check: str) -> list[str]:
        """Warms up all endpoints; see `base.worker.warm_up`. Must be called between `listen` and `run`."""
        return warm_up(self._predictors, lenient=lenient, batch_check=batch_check)

    def check_batches(self) -> None:
        """Checks how handlers answer several rows; see `base.worker.warm_up`. Must be called between `listen` and `run`."""
        check_batches(self._predictors)

    def watch_turns(self, warn_ms: float, recorder: WorkerMetrics | None) -> None:
        """Logs and records slow turns of the loop; see `base.worker.turn_watch`. Must be called before `run`."""
        self._watchdog = turn_watchdog([predictor.endpoint for predictor in self._predictors], warn_ms, recorder)

    def run(self) -> ExitCode:
        """Serves until the worker is drained or its parent is gone, and closes it."""
        try:
            if self._async_runner.is_used or any(predictor.is_async for predictor in self._predictors):
                self._async_runner.run_coroutine(self._serve_on_loop())
            else:
                self._serve()
            return self._exit_code
        finally:
            self.close()

    def drain(self) -> None:
        """Makes `run` return after everything that was received is answered. Safe in a signal handler and from any thread."""
        self._draining = True
        self._wakeup.wake()

    def send_to_parent(self, message: ControlMessage) -> None:
        """Sends a message to the parent, if there is one; blocks while it does not read. Also works after `run`. Thread-safe."""
        if self._parent is not None:
            self._parent.send(message)

    def close(self) -> None:
        """Closes every connection, socket and thread. Idempotent."""
        if self._watchdog is not None:
            self._watchdog.stop()
        if self._parent is not None:
            self._parent.close()  # closed first, since its thread wakes the loop through a descriptor that is closed below
        for link in self._links:
            link.close()
        self._links.clear()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            self._socket_path.unlink(missing_ok=True)  # the folder may have been removed
        for predictor in self._predictors:
            predictor.close()
        self._dependencies.close()
        self._async_runner.close()
        self._poll.close()
        self._wakeup.close()

    def _serve(self) -> None:
        if self._watchdog is not None:
            self._watchdog.start(inspect.currentframe())
        while True:
            finished = self._draining and all(link.idle for link in self._links)
            # A message in a socket counts as received, so the loop ends only when nothing is readable.
            events = self._poll.poll(0 if finished else None)
            if finished and not events:
                return
            for fd, _ in events:
                self._on_readable(fd)

    async def _serve_on_loop(self) -> None:
        """Serves as `_serve` does, on the asyncio loop, which runs the tasks of handlers between the messages."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def handle_events() -> None:
            try:
                asyncio._set_running_loop(None)  # noqa: SLF001 - a handler that is no coroutine may run a loop of its own, as elsewhere
                try:
                    for fd, _ in self._poll.poll(0):
                        self._on_readable(fd)
                finally:
                    asyncio._set_running_loop(loop)  # noqa: SLF001
                finished = self._draining and all(link.idle for link in self._links) and not self._poll.poll(0)
                if finished and not ended.done():
                    ended.set_result(None)
            except BaseException as exc:  # noqa: BLE001 - it ends the worker, as it does without a loop
                if not ended.done():
                    ended.set_exception(exc)

        loop.add_reader(self._poll.fileno(), handle_events)
        self._wakeup.wake()  # it may have been drained already
        if self._watchdog is not None:
            self._watchdog.start()
        try:
            await ended
        finally:
            loop.remove_reader(self._poll.fileno())

    def _watch(self, fd: int, reader: FrontLink | Callable[[], None]) -> None:
        self._readers[fd] = reader
        self._poll.register(fd, select.EPOLLIN)

    def _on_readable(self, fd: int) -> None:
        """Handles one message of a front door, so that front doors take turns, or calls the reader."""
        reader = self._readers.get(fd)  # None if an earlier event of this round has dropped it
        if isinstance(reader, FrontLink):
            try:
                reader.handle_next_message()
            except PeerError as exc:
                self._drop(reader, exc)
        elif reader is not None:
            reader()

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # the front door disconnected before it was accepted
        link = FrontLink(Channel(sock), self._welcome, self._predictors, self._wakeup.wake, self._async_calls)
        self._links.add(link)
        self._watch(link.fileno(), link)

    def _resume_links(self) -> None:
        if not self._wakeup.clear():
            return
        for link in list(self._links):
            try:
                link.resume()
            except PeerError as exc:
                self._drop(link, exc)

    def _drop(self, link: FrontLink, error: PeerError) -> None:
        if link.is_forked:
            os._exit(ExitCode.OK)
        log.info("front door disconnected: %s", error)
        self._poll.unregister(link.fileno())
        del self._readers[link.fileno()]
        self._links.discard(link)
        link.close()

    def _on_forked(self) -> None:
        """Keeps a copy of this process from answering, and from keeping connections open. Called in the child of a fork."""
        for link in self._links:
            link.on_forked()
        if self._listener is not None:
            self._listener.close()
        self._poll.close()
        self._wakeup.on_forked()

    def _after_fork(self) -> None:
        for link in self._links.copy():  # a thread of the model may fork
            link.after_fork()

    def _on_parent_gone(self) -> None:
        self._exit_code = ExitCode.PARENT_GONE
        self.drain()
