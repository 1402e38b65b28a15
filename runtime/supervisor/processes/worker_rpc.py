"""Questions to one worker that wait for their answers. Runs in the supervisor; knows no process."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from base.errors import DeadlineExceeded, Full, Unavailable
from base.ipc import failure
from base.ipc.cache_control import CacheRequest, CacheRequestRefused, CacheResponse

ANSWER_S = 5.0
"""A worker answers within a millisecond, unless something holds the interpreter's lock all the while, or it is stopped."""

UNANSWERED_MAX = 32
"""Questions that lie in the socket of a worker that does not read them, each of no more bytes than a body of the admin side."""


class WorkerRpc:
    """Of one worker process; the next one has its own.

    Args:
        send: says a question to the worker; must not block.
        answer_s: how long an answer may take.
    """

    def __init__(self, send: Callable[[CacheRequest], None], answer_s: float = ANSWER_S) -> None:
        self._send = send
        self._answer_s = answer_s
        self._numbers = itertools.count(1)
        # One that was not answered in time stays until it is: the worker has still to read it.
        self._open: dict[int, asyncio.Future[CacheResponse | Unavailable]] = {}

    async def call(self, question: Callable[[int], CacheRequest]) -> CacheResponse:
        """What the worker answers.

        Args:
            question: makes it, with the number that it is given.

        Raises:
            PexdockError: the worker refused it.
            DeadlineExceeded: it did not answer in time, and may do what it was asked for later.
            Full: it has not answered many questions before this one, which was not sent.
            Unavailable: it ended meanwhile.
        """
        if len(self._open) >= UNANSWERED_MAX:
            raise Full(f"the worker has yet to answer {len(self._open)} questions")
        number = next(self._numbers)
        answered: asyncio.Future[CacheResponse | Unavailable] = asyncio.get_running_loop().create_future()
        self._send(question(number))  # what cannot be sent is not waited for, either
        self._open[number] = answered
        await asyncio.wait([answered], timeout=self._answer_s)
        if not answered.done():
            raise DeadlineExceeded(f"the worker did not answer within {self._answer_s:g} s; what it was asked to do it may still do")
        answer = answered.result()
        match answer:
            case Unavailable():
                raise answer
            case CacheRequestRefused():
                raise failure.decode_error(bytes(answer.failure))
        return answer

    def receive_response(self, answer: CacheResponse) -> bool:
        """The worker has answered. False if it was not asked; then nothing was changed."""
        answered = self._open.pop(answer.request_id, None)
        if answered is not None:
            answered.set_result(answer)
        return answered is not None

    def close(self, reason: str) -> None:
        """The worker is gone: nothing that is open will be answered."""
        for answered in self._open.values():
            answered.set_result(Unavailable(reason))  # no exception, since perhaps nobody waits for it any more
        self._open.clear()
