"""The progress of running jobs, which is kept in memory, since it is worth nothing after a crash."""

from __future__ import annotations

import threading

from msgspec.structs import replace

from runtime.jobs.job import Job, JobState


class LiveProgress:
    """Fraction and message of each running job. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[int, tuple[float | None, str]] = {}

    def follow(self, job: Job) -> None:
        """Begins or ends to keep the progress of a job, as its new state demands."""
        with self._lock:
            self._told.pop(job.number, None)
            if job.state is JobState.RUNNING:
                self._told[job.number] = None, ""

    def set(self, number: int, fraction: float | None, message: str) -> None:
        """Sets the progress of a running job; of others it is ignored."""
        with self._lock:
            if number in self._told:
                self._told[number] = fraction, message

    def shown(self, job: Job) -> Job:
        """Returns a stored job with its progress."""
        with self._lock:
            told = self._told.get(job.number)
        return job if told is None else replace(job, fraction=told[0], message=told[1])
