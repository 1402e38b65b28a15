"""The page about jobs is true: its commands run as shown, one after the other."""

import json
import re
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest

from supervisor_harness import Supervised
from tinypex import write_tiny

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "operations" / "jobs.md").read_text()
SUBMIT, OWN_ID, ASK, OPERATE = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)

FORECAST = """
    import polars as pl
    import base.service as svc
    from base.schema import Schema

    class Point(Schema):
        series: pl.String
        y: pl.Float64

    class Options(svc.Parameters):
        horizon: int

    @svc.endpoint("/predictions/forecast")
    def predict(records_df: Point.DataFrame, options: Options):
        return records_df.select("series", y=pl.col("y") * options.horizon)
"""


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Returns a function that runs a line of the page, in a folder with the file that the page sends."""
    folder = tmp_path_factory.mktemp("page")
    run = Supervised(folder, job_worker_nice=0)
    write_tiny(run.dist / "forecast.pex", "forecast", module=FORECAST)
    (folder / "series.csv").write_text("series,y\na,1.5\nb,2\n")
    pexdock = folder / "pexdock"
    with run:
        run.until_state("forecast.pex", "ready")
        pexdock.write_text(f'#!/bin/sh\nexec {" ".join(run.command())} "$@"\n')
        pexdock.chmod(0o755)

        def call(line):
            for shown, real in {"http://localhost:8080": run.state()["address"], "pexdock ": "./pexdock ", "curl ": "curl -sS "}.items():
                line = line.replace(shown, real)
            line = line.replace(" --client ann", "")  # no client needs a key here
            done = subprocess.run(["bash", "-c", line], cwd=folder, env=run.environment, capture_output=True, text=True)
            assert done.returncode == 0, (line, done.stderr)
            return done.stdout

        call.folder = folder
        yield call


def test_a_request_becomes_a_job_as_shown(shell):
    head, body = shell(SUBMIT).split("\n\n", 1)  # in text mode, Python reads each line break as \\n
    job = json.loads(body)
    assert head.startswith("HTTP/1.1 202")
    assert f"location: /jobs/{job['id']}" in head
    shown = json.loads(re.search(r"^\{.*\}$", PAGE, re.MULTILINE)[0])
    assert job.keys() >= shown.keys() - {"place"}
    assert (job["target"], job["model"]) == (shown["target"], shown["model"])
    assert re.fullmatch("[0-9a-f]{32}", job["id"])


def test_a_job_with_an_id_of_its_own_is_made_once_asked_about_fetched_and_listed(shell):
    first, again = (json.loads(shell(line)) for line in OWN_ID.splitlines())
    assert first["created_at"] == again["created_at"]
    asked, events, as_csv, as_arrow, cancel, listed = ASK.splitlines()
    assert json.loads(shell(asked))["id"] == "nightly-7"
    assert "event: done" in shell(events)
    shell(as_csv)
    assert (shell.folder / "forecast.csv").read_text() == "series,y\na,18.0\nb,24.0\n"
    shell(as_arrow)
    whole = (shell.folder / "forecast.arrow").read_bytes()
    (shell.folder / "forecast.arrow").write_bytes(whole[:100])
    shell(as_arrow)
    assert (shell.folder / "forecast.arrow").read_bytes() == whole
    assert pa.ipc.open_stream(whole).read_all()["y"].to_pylist() == [18.0, 24.0]
    assert json.loads(shell(cancel))["state"] == "done"
    assert set(json.loads(shell(listed))) == {"jobs", "next"}
    jobs, show, follow, cancel = OPERATE.splitlines()
    assert "nightly-7" in shell(jobs)
    assert "done" in shell(show)
    assert shell(follow).splitlines()[-1] == "done"
    assert shell(cancel) == "nightly-7: done\n"
