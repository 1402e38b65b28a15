"""A real front door whose supervisor is the test, and real workers of the model `tiny` (`tests/models/releases.py`)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from base.ipc.control import ControlMessage
from base.ipc.front_door_control import (
    Configure,
    FailureLimit,
    Listening,
    Route,
    RoutesDrained,
    RoutingTable,
    SplitSpec,
    TableApplied,
    WorkerUnhealthy,
)
from base.ipc.release_spec import ReleaseSpec
from front_process import DEADLINE_S, FrontDoor
from rawhttp import Answer, Raw, post, read_before

RELEASES = Path(__file__).parent.parent / "models" / "releases.py"
_PATH = {"PYTHONPATH": os.pathsep.join(sys.path)}

W = TypeVar("W")


class TinyWorker:
    """One worker, from `start` to `end`. Its spec is known from the start.

    Args:
        options: Options of `releases.py`.
    """

    def __init__(self, path: Path, version: str, *options: object) -> None:
        self.path = path
        self.version = version
        command = [sys.executable, str(RELEASES), str(path), version, *map(str, options)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | _PATH)

    def spec(self) -> ReleaseSpec:
        """Returns the spec of its release, once it listens."""
        if not hasattr(self, "_words"):
            assert self.process.stdout is not None
            self._words = msgspec.json.decode(self.process.stdout.readline(), type=ReleaseSpec)
        return self._words

    def route(self, release_id: str, *others: TinyWorker, failure_limit: FailureLimit | None = None) -> Route:
        """Returns the route of its release, to which other workers may belong, too; waits until all listen."""
        for each in others:
            each.spec()
        return Route(self.spec(), [str(each.path) for each in (self, *others)], release_id, failure_limit)

    def kill(self) -> None:
        """Kills it at once, with all its requests."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(DEADLINE_S)

    def end(self) -> None:
        """Drains it, or kills it if that takes too long, and removes its socket file."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.path.unlink(missing_ok=True)


class Front(FrontDoor):
    """A front door, and its clients.

    Attributes:
        heard: All messages that it has sent so far, up to the last one that somebody waited for.
    """

    def __init__(self, limits: Configure | None = None) -> None:
        super().__init__(limits)
        self._generation = 0
        self.heard: list[ControlMessage] = []

    def table(self, *routes: Route, sharing: SplitSpec | None = None) -> None:
        """Sends a routing table, and returns once it is in force."""
        self._generation += 1
        self.send_message(
            RoutingTable(self._generation, list(routes), startup_complete=True, splits={} if sharing is None else {"tiny": sharing})
        )
        self.until(TableApplied, lambda word: word.generation == self._generation)

    def next_message(self) -> ControlMessage:
        """Returns its next message."""
        self.heard.append(super().next_message())
        return self.heard[-1]

    def until(self, kind: type[W], right: Callable[[W], bool] = lambda _: True) -> W:
        """Returns the next message of a kind that satisfies the condition. Drops those before it, except unexpected kinds."""
        while True:
            word = self.next_message()
            if isinstance(word, kind) and right(word):
                return word
            assert isinstance(word, kind | Listening | TableApplied | RoutesDrained | WorkerUnhealthy) or kind is TableApplied, word

    def ask(self, rows: object, *headers: str, path: str = "/tiny") -> Answer:
        """Returns one response, over a connection of its own."""
        with Raw(self.address) as raw:
            raw.send(post(path, rows, *headers))
            return raw.answer()

    def connections(self) -> int:
        """Returns the number of its clients."""
        port = int(self.address.rpartition(":")[2])
        established = "01"
        rows = [line.split() for line in Path(f"/proc/{self.process.pid}/net/tcp").read_text().splitlines()[1:]]
        return sum(row[1].endswith(f":{port:04X}") and row[3] == established for row in rows)

    def asked(self, rows: list[object], *headers: str, path: str = "/tiny") -> list[Answer]:
        """Returns many responses, over one connection."""
        with Raw(self.address) as raw:
            found = []
            for each in rows:
                raw.send(post(path, each, *headers))
                found.append(raw.answer())
            return found


@contextmanager
def asking(front: Front, xs: Sequence[float], path: str = "/tiny", *headers: str) -> Iterator[list[Raw]]:
    """Opens connections, each with a request that the front door has read."""
    with read_before(front.address, [post(path, [{"x": x}], *headers) for x in xs], "/tiny") as raws:
        yield raws


class PendingRequests:
    """Requests that were sent, each over a connection of its own. The front door may still have to read them."""

    def __init__(self, front: Front, xs: Sequence[float], path: str = "/tiny") -> None:
        self._raws = [Raw(front.address) for _ in xs]
        for raw, x in zip(self._raws, xs, strict=True):
            raw.send(post(path, [{"x": x}]))

    def answers(self) -> list[Answer]:
        """Returns all responses, in the order of the requests."""
        found = []
        for raw in self._raws:
            with raw:
                found.append(raw.answer())
        return found


def lines(log: Path) -> list[list[float]]:
    """Returns the x of each batch's rows, in the order in which they were computed."""
    return [[float(x) for x in line.split()] for line in log.read_text().splitlines()] if log.exists() else []


def version(answer: Answer) -> str:
    """Returns the release that has answered."""
    assert answer.status == 200, answer
    return str(answer.json()["predictions"][0]["version"])


class Workers:
    """Makes workers in a folder, and ends them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._number = 0

    def __call__(self, version: str, *options: object) -> TinyWorker:
        self._number += 1
        worker = TinyWorker(self._folder / f"w{self._number}.sock", version, *options)
        self._stack.callback(worker.end)
        return worker


@contextmanager
def workers(folder: Path) -> Iterator[Workers]:
    """Yields a maker of workers, which end with the block."""
    with ExitStack() as stack:
        yield Workers(folder, stack)
