"""Mirrors requests to another release, compares its responses with those of the clients, and drops them. Runs in the loop's thread.

Mirroring does not affect the client: the copy starts after the client's request, and waits in a queue of its own for a worker of its own.
Copies are limited in number, rows and memory; beyond the limits they are skipped.
"""

from __future__ import annotations

import asyncio

from base.errors import PexdockError
from runtime.front.codecs.decoder import body_reader, is_quick
from runtime.front.codecs.rows import Rows
from runtime.front.memory.body_buffer import BodyBuffer
from runtime.front.requests.endpoint import ServedRelease
from runtime.front.requests.request_head import Mirror, ReplyObserver, RequestHead
from runtime.front.requests.target import Target
from runtime.front.routing.mirrored_request import WHOLE_COPY_ROWS, InFlightCopies, MirroredPair, MirroredRequest, OriginalObserver
from runtime.front.routing.weighted_choice import SILVER, LowDiscrepancySequence
from runtime.front.scheduling.admission import check_available, check_parameters, submit_copy
from runtime.front.telemetry.metrics import now_s
from runtime.front.telemetry.mirror_stats import MirrorStats


class RequestMirror:
    """Sends copies of requests to one release.

    Args:
        release: The mirror release.
        stats: Records the comparisons.
    """

    def __init__(self, release: ServedRelease, stats: MirrorStats) -> None:
        self.release = release
        self._stats = stats
        self._in_flight = InFlightCopies()
        self._checks: set[asyncio.Task[None]] = set()

    def copy(self, head: RequestHead, target: Target, rows: Rows, body: bytes | BodyBuffer, request_id: str) -> ReplyObserver | None:
        """Sends a copy of a request in the next iteration of the loop, unless the limits forbid it.

        A body in a body buffer is not copied, since the buffer can be handed to only one worker, and is 1 MiB or larger. Neither is a body
        that would have to be decoded again in the event loop and takes long.

        Returns:
            The observer of the original request; None if the copy is skipped.
        """
        is_whole = head.target.endpoint.spec.whole or target.endpoint.spec.whole
        counted_rows = max(rows.count, WHOLE_COPY_ROWS) if is_whole else rows.count
        if (
            isinstance(body, BodyBuffer)
            or not self.release.up
            or not rows.count  # only an endpoint that takes whole requests gets such a request
            or not self._in_flight.has_room(counted_rows)
            or not _is_quick(head, target, body)
        ):
            self._stats.record_skipped()
            return None
        pair = MirroredPair(self._in_flight, self._stats, counted_rows, now_s())
        asyncio.get_running_loop().call_soon(self._send, pair, head, target, rows, body, request_id)
        return OriginalObserver(pair)

    def _send(self, pair: MirroredPair, head: RequestHead, target: Target, rows: Rows, body: bytes, request_id: str) -> None:
        try:
            if not target.endpoint.decodes_like(head.target.endpoint):
                rows = body_reader(target.endpoint.decoder, head.content_type)(body)
            target.require_valid()
            check_available(target.endpoint)
            copied_head = RequestHead(target, head.content_type, "")
            request = MirroredRequest(pair, copied_head, rows, request_id)
        except PexdockError as exc:
            pair.end_copy(pair.failure(exc, blamed=False))
            return
        if target.admitted:
            submit_copy(request)
        else:
            task = asyncio.get_running_loop().create_task(self._check_and_submit(request))
            self._checks.add(task)
            task.add_done_callback(self._checks.discard)

    @staticmethod
    async def _check_and_submit(request: MirroredRequest) -> None:
        try:
            await check_parameters(request.head, copied=True)
        except PexdockError as exc:
            request.fail(exc)
        else:
            submit_copy(request)


def _is_quick(head: RequestHead, target: Target, body: bytes) -> bool:
    """Returns whether the mirror's release decodes a body as the original one does, or quickly."""
    mirrored = target.endpoint
    return mirrored.spec.raw or mirrored.decodes_like(head.target.endpoint) or is_quick(mirrored.decoder, head.content_type, body)


class MirrorSampler:
    """Chooses which requests for one model are mirrored.

    Attributes:
        mirror: Gets the copies.
        fraction: Fraction of the requests that are mirrored; exact to one or two requests in any interval.
        sequence: Chooses them, independently of the release that answers.
    """

    def __init__(self, mirror: RequestMirror, fraction: float) -> None:
        self.mirror = mirror
        self.fraction = fraction
        self.sequence = LowDiscrepancySequence(SILVER)

    def for_target(self, target: Target | None) -> TargetMirror | None:
        """Returns the mirror of requests for a path, given its target in the mirror release; None if they cannot be mirrored."""
        return None if target is None or target.endpoint.spec.unbatched else TargetMirror(self, target)


class TargetMirror(Mirror):
    """Mirrors requests for one path.

    Args:
        sampler: Chooses the requests.
        target: Target of the path in the mirror release.
    """

    __slots__ = ("_sampler", "target")

    def __init__(self, sampler: MirrorSampler, target: Target) -> None:
        self._sampler = sampler
        self.target = target

    def should_copy(self) -> bool:
        """Returns whether the next request is to be copied; called once for each request."""
        return self._sampler.sequence.next_point() < self._sampler.fraction

    def copy(self, head: RequestHead, rows: Rows, body: bytes | BodyBuffer, request_id: str) -> ReplyObserver | None:
        """Copies a request (see `RequestMirror.copy`)."""
        return self._sampler.mirror.copy(head, self.target, rows, body, request_id)
