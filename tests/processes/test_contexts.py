"""Fitted contexts on two machines: two supervisors with their own states and caches, and one folder as their store."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from supervisor_harness import Supervised
from tinypex import write_tiny

pytestmark = pytest.mark.processes

MODULE = """
    import json, os, pathlib, time
    import polars as pl
    import base.artifacts as afs
    import base.service as svc
    from base.schema import Schema

    GATES = pathlib.Path("GATES_PATH")

    class History(Schema):
        y: pl.Float64

    class Steps(Schema):
        step: pl.Int64

    class Options(svc.Parameters):
        gate: str = ""

    def declare(path, **settings):
        contexts = svc.Contexts(
            path,
            afs.FsClient("contexts", path[1:] + "/{context_id}/{version}"),
            save_model=lambda model, path: path.write_text(json.dumps(model)),
            load_model=lambda path: json.loads(pathlib.Path(path).read_text()),
        )

        @contexts.fit(**settings)
        def fit(history: History.DataFrame, options: Options, context: svc.Context):
            with (GATES / "fits").open("a") as log:
                log.write(f"{os.getpid()} {path} {options.gate}\\n")
            context.progress(0.5, "half of it")
            while options.gate and not (GATES / options.gate).exists() and not context.cancelled():
                time.sleep(0.01)
            return history["y"].mean()

        @contexts.predict()
        def predict(model: float, records_df: Steps.DataFrame):
            return records_df.select(y=pl.lit(model) * pl.col("step"))

        return contexts

    quick = declare("/mean").endpoints
    slow = declare("/slow", job=True).endpoints
