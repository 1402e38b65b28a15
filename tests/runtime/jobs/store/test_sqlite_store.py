"""The store of jobs: what is stored, counted, refused and removed."""

import json
import sqlite3
import tempfile
from pathlib import Path

import pytest

from base.errors import Conflict, Full, NotFound
from job_stores import BODY, RESULT, Clocks, files_of, finish, job_in, opened, receive, start, submit
from runtime.jobs.job import JOB_ID, STEPS, JobEvent, JobState
from runtime.jobs.store.interface import ImpossibleStep, JobLimits, JobResult, JobUsage

DAY_S = 86400.0


@pytest.fixture
def tmp_path():
    """Returns a folder in memory, since what these tests are about does not depend on a disk, and each job waits for one several times."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture
def store(tmp_path):
    with opened(tmp_path) as store:
        yield store


def test_a_job_is_there_with_its_body_after_the_store_was_closed(tmp_path):
    with opened(tmp_path) as store:
        job = submit(store, client="ann", headers={"content-type": "text/csv"})
    with opened(tmp_path) as store:
        assert store.get("ann", job.id) == job
        assert store.waiting() == [job]
        assert store.files.body(job.number).read_bytes() == BODY
        assert files_of(store) == {"1/body"}


def test_new_ids_are_different_sortable_and_allowed(store):
    ids = [submit(store).id for _ in range(20)]
    assert ids == sorted(set(ids))
    assert all(JOB_ID.fullmatch(each) for each in ids)


def test_numbers_are_never_used_again(tmp_path):
    clocks = Clocks()
    with opened(tmp_path, clocks, record_max_age_s=10) as store:
        assert job_in(store, JobState.CANCELLED).number == 1
        clocks.pass_s(11)
        store.tidy()
        assert store.list_jobs() == []
    with opened(tmp_path, clocks) as store:
        assert submit(store).number == 2


def test_the_same_job_submitted_again_is_the_job_that_is_there(store):
    job = submit(store, client="ann", id="mine")
    incoming, submission = receive(store, client="ann", id="mine")
    with incoming:
        assert store.add(submission) == (job, False)
    assert files_of(store) == {"1/body"}
    assert submit(store, client="ben", id="mine").number == 2


def test_another_job_of_the_same_id_is_a_conflict_that_changes_nothing(store):
    job = submit(store, client="ann", id="mine")
    with pytest.raises(Conflict, match="job mine exists with another path, parameters, media type, headers or body"):
        submit(store, b"another", client="ann", id="mine", digest="another")
    assert store.list_jobs() == [job]
    assert files_of(store) == {"1/body"}


def test_a_submission_whose_answer_was_lost_is_not_a_second_job(store):
    incoming, submission = receive(store)
    with incoming:
        first = store.add(submission)
        assert store.add(submission) == first
    assert len(store.list_jobs()) == 1


def test_a_client_sees_only_its_own_jobs(store):
    job = submit(store, client="ann", id="mine")
    with pytest.raises(NotFound, match="there is no job mine"):
        store.get("ben", "mine")
    with pytest.raises(NotFound):
        store.request_cancel("ben", "mine")
    assert store.list_jobs(client="ben") == []
    assert store.get("ann", "mine") == job


def test_jobs_are_listed_by_client_states_and_model_in_pages(store):
    for number in range(1, 7):
        submit(store, client="ann" if number % 2 else "ben", model="wine" if number > 3 else "iris")
    store.step(5, JobEvent.CANCEL)

    def listed(**filters):
        return [job.number for job in store.list_jobs(**filters)]

    assert listed() == [6, 5, 4, 3, 2, 1]
    assert listed(client="ann") == [5, 3, 1]
    assert listed(client="ann", states=[JobState.QUEUED, JobState.RUNNING]) == [3, 1]
    assert listed(states={JobState.CANCELLED}) == [5]
    assert listed(model="wine", client="ben") == [6, 4]
    assert listed(limit=2) == [6, 5]
    assert listed(limit=2, before=5) == [4, 3]


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("event", JobEvent)
def test_only_the_steps_of_the_table_can_be_taken(store, state, event):
    job = job_in(store, state)
    files = files_of(store)
    expected = STEPS.get((state, event))
    if expected is None:
        with pytest.raises(ImpossibleStep, match=f"job {job.id} is {state}"):
            store.step(job.number, event)
        assert store.get("", job.id) == job
        assert files_of(store) == files
    else:
        after = store.step(job.number, event)
        assert after.state is expected
        assert after == store.get("", job.id)
        assert (after.ended_s is not None) == expected.is_final
        assert files_of(store) == (set() if expected.is_final else files)
    states = [each.state for each in store.list_jobs()]
    assert store.usage()[:2] == (states.count(JobState.QUEUED), states.count(JobState.RUNNING))


def test_a_job_that_was_forgotten_takes_no_step(store):
    with pytest.raises(ImpossibleStep, match="there is no job 7"):
        store.step(7, JobEvent.START)


def test_a_job_that_is_done_has_its_result_and_no_longer_its_inputs(store):
    job = start(store)
    store.files.checkpoint(job.number).mkdir()
    (store.files.checkpoint(job.number) / "weights").write_bytes(b"half")
    done = finish(store, job)
    assert (done.result_type, done.result_bytes) == ("text/plain", len(RESULT))
    assert store.files.result(job.number).read_bytes() == RESULT
    assert files_of(store) == {"1/result"}
    assert store.usage() == JobUsage(0, 0, 0, len(RESULT))


def test_a_result_without_media_type_and_bytes_is_a_result(tmp_path):
    with opened(tmp_path) as store:
        done = finish(store, start(store), b"", JobResult("", status=204))
        assert (done.state, done.result_type, done.result_bytes, done.result_status) == (JobState.DONE, "", 0, 204)
        assert store.files.result(done.number).read_bytes() == b""
    with opened(tmp_path) as store:
        assert store.get("", done.id) == done
        assert files_of(store) == {"1/result"}


def test_a_result_keeps_its_status_and_the_number_of_groups_that_failed(store):
    done = finish(store, start(store), result=JobResult("text/csv", status=207, failed_groups=2))
    assert (done.result_status, done.failed_groups) == (207, 2)
    assert store.get("", done.id) == done


def test_attempts_count_unless_a_drain_gives_the_job_back(store):
    number = submit(store).number
    assert store.step(number, JobEvent.START, release_id="iris-1").attempts == 1
    assert store.step(number, JobEvent.GIVE_BACK).attempts == 0
    store.step(number, JobEvent.START, release_id="iris-2")
    assert store.step(number, JobEvent.INTERRUPT).attempts == 1
    again = store.step(number, JobEvent.START, release_id="iris-3")
    assert (again.attempts, again.release_id) == (2, "iris-3")


def test_a_job_keeps_its_checkpoint_until_its_next_attempt(store):
    job = start(store)
    store.files.checkpoint(job.number).mkdir()
    (store.files.checkpoint(job.number) / "weights").write_bytes(b"half")
    store.step(job.number, JobEvent.INTERRUPT)
    assert files_of(store) == {"1/body", "1/checkpoint/weights"}


def test_cancelling_ends_a_job_that_waits_and_asks_one_that_runs(store):
    waiting, running, done = submit(store), start(store), job_in(store, JobState.DONE)
    assert store.request_cancel("", waiting.id).state is JobState.CANCELLED
    asked = store.request_cancel("", running.id)
    assert (asked.state, asked.cancel_requested) == (JobState.RUNNING, True)
    assert store.request_cancel("", running.id) == asked
    assert store.request_cancel("", done.id) == done


@pytest.mark.parametrize("event", [JobEvent.INTERRUPT, JobEvent.GIVE_BACK])
def test_a_job_that_is_to_be_cancelled_does_not_wait_again(store, event):
    job = start(store)
    store.request_cancel("", job.id)
    assert store.step(job.number, event).state is JobState.CANCELLED


def test_progress_is_seen_while_a_job_runs_and_stays_when_it_ends(store):
    job = start(store)
    store.set_progress(job.number, 0.5, "half")
    shown = store.get("", job.id)
    assert (shown.fraction, shown.message) == (0.5, "half")
    assert store.list_jobs() == [shown]
    done = finish(store, job)
    assert (done.fraction, done.message) == (0.5, "half")
    store.set_progress(job.number, 0.7, "too late")
    assert store.get("", job.id) == done


def test_progress_begins_anew_with_the_next_attempt(store):
    job = start(store)
    store.set_progress(job.number, 0.5, "half")
    assert store.step(job.number, JobEvent.INTERRUPT).fraction is None
    store.set_progress(job.number, 0.6, "by a worker that is gone")
    assert store.step(job.number, JobEvent.START, release_id="iris-1").message == ""
    assert store.get("", job.id).fraction is None


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"queue_max": 2}, "2 jobs wait, limit 2"),
        ({"queue_client_max": 2}, "2 jobs of this client wait, limit 2"),
        ({"bodies_max_bytes": 20}, "no room for a body of 8 bytes: 16 bytes of bodies wait or run, limit 20"),
        ({"disk_min_free_bytes": 2**62}, "the disk for jobs is nearly full"),
    ],
)
def test_what_is_over_a_limit_is_refused_and_leaves_nothing(tmp_path, limits, reason):
    with opened(tmp_path) as store:
        jobs = [submit(store, client="ann") for _ in range(2)]
        done = job_in(store, JobState.DONE, client="ann")
    with opened(tmp_path, **limits) as store:
        with pytest.raises(Full, match=reason):
            submit(store, client="ann")
        assert store.waiting() == jobs
        assert files_of(store) == {"1/body", "2/body", "3/result"}
        if "disk_min_free_bytes" not in limits:  # the others are about what waits
            store.request_cancel("ann", jobs[0].id)
            submit(store, client="ann")
        assert store.get("ann", done.id) == done


def test_a_client_over_its_limit_keeps_nobody_else_back(tmp_path):
    with opened(tmp_path, queue_client_max=1) as store:
        submit(store, client="ann")
        with pytest.raises(Full):
            submit(store, client="ann")
        submit(store, client="ben")
        store.step(1, JobEvent.START)
        submit(store, client="ann")  # one that runs does not wait


def test_results_expire_by_age_and_records_later(tmp_path):
    clocks = Clocks()
    with opened(tmp_path, clocks, result_max_age_s=DAY_S, record_max_age_s=7 * DAY_S) as store:
        job = job_in(store, JobState.DONE)
        clocks.pass_s(DAY_S - 1)
        assert store.tidy() == []
        clocks.pass_s(2)
        (expired,) = store.tidy()
        assert expired == store.get("", job.id)
        assert (expired.state, expired.result_bytes, expired.ended_s) == (JobState.EXPIRED, 0, job.ended_s)
        assert files_of(store) == set()
        assert store.tidy() == []
        clocks.pass_s(6 * DAY_S)
        store.tidy()
        with pytest.raises(NotFound):
            store.get("", job.id)


@pytest.mark.parametrize(("age_s", "tidy_s"), [(DAY_S, 60), (30, 3), (0.5, 1)])
def test_ages_are_looked_at_often_enough_and_not_more_often(age_s, tidy_s):
    assert JobLimits(result_max_age_s=age_s).tidy_s == tidy_s


def test_jobs_that_nobody_runs_in_time_expire(tmp_path):
    clocks = Clocks()
    with opened(tmp_path, clocks, queue_max_age_s=DAY_S) as store:
        old = submit(store)
        clocks.pass_s(DAY_S + 1)
        young = submit(store)
        assert [job.id for job in store.tidy()] == [old.id]
        assert store.get("", old.id).state is JobState.EXPIRED
        assert store.waiting() == [young]
        assert files_of(store) == {"2/body"}


def test_the_oldest_results_expire_when_there_are_too_many_bytes(tmp_path):
    clocks = Clocks()
    with opened(tmp_path, clocks, results_max_bytes=25) as store:
        first, second, third = (start(store) for _ in range(3))
        for job in (second, first, third):
            finish(store, job)  # 10 bytes each
            clocks.pass_s(1)
        assert [job.id for job in store.tidy()] == [second.id]
        assert store.usage().result_bytes == 20
        assert store.tidy() == []


def test_no_change_of_the_wall_clock_makes_results_older_or_younger(tmp_path):
    clocks = Clocks()
    with opened(tmp_path, clocks, result_max_age_s=DAY_S) as store:
        job_in(store, JobState.DONE)
        clocks.wall_s += 3650 * DAY_S
        assert store.tidy() == []
    with opened(tmp_path, clocks, result_max_age_s=DAY_S) as store:
        assert store.tidy() == []
        clocks.wall_s -= 7300 * DAY_S
        clocks.boot_s += DAY_S + 1
        assert len(store.tidy()) == 1


@pytest.mark.parametrize(("off_s", "expired"), [(-3650 * DAY_S, 0), (0, 0), (DAY_S / 2, 1), (3650 * DAY_S, 1)])
def test_a_reboot_counts_as_the_wall_clock_says_but_never_backwards(tmp_path, off_s, expired):
    clocks = Clocks()
    with opened(tmp_path, clocks, result_max_age_s=DAY_S) as store:
        job_in(store, JobState.DONE)
        clocks.pass_s(0.75 * DAY_S)
        store.tidy()  # stores the clock
    clocks.reboot(off_s)
    with opened(tmp_path, clocks, result_max_age_s=DAY_S) as store:
        assert len(store.tidy()) == expired


def test_a_reboot_that_the_wall_clock_calls_ten_years_counts_as_a_day(tmp_path):
    clocks = Clocks()
    with opened(tmp_path, clocks, result_max_age_s=2 * DAY_S) as store:
        job_in(store, JobState.DONE)
    clocks.reboot(3650 * DAY_S)
    with opened(tmp_path, clocks, result_max_age_s=2 * DAY_S) as store:
        assert store.tidy() == []
        clocks.pass_s(DAY_S + 1)
        assert len(store.tidy()) == 1


def test_ages_grow_over_restarts_however_short_each_run_is(tmp_path):
    clocks = Clocks()
    with opened(tmp_path, clocks) as store:
        job_in(store, JobState.DONE)
    for _ in range(4):
        clocks.pass_s(DAY_S / 4 + 1)
        with opened(tmp_path, clocks, result_max_age_s=DAY_S) as store:
            expired = store.tidy()
    assert len(expired) == 1


def test_the_webhook_of_a_job_that_has_ended_is_told_even_after_a_restart(tmp_path):
    with opened(tmp_path) as store:
        done = job_in(store, JobState.DONE, webhook="https://hooks.example/x")
        job_in(store, JobState.RUNNING, webhook="https://hooks.example/x")
        job_in(store, JobState.DONE)
        assert store.unsent_webhooks() == [done]
    with opened(tmp_path) as store:
        assert store.unsent_webhooks() == [done]
        store.set_webhook_sent(done.number)
        assert store.unsent_webhooks() == []
        assert store.step(done.number, JobEvent.EXPIRE).state is JobState.EXPIRED
        assert store.unsent_webhooks() == []


def test_no_name_of_a_client_reaches_the_disk(store):
    with pytest.raises(ValueError, match="not the name of an incoming body"):
        store.files.remove_incoming("../1/body")
    submit(store, id="..", client="../../x", model="/etc")
    assert files_of(store) == {"1/body"}


def test_no_other_user_can_enter_the_folders(store):
    submit(store)
    folders = [store.files.folder, *(path for path in store.files.folder.rglob("*") if path.is_dir())]
    assert {path.name: path.stat().st_mode & 0o777 for path in folders} == dict.fromkeys(("jobs", "incoming", "1"), 0o700)


def test_operators_can_read_the_records_with_other_tools(tmp_path):
    with opened(tmp_path) as store:
        job = submit(store, client="ann")
        with sqlite3.connect(store.files.folder / "jobs.sqlite3") as other:
            ((record,),) = other.execute("SELECT record FROM jobs")
        other.close()
    assert json.loads(record)["id"] == job.id
