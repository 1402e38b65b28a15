"""Requests, and questions about their paths, whose worker died while it had them. Pure.

One of them may have killed it, and nobody can tell which. So each goes again, alone, to a worker of which this front door wants nothing
else, and that worker says when it begins to compute it. Should it die then, without an answer, the culprit is known. So it is found with
two deaths in all; to cut the batch in halves would take one for each time that it can be halved. A worker that died before it began died
of something else: of a request that another front door has sent, or by itself.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from base.errors import HandlerFailed, Unavailable

if TYPE_CHECKING:
    from runtime.front.requests.parameter_question import ParameterCheck
    from runtime.front.requests.request import InferenceRequest

DEATHS_MAX = 5
"""Of workers that had a request and are not known to have died of it. There may be one whose model kills whoever loads it."""


class Quarantine:
    """Those of one release that are to go again. Bounded by what its workers had in flight.

    Attributes:
        waiting: some of them may be answered by now, until they are pruned. Looked at for each batch, which costs no call.
    """

    def __init__(self) -> None:
        self.waiting: deque[InferenceRequest | ParameterCheck] = deque()

    def add(self, request: InferenceRequest | ParameterCheck, *, guilty: bool) -> None:
        """The worker that had it has died. It is answered at once where it may not go again.

        Args:
            request: which one.
            guilty: the worker had begun to compute it, and nothing else.
        """
        if request.answered:
            return
        request.crash_count += 1
        what = f"{request.crash_count} workers ended while they had this request"
        if not request.may_go_again:
            request.fail(Unavailable("the worker that had this request has ended, and it may not be computed twice"), blamed=True)
        elif guilty:
            request.fail(
                HandlerFailed(f"{request.crash_count} workers ended while they had this request, the last while it computed nothing else")
            )
        elif request.crash_count >= DEATHS_MAX:
            request.fail(Unavailable(f"{what}; try again later"), blamed=True)
        else:
            self.wait(request)

    def wait(self, request: InferenceRequest | ParameterCheck) -> None:
        """It is to go again, alone."""
        self.waiting.append(request)

    def prune(self) -> None:
        """Afterwards somebody waits for the next one, if there is one."""
        while self.waiting and self.waiting[0].answered:
            self.waiting.popleft()

    def take(self) -> InferenceRequest | ParameterCheck:
        """The next one; there is one."""
        return self.waiting.popleft()

    def clear(self) -> list[InferenceRequest | ParameterCheck]:
        """All of them; afterwards there are none."""
        waiting = list(self.waiting)
        self.waiting.clear()
        return waiting
