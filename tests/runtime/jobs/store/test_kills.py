"""The store of jobs when its process is killed: no acknowledged job is lost, each ends once, and no file is left over."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import job_store_killer
from job_store_killer import ATTEMPTS, body_of, result_of, run_job, submit_job
from job_stores import files_of, opened
from runtime.jobs.job import JobState

pytestmark = pytest.mark.timeout(300)  # a busy machine

ROOT = Path(__file__).parents[4]
PROGRAM = Path(job_store_killer.__file__)


class Nobody:
    """Hears nothing."""

    def add(self, what, job):
        pass


@pytest.fixture
def folder():
    """Returns a folder in memory: a kill leaves there what it leaves on a disk, and no call waits for one."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


def run_killer(*words):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{PROGRAM.parent}"}
    subprocess.run([sys.executable, PROGRAM, *map(str, words)], env=environment, check=True)


def told(folder):
    path = folder / "acknowledged"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def check_files(store):
    """Checks that each job has the files that it needs, whole, and that there are no others."""
    expected = set()
    for job in store.list_jobs(limit=1000):
        assert job.state is not JobState.RUNNING
        if job.state is JobState.QUEUED:
            assert store.files.body(job.number).read_bytes() == body_of(job.id)
            expected.add(f"{job.number}/body")
            if store.files.checkpoint(job.number).exists():
                expected |= {f"{job.number}/checkpoint/half"} & files_of(store)
            expected |= {f"{job.number}/{name}" for name in ("result", "result.part")} & files_of(store)  # of the last attempt
        elif job.state is JobState.DONE:
            assert store.files.result(job.number).read_bytes() == result_of(job.id)
            expected.add(f"{job.number}/result")
    assert files_of(store) == expected


def test_a_kill_after_any_call_loses_no_job_and_leaves_no_file(folder):
    run_killer("each", folder)
    folders = sorted(path for path in folder.iterdir())
    assert len(folders) > 60
    for own in folders:
        lines = told(own)
        with opened(own, attempts=ATTEMPTS) as store:
            found = {job.id: job for job in store.list_jobs()}
            for line in lines:
                assert line["id"] in found, own
            ends = {line["id"]: line for line in lines if line["what"] != "added"}
            for job_id, end in ends.items():
                may_be = {JobState(end["state"])} | ({JobState.EXPIRED} if job_id == "finished" else set())
                assert found[job_id].state in may_be, own
                assert found[job_id].ended_s == end["ended_s"], own
            check_files(store)
            for job_id in ("finished", "cancelled", "interrupted"):  # the client submits again what nobody acknowledged
                job = submit_job(store, Nobody(), job_id)
                if job.state is JobState.QUEUED:
                    run_job(store, Nobody(), job)
            ended = {job.id: job.state for job in store.list_jobs()}
            assert ended.pop("finished") in {JobState.DONE, JobState.EXPIRED}
            assert ended.pop("cancelled") in {JobState.DONE, JobState.CANCELLED}
            assert ended == {"interrupted": JobState.DONE}
            check_files(store)


def test_a_submission_that_is_repeated_after_a_kill_at_any_call_is_one_job(folder):
    run_killer("submission", folder)
    assert len(list(folder.iterdir())) > 10


@pytest.mark.parametrize("seed", [1, 2])
def test_two_hundred_jobs_with_random_kills_each_end_exactly_once(folder, seed):
    run_killer("random", folder, 200, seed)
    lines = told(folder)
    with opened(folder, attempts=ATTEMPTS) as store:
        jobs = {job.id: job for job in store.list_jobs(limit=1000)}
        check_files(store)
    assert jobs.keys() == {f"job-{number}" for number in range(200)}
    assert {job.state for job in jobs.values()} <= {JobState.DONE, JobState.FAILED}
    for job in jobs.values():
        assert job.state is JobState.DONE or (job.attempts == ATTEMPTS and job.error["code"] == "interrupted")
    for line in lines:
        job = jobs[line["id"]]
        assert line["number"] == job.number
        if line["what"] != "added":
            assert (line["state"], line["ended_s"]) == (job.state, job.ended_s)
    finishes = [line["id"] for line in lines if line["what"] == "ended"]
    assert len(finishes) == len(set(finishes))
