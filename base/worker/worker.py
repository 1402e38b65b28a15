"""The loop of a worker process: one release, its front doors, and the parent that started it.

One thread computes, so a handler is never called twice at the same time; loads run on the threads of the caches.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import base
from base.async_runner import AsyncRunner
from base.endpoint.dependencies import Dependencies
from base.endpoint.describe import describe_endpoint
from base.endpoint.discovery import discover
from base.endpoint.endpoint import Endpoint
from base.errors import PeerError, PexdockError
from base.ipc.channel import Channel
from base.ipc.control import RETRYABLE_CODES, WIRE_VERSION, ControlMessage, ExitCode, Failed, Ready, ReleaseSpec, encode_message
from base.telemetry.recorder import Reporter, WorkerMetrics, metrics_config_from
from base.worker.cache_admin import CacheAdmin
from base.worker.control_channel import ControlChannel
from base.worker.front_link import FrontLink
from base.worker.predictor import Predictor
from base.worker.warm_up import is_lenient, warm_up

log = logging.getLogger(__name__)

_BACKLOG = 64


class Worker:
    """Serves one release to any front door that connects.

    Args:
        socket_path: where it listens. The file is made and removed by this worker.
        control: the parent's socket, or None where this process has no parent of ours.
        recorder: None where nobody wants measures.

    Attributes:
        caches: of its endpoints, for any thread.
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
        self._loop = AsyncRunner()
        self._dependencies = Dependencies(self._loop)
        measures = [None if recorder is None else recorder.endpoint_metrics(endpoint.name) for endpoint in endpoints]
        self._predictors = [Predictor(*each, self._loop, self._dependencies) for each in zip(endpoints, measures, strict=True)]
        self.caches = CacheAdmin(model, [(predictor.endpoint, predictor.cache) for predictor in self._predictors])
        self._socket_path = socket_path
        self._parent = None if control is None else ControlChannel(control, self.caches.handle_request, self.drain, self._orphaned)
        self._poll = select.epoll()  # without the module `selectors`, which takes longer than the system call
        self._readers: dict[int, FrontLink | Callable[[], None]] = {}
        self._connections: set[FrontLink] = set()
        self._wakes = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # A looks at `_wakes`, B closes it, A writes into it or what has its number now. Reentrant, since a signal may come while we close.
        self._waking = threading.RLock()
        self._draining = False
        self._exit = ExitCode.OK
        self._listener: socket.socket | None = None

    def listen(self) -> ReleaseSpec:
        """Begins to listen, opens dependencies and begins to load ahead. Returns what a front door must know.

        Raises:
            Declaration: an endpoint cannot be served. `close` must be called still.
        """
        words = ReleaseSpec(self._model, self._version, [describe_endpoint(predictor.endpoint) for predictor in self._predictors])
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._listener = listener
        listener.bind(str(self._socket_path))
        listener.listen(_BACKLOG)
        self._watch(listener.fileno(), self._accept)
        self._watch(self._wakes, self._resume)
        for predictor in self._predictors:
            predictor.open()
        if self._parent is not None:
            self._parent.start()
        return words

    def warm_up(self, *, lenient: bool) -> list[str]:
        """See `base.worker.warm_up`. To be called between `listen` and `run`."""
        return warm_up(self._predictors, lenient=lenient)

    def run(self) -> ExitCode:
        """Serves until it is drained or its parent is gone; then nothing of it is left."""
        try:
            while True:
                finished = self._draining and all(connection.idle for connection in self._connections)
                # What lies in a socket was received too, so the end comes only when nothing is readable.
                events = self._poll.poll(0 if finished else None)
                if finished and not events:
                    return self._exit
                for fd, _ in events:
                    self._turn(fd)
        finally:
            self.close()

    def drain(self) -> None:
        """Takes no new front doors, answers what was received, and ends `run`. Safe in a signal handler and from any thread."""
        self._draining = True
        self._wake()

    def say(self, word: ControlMessage) -> None:
        """Tells the parent, where there is one; waits while it does not read. Still does so after `run`. From any thread."""
        if self._parent is not None:
            self._parent.send(word)

    def close(self) -> None:
        """Closes every connection, socket and thread. Safe to call again."""
        if self._parent is not None:
            self._parent.close()  # first: it wakes the loop by a descriptor that is closed below
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            self._socket_path.unlink()
        for predictor in self._predictors:
            predictor.close()
        self._dependencies.close()
        self._loop.close()
        self._poll.close()
        with self._waking:
            if self._wakes >= 0:
                os.close(self._wakes)
                self._wakes = -1

    def _wake(self) -> None:
        with self._waking:
            if self._wakes >= 0:
                os.eventfd_write(self._wakes, 1)

    def _watch(self, fd: int, reader: FrontLink | Callable[[], None]) -> None:
        self._readers[fd] = reader
        self._poll.register(fd, select.EPOLLIN)

    def _turn(self, fd: int) -> None:
        reader = self._readers.get(fd)
        if isinstance(reader, FrontLink):
            self._serve(reader)
        elif reader is not None:  # an earlier event of this turn may have dropped it
            reader()

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # it was gone before it was accepted
        connection = FrontLink(Channel(sock), self._model, self._version, self._predictors, self._wake)
        self._connections.add(connection)
        self._watch(connection.fileno(), connection)

    def _serve(self, connection: FrontLink) -> None:
        """One message a turn, so that front doors take turns."""
        try:
            connection.handle_one()
        except PeerError as exc:
            self._drop(connection, exc)

    def _resume(self) -> None:
        try:
            os.eventfd_read(self._wakes)
        except BlockingIOError:
            return
        for connection in list(self._connections):
            try:
                connection.resume()
            except PeerError as exc:
                self._drop(connection, exc)

    def is_forked(self) -> None:
        """In a copy of this process: it must not answer, nor touch what it shares with the original."""
        for connection in self._connections:
            connection.is_copy = True

    def _drop(self, connection: FrontLink, error: PeerError) -> None:
        if connection.is_copy:
            os._exit(ExitCode.OK)
        log.info("a front door is gone: %s", error)
        self._poll.unregister(connection.fileno())
        del self._readers[connection.fileno()]
        self._connections.discard(connection)
        connection.close()

    def _orphaned(self) -> None:
        self._exit = ExitCode.PARENT_GONE
        self.drain()


