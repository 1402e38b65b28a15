"""A question to a worker about the parameters of a path."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from base.errors import PexdockError

if TYPE_CHECKING:
    from runtime.front.requests.target import RequestHead


AT_ONCE_MAX = 32
"""That one worker may have: all of them fit into its socket."""


class ParameterCheck:
    """Whether the parameters of one request's path are admitted.

    Attributes:
        endpoint: of the release that is asked; that which has taken over, once it has.
        bound: no other release may be asked: the client wants this one, or it is for a copy.
        crash_count: of workers that had it.
        sent_s: when a worker was asked the last time, by the monotonic clock.
        begun: that worker has said that it answers now.
    """

    def __init__(self, asked: RequestHead, *, copied: bool) -> None:
        self._target = asked.target
        self._answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.endpoint = asked.target.endpoint
        self.parameters = asked.target.parameters
        self.bound = copied or bool(asked.version)
        self.may_go_again = not copied  # whatever holds for the endpoint's requests: nothing is computed for it
        self.crash_count = 0
        self.sent_s = 0.0
        self.begun = False

    @property
    def answered(self) -> bool:
        """Whether nobody waits any more."""
        return self._answer.done()

    @property
    def alone(self) -> bool:
        """Whether the worker that has it may have nothing else, since it may be what killed the one before."""
        return self.crash_count > 0

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
