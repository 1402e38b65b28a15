from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import base.artifacts as afs
from base.endpoint.describe import example_request
from iris import endpoints

PROJECT = Path(__file__).parents[1]


def train(artifacts: Path) -> str:
    """Runs the training as a user does, and returns its standard output."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), *filter(None, sys.path)])}
    command = [sys.executable, "-m", "iris.train", "--artifacts", str(artifacts)]
    ended = subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60)
    assert "arning" not in ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts")
    train(folder)
    return folder


def test_training_logs_one_run_and_then_does_nothing(artifacts: Path) -> None:
    """A second call prints the same run."""
    (run,) = [path.name for path in (artifacts / "mlflow/iris").iterdir()]
    assert train(artifacts) == f"iris: run_id={run} model_id=linear\n"
    assert len(list((artifacts / "mlflow/iris").iterdir())) == 1


@pytest.mark.filterwarnings("ignore::UserWarning:mlflow")  # MLflow warns of type hints of its own
def test_the_endpoint_predicts_with_what_mlflow_logged(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found by the parameters of the path, and loaded as the worker loads it."""
    monkeypatch.setenv("PEXDOCK_ARTIFACTS_PATH", str(artifacts))
    example = example_request(endpoints.predict)
    assert example is not None
    config = endpoints.predict.cache_config
    assert isinstance(config, afs.CacheConfig)
    model = config.load_model(str(config.client.locate(example.parameters).location))
    predicted = endpoints.predict(model, pl.DataFrame(example.rows))
    assert predicted.to_list() == pytest.approx([5.015], abs=0.001)


def test_versions_are_those_of_this_environment() -> None:
    """The version is null if a package is not installed, or its name invalid."""
    asked = pl.DataFrame({"package": ["scikit-learn", "no-such-package", ""]})
    assert endpoints.versions(asked) == [importlib.metadata.version("scikit-learn"), None, None]
