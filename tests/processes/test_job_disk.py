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
