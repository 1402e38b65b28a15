"""The records of jobs as rows of the database. Knows SQL, and neither steps nor files."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

import msgspec

from runtime.jobs.job import Job, JobState
from runtime.jobs.store.age_clock import AgeClock, Reading
from runtime.jobs.store.interface import JobLimits

_FINAL = ", ".join(f"'{state}'" for state in JobState if state.is_final)


class JobRecords:
    """Reads and writes rows. Changes are made in a transaction of the caller.

    Args:
        connection: The open database.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._decoder = msgspec.json.Decoder(Job)

    def find(self, where: str, *values: object) -> Job | None:
        """Returns the job that meets an SQL condition; None if there is none."""
        return next(iter(self.select(f"{where} LIMIT 1", *values)), None)

    def select(self, where: str, *values: object) -> list[Job]:
        """Returns all jobs that meet an SQL condition, to which an order and a limit may be added."""
        rows = self._connection.execute(f"SELECT record FROM jobs WHERE {where}", values)  # noqa: S608 - made of constants
        return [self._decoder.decode(record) for (record,) in rows]

    def overdue(self, limits: JobLimits, result_bytes: int, now_s: float, count_max: int) -> list[Job]:
        """Returns jobs to expire: those that waited for too long, whose result is too old, or whose result is the oldest of too many bytes.

        Args:
            limits: The limits.
            result_bytes: Bytes of all results.
            now_s: Time of the age clock.
            count_max: Limit of the jobs of each kind.
        """
        found = self.select("state = ? AND since_s < ? LIMIT ?", JobState.QUEUED, now_s - limits.queue_max_age_s, count_max)
        query = "SELECT since_s, result_bytes, record FROM jobs WHERE state = ? ORDER BY since_s LIMIT ?"
        for since_s, size, record in self._connection.execute(query, (JobState.DONE, count_max)):
            if since_s >= now_s - limits.result_max_age_s and result_bytes <= limits.results_max_bytes:
                break
            found.append(self._decoder.decode(record))
            result_bytes -= size
        return found

    def ended_before(self, age_s: float, limit: int) -> list[Job]:
        """Returns jobs that have ended before a time of the age clock."""
        return self.select(f"state IN ({_FINAL}) AND since_s < ? LIMIT ?", age_s, limit)

    def numbers(self, states: Sequence[JobState]) -> set[int]:
        """Returns the numbers of the jobs in these states."""
        marks = ", ".join("?" * len(states))
        return {number for (number,) in self._connection.execute(f"SELECT number FROM jobs WHERE state IN ({marks})", states)}  # noqa: S608

    def counts(self) -> tuple[dict[JobState, int], int]:
        """Returns the number of ended jobs in each state, and the bytes of all results."""
        rows = self._connection.execute(f"SELECT state, count(*), sum(result_bytes) FROM jobs WHERE state IN ({_FINAL}) GROUP BY state")  # noqa: S608
        found = rows.fetchall()
        return {JobState(state): count for state, count, _ in found}, sum(size for _, _, size in found)

    def last_number(self) -> int:
        """Returns the highest number that any job ever had; 0 if there was none."""
        row = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'").fetchone()
        return int(row[0]) if row else 0

    def insert(self, job: Job, now_s: float) -> None:
        """Inserts a new job."""
        sent = job.submission
        values = (job.number, sent.client, job.id, sent.model, job.state, sent.body_file, 0, now_s, 0, msgspec.json.encode(job).decode())
        self._connection.execute("INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    def update(self, job: Job, ended_s: float | None = None) -> None:
        """Replaces the record of a job.

        Args:
            job: The job as it is now.
            ended_s: Time of the age clock if it has ended just now. Its webhook is to be told so.
        """
        unsent = None if ended_s is None else bool(job.submission.webhook)
        self._connection.execute(
            "UPDATE jobs SET state = ?, result_bytes = ?, since_s = coalesce(?, since_s), webhook_unsent = coalesce(?, webhook_unsent), "
            "record = ? WHERE number = ?",
            (job.state, job.result_bytes, ended_s, unsent, msgspec.json.encode(job).decode(), job.number),
        )

    def set_webhook_sent(self, number: int) -> None:
        """Notes that the webhook of a job knows its end."""
        self._connection.execute("UPDATE jobs SET webhook_unsent = 0 WHERE number = ?", (number,))

    def delete(self, jobs: Sequence[Job]) -> None:
        """Deletes the records of jobs."""
        self._connection.executemany("DELETE FROM jobs WHERE number = ?", [(job.number,) for job in jobs])

    def load_clock(self, read: Callable[[], Reading]) -> AgeClock:
        """Returns the age clock, which goes on where it was stored last."""
        row = self._connection.execute("SELECT age_s, boot_id, boot_s, wall_s FROM clock").fetchone()
        return AgeClock(read) if row is None else AgeClock(read, row[0], Reading(*row[1:]))

    def store_clock(self, clock: AgeClock) -> None:
        """Stores the time of the age clock."""
        age_s, reading = clock.reading()
        self._connection.execute("DELETE FROM clock")
        self._connection.execute("INSERT INTO clock VALUES (?, ?, ?, ?)", (age_s, *reading))
