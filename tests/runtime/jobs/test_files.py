"""The files of jobs: who may read and change them."""

import os
import pwd
import subprocess
import tempfile
from pathlib import Path

import pytest

from job_stores import opened, submit


def shell(user, script, folder):
    return subprocess.run(
        ["/bin/sh", "-c", script],
        cwd="/",
        env={"JOBS": str(folder)},
        user=user,
        group=user,
        extra_groups=[],
        text=True,
        capture_output=True,
    )


@pytest.mark.skipif(os.getuid() != 0, reason="only root can start processes of another user")
def test_a_worker_of_another_user_keeps_checkpoints_and_sees_nothing_else():
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        state_path = Path(name)
        umask = os.umask(0o077)  # as in the job runner
        try:
            with opened(state_path) as store:
                job = submit(store)
                assert "denied" in shell(nobody.pw_uid, "ls $JOBS/1", store.files.folder).stderr
                store.files.make_checkpoint(job.number, (nobody.pw_uid, nobody.pw_gid))
                store.files.make_checkpoint(job.number, (nobody.pw_uid, nobody.pw_gid))  # at the next attempt
                kept = shell(nobody.pw_uid, "echo kept > $JOBS/1/checkpoint/1 && cat $JOBS/1/checkpoint/1", store.files.folder)
                assert (kept.returncode, kept.stdout) == (0, "kept\n")
                for script in (
                    "cat $JOBS/1/body",
                    "cat $JOBS/jobs.sqlite3",
                    "ls $JOBS",
                    "ls $JOBS/1",
                    "ls $JOBS/incoming",
                    "rm -f $JOBS/1/body",
                ):
                    refused = shell(nobody.pw_uid, script, store.files.folder)
                    assert (refused.returncode != 0, refused.stdout) == (True, ""), script
                    assert "denied" in refused.stderr, script
        finally:
            os.umask(umask)


def test_a_worker_of_the_same_user_opens_no_folder_to_others(tmp_path):
    with opened(tmp_path) as store:
        job = submit(store)
        store.files.make_checkpoint(job.number, None)
        folders = [store.files.folder, *(path for path in store.files.folder.rglob("*") if path.is_dir())]
        assert {path.stat().st_mode & 0o077 for path in folders} == {0}
