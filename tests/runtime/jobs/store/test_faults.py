"""The store of jobs when its database or its disk cannot be used: it says what to do, and neither loses nor overwrites anything."""

import logging
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from base.errors import Full, Unavailable
from job_stores import Clocks, files_of, finish, job_in, opened, receive, start, submit
from runtime.jobs.job import JobEvent, JobState
from runtime.jobs.store import database
from runtime.jobs.store.database import MIGRATIONS
from runtime.jobs.store.interface import JobStoreUnusable
from small_disk import mounted

NEWER = len(MIGRATIONS) + 1


def contents(folder):
    """Returns all files with their contents, but for SQLite's index of its log, and an empty log, which any reader may make."""
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.name.endswith("-shm")}
    return {path: content for path, content in files.items() if content or not path.name.endswith("-wal")}


@pytest.fixture
def state_path(tmp_path):
    """Returns a folder with a job that waits and one that is done."""
    with opened(tmp_path) as store:
        submit(store)
        job_in(store, JobState.DONE)
    return tmp_path


def db(state_path):
    return state_path / "jobs" / "jobs.sqlite3"


def refused(state_path):
    """Returns why the store is refused, after a check that nothing has changed."""
    before = contents(state_path)
    with pytest.raises(JobStoreUnusable) as caught, opened(state_path):
        pass
    assert contents(state_path) == before
    return caught.value.detail


def test_a_database_of_a_newer_version_is_refused_by_name(state_path):
    with closing(sqlite3.connect(db(state_path))) as connection:
        connection.execute(f"PRAGMA user_version = {NEWER}")
    reason = refused(state_path)
    assert f"jobs.sqlite3 was written by a newer Pexdock (schema {NEWER}, this one knows up to {len(MIGRATIONS)})" in reason
    assert "run the newer one, or set state_path to another folder" in reason


def test_a_newer_version_is_refused_also_while_it_is_only_in_the_log(state_path):
    """As after a kill of the newer Pexdock, which has not written its log back."""
    with closing(sqlite3.connect(db(state_path))) as connection:
        connection.execute(f"PRAGMA user_version = {NEWER}")
        connection.execute("CREATE TABLE newer (text)")
        connection.execute("INSERT INTO newer VALUES ('kept')")
        connection.commit()
        shutil.copytree(state_path / "jobs", state_path.with_name("killed") / "jobs")
    killed = state_path.with_name("killed")
    assert (killed / "jobs" / "jobs.sqlite3-wal").stat().st_size > 0
    assert "written by a newer Pexdock" in refused(killed)
    with closing(sqlite3.connect(db(killed))) as connection:
        assert connection.execute("SELECT text FROM newer").fetchall() == [("kept",)]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:4096] + b"\xa5" * (len(content) - 4096),
        lambda content: b"not a database at all" * 200,
        lambda content: b"",
    ],
    ids=["truncated", "overwritten", "foreign", "empty"],
)
def test_a_damaged_database_is_refused_with_what_to_do(state_path, damage):
    db(state_path).write_bytes(damage(db(state_path).read_bytes()))
    reason = refused(state_path)
    assert re.search(
        r"the database of jobs .*jobs\.sqlite3 is damaged \(.+\): stop Pexdock, then restore it from a backup or repair it", reason
    )
    assert f"or move the folder {state_path / 'jobs'} away to begin without jobs" in reason
    assert {"1/body", "2/result"} == {str(path.relative_to(state_path / "jobs")) for path in (state_path / "jobs").glob("[0-9]*/*")}


def test_a_database_that_was_removed_is_not_replaced_by_an_empty_one(state_path):
    db(state_path).unlink()
    assert "it is missing or empty, and folders of jobs lie beside it" in refused(state_path)


def test_a_record_that_cannot_be_read_is_damage_and_stays(state_path):
    with closing(sqlite3.connect(db(state_path))) as connection:
        connection.execute("UPDATE jobs SET record = '{' WHERE number = 1")
        connection.commit()
    with pytest.raises(JobStoreUnusable, match="is damaged"), opened(state_path):
        pass
    assert (state_path / "jobs" / "1" / "body").exists()


def test_damage_that_appears_while_it_runs_ends_the_store_and_changes_nothing(state_path):
    with opened(state_path) as store:
        connection = store._database.connection
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA cache_size = 0")
        connection.execute("PRAGMA shrink_memory")
        content = db(state_path).read_bytes()
        db(state_path).write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))
        with pytest.raises(JobStoreUnusable, match="is damaged"):
            store.list_jobs()
        assert files_of(store) == {"1/body", "2/result"}


def test_a_store_is_open_in_one_process_only(state_path):
    with opened(state_path):
        assert "another process of Pexdock uses the jobs in" in refused(state_path)
    with opened(state_path) as store:
        assert len(store.list_jobs()) == 2


