"""The part of a release's dispatcher that the queues of its endpoints use."""

from __future__ import annotations

from collections import OrderedDict

from runtime.front.requests.endpoint import ServedRelease
from runtime.front.requests.parameter_check import ParameterCheck
from runtime.front.scheduling.quarantine import Quarantine
from runtime.front.workers.events import WorkerEvents, WorkItem
from runtime.front.workers.hang_detector import HangDetector
from runtime.front.workers.pool import WorkerPool


class Scheduler(WorkerEvents):
    """Holds work of one release that is not yet part of a batch. This is a base class of its dispatcher.

    Attributes:
        release: The release.
        workers: The links to its workers.
        hangs: Finds workers that hang.
        quarantine: Work that may have crashed a worker.
        checks: Parameter checks that wait for a worker; at most one for each client connection.
    """

    def __init__(self, release: ServedRelease, timeout_s: float, report_interval_requests: int) -> None:
        super().__init__(report_interval_requests)
        self.release = release
        self.workers = WorkerPool(release, self)
        self.hangs = HangDetector(self.workers, self, timeout_s)
        self.quarantine = Quarantine()
        self.checks: OrderedDict[ParameterCheck, None] = OrderedDict()

    def wake(self) -> None:
        """Schedules a dispatch at the end of this iteration of the loop, so that requests that arrive together share batches."""
        raise NotImplementedError

    def enqueue_suspect(self, item: WorkItem) -> None:
        """Queues an item that may have crashed a worker, to be sent alone."""
        self.quarantine.waiting.append(item)
        self.wake()

    def enqueue_check(self, check: ParameterCheck) -> None:
        """Queues a parameter check."""
        if check.is_suspect:
            self.enqueue_suspect(check)
        else:
            self.checks[check] = None
            self.wake()

    def forget_check(self, check: ParameterCheck) -> None:
        """Removes a check that was answered or that nobody waits for any more."""
        self.checks.pop(check, None)
        self.hangs.watch(check)
