"""The events that links to workers report."""

from __future__ import annotations

from collections.abc import Sequence

from base.errors import PexdockError
from runtime.front.requests.parameter_check import ParameterCheck
from runtime.front.requests.request import InferenceRequest
from runtime.front.workers.in_flight import IN_FLIGHT_MAX

WorkItem = InferenceRequest | ParameterCheck
"""Work that is lost when its worker exits."""


class WorkerEvents:
    """Handles the reports of links to workers. This is a base class.

    Attributes:
        capacity_wanted: Whether links call `on_capacity`.
        report_interval_requests: Number of requests to one worker between two calls of `on_requests_sent`.
        batches_max: Limit of the batches that one worker has to compute.
    """

    batches_max = IN_FLIGHT_MAX

    def __init__(self, report_interval_requests: int) -> None:
        self.capacity_wanted = False
        self.report_interval_requests = report_interval_requests

    def on_capacity(self) -> None:
        """Handles a worker that has replied and may take a batch again."""
        raise NotImplementedError

    def on_requests_sent(self, socket: str, requests: int) -> None:
        """Handles the number of requests that were sent to a worker since the last report."""
        raise NotImplementedError

    def on_batch_failed(self, requests: list[InferenceRequest], error: PexdockError) -> None:
        """Handles an error in place of the reply to a batch."""
        raise NotImplementedError

    def on_unhealthy(self, socket: str, reason: str) -> None:
        """Handles a worker that broke the protocol or hangs and must be replaced."""
        raise NotImplementedError

    def on_lost(self, items: Sequence[WorkItem], *, exited: bool, poison: WorkItem | None) -> None:
        """Handles a closed link.

        Args:
            items: All work that the worker had.
            exited: Whether the worker has exited. Otherwise it broke the protocol, and might do so again with the same items.
            poison: The item that the worker had begun when it exited; None if that is not known.
        """
        raise NotImplementedError
