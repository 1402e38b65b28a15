"""Questions to workers: does a spec admit the parameters of a path? Each has its one answer.

A question is in the danger that a request is in: a worker may die of it, or while it has it. So it waits for a worker as requests do, goes
once more where its worker died, then alone, and whoever asked is told when it has killed two.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from base.errors import DeadlineExceeded, PexdockError

if TYPE_CHECKING:
    from runtime.front.requests.request import Asked

AT_ONCE_MAX = 32
"""That one worker may have: all of them fit into its socket."""

STEP_S = 0.01
"""What a question took of a request's time is counted in steps of so much, since requests of equal time share a lane of `Deadlines`."""


class Question:
    """Whether the parameters of one request's path are admitted.

    Attributes:
        endpoint: of the release that is asked; that which has taken over, once it has.
        bound: no other release may be asked: the client wants this one, or it is for a copy.
        deaths: of workers that had it.
        sent_s: when a worker was asked the last time, by the monotonic clock.
        begun: that worker has said that it answers now.
    """

    def __init__(self, asked: Asked, *, copied: bool) -> None:
        self._target = asked.target
        self._answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.endpoint = asked.target.endpoint
        self.parameters = asked.target.parameters
        self.bound = copied or bool(asked.version)
        self.may_go_again = not copied  # whatever holds for the endpoint's requests: nothing is computed for it
        self.deaths = 0
        self.sent_s = 0.0
        self.begun = False

    @property
    def answered(self) -> bool:
        """Whether nobody waits any more."""
        return self._answer.done()

    @property
    def alone(self) -> bool:
        """Whether the worker that has it may have nothing else, since it may be what killed the one before."""
        return self.deaths > 0

    is_suspect = alone

    def answer(self, error: PexdockError | None) -> None:
        """What the spec says: why the parameters are not admitted, or that they are, which holds until the routing table changes."""
        if error is not None:
            self.fail(error)
            return
        self._target.admitted = True
        if not self.answered:
            self._answer.set_result(None)

    def fail(self, error: PexdockError, *, blamed: bool = False) -> None:  # noqa: ARG002 - as a request is told
        """It has no other answer than this error."""
        if not self.answered:
            self._answer.set_exception(error)

    async def wait(self) -> None:
        """Until it is answered. Cancelled, nobody waits any more.

        Raises:
            PexdockError: the parameters are not admitted, or nobody can say so.
        """
        await self._answer


async def check(asked: Asked, *, copied: bool = False) -> float:
    """Has the spec look at the parameters of a request's path, unless it has admitted them before.

    Args:
        asked: what its head says.
        copied: it is a copy, which does not go again.

    Returns:
        How much of the request's time that took, in whole steps.

    Raises:
        PexdockError: they are not admitted, or nobody could be asked in time.
    """
    if asked.target.admitted:
        return 0.0
    release, loop = asked.target.endpoint.release, asyncio.get_running_loop()
    began_s = loop.time()
    release.check_up()
    question = Question(asked, copied=copied)
    release.ask(question)
    try:
        async with asyncio.timeout(asked.timeout_s):
            await question.wait()
    except TimeoutError as exc:
        raise DeadlineExceeded(f"the parameters were not looked at within {asked.timeout_s:g} s") from exc
    finally:
        question.endpoint.release.forget(question)
    return (loop.time() - began_s) // STEP_S * STEP_S
