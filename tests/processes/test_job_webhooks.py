"""Webhooks of jobs, from a request to the call that tells of its end, with real processes."""

import asyncio
import signal
import threading

import httpx
import pytest

from supervisor_harness import Supervised
from tinypex import write_tiny
from webhook_server import WebhookServer, is_signed

pytestmark = pytest.mark.processes

SECRET = "a secret of more than 24 bytes"

MODULE = """
    import pathlib, time
    import polars as pl
    import base.service as svc
    from base.schema import Schema

    GATE = pathlib.Path("FOLDER/gate")

    class Row(Schema):
        x: pl.Int64

    @svc.endpoint("/study")
    def predict(records_df: Row.DataFrame, context: svc.Context):
        context.progress(0.5, "half of it")
        while records_df["x"][0] == 300 and not GATE.exists():  # not while it is warmed up
            time.sleep(0.01)
        return records_df["x"]
"""


@pytest.fixture
def server():
    """Returns a server that a thread runs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    made = WebhookServer()
    asyncio.run_coroutine_threadsafe(made.__aenter__(), loop).result()
    yield made
    asyncio.run_coroutine_threadsafe(made.__aexit__(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_webhook_is_told_of_progress_and_of_the_end_even_if_everything_was_killed_meanwhile(server, tmp_path):
    (tmp_path / "secret").write_text(SECRET)
    settings = {
        "job_webhook_hosts": f"127.0.0.1:{server.port}",
        "job_webhook_secret_path": tmp_path / "secret",
        "start_nice": 0,
        "job_worker_nice": 0,
        "job_result_max_age_s": 5,
    }
    run = Supervised(tmp_path, **settings)
    write_tiny(run.dist / "study.pex", "study", module=MODULE.replace("FOLDER", str(tmp_path)))
    with run:
        run.until_state("study.pex", "ready")
        url = f"{run.state()['address']}/study"
        headers = {"prefer": "respond-async", "x-pexdock-webhook": f"http://127.0.0.1:{server.port}/told"}
        refused = httpx.post(url, json=[{"x": 300}], headers={**headers, "x-pexdock-webhook": "http://169.254.169.254/latest"}, timeout=60)
        assert (refused.status_code, refused.json()["code"]) == (422, "misfit")
        assert "ask the operator to add it to job_webhook_hosts" in refused.json()["detail"]
        url = f"{run.state()['address']}/jobs/mine?path=/study"
        answer, again = (httpx.put(url, json=[{"x": 300}], headers=headers, timeout=60) for _ in range(2))
        assert (answer.status_code, again.status_code) == (202, 202)
        for other in ({"x-pexdock-webhook": f"{headers['x-pexdock-webhook']}-elsewhere"}, {"x-pexdock-webhook": ""}):
            assert httpx.put(url, json=[{"x": 300}], headers=headers | other, timeout=60).status_code == 409
        run.until(lambda: any(document.get("fraction") == 0.5 for document in server.documents))
        run.process.send_signal(signal.SIGKILL)
        run.process.wait()
    calls = len(server.calls)
    (tmp_path / "gate").touch()
    with run:  # nobody connects to it
        run.until(lambda: "done" in [document["state"] for document in server.documents[calls:]])
        run.until(lambda: server.documents[-1]["state"] == "expired")
    ends = [document for document in server.documents if document["state"] == "done"]
    assert [(document["id"], document["attempts"]) for document in ends] == [(answer.json()["id"], 2)]
    assert all(is_signed(call, SECRET.encode()) for call in server.calls)
    assert {line for line, _, _ in server.calls} == {"POST /told HTTP/1.1"}
