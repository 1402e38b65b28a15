"""A check of a path's parameters by the artifact spec, which only a worker can run."""

from __future__ import annotations

import asyncio

from base.errors import PexdockError
from runtime.front.requests.request_head import RequestHead


class ParameterCheck:
    """A check that waits for a worker or for its reply.

    Attributes:
        endpoint: Endpoint of the release that is asked; that of the failover target once the check was handed over.
        pinned: Whether no other release may be asked: the client wants this one, or the check is for a copy.
        crash_count: Workers that exited while they had it.
        sent_s: When it was last sent to a worker, on the monotonic clock.
        begun: Whether that worker has reported that it began.
    """

    def __init__(self, head: RequestHead, *, copied: bool) -> None:
        self._target = head.target
        self._reply: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.endpoint = head.target.endpoint
        self.parameters = head.target.parameters
        self.pinned = copied or bool(head.version)
        self.may_retry = not copied  # whatever holds for the endpoint's requests: a check computes nothing
        self.crash_count = 0
        self.sent_s = 0.0
        self.started = False

    @property
    def answered(self) -> bool:
        """True if nobody waits for it any more."""
        return self._reply.done()

    @property
    def is_suspect(self) -> bool:
        """True if a worker exited while it had it. It must then be the only work of the next worker."""
        return self.crash_count > 0

    def finish(self, error: PexdockError | None) -> None:
        """Ends the check: the parameters are admitted until the routing table changes, or refused with the error."""
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
        """Returns once the parameters are admitted. Nobody waits for the check when this is cancelled.

        Raises:
            PexdockError: the parameters are refused, or no worker can check them.
        """
        await self._reply
