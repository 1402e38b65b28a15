"""Jobs, from a submission over the runner's socket to the stored result, with real processes."""

import pyarrow as pa
import pytest

from job_driver import Jobs
from supervisor_harness import Supervised
from tinypex import times, write_tiny

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jobs")
    run = Supervised(folder)
    write_tiny(run.dist / "twice.pex", "twice", module=times(2, "/twice"))
    with run:
        yield run, Jobs(folder / "state", run.run_path)


def test_a_job_is_run_and_its_rows_are_stored_as_an_arrow_stream(running):
    _, jobs = running
    job = jobs.submit("twice", "/twice", [{"x": 3}, {"x": 5}])
    done = jobs.until(job.id)
    assert (done.state, done.attempts, done.error) == ("done", 1, None)
    assert pa.ipc.open_stream(jobs.result(job.id)).read_all().to_pydict() == {"prediction": [6, 10]}
