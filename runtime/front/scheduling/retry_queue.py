"""Resends failed batches in parts."""

from __future__ import annotations

from collections import deque

from base.errors import BadResult, DeadlineExceeded, HandlerFailed, Misfit, PexdockError, Reject
from runtime.front.requests.deadlines import expire_late
from runtime.front.requests.request import InferenceRequest
from runtime.front.scheduling.error_attribution import attribute_error

_POSSIBLY_OF_ONE = (HandlerFailed, BadResult, Misfit, Reject)
"""Errors of a batch that a single request may have caused, so that the others are retried."""


class RetryQueue:
    """Batches to be sent again, before all waiting requests. Their number is limited by the batches that were in flight.

    Attributes:
        batches: Lists of requests that were in one batch; some may already be answered.
    """

    def __init__(self) -> None:
        self.batches: deque[list[InferenceRequest]] = deque()

    def on_batch_failed(self, requests: list[InferenceRequest], error: PexdockError) -> None:
        """Handles an error in place of the reply to a batch.

        Requests whose rows the error names get their part of it, and the others are retried. If the error names no rows, each half of the
        batch is retried, down to the request that causes the error. If the deadline of a request passed before the batch was computed, the
        others are retried.
        """
        if isinstance(error, DeadlineExceeded) and len(in_time := expire_late(requests)) < len(requests):
            self.batches.append(in_time)
            return
        attributed = attribute_error(requests, error) if isinstance(error, _POSSIBLY_OF_ONE) else []
        for index, own_error in attributed:
            requests[index].fail(own_error)
        requests = [request for request in requests if not request.answered]
        if attributed:
            self.batches.append(requests)
        elif len(requests) > 1 and isinstance(error, _POSSIBLY_OF_ONE):
            half = len(requests) // 2
            self.batches += [requests[:half], requests[half:]]
        else:
            for request in requests:
                request.fail(error)

    def put_back(self, requests: list[InferenceRequest]) -> None:
        """Adds a batch that could not be sent, as the next one."""
        self.batches.appendleft(requests)

    def take_batch(self) -> list[InferenceRequest]:
        """Removes and returns the next batch, without answered requests; empty if there is none."""
        while self.batches:
            if requests := [request for request in self.batches.popleft() if not request.answered]:
                return requests
        return []

    def take_all(self) -> list[InferenceRequest]:
        """Removes and returns all requests."""
        requests = [request for batch in self.batches for request in batch]
        self.batches.clear()
        return requests