def run_installed(control: socket.socket, socket_path: Path) -> ExitCode:
    """Runs the release that is installed in this process, for the supervisor that started it.

    Args:
        control: its end of the parent's socket.
        socket_path: where the worker is to listen.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in a terminal reaches the whole group; the supervisor tells us
    try:
        original = os.getpid()
        model, version, endpoints = discover()
        if os.getpid() != original:  # the model's code has forked while it was imported; there is one worker
            os._exit(ExitCode.OK)
        measuring = metrics_config_from(os.environ)
        recorder = None if measuring is None else WorkerMetrics(model, version, measuring.values_max)
        worker = Worker(model, version, endpoints, socket_path, control, recorder)
        words = worker.listen()
    except PexdockError as exc:
        return _cannot_load(control, exc.code, exc.detail)
    except Exception as exc:  # noqa: BLE001 - the model's own code may raise anything while it is imported or its store is listed
        return _cannot_load(control, "cannot_load", f"{type(exc).__name__}: {exc}")
    try:
        warnings = worker.warm_up(lenient=is_lenient())
    except PexdockError as exc:  # the author's traceback is in the log
        _say(control, Failed(exc.code, f"in its warm-up: {exc.detail}"))
        worker.close()
        return ExitCode.CRASHED if exc.code in RETRYABLE_CODES else ExitCode.CANNOT_LOAD
    if os.getpid() != original:
        os._exit(ExitCode.OK)
    os.register_at_fork(after_in_child=worker.is_forked)
    signal.signal(signal.SIGTERM, lambda *_: worker.drain())  # until here nobody waits for an answer, and it ends at once
    # What has been imported stays. The collector need not look at all of it again: 0.3 s with scikit-learn, in the middle of a batch.
    gc.freeze()
    _say(control, Ready(WIRE_VERSION, base.__version__, words, warnings))
    if recorder is None or measuring is None:
        return worker.run()
    with Reporter(recorder, measuring.interval_s, worker.say):
        return worker.run()


def _cannot_load(control: socket.socket, code: str, reason: str) -> ExitCode:
    traceback.print_exc()
    sys.stderr.flush()
    _say(control, Failed(code, reason))
    return ExitCode.CANNOT_LOAD


def _say(control: socket.socket, word: ControlMessage) -> None:
    control.sendall(encode_message(word))
