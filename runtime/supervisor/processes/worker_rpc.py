"""Sends requests about caches to one worker, and waits for the responses. Runs in the supervisor; knows no process."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from base.errors import DeadlineExceeded, Full, Unavailable
from base.ipc import failure
from base.ipc.cache_control import CacheRequest, CacheRequestRefused, CacheResponse

RESPONSE_TIMEOUT_S = 5.0
"""Time limit of a response in seconds. A worker responds within a millisecond, unless the process is stopped or code holds the
interpreter's lock all the time."""

PENDING_MAX = 32
"""Limit of requests in the socket of a worker that does not read. Each is at most as large as a request body of the admin API."""


class WorkerRpc:
    """The pending requests of one worker process; the next process has its own.

    Args:
        send: Sends a request to the worker; must not block.
        timeout_s: Time limit of a response.
    """

    def __init__(self, send: Callable[[CacheRequest], None], timeout_s: float = RESPONSE_TIMEOUT_S) -> None:
        self._send = send
        self._timeout_s = timeout_s
        self._request_ids = itertools.count(1)
        # A request that has timed out stays until its response comes, since the worker still has to read it.
        self._pending: dict[int, asyncio.Future[CacheResponse | Unavailable]] = {}

    async def call(self, make_request: Callable[[int], CacheRequest]) -> CacheResponse:
        """Sends a request and returns the response of the worker.

        Args:
            make_request: Makes the request with the given id.

        Raises:
            PexdockError: The worker refused the request.
            DeadlineExceeded: The worker did not respond in time, and may still execute the request later.
            Full: Too many requests are already pending; this one was not sent.
            Unavailable: The worker exited meanwhile.
        """
        if len(self._pending) >= PENDING_MAX:
            raise Full(f"{len(self._pending)} requests to this worker are pending, which is the limit; try again later")
        request_id = next(self._request_ids)
        response: asyncio.Future[CacheResponse | Unavailable] = asyncio.get_running_loop().create_future()
        self._send(make_request(request_id))  # before the request is added, since a request that cannot be sent is not pending
        self._pending[request_id] = response
        await asyncio.wait([response], timeout=self._timeout_s)
        if not response.done():
            raise DeadlineExceeded(f"the worker did not respond within {self._timeout_s:g} s; it may still carry out the request")
        match response.result():
            case Unavailable() as error:
                raise error
            case CacheRequestRefused() as refused:
                raise failure.decode_error(bytes(refused.failure))
            case found:
                return found

    def receive_response(self, response: CacheResponse) -> bool:
        """Hands a response to its caller. Returns False, and changes nothing, if no request with its id is pending."""
        pending = self._pending.pop(response.request_id, None)
        if pending is not None:
            pending.set_result(response)
        return pending is not None

    def close(self, reason: str) -> None:
        """Fails all pending requests with Unavailable: the worker is gone."""
        for response in self._pending.values():
            response.set_result(Unavailable(reason))  # a result, since asyncio would log an exception for which nobody waits
        self._pending.clear()
