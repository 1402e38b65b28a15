"""How requests to watched releases ended, until it is told. Everything here runs in the loop's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from base.ipc.control import OutcomeReport

INTERVAL_S = 0.2
"""A release that fails is taken back by what is told here, so it is told soon; a word costs the supervisor some 50 µs."""


class OutcomeCounter:
    """One watched release, from one report to the next.

    Args:
        noted: called when there is something to tell where there was nothing.
    """

    def __init__(self, release_id: str, noted: Callable[[OutcomeCounter], None]) -> None:
        self._id = release_id
        self._noted = noted
        self._answered = self._failed = 0

    def record_outcome(self, *, failed: bool) -> None:
        """A request has been answered; `failed`, if the release is to blame that it was no better."""
        if not self._answered:
            self._noted(self)
        self._answered += 1
        self._failed += failed

    def take(self) -> OutcomeReport:
        """All since the last time."""
        found = OutcomeReport(self._id, self._answered, self._failed)
        self._answered = self._failed = 0
        return found


class OutcomeCounters:
    """All watched releases of a front door. While nothing is noted no timer is armed.

    Args:
        due: called `INTERVAL_S` after the first note; it should `take` them, soon.
    """

    def __init__(self, due: Callable[[], None]) -> None:
        self._due = due
        self._noted: list[OutcomeCounter] = []

    def release_counter(self, release_id: str) -> OutcomeCounter:
        """What a release's endpoints tell how their requests end."""
        return OutcomeCounter(release_id, self._note)

    def take_reports(self) -> Iterator[OutcomeReport]:
        """What is to be told."""
        noted, self._noted = self._noted, []
        for each in noted:
            yield each.take()

    def _note(self, tally: OutcomeCounter) -> None:
        if not self._noted:
            asyncio.get_running_loop().call_later(INTERVAL_S, self._due)
        self._noted.append(tally)
