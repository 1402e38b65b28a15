"""The example model that fits series in the request gives the same as a request, as a job, over files and in a context."""

import io
import subprocess
from pathlib import Path

import httpx
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecast.generate import generate
from supervisor_harness import Supervised
from tinypex import ROOT, write_tiny

MODULE = f"""
    import sys
    sys.path.insert(0, {str(ROOT / "models" / "forecast")!r})
    from forecast.endpoints import contexts, forecast
    steps = contexts.endpoints
"""
PARQUET = "application/vnd.apache.parquet"
HEADERS = {"content-type": PARQUET, "accept": PARQUET}
SHORT = "it has 3 values, and needs 16 if a season has 7"


@pytest.fixture(scope="module")
def supervised(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("forecast")
    # On a busy machine, a nice worker would take minutes to start.
    made = Supervised(folder, artifacts_path=folder / "artifacts", workers_per_release=2, job_worker_nice=0)
    made.turns_checked = False  # the imports of statsmodels take long
    write_tiny(made.dist / "forecast.pex", "forecast", module=MODULE, endpoints=("forecast", "steps"))
    with made:
        made.until_state("forecast.pex", "ready")
        yield made


@pytest.fixture(scope="module")
def client(supervised: Supervised):
    with httpx.Client(base_url=supervised.state()["address"], timeout=100) as client:
        yield client


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve series, and one that is too short."""
    path = tmp_path_factory.mktemp("history") / "history.parquet"
    rows = generate(12)
    short = rows.head(3).with_columns(series=pl.lit("short"))
    pl.concat([rows, short]).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def expected(client: httpx.Client, history: Path) -> pl.DataFrame:
    """The answer to a request. It says why the short series fails."""
    answer = client.post("/predictions/forecast?horizon=10", content=history.read_bytes(), headers=HEADERS)
    assert answer.status_code == 207, answer.text
    found = pl.read_parquet(io.BytesIO(answer.content))
    assert found.filter(series="short")["group_error"].to_list() == [f"rejected: {SHORT}"]
    steps = found.filter(pl.col("group_error").is_null()).drop("group_error")
    assert (steps.height, steps["series"].n_unique()) == (120, 12)
    return steps


def test_a_job_has_the_same_result(supervised: Supervised, client: httpx.Client, history: Path, expected: pl.DataFrame) -> None:
    """The series that fails is reported in it."""
    headers = HEADERS | {"prefer": "respond-async"}
    accepted = client.post("/predictions/forecast?horizon=10", content=history.read_bytes(), headers=headers)
    assert accepted.status_code == 202, accepted.text
    place = accepted.headers["location"]
    supervised.until(lambda: client.get(place).json()["state"] not in {"queued", "running"}, 100)
    assert client.get(place).json()["state"] == "done", client.get(place).text
    found = pl.read_parquet(io.BytesIO(client.get(f"{place}/result", headers={"accept": PARQUET}).content))
    assert found.filter(series="short")["group_error"].to_list() == [f"rejected: {SHORT}"]
    assert_frame_equal(found.drop("group_error").drop_nulls(), expected)


def test_files_have_the_same_result(supervised: Supervised, history: Path, expected: pl.DataFrame, tmp_path: Path) -> None:
    """Without a server."""
    words = ("forecast.pex", "forecast", "--input", str(history), "--output", str(tmp_path / "out"), "--param", "horizon=10")
    command = supervised.command("score", *words)
    done = subprocess.run(command, cwd=supervised.dist, env=supervised.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_frame_equal(pl.read_parquet(tmp_path / "out/*.parquet").sort("series", "time"), expected)
    assert SHORT in (tmp_path / "out/_refused.ndjson").read_text()


def test_a_context_gives_the_same_steps(client: httpx.Client, history: Path, expected: pl.DataFrame) -> None:
    """For rows that ask for single steps, without the short series, which it refuses to fit."""
    refused = client.put("/forecast/contexts/shops", content=history.read_bytes(), headers={"content-type": PARQUET})
    assert (refused.status_code, refused.json()["errors"][0]["reason"]) == (422, f"series short: {SHORT}")
    rows = io.BytesIO()
    pl.read_parquet(history).filter(pl.col("series") != "short").write_parquet(rows)
    fitted = client.put("/forecast/contexts/shops", content=rows.getvalue(), headers={"content-type": PARQUET})
    assert fitted.json()["predictions"]["fitted"], fitted.text
    holidays = generate(1)["holiday"][84:94].to_list()
    asked = [{"series": "shop-00007", "step": step + 1, "holiday": holiday} for step, holiday in enumerate(holidays)]
    answer = client.post("/forecast/predict/shops", json=asked, headers={"accept": PARQUET})
    assert_frame_equal(pl.read_parquet(io.BytesIO(answer.content)), expected.filter(series="shop-00007"))
