"""Short programs with real MLflow runs, as authors write them without having read the guide, serve what their authors evidently mean."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "tests" / "models" / "ferries.py"
CURL = {"content-type": "application/json"}
ROWS = r'["{\"wind\": 1.0, \"waves\": 0.5}", "{\"wind\": 2.0, \"waves\": 0.0}"]'
"""An array of strings that are JSON; the model of a factor f says f times wind + 10 waves."""


class Served(NamedTuple):
    """The running program, and the runs that were logged for it."""

    http: httpx.Client
    runs: list[str]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Runs the program, which trains a model and serves from a `main` that awaits the server, until it is stopped."""
    program = Path(shutil.copy(SOURCE, tmp_path_factory.mktemp("ferries")))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PEXDOCK_"))}
    environment["PYTHONPATH"] = str(ROOT)
    subprocess.run([sys.executable, program, "train"], env=environment, check=True, stderr=subprocess.DEVNULL)
    process = subprocess.Popen([sys.executable, program], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        address = re.search(r"http://\S+", process.stdout.readline())
        assert address
        with httpx.Client(base_url=address[0], headers=CURL, timeout=30) as http:
            yield Served(http, [each.name for each in (program.parent / "runs" / "ferries").iterdir()])
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        process.stdout.close()


def predictions(served: Served, path: str) -> object:
    answer = served.http.post(path, content=ROWS)
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def test_an_array_is_taken_as_predictions_whatever_the_annotation_says(served: Served) -> None:
    """`-> pl.DataFrame` stands over a handler that returns scikit-learn's array; the template has its names in another order."""
    found = sorted(predictions(served, f"/delays/{run}/ferries") for run in served.runs)
    assert found == [pytest.approx([6 * factor, 2 * factor]) for factor in (1.0, 2.0, 3.0)]


def test_a_model_may_be_a_global_of_the_module(served: Served) -> None:
    """There is no cache, and a server has several handlers of one name."""
    assert predictions(served, "/constant") == pytest.approx([7.0, 7.0])


def test_a_frame_that_is_made_with_select_fits_an_output_schema(served: Served) -> None:
    """It is made of an unnamed series and a column's name. `endpoint` may be imported by itself, and may need no models."""
    assert [row["minutes"] for row in predictions(served, "/minutes")] == pytest.approx([7.0, 7.0])


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("path", ["/nightly/BAL/BAL-02", "/hourly/BAL-02/BAL"])
def test_refreshed_models_answer_with_and_without_a_trailing_slash(served: Served, path: str, slash: str) -> None:
    """The schedules are a positional cron string and an interval; the path has its parameters in any order."""
    assert predictions(served, path + slash) == pytest.approx([12.0, 4.0])


def test_the_fields_of_a_spec_may_lack_underscores_of_the_path(served: Served) -> None:
    """Validators may turn texts into enums, and look at earlier fields."""
    assert predictions(served, "/checked/NOR/NOR-01/") == pytest.approx([18.0, 6.0])


@pytest.mark.parametrize(
    ("path", "wrong"),
    [("/checked/BAL/NOR-01/", ["port2"]), ("/checked/BAL/BAL-09/", ["port2"]), ("/checked/XXX/BAL-01/", ["sea1", "port2"])],
)
def test_parameters_that_a_spec_refuses_are_a_422(served: Served, path: str, wrong: list[str]) -> None:
    """The response names each parameter, whether the artifact exists or not."""
    answer = served.http.post(path, content=ROWS)
    assert (answer.status_code, [each["column"] for each in answer.json()["errors"]]) == (422, wrong)
