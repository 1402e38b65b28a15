"""The database of jobs: opens it without harm to one that it cannot use, and explains the errors of SQLite and of the disk."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec

from base.errors import Full, Unavailable
from runtime.atomic_file import sync_path
from runtime.jobs.store.interface import JobStoreUnusable
from runtime.jobs.store.reserve import DiskReserve

log = logging.getLogger(__name__)

_LOCK = ".lock"
_LOCKED_MAX_S = 5.0
"""Time in seconds for which a call waits while another program, such as a backup, writes to the database or locks it."""

MIGRATIONS = (
    """
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        client TEXT NOT NULL,
        id TEXT NOT NULL,
        model TEXT NOT NULL,
        state TEXT NOT NULL,
        body_file TEXT NOT NULL UNIQUE,
        result_bytes INTEGER NOT NULL,
        since_s REAL NOT NULL,
        webhook_unsent INTEGER NOT NULL,
        record TEXT NOT NULL
    );
    CREATE UNIQUE INDEX jobs_by_id ON jobs (client, id);
    CREATE INDEX jobs_by_client ON jobs (client, number, state, model);
    CREATE INDEX jobs_by_age ON jobs (state, since_s);
    CREATE INDEX jobs_unsent ON jobs (number) WHERE webhook_unsent;
    CREATE TABLE clock (age_s REAL NOT NULL, boot_id TEXT NOT NULL, boot_s REAL NOT NULL, wall_s REAL NOT NULL);
    """,
)
"""The steps from each version of the schema to the next. Released steps never change. A field of `Job` with a default needs none.

`since_s` is the time of the age clock when a job came, or ended if it has. `record` is the `Job` as JSON.
"""

_FULL = {errno.ENOSPC, errno.EDQUOT}


class Database:
    """The open database of one folder, which no other process opens meanwhile.

    Args:
        path: The file, whose folder exists.
        reserve: Room that it uses if the disk has no other.
        has_jobs: Whether the folder has files of jobs, so that a database must be there.

    Raises:
        JobStoreUnusable: Another process uses it, a newer Pexdock wrote it, or it is damaged or missing. Nothing was changed.
        OSError: The folder cannot be used.
    """

    def __init__(self, path: Path, reserve: DiskReserve, *, has_jobs: bool) -> None:
        self._path = path
        self._reserve = reserve
        self._was_logged = False
        with contextlib.ExitStack() as opened:
            self._lock = _lock(path.parent)
            opened.callback(os.close, self._lock)
            opened.callback(reserve.restore)
            with self.explained():
                reserve.lend()
                self._check(has_jobs=has_jobs)
                self.connection = sqlite3.connect(self._path, timeout=_LOCKED_MAX_S, isolation_level=None, check_same_thread=False)
                opened.callback(self.connection.close)
                self._prepare()
            sync_path(path.parent)
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Closes the database, and lets other processes open it. Idempotent."""
        self._opened.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Stores all changes of the block at its end, durably, or none of them if it raises."""
        with self.explained():
            is_lent = self._reserve.lend()
            try:
                self.connection.execute("BEGIN IMMEDIATE")
                yield self.connection
                self.connection.execute("COMMIT")
                self._was_logged = False
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise
            finally:
                if is_lent:
                    with contextlib.suppress(sqlite3.Error):  # the log keeps what it cannot write back
                        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._reserve.restore()

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Raises errors of SQLite and of the disk as what the caller can do about them. Logs the path, which clients must not see.

        Raises:
            Full: The disk is full.
            Unavailable: The disk or the database cannot be used now.
            JobStoreUnusable: The database is damaged.
        """
        try:
            yield
        except msgspec.MsgspecError as exc:
            raise self._damaged(str(exc)) from exc
        except (sqlite3.Error, OSError) as exc:
            kind = getattr(exc, "sqlite_errorcode", 0) & 0xFF  # without the extended code
            if kind in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
                raise self._damaged(str(exc)) from exc
            if not self._was_logged:  # until something is stored, the reason is most likely the same
                self._was_logged = True
                log.error("cannot store jobs in %s: %s", self._path.parent, exc)  # noqa: TRY400 - the reason is complete
            if kind == sqlite3.SQLITE_FULL or getattr(exc, "errno", None) in _FULL:
                raise Full("the disk for jobs is full; try again later", retry_after_s=60) from exc
            if kind in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise Unavailable("another program locks the database of jobs; try again later") from exc
            raise Unavailable("the disk for jobs cannot be used; the log of Pexdock says why", retry_after_s=10) from exc

    def _check(self, *, has_jobs: bool) -> None:
        """Reads the database before anything may write to it."""
        size = self._path.stat().st_size if self._path.exists() else 0
        if not size:
            if has_jobs:
                raise self._damaged("it is missing or empty, and folders of jobs lie beside it", "is missing")
            return
        with contextlib.closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True, timeout=_LOCKED_MAX_S)) as reader:
            version = reader.execute("PRAGMA user_version").fetchone()[0]
            if version > len(MIGRATIONS):
                raise JobStoreUnusable(
                    f"{self._path} was written by a newer Pexdock (schema {version}, this one knows up to {len(MIGRATIONS)}): "
                    "run the newer one, or set state_path to another folder",
                    "the database of jobs was written by a newer Pexdock",
                )
            problem = reader.execute("PRAGMA quick_check(1)").fetchone()[0]
            if problem != "ok":
                raise self._damaged(" ".join(problem.split()))

    def _prepare(self) -> None:
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        version = self.connection.execute("PRAGMA user_version").fetchone()[0]
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            # `executescript` commits whatever is open, so the transaction is part of the script.
            self.connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT")

    def _damaged(self, reason: str, kind: str = "is damaged") -> JobStoreUnusable:
        return JobStoreUnusable(
            f"the database of jobs {self._path} is damaged ({reason}): stop Pexdock, then restore it from a backup or repair it with "
            f"`sqlite3 {self._path.name} .recover`, or move the folder {self._path.parent} away to begin without jobs",
            f"the database of jobs {kind}",
        )


def _lock(folder: Path) -> int:
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise JobStoreUnusable(
            f"another process of Pexdock uses the jobs in {folder}: stop it, or give this one another state_path",
            "another process of Pexdock uses the jobs",
        ) from None
    return lock
