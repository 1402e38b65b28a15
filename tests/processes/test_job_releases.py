"""Jobs end on the release on which they began, and a supervisor that stops waits for them, but not for long."""

import os
import signal
from pathlib import Path

import pytest

from job_driver import Labour

pytestmark = pytest.mark.processes


def end(labour, job, mark):
    """Lets a job end, and returns its version and its number of attempts."""
    Path(f"{mark}.go").touch()
    found = labour.jobs.until(job.id)
    assert found.state == "done", found
    return labour.did(job)[0]["version"], found.attempts


def until_serves(run, version):
    """Waits until requests go to a version."""
    run.until(lambda: run.state() and [each["version"] for each in run.state()["models"][0]["serves"]] == [version])


def test_jobs_end_on_their_release_and_those_that_wait_follow_the_traffic(tmp_path):
    with Labour(tmp_path, job_workers=2, restart_delay_min_s=0.05) as labour:
        run = labour.run
        first, first_mark = labour.submit("waits")
        labour.until_begun(first_mark)
        labour.write("0.2.0")
        until_serves(run, "0.2.0")
        second, second_mark = labour.submit("waits")
        labour.until_begun(second_mark)
        waiting, waiting_mark = labour.submit("waits")

        # A runner that begins anew finds the release that only has a job left, although its file is gone.
        labour.old.unlink()
        os.kill(labour.runner_pid(), signal.SIGKILL)
        labour.until_begun(first_mark, 2)
        assert end(labour, first, first_mark) == ("0.1.0", 2)
        run.until(lambda: all(not each["worker_pids"] for each in run.releases(labour.old.name)))

        labour.until_begun(waiting_mark)
        assert run.run("rollback", "labour").returncode == 0
        until_serves(run, "0.1.0")
        third, third_mark = labour.submit("waits")
        assert end(labour, second, second_mark) == ("0.2.0", 2)
        assert end(labour, waiting, waiting_mark) == ("0.2.0", 1)
        assert end(labour, third, third_mark) == ("0.1.0", 1)
        run.until(lambda: not run.release("labour-0.2.0.pex")["worker_pids"])


def test_a_job_that_names_its_release_keeps_it_while_it_waits(tmp_path):
    with Labour(tmp_path, job_workers=1, restart_delay_min_s=0.05) as labour:
        first, first_mark = labour.submit("waits")
        labour.until_begun(first_mark)
        named, named_mark = labour.submit("waits", x_pexdock_version="0.1.0")
        free, free_mark = labour.submit("waits")
        assert (named.state, free.state) == ("queued", "queued")
        labour.write("0.2.0")
        until_serves(labour.run, "0.2.0")
        assert end(labour, first, first_mark) == ("0.1.0", 1)
        assert end(labour, named, named_mark) == ("0.1.0", 1)
        assert end(labour, free, free_mark) == ("0.2.0", 1)


def test_a_supervisor_that_stops_gives_jobs_back_that_do_not_end(tmp_path):
    labour = Labour(tmp_path, job_workers=2, job_drain_s=4)
    with labour:
        quick, quick_mark = labour.submit("waits")
        slow, slow_mark = labour.submit("ignores_cancellation")
        labour.until_begun(quick_mark), labour.until_begun(slow_mark)
        queued, _ = labour.submit("waits")
        labour.run.process.terminate()
        labour.run.until(lambda: "shutting down" in labour.run.err.read_text())
        Path(f"{quick_mark}.go").touch()
        labour.run.process.wait(40)
    with labour:
        jobs = labour.jobs
        assert (jobs.get(quick.id).state, jobs.get(quick.id).attempts) == ("done", 1)
        assert labour.did(quick)[0]["did"] == "waited"
        labour.until_begun(slow_mark, 2)
        Path(f"{slow_mark}.go").touch()
        assert (jobs.until(slow.id).state, jobs.get(slow.id).attempts) == ("done", 1)
        assert jobs.cancel(queued.id).state in {"cancelled", "running"}