"""

HISTORY = [{"y": 1.0}, {"y": 3.0}]


class Machine:
    """A supervisor whose workers see the shared store."""

    def __init__(self, folder: Path, shared: Path) -> None:
        settings = {"artifacts_path": shared / "store", "workers_per_release": 2, "job_workers": 1, "job_worker_nice": 0}
        self.run = Supervised(folder, **settings, restart_delay_min_s=0.05)
        write_tiny(self.run.dist / "means.pex", "means", module=MODULE.replace("GATES_PATH", str(shared)), endpoints=("quick", "slow"))
        self.shared = shared

    def __enter__(self):
        self.run.__enter__()
        self.run.until_state("means.pex", "ready")
        self.client = httpx.Client(base_url=self.run.state()["address"], timeout=100)
        return self

    def __exit__(self, *error):
        self.client.close()
        self.run.__exit__(*error)

    def fits(self, gate):
        """Returns the processes in which a fit with this gate has begun."""
        lines = (self.shared / "fits").read_text().splitlines() if (self.shared / "fits").exists() else []
        return [int(line.split()[0]) for line in lines if line.split()[-1] == gate]

    def predicted(self, context, path="/mean"):
        answer = self.client.post(f"{path}/predict/{context}", json=[{"step": 1}, {"step": 10}])
        return [each["y"] for each in answer.json()["predictions"]] if answer.status_code == 200 else answer.status_code

    def until_job(self, place, *states):
        def reached():
            found = self.client.get(place).json()
            return found if found["state"] in states else None

        return self.run.until(reached)


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("contexts")
    (folder / "shared").mkdir()
    for name in ("one", "other"):
        (folder / name).mkdir()
    with Machine(folder / "one", folder / "shared") as one, Machine(folder / "other", folder / "shared") as other:
        yield one, other


@pytest.fixture
def one(machines):
    return machines[0]


@pytest.fixture
def other(machines):
    return machines[1]


def stored(machine, context, path="mean"):
    return sorted(each.name for each in machine.shared.glob(f"store/contexts/{path}/{context}/*"))


def test_twenty_equal_fits_on_two_workers_are_one_fit(one):
    """The other worker waits for the first, and all answers name the same version."""
    with ThreadPoolExecutor(20) as threads:
        sent = [threads.submit(one.client.post, "/mean/fit?gate=twenty", json=HISTORY) for _ in range(20)]
        one.run.until(lambda: one.fits("twenty"))
        (one.shared / "twenty").touch()
        found = [each.result().json()["predictions"] for each in sent]
    assert len(one.fits("twenty")) == 1
    assert len({(each["context_id"], each["version"]) for each in found}) == 1
    assert sum(each["fitted"] for each in found) == 1
    assert one.predicted(found[0]["context_id"]) == [2.0, 20.0]


def test_of_equal_fits_on_two_machines_one_stays(one, other):
    """Both compute, since they share only the store. Here they end in the same moment, so both may say that they have stored."""
    with ThreadPoolExecutor(2) as threads:
        sent = [threads.submit(each.client.put, "/mean/contexts/both?gate=both", json=HISTORY) for each in (one, other)]
        one.run.until(lambda: len(one.fits("both")) == 2)
        (one.shared / "both").touch()
        found = [each.result().json()["predictions"] for each in sent]
    (version,) = stored(one, "both")
    assert version in {each["version"] for each in found if each["fitted"]}
    assert one.predicted("both") == other.predicted("both") == [2.0, 20.0]


def test_a_machine_uses_refits_and_deletes_what_another_has_fitted(one, other):
    """A newer version is used after `refresh`, as is that there is none."""
    assert one.client.put("/mean/contexts/shared", json=HISTORY).json()["predictions"]["fitted"]
    assert other.predicted("shared") == [2.0, 20.0]
    assert not other.client.put("/mean/contexts/shared", json=HISTORY).json()["predictions"]["fitted"]
    assert other.client.put("/mean/contexts/shared", json=[{"y": 5.0}]).json()["predictions"]["fitted"]
    one.run.until(lambda: one.predicted("shared") == [5.0, 50.0])
    assert one.client.delete("/mean/contexts/shared").status_code == 204
    assert other.client.delete("/mean/contexts/shared").status_code == 404
    other.run.until(lambda: other.predicted("shared") == 404)


def test_methods_that_a_context_does_not_have_are_refused_by_name(one):
    """And the document has those that it has."""
    for method, path, allowed in (
        ("POST", "/mean/contexts/a", "PUT, DELETE"),
        ("GET", "/mean/contexts/a", "PUT, DELETE"),
        ("PUT", "/mean/fit", "POST"),
        ("DELETE", "/mean/predict/a", "POST"),
    ):
        answer = one.client.request(method, path, content=b"[]")
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert one.client.put("/mean/other/a", json=[]).status_code == 404
    assert one.client.post("/PUT/mean/contexts/a", json=HISTORY).status_code == 404
    for around in ("PUT/mean/contexts/a", "DELETE/mean/contexts/a", "PUT%2fmean%2fcontexts%2fa"):
        assert one.client.put("/jobs/around", params={"path": around}, json=HISTORY).status_code == 404
    paths = one.client.get("/openapi.json").json()["paths"]
    assert [*paths["/mean/contexts/{context_id}"]] == ["put", "delete"]
    assert "requestBody" not in paths["/mean/contexts/{context_id}"]["delete"]


@pytest.mark.parametrize(
    "context", ["..", "%2e%2e", "a%2fb", "%2fetc%2fpasswd", "a%5cb", "a%00", "x" * 129, "x" * 5000, "%ef%bd%81", "A%CC%81", "."]
)
def test_an_id_never_leaves_its_folder(one, context):
    """Nothing is fitted, written or deleted."""
    before = sorted(one.shared.rglob("*"))
    for method, path, rows in (("PUT", "contexts", HISTORY), ("POST", "predict", [{"step": 1}]), ("DELETE", "contexts", [])):
        request = httpx.Request(method, f"{one.client.base_url}/mean/{path}/_?gate=open", json=rows)
        request.url = request.url.copy_with(raw_path=f"/mean/{path}/{context}?gate=open".encode())
        assert one.client.send(request).status_code in {404, 414, 422, 431}
    assert sorted(one.shared.rglob("*")) == before


def test_a_long_fit_is_a_job(one, other):
    """By the method that the context has. Its progress is seen, and its result is the answer of a fit; another machine predicts from it."""
    accepted = one.client.put("/slow/contexts/long?gate=long", json=HISTORY)
    assert accepted.status_code == 202, accepted.text
    place = accepted.headers["location"]
    running = one.run.until(lambda: found if (found := one.client.get(place).json()).get("fraction") == 0.5 else None)
    assert (running["message"], running["target"]) == ("half of it", "PUT /slow/contexts/long?gate=long")
    assert one.predicted("long", "/slow") == 404
    (one.shared / "long").touch()
    assert one.until_job(place, "done", "failed")["state"] == "done"
    result = one.client.get(f"{place}/result").json()["predictions"]
    assert (result["context_id"], result["fitted"]) == ("long", True)
    assert other.predicted("long", "/slow") == [2.0, 20.0]


def test_a_fit_that_is_cancelled_half_way_stores_nothing(one):
    """And no later fit waits for it."""
    place = one.client.put("/slow/contexts/cancelled?gate=never", json=HISTORY).headers["location"]
    one.run.until(lambda: one.client.get(place).json().get("fraction") == 0.5)
    one.client.delete(place)
    assert one.until_job(place, "cancelled", "done", "failed")["state"] == "cancelled"
    assert stored(one, "cancelled", "slow") == []
    again = one.client.put("/slow/contexts/cancelled", json=HISTORY).headers["location"]
    assert one.until_job(again, "done", "failed")["state"] == "done"
    assert one.predicted("cancelled", "/slow") == [2.0, 20.0]


def test_a_fit_whose_worker_is_killed_half_way_is_made_again(one):
    """As a job and as a request: both run once more, and one version is stored."""
    place = one.client.put("/slow/contexts/killed?gate=killed-job", json=HISTORY).headers["location"]
    with ThreadPoolExecutor(1) as threads:
        sent = threads.submit(one.client.put, "/mean/contexts/killed?gate=killed-request", json=HISTORY)
        for gate in ("killed-job", "killed-request"):
            os.kill(one.run.until(lambda gate=gate: one.fits(gate))[0], signal.SIGKILL)
        for gate in ("killed-job", "killed-request"):
            one.run.until(lambda gate=gate: len(one.fits(gate)) == 2)
            (one.shared / gate).touch()
        assert sent.result().json()["predictions"]["fitted"]
    assert one.until_job(place, "done", "failed")["state"] == "done"
    for path in ("mean", "slow"):
        assert len(stored(one, "killed", path)) == 1
        assert one.predicted("killed", f"/{path}") == [2.0, 20.0]


def test_a_context_survives_its_machine(one, other):
    """The last test of this page: it kills the machine that has fitted, with kill -9 of its supervisor, while it fits again."""
    one.client.put("/mean/contexts/orphan", json=HISTORY)
    version = stored(one, "orphan")
    sent = threading.Thread(target=lambda: _ignore_errors(one.client.put, "/mean/contexts/orphan?gate=orphan"))
    sent.start()
    one.run.until(lambda: one.fits("orphan"))
    children = one.run.children()
    one.run.process.kill()
    one.run.process.wait()
    sent.join()
    while any(Path(f"/proc/{pid}").exists() for pid in children):
        time.sleep(0.05)
    assert stored(other, "orphan") == version
    assert other.predicted("orphan") == [2.0, 20.0]
    assert other.client.put("/mean/contexts/orphan", json=HISTORY).json()["predictions"]["fitted"] is False
    one.run.start()
    one.run.until(one.run.has_started)
    answer = httpx.post(f"{one.run.state()['address']}/mean/predict/orphan", json=[{"step": 1}], timeout=100)
    one.run.__exit__()  # what a test has started must not outlive it
    assert answer.json()["predictions"] == [{"y": 2.0}]


def _ignore_errors(put, path):
    try:
        put(path, json=[{"y": 9.0}])
    except httpx.TransportError:
        return
