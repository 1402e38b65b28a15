"""A check of path parameters against the artifact spec, which only a worker can run."""

from __future__ import annotations

import asyncio

from base.errors import PexdockError
from runtime.front.requests.request_head import RequestHead


class ParameterCheck:
    """A check that waits for a worker or for its reply.

    Attributes:
        endpoint: Endpoint whose workers run the check. After a failover it is the endpoint of the target release.
        pinned: Whether no other release may run the check, because the client requested this one or the check is for a mirrored request.
        crash_count: Number of workers that exited while they had it.
        sent_s: Time when it was last sent to a worker, on the monotonic clock.
        begun: Whether that worker has reported that it began the check.
    """

    def __init__(self, head: RequestHead, *, copied: bool) -> None:
        self._target = head.target
        self._reply: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.endpoint = head.target.endpoint
        self.parameters = head.target.parameters
        self.pinned = copied or bool(head.version)
        self.may_retry = not copied  # even if the endpoint's requests may not be retried: a check computes nothing
        self.crash_count = 0
        self.sent_s = 0.0
        self.started = False

    @property
    def answered(self) -> bool:
        """True if nobody waits for the check any more."""
        return self._reply.done()

    @property
    def is_suspect(self) -> bool:
        """True if a worker exited while it had the check, which must then be the only work of the next worker."""
        return self.crash_count > 0

    def suspects(self) -> list[ParameterCheck]:
        """Returns what is sent again, alone, after a worker has exited while it had the check: the check."""
        return [self]

    def finish(self, error: PexdockError | None) -> None:
        """Ends the check. Without an error, the parameters are admitted until the routing table changes; else they are refused with it."""
        if error is not None:
            self.fail(error)
            return
        self._target.admitted = True
        if not self.answered:
            self._reply.set_result(None)

    def fail(self, error: PexdockError, *, blamed: bool = False) -> None:  # noqa: ARG002 - the signature of a request
        """Ends the check with an error."""
        if not self.answered:
            self._reply.set_exception(error)

    async def wait(self) -> None:
        """Waits until the parameters are admitted. Cancelling this call ends the check.

        Raises:
            PexdockError: the parameters are refused, or no worker can check them.
        """
        await self._reply
