"""Moves waiting work from a release without workers to another release that serves the same endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from base.errors import PexdockError
from runtime.front.requests.endpoint import ServedEndpoint
from runtime.front.requests.parameter_check import ParameterCheck
from runtime.front.scheduling.endpoint_queue import EndpointQueue
from runtime.front.workers.events import WorkItem


class Failover:
    """Moves work between releases.

    Args:
        find_target: Returns the queue that takes over the work of an endpoint; None if there is none.
    """

    def __init__(self, find_target: Callable[[ServedEndpoint], EndpointQueue | None]) -> None:
        self._find_target = find_target

    def hand_over(self, items: Iterable[WorkItem], error: PexdockError, *, may_move: bool) -> None:
        """Moves items of a release that gets no more workers. Fails the items that are pinned or have no target."""
        for item in items:
            if not item.answered:
                target = self._find_target(item.endpoint) if may_move and not item.pinned else None
                if target is None:
                    item.fail(error)
                else:
                    _move(item, target)

    def pass_on(self, queues: Iterable[EndpointQueue]) -> None:
        """Moves requests that wait while there is no worker. Suspects stay, because they might crash the target's workers too."""
        for queue in queues:
            if queue.waiting.size and (target := self._find_target(queue)) is not None:
                for request in queue.waiting.take_all():
                    if request.pinned:
                        queue.waiting.add_request(request)
                    else:
                        _move(request, target)


def _move(item: WorkItem, target: EndpointQueue) -> None:
    """Queues an item for another release. Its deadline does not change."""
    if isinstance(item, ParameterCheck):
        item.endpoint = target
        target.scheduler.enqueue_check(item)
        return
    source, outcomes = item.endpoint.release, target.release.outcomes
    source.open_streams.discard(item)
    if source.outcomes is not None:
        source.outcomes.end_request(item, answered=False)
    item.endpoint = target
    if item.crash_count:
        if outcomes is not None:
            outcomes.begin_request(item)
        target.scheduler.enqueue_suspect(item)
    else:
        target.enqueue(item)
