"""Tracks the batches and parameter checks that one worker has. Knows the clock, but no channel."""

from __future__ import annotations

import time
from dataclasses import dataclass

from base.errors import PeerError
from runtime.front.memory.slots import Slot
from runtime.front.requests.parameter_check import ParameterCheck
from runtime.front.requests.request import InferenceRequest
from runtime.front.workers.stored_reply import StoredReply

IN_FLIGHT_MAX = 2
"""Limit of batches in flight: one in the handler and one in the socket, so that the worker never waits for the front door between
batches."""


@dataclass(eq=False)
class InFlightBatch:
    """A batch that a worker has.

    Attributes:
        slot: Slot of its rows.
        reply_slot: Slot of its reply; a different slot once the worker has requested a larger reply buffer.
        table: Slot of its rows if they are in a file; `slot` then has no rows.
        stored: Its reply, if that is sent in parts; None before the worker has told its size.
        sent_s: Time when it was sent, on the monotonic clock.
        parked: Whether it waits for its model or its client, so that it does not block other batches.
        begun: Whether the worker has reported that it began the batch, and has not parked it since.
        has_unread_part: Whether its worker has sent a part of a response and was not asked for the next one.
        is_cancelled: Whether the worker has been notified that nobody waits for it.
        computed_s: Time that the worker computed it, in seconds, set when it is done; 0 if the batch was parked.
    """

    requests: list[InferenceRequest]
    rows: int
    slot: Slot
    reply_slot: Slot
    sent_s: float
    table: Slot | None = None
    stored: StoredReply | None = None
    parked: bool = False
    started: bool = False
    has_unread_part: bool = False
    is_cancelled: bool = False
    computed_s: float = 0.0

    @property
    def is_suspect(self) -> bool:
        """True if a worker has exited while it had this work."""
        return self.requests[0].crash_count > 0

    @property
    def is_wanted(self) -> bool:
        """True if anybody still waits for the batch."""
        return any(not request.answered for request in self.requests)


class InFlightTable:
    """The batches and checks of one worker, by number.

    Attributes:
        batches: In the order in which they were sent.
        checks: Parameter checks that the worker has not answered.
        busy: Number of batches that it has to compute, and of checks that must be its only work.
        computing_rows: Number of rows in the batches that it has to compute.
        batches_max: Limit of `busy`. If it is 1, a batch counts also while it is parked, since its worker shall get nothing beside it.
        next_number: Number of the next batch or check.
        is_reserved: Whether it is reserved for suspects.
    """

    def __init__(self, batches_max: int = IN_FLIGHT_MAX) -> None:
        self.batches: dict[int, InFlightBatch] = {}
        self.checks: dict[int, ParameterCheck] = {}
        self.busy = self.computing_rows = 0
        self.batches_max = self._usual_batches_max = batches_max
        self.is_reserved = False
        self._last_reply_s = 0.0
        self.next_number = 1

    def reserve(self, *, for_suspects: bool) -> None:
        """Reserves the worker for suspects, which it gets one at a time, or frees it for all work."""
        self.is_reserved = for_suspects
        self.batches_max = 1 if for_suspects else self._usual_batches_max

    @property
    def is_empty(self) -> bool:
        """True if the worker has no batches and no checks."""
        return not (self.batches or self.checks)

    @property
    def is_idle(self) -> bool:
        """True if the worker has no batch to compute and no check."""
        return not (self.busy or self.checks)

    @property
    def silent_s(self) -> float:
        """Time for which the worker has had work but has not replied, in seconds."""
        since_s = [each.sent_s for each in self.batches.values()] + [each.sent_s for each in self.checks.values()]
        return time.monotonic() - max(self._last_reply_s, min(since_s, default=0.0))

    def add_batch(self, number: int, batch: InFlightBatch) -> None:
        """Adds a batch that was sent under the next number."""
        self.next_number = (number + 1) & 0xFFFFFFFF
        self.batches[number] = batch
        self.busy += 1
        self.computing_rows += batch.rows

    def add_check(self, number: int, check: ParameterCheck) -> None:
        """Adds a check that was sent under the next number."""
        self.next_number = (number + 1) & 0xFFFFFFFF
        check.sent_s = time.monotonic()
        self.checks[number] = check
        self.busy += check.is_suspect

    def take_batch(self, number: int) -> InFlightBatch:
        """Removes and returns a batch that the worker has finished.

        Raises:
            PeerError: the worker does not have such a batch.
        """
        batch = self.batches.pop(number, None)
        if batch is None:
            raise PeerError("a reply to a batch that the worker does not have")
        now_s = time.monotonic()
        if not batch.parked:
            self.busy -= 1
            self.computing_rows -= batch.rows
            batch.computed_s = now_s - max(batch.sent_s, self._last_reply_s)  # from when the worker had no other work
        self._last_reply_s = now_s
        return batch

    def take_check(self, number: int) -> ParameterCheck:
        """Removes and returns a check that the worker has answered.

        Raises:
            PeerError: the worker does not have such a check.
        """
        check = self.checks.pop(number, None)
        if check is None:
            raise PeerError("a reply to a parameter check that the worker does not have")
        self.busy -= check.is_suspect
        self._last_reply_s = time.monotonic()
        return check

    def take_all(self) -> tuple[list[InFlightBatch], list[ParameterCheck]]:
        """Removes and returns all batches and checks."""
        batches, checks = list(self.batches.values()), list(self.checks.values())
        self.batches, self.checks = {}, {}
        return batches, checks

    def mark_parked(self, batch: InFlightBatch) -> None:
        """Marks a batch as waiting for its model or its client."""
        if self._usual_batches_max == 1:
            return
        batch.parked = True
        self.busy -= 1
        self.computing_rows -= batch.rows

    def mark_started(self, number: int) -> None:
        """Marks a suspect as begun by the worker.

        Raises:
            PeerError: there is no suspect with this number.
        """
        item = self.batches.get(number) or self.checks.get(number)
        if item is None or not item.is_suspect:
            raise PeerError("a report that the worker began what is no suspect")
        item.started = True

    def take_unwanted(self) -> list[int]:
        """Returns, once each, the numbers of batches for which no client waits any more."""
        found = []
        for number, batch in self.batches.items():
            if not (batch.is_cancelled or batch.is_wanted):
                batch.is_cancelled = True
                found.append(number)
        return found

    def contains_item(self, item: InferenceRequest | ParameterCheck) -> bool:
        """Returns whether the worker has a request or a check, answered or not."""
        return item in self.checks.values() or any(item in batch.requests for batch in self.batches.values())

    def is_hung(self) -> bool:
        """Returns whether the worker hangs. Called when it has not replied for a while after the deadline of some of its work.

        The worker computes the first batch that is not parked. If a client waits for that batch, its deadline has not passed. If all
        batches are parked, the worker computes nothing, and would have dropped the cancelled one, unless it computes a part of another
        one. A check takes no time, so if nobody waits for any of the checks and no batch is computed, the worker hangs.
        """
        computing = next((batch for batch in self.batches.values() if not batch.parked), None)
        if computing is not None:
            return not computing.is_wanted
        if self.checks:
            return all(check.answered for check in self.checks.values())
        batches = self.batches.values()
        return any(batch.requests[0].endpoint.spec.unbatched for batch in batches) and not any(batch.is_wanted for batch in batches)

    def poison_item(self) -> InferenceRequest | ParameterCheck | None:
        """Returns the item that the worker had begun when it exited; None if that is not known."""
        for batch in self.batches.values():
            if batch.started:
                return batch.requests[0]
        return next((check for check in self.checks.values() if check.started), None)
