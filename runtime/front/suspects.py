"""Requests, and questions about their paths, whose worker died while it had them. Pure.

One of them may have killed it, and nobody can tell which. So each goes again, alone, to a worker that has nothing else to compute: should
that one die, too, the culprit is known. So it is found with two deaths in all; to cut the batch in halves would take one for each time that
it can be halved.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from base.errors import HandlerFailed, Unavailable

if TYPE_CHECKING:
    from runtime.front.questions import Question
    from runtime.front.request import Request

DEATHS_MAX = 2


class Suspects:
    """Those of one release that are to go again. Bounded by what its workers had in flight."""

    def __init__(self) -> None:
        self._waiting: deque[Request | Question] = deque()

    def __bool__(self) -> bool:
        while self._waiting and self._waiting[0].answered:
            self._waiting.popleft()
        return bool(self._waiting)

    def add(self, request: Request | Question) -> None:
        """The worker that had it has died. It is answered at once where it may not go again."""
        if request.answered:
            return
        request.deaths += 1
        if not request.may_go_again:
            request.fail(Unavailable("the worker that had this request has ended, and it may not be computed twice"), blamed=True)
        elif request.deaths >= DEATHS_MAX:
            request.fail(HandlerFailed(f"{request.deaths} workers ended while they had this request, the last with nothing else"))
        else:
            self.wait(request)

    def wait(self, request: Request | Question) -> None:
        """It is to go again, alone."""
        self._waiting.append(request)

    def take(self) -> Request | Question:
        """The next one; there is one."""
        return self._waiting.popleft()

    def clear(self) -> list[Request | Question]:
        """All of them; afterwards there are none."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting
