"""Jobs on a disk that is full, and clients that cancel and fetch at once."""

import threading

import httpx
import pytest

from job_clients import ASYNC, JobClients
from small_disk import mounted

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    with mounted(tmp_path_factory.mktemp("jobs") / "state") as made:
        yield made


@pytest.fixture(scope="module")
def clients(disk, tmp_path_factory):
    folder = tmp_path_factory.mktemp("jobs")
    with JobClients(folder, state_path=disk.path, job_disk_min_free_bytes=50_000) as made:
        yield made


def test_a_full_disk_refuses_jobs_and_loses_none(clients, disk):
    """A body is refused that does not fit, or that would leave too little room; and there is room again for the next one."""
    gate = clients.new_gate()
    waiting = [clients.submit(f"?gate={gate.name}") for _ in range(4)]
    rows = b"[%b]" % b",".join([b'{"x": 1}'] * 20_000)
    for left_bytes in (0, 200_000):  # of which the body takes 180 000
        disk.fill(left_bytes)
        for _ in range(3):
            answer = clients.ann.post("/study", content=rows, headers=ASYNC | {"content-type": "application/json"})
            assert (answer.status_code, answer.json()["code"], "retry-after" in answer.headers) == (503, "full", True), answer.text
            assert "disk" in answer.json()["detail"]
        assert not clients.incoming()
        disk.empty()
    assert clients.ann.post("/study", json=[{"x": 4}]).status_code == 200
    gate.touch()
    for job_id in waiting:
        clients.until(job_id, "done")
    assert clients.until(clients.submit(), "done")


def test_a_result_that_does_not_fit_waits_and_takes_no_room_and_can_be_cancelled(clients, disk):
    """Neither other jobs nor a start suffer from it, and what was filled by somebody else is no hindrance."""
    done = clients.until(clients.submit(), "done")
    too_large = clients.submit("?size=3000000&status=200", path="/raw")
    errors = clients.run.err
    clients.run.until(lambda: "jobs wait, since the disk of state_path is full" in errors.read_text())
    assert clients.until(clients.submit(), "done")
    parts = list((disk.path / "jobs").glob("*/result.part"))
    assert [part.stat().st_size for part in parts] == [0]
    disk.fill()
    clients.kill_runner()
    assert done["id"] in {each["id"] for each in clients.ann.get("/jobs").json()["jobs"]}
    assert clients.ann.get(f"/jobs/{done['id']}/result").status_code == 200
    clients.until(too_large, "running")  # once more, and its result is waited for once more
    assert clients.ann.delete(f"/jobs/{too_large}").status_code in {200, 202}
    assert clients.until(too_large, "cancelled")
    assert not parts[0].exists()
    disk.empty()
    assert clients.until(clients.submit(), "done")


def test_files_that_somebody_removes_end_their_jobs_while_pexdock_runs(clients, disk):
    gate = clients.new_gate()
    running = [clients.submit(f"?gate={gate.name}") for _ in range(2)]  # as many as there are job workers
    for job_id in running:
        clients.until(job_id, "running")
    waiting = clients.submit()
    folder = max((disk.path / "jobs").glob("[0-9]*"), key=lambda path: int(path.name))
    (folder / "body").unlink()
    gate.touch()
    error = clients.until(waiting, "failed")["error"]
    assert (error["code"], error["detail"]) == ("body_lost", "the body of this job is no longer on the server: submit it again")
    for job_id in running:
        clients.until(job_id, "done")
    for result in (disk.path / "jobs").glob("*/result"):
        result.unlink()
    assert clients.ann.get(f"/jobs/{running[0]}").json()["state"] == "expired"
    answer = clients.ann.get(f"/jobs/{running[1]}/result")
    assert (answer.status_code, answer.json()["detail"]) == (
        410,
        "the job has expired, and its result was removed; submit it again, and fetch the result earlier",
    )
    assert clients.ann.get(f"/jobs/{running[1]}").json()["state"] == "expired"


def test_clients_that_cancel_and_fetch_at_once_agree_on_the_end(clients):
    """A job ends once: it is done and has a result, or it is cancelled and has none, for everybody."""
    for _ in range(10):
        job_id = clients.submit()
        start = threading.Barrier(6)
        statuses = []

        def ask(method, below, job_id=job_id, start=start, statuses=statuses):
            with httpx.Client(base_url=clients.address, headers={"authorization": f"Bearer {clients.keys[0]}"}, timeout=60) as client:
                start.wait()
                for _ in range(5):
                    statuses.append((method, client.request(method, f"/jobs/{job_id}{below}").status_code))

        threads = [threading.Thread(target=ask, args=each) for each in [("DELETE", ""), ("GET", "/result"), ("GET", "")] * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ended = clients.until(job_id, "done", "cancelled")
        assert {status for _, status in statuses} <= {200, 202, 409}
        result = clients.ann.get(f"/jobs/{job_id}/result")
        assert result.status_code == (200 if ended["state"] == "done" else 409)
        assert clients.ann.delete(f"/jobs/{job_id}").json() == ended
