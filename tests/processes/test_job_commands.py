"""What operators see of jobs, and do with them: by command, and over the admin API."""

import json
import subprocess

import pytest

from job_clients import JobClients
from tinypex import write_tiny

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    with JobClients(tmp_path_factory.mktemp("jobs")) as made:
        yield made


def command(clients, *words):
    done = clients.run.run("jobs", *words)
    return done.returncode, done.stdout, done.stderr


def test_jobs_of_all_clients_are_listed_with_their_clients(clients):
    mine = clients.submit("?factor=-1")
    other = clients.ben.put("/jobs/ben-1?path=/study", json=[{"x": 1}])
    assert other.status_code == 202
    clients.until(mine, "failed")
    code, out, _ = command(clients, "list")
    head, *rows = [line.split() for line in out.splitlines()]
    assert (code, head) == (0, ["ID", "CLIENT", "STATE", "CREATED", "MODEL", "TARGET"])
    assert {row[0]: row[1] for row in rows} == {mine: "ann", "ben-1": "ben"}
    code, out, _ = command(clients, "list", "--state", "failed,cancelled", "--model", "Study", "--json")
    assert [(job["id"], job["client"]) for job in json.loads(out)] == [(mine, "ann")]
    code, out, _ = command(clients, "list", "--model", "nothing")
    assert (code, out) == (0, "there are no such jobs\n")


def test_a_job_is_shown_followed_and_cancelled(clients):
    gate = clients.new_gate()
    job_id = clients.submit(f"?gate={gate.name}")
    clients.until(job_id, "running")
    clients.run.until(lambda: "fraction" in clients.ann.get(f"/jobs/{job_id}").json())
    _, out, _ = command(clients, "show", job_id, "--client", "ann")
    assert "running 50%: half of it" in out
    words = ("jobs", "follow", job_id, "--client", "ann")
    with subprocess.Popen(clients.run.command(*words), env=clients.run.environment, stdout=subprocess.PIPE, text=True) as following:
        lines = [following.stdout.readline()]
        code, out, _ = command(clients, "cancel", job_id, "--client", "ann")
        assert (code, out.startswith(f"{job_id}: ")) == (0, True)
        lines += following.stdout.readlines()
    assert (following.returncode, lines[-1]) == (1, "cancelled\n")
    gate.touch()
    job_id = clients.submit()
    code, out, _ = command(clients, "follow", job_id, "--client", "ann", "--json")
    assert (code, json.loads(out.splitlines()[-1])["state"]) == (0, "done")


def test_an_unknown_job_is_an_error_that_says_so(clients):
    code, _, err = command(clients, "show", "unknown")
    assert (code, err.startswith("pexdock: there is no job unknown")) == (1, True)
    for client in (clients.ann, clients.ben):
        client.put("/jobs/same?path=/study", json=[{"x": 1}])
    code, _, err = command(clients, "show", "same")
    assert (code, "jobs with this ID are of: ann, ben; name the client (--client)" in err) == (1, True), err
    answer = clients.run.admin.get("/jobs/..%2f..%2fjobs.db")
    assert answer.status_code in {404, 422}


GROUPED = """
    import polars as pl
    import base.service as svc
    from base.schema import Schema

    class Row(Schema):
        key: pl.String
        x: pl.Int64

    @svc.endpoint("/grouped", group_by=["key"])
    def predict(records_df: Row.DataFrame):
        if (records_df["x"] < 0).any():
            raise ValueError("no")
        return records_df.select("key", y=pl.col("x") * 2)
"""


def test_preferences_for_groups_hold_for_jobs(clients):
    """Strict handling makes the job fail; otherwise its result has the groups that were answered, and the errors of the others."""
    write_tiny(clients.run.dist / "grouped.pex", "grouped", module=GROUPED)
    clients.run.until_state("grouped.pex", "ready")
    rows = [{"key": "a", "x": 1}, {"key": "b", "x": -1}]
    clients.run.until(lambda: clients.ann.post("/grouped", json=rows[:1]).status_code == 200)
    strict = clients.submit(rows=rows, path="/grouped", prefer="respond-async, handling=strict")
    lenient = clients.submit(rows=rows, path="/grouped")
    assert "1 of 2 groups failed" in clients.until(strict, "failed")["error"]["detail"]
    clients.until(lenient, "done")
    found = clients.ann.get(f"/jobs/{lenient}/result").json()
    assert [(row["key"], row["y"]) for row in found["predictions"]] == [("a", 2)]
    assert [each["group"] for each in found["failed"]] == [{"key": "b"}]


def test_a_job_runner_that_was_killed_is_waited_for(clients):
    """A client that asks meanwhile gets its answer once the runner is back, and no job is lost."""
    job_id = clients.submit()
    clients.until(job_id, "done")
    before = clients.ann.get(f"/jobs/{job_id}").json()
    clients.kill_runner()
    assert clients.ann.get(f"/jobs/{job_id}").json() == before
    assert clients.ann.get(f"/jobs/{job_id}/result").json()["predictions"][1]["product"] == 40
    clients.kill_runner()
    assert clients.until(clients.submit(), "done")
