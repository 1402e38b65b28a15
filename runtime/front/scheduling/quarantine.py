"""Quarantines requests and parameter checks whose worker exited while it had them.

One of them may have crashed the worker, but it is not known which one. So each is sent again alone, to a worker that has no other work of
this front door, and that reports when it begins to compute it. If the worker then exits without a reply, the item is the poison request. It
is found after two crashes in total, whereas halving the batch would take one crash for each halving. A worker that exits before it begins
was not crashed by the item, but by a request of another front door or by a fault of its own.
"""

from __future__ import annotations

from collections import deque

from base.errors import Full, HandlerFailed, Unavailable
from runtime.front.requests.parameter_check import ParameterCheck
from runtime.front.workers.events import WorkItem
from runtime.front.workers.link import WorkerLink
from runtime.front.workers.pool import WorkerPool

CRASHES_MAX = 5
"""Limit of the crashes of workers that had a request but had not begun it. A broken model may crash every worker that loads it."""


class PoisonRequest(HandlerFailed):
    """The request ended its workers."""


class Quarantine:
    """The suspects of one release. Their number is limited by the work that its workers had in flight.

    Attributes:
        waiting: Suspects that wait for a worker; some may already be answered.
        is_active: Whether a worker is reserved for suspects.
    """

    def __init__(self) -> None:
        self.waiting: deque[WorkItem] = deque()
        self.is_active = False

    def on_crash(self, item: WorkItem, *, poison: bool) -> None:
        """Quarantines an item of a worker that has exited, or fails it if it may not be sent again.

        Args:
            item: A request or check that the worker had.
            poison: Whether the worker had begun this item and no other.
        """
        if item.answered:
            return
        item.crash_count += 1
        crashes = f"{item.crash_count} workers exited while they had this request"
        if not item.may_retry:
            item.fail(Unavailable("the worker that had this request has exited, and the request may not be computed twice"), blamed=True)
        elif poison:
            item.fail(PoisonRequest(f"{crashes}, the last while it computed nothing else"))
        elif item.crash_count >= CRASHES_MAX:
            item.fail(Unavailable(f"{crashes}; try again later"), blamed=True)
        else:
            self.waiting += item.suspects()

    def send_suspects(self, workers: WorkerPool) -> None:
        """Sends one suspect to each worker that has nothing to compute. While suspects wait, other workers get no new work."""
        self.is_active = False
        for link in workers.links.values():
            while self.waiting and self.waiting[0].answered:
                self.waiting.popleft()
            work = link.in_flight
            if self.waiting:
                work.reserve(for_suspects=True)
                if link.up and work.is_idle:
                    self._send(link, self.waiting.popleft())
            elif not work.busy:
                work.reserve(for_suspects=False)
            self.is_active = self.is_active or work.is_reserved

    def take_all(self) -> list[WorkItem]:
        """Removes and returns all suspects that wait."""
        items = list(self.waiting)
        self.waiting.clear()
        return items

    def _send(self, link: WorkerLink, item: WorkItem) -> None:
        try:
            if isinstance(item, ParameterCheck):
                link.send_check(item)
            else:
                link.send_batch([item])
        except Full as exc:
            item.fail(exc)
        except Unavailable:  # the worker turned out to be gone while sending
            self.waiting.append(item)
