"""The store of jobs in an SQLite database, with bodies and results as files beside it."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from msgspec.structs import replace

from base.errors import Conflict, Full, NotFound
from runtime.jobs.files import JobFiles
from runtime.jobs.job import STEPS, Job, JobEvent, JobState, Submission
from runtime.jobs.store.age_clock import Reading, read_clocks
from runtime.jobs.store.database import Database
from runtime.jobs.store.interface import PAGE_MAX_JOBS, AddedJob, ImpossibleStep, JobLimits, JobResult, JobUsage
from runtime.jobs.store.progress import LiveProgress
from runtime.jobs.store.records import JobRecords
from runtime.jobs.store.recovery import recover_jobs, remove_orphans
from runtime.jobs.store.reserve import DiskReserve
from runtime.jobs.store.tally import JobTally

_TIDY_MAX_JOBS = 4000
"""Jobs that one call expires or forgets at most, each of which is a folder to remove."""

_CLOCK_EVERY_S = 600.0
"""Interval in seconds at which the age clock is stored. A reboot may prolong ages by as much."""


class SqliteJobStore:
    """Implements `JobStore`.

    Args:
        state_path: The folder that the setting names. It must be on a local disk.
        limits: The limits.
        read: Returns what the machine's clocks show.

    Attributes:
        files: The files of its jobs.

    Raises:
        JobStoreUnusable: Another process uses the store, a newer Pexdock wrote it, or it is damaged. Nothing was changed.
        OSError: The folder cannot be made or used.
        Full, Unavailable: The disk cannot be used.
    """

    def __init__(self, state_path: Path, limits: JobLimits, read: Callable[[], Reading] = read_clocks) -> None:
        self._limits = limits
        self.files = JobFiles(state_path)
        self.files.create()
        reserve = DiskReserve(self.files.reserve, limits.reserve_bytes)
        self._database = Database(self.files.database, reserve, has_jobs=bool(self.files.numbers()))
        try:
            with self._database.explained():
                self._records = JobRecords(self._database.connection)
                self._clock = self._records.load_clock(read)
                self._next_number = self._records.last_number() + 1
                active = self._records.select("state IN (?, ?)", JobState.QUEUED, JobState.RUNNING)
                self._tally = JobTally(*self._records.counts(), active)
                self._progress = LiveProgress()
                self._last_id_ms = 0
        except BaseException:
            self._database.close()
            raise

    def recover(self) -> None:
        """Implements `JobStore.recover`."""
        with self._database.explained():
            remove_orphans(self._records, self.files)
            recover_jobs(self._records, self.files, self._limits.attempts, self.step)
            self._store_clock()

    def add(self, submission: Submission) -> AddedJob:
        """Implements `JobStore.add`."""
        with self._database.explained():
            again = self._records.find("body_file = ?", submission.body_file)
        if again is not None:
            return AddedJob(again, is_new=True)
        try:
            return self._add(submission)
        finally:
            self.files.remove_incoming(submission.body_file)

    def _add(self, submission: Submission) -> AddedJob:
        client, job_id = submission.client, submission.id
        with self._database.explained():
            present = None if job_id is None else self._records.find("client = ? AND id = ?", client, job_id)
        if present is not None:
            if present.submission.digest != submission.digest:
                raise Conflict(f"job {job_id} exists with another path, parameters, media type, headers or body: choose another id")
            return AddedJob(self._progress.shown(present), is_new=False)
        self._tally.check_limits(submission, self._limits)
        self.check_room()
        number, self._next_number = self._next_number, self._next_number + 1
        own_id, release_id = job_id or self._new_id(), submission.release_id
        job = Job(number=number, id=own_id, submission=submission, release_id=release_id, created_s=self._clock.wall_s())
        try:
            with self._database.transaction():
                self.files.take_body(submission.body_file, number)
                self._records.insert(job, self._clock.now_s())
        except BaseException:
            self.files.remove_all(number)
            raise
        self._tally.add(job)
        return AddedJob(job, is_new=True)

    def _new_id(self) -> str:
        """Returns an id that nobody can guess, and that is greater than the last one."""
        self._last_id_ms = max(int(self._clock.wall_s() * 1000), self._last_id_ms + 1)
        return f"{self._last_id_ms:012x}{secrets.token_hex(10)}"

    def get(self, client: str, job_id: str) -> Job:
        """Implements `JobStore.get`."""
        with self._database.explained():
            job = self._records.find("client = ? AND id = ?", client, job_id)
        if job is None:
            raise NotFound(
                f"there is no job {job_id}: it was never submitted with these credentials, or it ended long ago and was forgotten"
            )
        return self._progress.shown(job)

    def list_jobs(
        self,
        *,
        client: str | None = None,
        job_id: str = "",
        states: Collection[JobState] = (),
        model: str = "",
        before: int | None = None,
        limit: int = 100,
    ) -> list[Job]:
        """Implements `JobStore.list_jobs`."""
        wanted = {"client = ?": client, "id = ?": job_id or None, "model = ?": model or None, "number < ?": before}
        conditions = [condition for condition, value in wanted.items() if value is not None]
        values = [value for value in wanted.values() if value is not None]
        if states:
            conditions.append(f"state IN ({', '.join('?' * len(states))})")
        where = " AND ".join(conditions) or "TRUE"
        with self._database.explained():
            found = self._records.select(f"{where} ORDER BY number DESC LIMIT ?", *values, *states, min(limit, PAGE_MAX_JOBS))
        return [self._progress.shown(job) for job in found]

    def request_cancel(self, client: str, job_id: str) -> Job:
        """Implements `JobStore.request_cancel`."""
        job = self.get(client, job_id)
        if job.state is JobState.QUEUED:
            return self.step(job.number, JobEvent.CANCEL)
        if job.state is JobState.RUNNING and not job.cancel_requested:
            job = replace(job, cancel_requested=True)
            with self._database.transaction():
                self._records.update(job)
        return job

    def step(
        self,
        number: int,
        event: JobEvent,
        *,
        release_id: str = "",
        error: dict[str, object] | None = None,
        result: JobResult | None = None,
    ) -> Job:
        """Implements `JobStore.step`."""
        with self._database.explained():
            job = self._records.find("number = ?", number)
            if job is None:
                raise ImpossibleStep(f"there is no job {number}")
            if job.cancel_requested and event in {JobEvent.INTERRUPT, JobEvent.GIVE_BACK}:
                event = JobEvent.CANCEL
            after = self._after(job, event)
            match event:
                case JobEvent.START:
                    after = replace(after, release_id=release_id, attempts=job.attempts + 1, started_s=self._clock.wall_s())
                case JobEvent.GIVE_BACK:
                    after = replace(after, attempts=job.attempts - 1)
                case JobEvent.FAIL:
                    after = replace(after, error=error)
                case JobEvent.FINISH if result is not None:
                    size = self.files.result(number).stat().st_size
                    after = replace(after, result_type=result.media_type, one_record=result.one_record, result_bytes=size)
                    after = replace(after, result_status=result.status, failed_groups=result.failed_groups)
                case _:
                    pass
        self._commit([(job, after)])
        return after

    def _after(self, job: Job, event: JobEvent) -> Job:
        """Returns the job as it is after `event`, but for what only the caller knows of the event."""
        state = STEPS.get((job.state, event))
        if state is None:
            raise ImpossibleStep(f"job {job.id} is {job.state}, so this cannot happen to it: {event}")
        if state is JobState.QUEUED:
            return replace(job, state=state, fraction=None, message="")
        if job.state.is_final or not state.is_final:
            return replace(job, state=state, result_type="", result_bytes=0)
        return replace(self._progress.shown(job), state=state, ended_s=self._clock.wall_s())

    def _commit(self, changes: Sequence[tuple[Job, Job]]) -> None:
        """Stores jobs as they are after their steps. Removes the files that they no longer need."""
        now_s = self._clock.now_s()
        with self._database.transaction():
            for before, after in changes:
                ends = after.state.is_final and not before.state.is_final
                self._records.update(after, ended_s=now_s if ends else None)
        for before, after in changes:
            self._tally.remove(before)
            self._tally.add(after)
            self._progress.follow(after)
            if after.state is JobState.DONE:
                self.files.remove_inputs(after.number)
            elif after.state.is_final:
                self.files.remove_all(after.number)

    def set_progress(self, number: int, fraction: float | None, message: str) -> None:
        """Implements `JobStore.set_progress`."""
        self._progress.set(number, fraction, message)

    def waiting(self) -> list[Job]:
        """Implements `JobStore.waiting`."""
        with self._database.explained():
            return self._records.select("state = ? ORDER BY number", JobState.QUEUED)

    def tidy(self) -> list[Job]:
        """Implements `JobStore.tidy`."""
        self.files.remove_abandoned()
        now_s = self._clock.now_s()
        with self._database.explained():
            overdue = self._records.overdue(self._limits, self._tally.result_bytes, now_s, _TIDY_MAX_JOBS)
            expired = [(job, self._after(job, JobEvent.EXPIRE)) for job in overdue]
        if expired:
            self._commit(expired)
        with self._database.explained():
            old = self._records.ended_before(now_s - self._limits.record_max_age_s, _TIDY_MAX_JOBS)
        if old:
            with self._database.transaction():
                self._records.delete(old)
            for job in old:
                self._tally.remove(job)
                self.files.remove_all(job.number)
        if now_s - self._clock_stored_s >= _CLOCK_EVERY_S and self._tally.states.total():
            self._store_clock()
        return [after for _, after in expired]

    def _store_clock(self) -> None:
        self._clock_stored_s = self._clock.now_s()
        with self._database.transaction():
            self._records.store_clock(self._clock)

    def unsent_webhooks(self) -> list[Job]:
        """Implements `JobStore.unsent_webhooks`."""
        with self._database.explained():
            return self._records.select(
                "webhook_unsent ORDER BY row_number() OVER (PARTITION BY client ORDER BY number), number LIMIT ?", PAGE_MAX_JOBS
            )

    def set_webhook_sent(self, number: int) -> None:
        """Implements `JobStore.set_webhook_sent`."""
        with self._database.transaction():
            self._records.set_webhook_sent(number)

    def check_room(self) -> None:
        """Implements `JobStore.check_room`."""
        with self._database.explained():
            free_bytes = shutil.disk_usage(self.files.folder).free
        if free_bytes < self._limits.disk_min_free_bytes:
            raise Full("the disk for jobs is nearly full; try again later", retry_after_s=60)

    def usage(self) -> JobUsage:
        """Implements `JobStore.usage`."""
        return self._tally.usage()

    def close(self) -> None:
        """Implements `JobStore.close`."""
        self._database.close()
