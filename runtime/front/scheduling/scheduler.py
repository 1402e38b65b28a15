"""The parts of a release's dispatcher that the queues of its endpoints use."""

from __future__ import annotations

from collections import OrderedDict

from runtime.front.requests.endpoint import ServedRelease
from runtime.front.requests.parameter_check import ParameterCheck
from runtime.front.scheduling.quarantine import Quarantine
from runtime.front.workers.events import WorkerEvents, WorkItem
from runtime.front.workers.hang_detector import HangDetector
from runtime.front.workers.pool import WorkerPool


class Scheduler(WorkerEvents):
    """Work of one release that is no batch yet: a base class of its dispatcher.

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
        """Has everything that can be sent sent at the end of this turn of the loop: requests that arrived together go together."""
        raise NotImplementedError

    def enqueue_suspect(self, item: WorkItem) -> None:
        """Lets an item that may have crashed a worker wait to be sent alone."""
        self.quarantine.waiting.append(item)
        self.wake()

    def enqueue_check(self, check: ParameterCheck) -> None:
        """Lets a parameter check wait for a worker."""
        if check.is_suspect:
            self.enqueue_suspect(check)
        else:
            self.checks[check] = None
            self.wake()

    def forget_check(self, check: ParameterCheck) -> None:
        """Handles that a check was answered, or that nobody waits for it any more."""
        self.checks.pop(check, None)
        self.hangs.watch(check)