def test_a_store_is_free_again_once_its_process_was_killed(state_path):
    program = (
        "import sys, time; from pathlib import Path; from job_stores import *\n"
        "with opened(Path(sys.argv[1])): print('open', flush=True); time.sleep(600)"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", program, state_path], env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"open\n"
        assert "another process" in refused(state_path)
        process.kill()
    with opened(state_path) as store:
        assert len(store.list_jobs()) == 2


def test_a_database_that_another_program_locks_is_unavailable_for_a_moment(state_path, monkeypatch):
    monkeypatch.setattr(database, "_LOCKED_MAX_S", 0.05)
    with opened(state_path) as store:
        files = files_of(store)
        with closing(sqlite3.connect(db(state_path), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="another program locks the database of jobs; try again later"):
                submit(store)
            with pytest.raises(Unavailable):
                store.step(1, JobEvent.START)
            assert [job.state for job in store.list_jobs()] == [JobState.DONE, JobState.QUEUED]  # readers do not wait
            assert files_of(store) == files
        assert store.step(1, JobEvent.START).attempts == 1
        submit(store)


def test_a_full_disk_refuses_new_jobs_and_loses_none(tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    with mounted(tmp_path / "disk") as disk:
        with opened(disk.path) as store:
            waits, runs = submit(store, id="waits"), start(store, id="runs")
            done = job_in(store, JobState.DONE, id="done")
            before = files_of(store)
            incoming, submission = receive(store, id="new")
            with incoming:
                disk.fill()
                with pytest.raises(Full, match="the disk for jobs is full; try again later"):
                    store.add(submission)
            assert "No space left on device" in caplog.text or "database or disk is full" in caplog.text
            assert begin_until_full(store, waits) in {JobState.QUEUED, JobState.RUNNING}
            assert files_of(store) == before
            assert {job.id for job in store.list_jobs()} == {"waits", "runs", "done"}
        with pytest.raises(Full), opened(disk.path):  # the process is started again, and cannot note that the job waits again
            pass
        disk.empty()
        with opened(disk.path) as store:
            assert [(job.id, job.state) for job in store.list_jobs()] == [
                ("done", JobState.DONE),
                ("runs", JobState.QUEUED),
                ("waits", JobState.QUEUED),
            ]
            assert store.get("", "done") == done
            assert files_of(store) == before
            for job in store.waiting():
                store.step(job.number, JobEvent.START)
                assert finish(store, job).state is JobState.DONE
            submit(store, id="new")
    assert runs.attempts == 1


def test_jobs_are_found_cancelled_and_expire_on_a_full_disk_and_after_a_start_there(tmp_path):
    """As clients and operators make room: the database has room of its own, also if its log was removed at the end."""
    with mounted(tmp_path / "disk") as disk:
        limits = {"disk_min_free_bytes": 400 * 1024, "result_max_age_s": 10.0}
        clocks = Clocks()
        with opened(disk.path, clocks, **limits) as store:
            for name in ("waits", "runs", "crashed", "other"):
                (submit if name in {"waits", "other"} else start)(store, id=name)
            job_in(store, JobState.DONE, id="done")
            (number,) = (job.number for job in store.list_jobs() if job.id == "crashed")
            store.files.result_part(number).write_bytes(b"half of it")
            disk.fill()
            assert store.request_cancel("", "waits").state is JobState.CANCELLED
            assert store.step(store.request_cancel("", "runs").number, JobEvent.CANCEL).state is JobState.CANCELLED
            disk.fill()
        disk.fill()
        with opened(disk.path, clocks, **limits) as store:
            assert not store.files.result_part(number).exists()
            assert {job.id: job.state.value for job in store.list_jobs()} == {
                "waits": "cancelled",
                "runs": "cancelled",
                "crashed": "queued",
                "done": "done",
                "other": "queued",
            }
            for _ in range(100):  # the log does not grow
                disk.fill()
                store.step(number, JobEvent.START)
                store.step(number, JobEvent.GIVE_BACK)
            clocks.pass_s(11)
            assert [job.id for job in store.tidy()] == ["done"]
            assert store.request_cancel("", "other").state is JobState.CANCELLED
            with pytest.raises(Full, match="nearly full"):
                store.check_room()
            disk.empty()
            submit(store, id="new")


def begin_until_full(store, job):
    """Lets a job begin and be given back until the log of the database has no free page any more. Returns the job's state then."""
    try:
        while True:
            store.step(job.number, JobEvent.START)
            store.step(job.number, JobEvent.GIVE_BACK)
    except Full:
        return store.get("", job.id).state


def test_a_disk_that_is_nearly_full_takes_no_job_but_ends_those_that_are_there(tmp_path):
    with mounted(tmp_path / "disk") as disk:
        with opened(disk.path) as store:
            job = start(store)
        with opened(disk.path, disk_min_free_bytes=1024**2) as store:
            disk.fill(but_bytes=400 * 1024)
            with pytest.raises(Full, match="nearly full"):
                submit(store)
            with pytest.raises(Full, match="nearly full"):
                store.check_room()
            store.step(job.number, JobEvent.START)
            assert finish(store, job).state is JobState.DONE
            disk.empty()
            submit(store)


def test_a_body_that_somebody_removed_fails_its_job_alone(state_path):
    shutil.rmtree(state_path / "jobs" / "1")
    with opened(state_path) as store:
        failed = store.list_jobs()[-1]
        assert failed.state is JobState.FAILED
        assert failed.error == {
            "type": "urn:pexdock:body_lost",
            "title": "The job could not be run",
            "status": 500,
            "detail": "the body of this job is no longer on the server: submit it again",
            "code": "body_lost",
            "id": failed.id,
        }
        assert store.list_jobs()[0].state is JobState.DONE


def test_a_result_that_somebody_removed_has_expired(state_path):
    (state_path / "jobs" / "2" / "result").unlink()
    with opened(state_path) as store:
        assert [job.state for job in store.list_jobs()] == [JobState.EXPIRED, JobState.QUEUED]


def test_a_commit_is_on_the_disk_when_a_call_returns(tmp_path):
    """SQLite syncs its log at each commit, in these modes only."""
    with opened(tmp_path) as store:
        connection = store._database.connection
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
