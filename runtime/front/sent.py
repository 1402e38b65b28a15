"""The batches that one worker has, as a front door remembers them, and whether they say that the worker hangs. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.front.questions import Question
    from runtime.front.request import Request
    from runtime.front.rooms import Room


@dataclass(eq=False)
class Sent:
    """A batch that the worker has. It is parked while it takes no place in flight: it waits for its model or for its client."""

    requests: list[Request]
    rows: int
    room: Room
    reply_room: Room
    sent_s: float
    parked: bool = False

    @property
    def wanted(self) -> bool:
        """Whether anybody waits for it still."""
        return any(not request.answered for request in self.requests)


def hangs(batches: Collection[Sent], questions: Collection[Question] = ()) -> bool:
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
    return any(each.requests[0].endpoint.words.alone for each in batches) and not any(each.wanted for each in batches)
