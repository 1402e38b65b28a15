"""The process of a front door: its control words, and what follows from them."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections import Counter
from collections.abc import Coroutine, Sequence
from importlib.abc import MetaPathFinder
from itertools import starmap

import uvloop

from base.errors import PeerError
from base.ipc.control import (
    Configure,
    ControlMessage,
    ControlStream,
    Drain,
    ExitCode,
    Listening,
    ReportNotReady,
    RequestsSent,
    RoutesDrained,
    RoutingTable,
    TableApplied,
    WorkerUnhealthy,
    encode_message,
)
from base.process import outlive_parent
from runtime.front.app.service import InferenceService
from runtime.front.orphans import OrphanReaper
from runtime.front.requests.deadlines import Deadlines
from runtime.front.scheduling.batch_queue import QueueLimits
from runtime.front.scheduling.dispatchers import Dispatchers
from runtime.front.server import Server
from runtime.front.telemetry.access_log import open_access_log
from runtime.front.telemetry.metrics import FrontMetrics
from runtime.front.telemetry.mirror_stats import MirrorStatsByRelease
from runtime.front.telemetry.outcomes import OutcomeCounters
from runtime.front.workers.link import WorkerLink

log = logging.getLogger(__name__)

_WELCOME_S = 1.0
"""An idle worker answers within a millisecond."""


class FrontProcess:
    """Ties the front door to its parent's control words and to uvicorn."""

    def __init__(self, control: socket.socket, listener: socket.socket, stdout_fd: int) -> None:
        self._control = control
        self._listener = listener
        self._stdout_fd = stdout_fd
        self._words: asyncio.Queue[ControlMessage | None] = asyncio.Queue(maxsize=64)
        self._speaking = asyncio.Lock()  # a word is one line, and may take several writes
        self._recorder: FrontMetrics | None = None
        self._tallies = OutcomeCounters(self._report_soon)
        self._comparisons = MirrorStatsByRelease(self._report_soon)
        self._remnants = OrphanReaper()
        self._reporting: set[asyncio.Task[None]] = set()
        self._report_due = False  # one waits for its turn to speak, and will tell all
        self._given_up: list[WorkerUnhealthy] = []  # bounded by the workers in a table, and so is the next
        self._worked: Counter[str] = Counter()

    async def run(self) -> ExitCode:
        """Serves until the parent says `drain` or is gone."""
        loop = asyncio.get_running_loop()
        self._control.setblocking(False)
        reading = loop.create_task(self._read())
        configure = await self._words.get()
        if not isinstance(configure, Configure):
            return ExitCode.PARENT_GONE
        if configure.metrics is not None:
            self._recorder = FrontMetrics(configure.metrics, self._report_soon)
        deadlines = Deadlines(configure.request_timeout_s)
        dispatch = Dispatchers(
            QueueLimits.of(configure), configure.shared_memory_max_bytes, deadlines, self._recorder, self._tallies, self._tell
        )
        service = InferenceService(dispatch, configure.body_max_bytes, self._comparisons)
        dispatch.told_requests = configure.requests_sent_interval or sys.maxsize
        self._dispatch = dispatch
        # Connections wait in the listener until this. A front door that is started again would answer 404 and 503 without its table.
        first = await self._words.get()
        if not isinstance(first, RoutingTable):
            return ExitCode.OK if isinstance(first, Drain) else ExitCode.PARENT_GONE
        await self._apply(service, first)
        with open_access_log(configure.access_log, self._stdout_fd) as access:
            server = Server(service, configure, access)
            outlive_parent()  # from here on somebody may wait for an answer
            await server.listen(self._listener)
            gc.collect()
            gc.freeze()  # what is there now stays, and no collection need look at it again
            await self._say(Listening())
            await self._say_applied(first)
            code = await self._follow(service)
            service.withdraw()
            dispatch.end()
            await server.stop()
        if code is ExitCode.PARENT_GONE:
            self._remnants.kill_orphans()
        await self._report()
        reading.cancel()
        return code

    async def _follow(self, service: InferenceService) -> ExitCode:
        while True:
            word = await self._words.get()
            match word:
                case RoutingTable():
                    await self._apply(service, word)
                    await self._say_applied(word)
                case ReportNotReady():
                    service.withdraw()
                case Drain():
                    return ExitCode.OK
                case _:
                    return ExitCode.PARENT_GONE

    async def _apply(self, service: InferenceService, table: RoutingTable) -> None:
        """Put it in force once its new releases can answer. A worker in the middle of a long prediction holds up nobody."""
        for connect in (service.prepare, service.apply):
            links = connect(table)
            for link in links:
                self._remnants.track_worker(link.worker_pid)
            await _wait_welcomed(links)

    async def _say_applied(self, table: RoutingTable) -> None:
        await self._say(TableApplied(table.generation))
        self._in_background(self._say_left(table.generation))

    async def _say_left(self, generation: int) -> None:
        await self._dispatch.wait_left()
        gc.collect()  # some 2 ms. Releases refer to themselves, and by itself Python would look for them after a hundred swaps
        await self._say(RoutesDrained(generation))

    async def _read(self) -> None:
        """Puts what the parent says in the queue; None at its end."""
        loop, lines = asyncio.get_running_loop(), ControlStream()
        try:
            while data := await loop.sock_recv(self._control, 65536):
                for word in lines.feed_bytes(data):
                    await self._words.put(word)
        except (OSError, PeerError) as exc:
            log.warning("the control socket cannot be read: %s", exc)
        await self._words.put(None)

    def _report_soon(self) -> None:
        if not self._report_due:
            self._report_due = True
            self._in_background(self._report())

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._reporting.add(task)
        task.add_done_callback(self._reporting.discard)

    def _tell(self, word: WorkerUnhealthy | RequestsSent) -> None:
        if isinstance(word, RequestsSent):
            self._worked[word.socket] += word.requests
        else:
            self._given_up.append(word)
        self._report_soon()

    async def _report(self) -> None:
        """Tells what was noted. While the parent does not listen, notes gather where they are bounded, rather than words."""
        async with self._speaking:
            self._report_due = False
            given_up, self._given_up = self._given_up, []
            worked, self._worked = self._worked, Counter()
            words: list[ControlMessage] = [
                *self._tallies.take_reports(),
                *self._comparisons.take_reports(),
                *given_up,
                *starmap(RequestsSent, worked.items()),
            ]
            for word in words:
                await self._send(word)
            for measures in () if self._recorder is None else self._recorder.take_reports():
                await self._send(measures)
                await asyncio.sleep(0)  # requests come first

    async def _say(self, word: ControlMessage) -> None:
        async with self._speaking:
            await self._send(word)

    async def _send(self, word: ControlMessage) -> None:
        try:
            await asyncio.get_running_loop().sock_sendall(self._control, encode_message(word))
        except OSError as exc:
            log.warning("the parent cannot be told %s: %s", type(word).__name__, exc)


async def _wait_welcomed(links: Sequence[WorkerLink]) -> None:
    welcomes = [asyncio.ensure_future(link.wait_welcomed()) for link in links]
    if welcomes:
        await asyncio.wait(welcomes, timeout=_WELCOME_S)


class _WithoutPandas(MetaPathFinder):
    """pyarrow imports pandas when it first makes an array, if it is there: 45 MB and half a second, for nothing that is done here."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:  # noqa: ARG002 - as it is called
        """Says that there is no pandas."""
        if fullname == "pandas":
            raise ModuleNotFoundError("a front door does without pandas", name=fullname)


def run(control: socket.socket, listener: socket.socket, stdout_fd: int) -> ExitCode:
    """Runs one front door over sockets that the parent made, until the parent says `drain` or is gone.

    Args:
        control: its end of the parent's socket.
        listener: bound, and maybe listening already.
        stdout_fd: where lines go that the access log writes to standard output.
    """
    sys.meta_path.insert(0, _WithoutPandas())
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    # The parent ends us by a word, or by its own end, which closes the socket: what was accepted is still answered then. A Ctrl-C
    # in a terminal reaches the whole group.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    return uvloop.run(FrontProcess(control, listener, stdout_fd).run())
