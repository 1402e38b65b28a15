"""The links to the workers of one release."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from base.errors import PexdockError, Unavailable
from runtime.front.memory.slots import SLOTS
from runtime.front.requests.endpoint import ServedRelease
from runtime.front.workers.events import WorkerEvents
from runtime.front.workers.link import WorkerLink

log = logging.getLogger(__name__)

STREAMS_PER_WORKER_MAX = SLOTS * 3 // 4
"""Limit of streamed responses of one worker. Each keeps its slot, and batches need slots too."""

CHECKS_PER_WORKER_MAX = 32
"""Limit of parameter checks of one worker. This many fit into its socket."""


class WorkerPool:
    """Connects to workers, and chooses the worker that gets the next work.

    Args:
        release: Release of the workers. The pool maintains its `up`.
        events: Handles the reports of the links.

    Attributes:
        links: Links to workers of the routing table, by socket.
        leaving: Links that close once their workers have replied to all their work.
    """

    def __init__(self, release: ServedRelease, events: WorkerEvents) -> None:
        self.release = release
        self._events = events
        self.links: dict[str, WorkerLink] = {}
        self.leaving: list[WorkerLink] = []

    @property
    def up_count(self) -> int:
        """Number of workers that can take batches."""
        return sum(link.up for link in self.links.values())

    @property
    def streams_max(self) -> int:
        """Limit of streamed responses of all workers together."""
        return STREAMS_PER_WORKER_MAX * self.up_count

    @property
    def is_empty(self) -> bool:
        """True if no worker is left, not even one that is leaving."""
        return not (self.links or self.leaving)

    def every_link(self) -> list[WorkerLink]:
        """Returns the links to all workers, including leaving ones."""
        return [*self.links.values(), *self.leaving]

    def check_available(self) -> None:
        """Raises Unavailable if no worker takes batches or is about to introduce itself."""
        if not (self.release.up or any(link.open and not link.retiring for link in self.links.values())):
            raise Unavailable(f"no worker of {self.release.spec.model} is ready; try again later")

    def connect_workers(self, sockets: Sequence[str]) -> list[WorkerLink]:
        """Connects to the workers that have no link yet. Returns the new links, whose workers have not introduced themselves yet."""
        spec = self.release.spec
        made = []
        for path in sockets:
            if path not in self.links:
                try:
                    self.links[path] = link = WorkerLink(path, self.release, self._events)
                except PexdockError as exc:
                    log.warning("%s %s: %s", spec.model, spec.version, exc)
                    continue
                made.append(link)
        return made

    def retire_except(self, sockets: Sequence[str]) -> None:
        """Retires the links to all workers but those at `sockets`."""
        for path in [path for path in self.links if path not in sockets]:
            link = self.links.pop(path)
            self.leaving.append(link)
            link.retire()
        self.update_up()

    def drop_closed(self) -> None:
        """Forgets links that have closed."""
        self.links = {path: link for path, link in self.links.items() if link.open}
        self.leaving = [link for link in self.leaving if link.open]

    def update_up(self) -> None:
        """Updates whether the release is up, after a link has gone down."""
        self.release.up = any(link.up for link in self.links.values())

    def least_busy(self) -> WorkerLink | None:
        """Returns the link to the least busy worker that can take a batch now; None if all have enough work."""
        found: WorkerLink | None = None
        found_busy = found_in_flight = 0
        for link in self.links.values():
            work = link.in_flight
            in_flight = len(work.batches)
            if not link.up or work.busy >= work.batches_max or in_flight >= SLOTS:
                continue
            if found is None or work.busy < found_busy or (work.busy == found_busy and in_flight < found_in_flight):
                found, found_busy, found_in_flight = link, work.busy, in_flight
        return found

    def least_busy_for_check(self) -> WorkerLink | None:
        """Returns the link to the least busy worker that can take a parameter check and is not reserved for suspects; None if none can."""
        able = [
            (link.in_flight.busy, len(link.in_flight.batches), len(link.in_flight.checks), index, link)
            for index, link in enumerate(self.links.values())
            if link.up and not link.in_flight.is_reserved and len(link.in_flight.checks) < CHECKS_PER_WORKER_MAX
        ]
        return min(able)[-1] if able else None
