"""Clients that send requests without a pause, each with unique rows, and record the outcome of each request."""

import itertools
import threading
from collections import Counter
from typing import Self

from rawhttp import Raw, post


class LoadClients:
    """Threads with one connection each, over which they ask `path` to double numbers until nobody listens or the block ends.

    Args:
        kept: Whether they keep connections until a response is the last one; otherwise they make one for each request.

    Attributes:
        statuses: Number of responses by status.
        faults: All errors: a response with other rows, or a connection that ends without a response.
        refused: Number of connections that were refused before anything was sent.
    """

    def __init__(self, address: str, path: str, count: int = 16, *, kept: bool = True) -> None:
        self._address, self._path, self._kept = address, path, kept
        self._numbers = itertools.count(1)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(count)]
        self.statuses: Counter[int] = Counter()
        self.faults: list[str] = []
        self.refused = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.wait()

    def wait(self) -> None:
        """Waits until all clients have found that nobody listens, or were stopped."""
        for thread in self._threads:
            thread.join(30)

    def _call(self) -> None:
        while not self._stop.is_set():
            try:
                raw = Raw(self._address)
            except ConnectionRefusedError:
                self.refused += 1
                return
            except OSError as exc:
                self.faults.append(f"{exc!r}")
                continue
            with raw:
                try:
                    self._converse(raw)
                except (OSError, EOFError) as exc:
                    self.faults.append(f"{exc!r}")

    def _converse(self, raw: Raw) -> None:
        while not self._stop.is_set():
            number = next(self._numbers)
            raw.send(post(self._path, [{"x": number}]))
            answer = raw.answer()
            self.statuses[answer.status] += 1
            if answer.status == 200 and answer.json()["predictions"] != [2 * number]:
                self.faults.append(f"{number} was answered with {answer.body!r}")
            if not self._kept:
                return
            if answer.headers.get("connection") == "close":
                assert raw.ended()
                return
