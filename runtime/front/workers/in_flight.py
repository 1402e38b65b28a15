"""The batches that one worker has, as a front door remembers them, and whether they say that the worker hangs. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.front.memory.slots import SLOTS, Slot

if TYPE_CHECKING:
    from runtime.front.requests.parameter_question import ParameterCheck
    from runtime.front.requests.request import InferenceRequest

IN_FLIGHT_MAX = 2
"""One batch in the handler, one waiting in the socket: the worker never waits for the front door between batches."""

STREAMS_MAX = SLOTS * 3 // 4
"""Streamed answers that one worker may have begun: each keeps its slot, and the others must find some too."""


@dataclass(eq=False)
class InFlightBatch:
    """A batch that the worker has.

    Attributes:
        parked: it takes no place in flight: it waits for its model or for its client.
        begun: the worker has said that it computes it, and has not said since that it does not.
    """

    requests: list[InferenceRequest]
    rows: int
    room: Slot
    reply_room: Slot
    sent_s: float
    parked: bool = False
    begun: bool = False

    @property
    def is_suspect(self) -> bool:
        """Whether it may be what killed the worker before."""
        return self.requests[0].crash_count > 0

    @property
    def wanted(self) -> bool:
        """Whether anybody waits for it still."""
        return any(not request.answered for request in self.requests)


def hangs(batches: Collection[InFlightBatch], questions: Collection[ParameterCheck] = ()) -> bool:
    """Whether a worker hangs that has said nothing of a batch for a while since its time was over.

    What it computes is the first that is not parked. Where somebody waits for that, its time is not over. Where all are parked, it computes
    nothing, and would have said at once that it has dropped the one that was cancelled, unless it computes a part of another.

    Args:
        batches: in the order in which they were sent.
        questions: that it has not answered, which takes no time. Where nobody waits for any of them, and it computes nothing, one hangs.
    """
    computing = next((each for each in batches if not each.parked), None)
    if computing is not None:
        return not computing.wanted
    if questions:
        return all(each.answered for each in questions)
    return any(each.requests[0].endpoint.spec.unbatched for each in batches) and not any(each.wanted for each in batches)


def poison_request(batches: Collection[InFlightBatch], questions: Collection[ParameterCheck]) -> InferenceRequest | ParameterCheck | None:
    """Of what a worker had when it ended, that which it had begun; None where that is not known."""
    for batch in batches:
        if batch.begun:
            return batch.requests[0]
    return next((each for each in questions if each.begun), None)
