"""Groups of rows on several workers: they are shared, and a worker that ends takes one group with it at most."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.ipc

from base.ipc.front_door_control import Configure, FailureLimit, MirrorReport, MirrorSpec, OutcomeReport, SplitSpec
from front_harness import Front, Workers
from job_driver import Jobs
from rawhttp import Raw, await_read, post
from supervisor_harness import Supervised
from tinypex import write_tiny


def users(**xs: list[float]) -> list[dict[str, object]]:
    return [{"user": user, "x": x} for user, values in xs.items() for x in values]


def test_copies_for_a_mirror_are_compared_group_by_group(make: Workers, front: Front) -> None:
    """Its copies are computed as one batch. An answer without some groups is compared by its gravest error."""
    own, alike, other = make("1.0", "--grouped"), make("1.0", "--grouped"), make("1.0", "--grouped", "--bias", 0.5)
    for shadow, equal in ((alike, 3), (other, 2)):
        front.table(
            own.route("own"), shadow.route(f"shadow{equal}"), sharing=SplitSpec({"own": 1}, "", MirrorSpec(f"shadow{equal}", 100.0))
        )
        for rows, status in ((users(a=[1, 2], b=[3]), 200), (users(a=[1, 2], b=[-3]), 207), (users(a=[1] * 4), 422)):
            assert front.ask(rows, path="/tiny/grouped").status == status
        seen: list[MirrorReport] = []
        while sum(each.requests for each in seen) < 3:
            seen.append(front.until(MirrorReport))
        assert sum(each.equal for each in seen) == equal


def test_a_release_is_to_blame_once_for_an_answer_without_some_groups(make: Workers, front: Front) -> None:
    """If its handler fails, however many groups and parts there are; if it refuses groups, the client is."""
    first, second = make("1.0", "--grouped"), make("1.0", "--grouped")
    front.table(first.route("it", second, failure_limit=FailureLimit(10, 50.0)))
    many = {f"u{number}": [-1.0 if number % 2 else 1.0] for number in range(600)}
    for rows, status in ((users(**many), 207), (users(a=[1] * 4, b=[1]), 207), (users(a=[1] * 4), 422), (users(a=[1], b=[2]), 200)):
        assert front.ask(rows, path="/tiny/grouped").status == status
    reports: list[OutcomeReport] = []
    while sum(each.answered for each in reports) < 4:
        reports.append(front.until(OutcomeReport))
    assert (sum(each.failed for each in reports), any(each.limit_reached for each in reports)) == (1, False)


def test_groups_that_wait_for_others_of_their_request_are_not_late(make: Workers, tmp_path: Path) -> None:
    """The limit is on the time until a request has a worker. One that has none yet is refused, with all of its groups."""
    gate = tmp_path / "gate"
    worker = make("1.0", "--grouped", "--sleep", 0.3, "--gate", gate)
    rows = users(a=[1], b=[2], c=[3], d=[4])
    with Front(Configure(queue_max_wait_s=0.4)) as front:
        front.table(worker.route("it"))
        with ExitStack() as stack:
            held = [stack.enter_context(Raw(front.address)) for _ in range(2)]  # as many batches as a worker gets at a time
            for raw, name in zip(held, "ab", strict=True):
                raw.send(post(f"/tiny/of/{name}", [{"x": 1}]))
            await_read(front.address, "/tiny")
            late = stack.enter_context(Raw(front.address))
            late.send(post("/tiny/grouped", rows))
            await_read(front.address, "/tiny")
            time.sleep(0.5)
            gate.touch()
            assert [raw.answer().status for raw in held] == [200, 200]
            refused = late.answer()
        assert (refused.status, refused.json()["code"], len(refused.json()["groups"])) == (503, "full", 4)
        assert front.ask(rows, path="/tiny/grouped").status == 200


SHARED = """
    import os, pathlib, signal, time
    import polars as pl
    import base.service as svc
    from base.errors import Reject
    from base.schema import Schema

    class Row(Schema):
        series: pl.Int64
        x: pl.Int64

    @svc.endpoint(path="/shared", group_by=["series"])
    def predict(frame: Row.DataFrame) -> pl.DataFrame:
        met, series = pathlib.Path("FOLDER"), frame["series"][0]
        if series == 700:
            os.kill(os.getpid(), signal.SIGKILL)
        if series == 300 and not (met / "died").exists():
            (met / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if series == 500:
            raise Reject(422, "no 500")
        (met / str(os.getpid())).touch()
        while len(list(met.glob("[0-9]*"))) < 2:  # until another worker computes some groups, too
            time.sleep(0.01)
        return frame.select(pl.col("x").sum(), pid=pl.lit(os.getpid()))
"""


def test_groups_are_shared_by_the_workers_and_a_crash_fails_its_group_only(tmp_path: Path) -> None:
    """One group kills each worker that computes it, another one only the first; of 1000, a few in each part. A job is, too."""
    met = tmp_path / "met"
    met.mkdir()
    supervised = Supervised(tmp_path, workers_per_release=2, restart_delay_min_s=0.05, restart_delay_max_s=0.1)
    write_tiny(supervised.dist / "shared.pex", "shared", module=SHARED.replace("FOLDER", str(met)))
    rows = [{"series": (i * 7) % 1000, "x": i} for i in range(3000)]
    with supervised:
        url = supervised.state()["address"] + "/shared"
        reply = httpx.post(url, json=rows, timeout=120)
        jobs = Jobs(tmp_path / "state", supervised.run_path)
        job = jobs.until(jobs.submit("shared", "/shared", [{"series": series, "x": 1} for series in (1, 2, 500, 2)]).id, deadline_s=180)
        strict = {"prefer": "respond-async, handling=strict"}
        failed = jobs.until(httpx.post(url, json=[{"series": 500, "x": 1}, {"series": 1, "x": 1}], headers=strict).json()["id"])
        result = pa.ipc.open_stream(jobs.result(job.id)).read_all()
    assert (job.state, job.fraction, job.message) == ("done", 1.0, "3 of 3 groups")
    assert (failed.state, failed.error["status"], failed.error["groups"][0]["group"]) == ("failed", 422, {"series": 500})
    assert result["series"].to_pylist() == [1, 2, 500]
    assert result["x"].to_pylist() == [1, 2, None]
    assert result["group_error"].to_pylist() == [None, None, "rejected: no 500"]
    assert reply.status_code == 207, reply.text
    document = reply.json()
    assert [(each["group"]["series"], each["status"], each["code"]) for each in document["failed"]] == [
        (series, status, code)
        for series in [(i * 7) % 1000 for i in range(1000)]
        for failing, status, code in [(700, 500, "handler_failed"), (500, 422, "rejected")]
        if series == failing
    ]
    assert [(each["series"], each["x"]) for each in document["predictions"]] == [
        ((i * 7) % 1000, 3 * i + 3000) for i in range(1000) if (i * 7) % 1000 not in {500, 700}
    ]
    assert len({each["pid"] for each in document["predictions"]}) >= 2
