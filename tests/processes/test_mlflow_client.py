"""The MLflow client against a real tracking server with a registry on SQLite."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import mlflow
import mlflow.sklearn
import numpy as np
import pandas as pd
import polars as pl
import pytest
from mlflow.models import infer_signature
from mlflow.tracking import MlflowClient as Api
from sklearn.linear_model import LinearRegression

import base.artifacts as afs
import base.service as svc
import servers
from base.artifacts.cache.load import resolve_latest
from base.errors import Declaration, Misfit, NotFound, Unavailable
from base.schema import Schema
from base.testing import TestClient

ROOT = Path(__file__).parent.parent.parent

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # MLflow warns of its own code
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.mlflow(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@pytest.fixture(scope="module")
def run(server: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Logs two versions of the model "iris", the first of which is the champion, and returns the id of the run."""
    api, folder = Api(server, server), tmp_path_factory.mktemp("logged")
    run = api.create_run(api.create_experiment("iris")).info
    api.create_registered_model("iris")
    for number in ("1", "2"):
        (folder / "model.txt").write_text(f"model {number}")
        api.log_artifact(run.run_id, str(folder / "model.txt"), f"model{number}/data")
        api.create_model_version("iris", f"{run.artifact_uri}/model{number}", run.run_id)
    api.set_registered_model_alias("iris", "champion", "1")
    return str(run.run_id)


def read(client: afs.MlflowClient, **parameters: str) -> tuple[str, str | None]:
    artifact = client.locate(parameters)
    try:
        (file,) = [path for path in [artifact.location, *artifact.location.rglob("*")] if path.is_file()]
        return file.read_text(), artifact.fingerprint
    finally:
        artifact.release()


def test_a_version_is_found_by_its_parameters(server: str, run: str, tmp_path: Path) -> None:
    """All versions are listed, newest first; a missing one is not found."""
    client = afs.MlflowClient("models:/{name}/{version}", server, cache_path=tmp_path)
    assert client.parameters == ("name", "version")
    assert client.list() == [{"name": "iris", "version": "2"}, {"name": "iris", "version": "1"}]
    assert [read(client, **found)[0] for found in client.list()] == ["model 2", "model 1"]
    for name, version in (("iris", "9"), ("iris", "one"), ("roses", "1")):
        with pytest.raises(NotFound):
            client.locate({"name": name, "version": version})


def test_an_alias_leads_to_the_version_that_it_was_moved_to(server: str, run: str, tmp_path: Path) -> None:
    """The fingerprint shows a refresh that there is something new."""
    client = afs.MlflowClient("models:/iris@{alias}", server, cache_path=tmp_path)
    assert client.list() == [{"alias": "champion"}]
    before = read(client, alias="champion")
    assert read(client, alias="champion") == before
    api = Api(server, server)
    api.set_registered_model_alias("iris", "champion", "2")
    after = read(client, alias="champion")
    api.set_registered_model_alias("iris", "champion", "1")
    assert (before[0], after[0]) == ("model 1", "model 2")
    assert before[1] != after[1]
    with pytest.raises(NotFound, match="alias='nobody'"):
        client.locate({"alias": "nobody"})


def test_the_latest_version_is_the_highest(server: str, run: str, tmp_path: Path) -> None:
    """Versions of the registry are compared as numbers."""

    class Spec(afs.ArtifactSpec[Any]):
        version: Annotated[int, afs.LatestKey()]

    client = afs.MlflowClient("models:/iris/{version}", server, cache_path=tmp_path)
    assert resolve_latest(afs.CacheConfig(client=client, load_model=str, spec=Spec), {"version": "latest"}) == {"version": "2"}


def test_an_artifact_of_a_run_is_found(server: str, run: str, tmp_path: Path) -> None:
    """It is a folder or a single file."""
    assert read(afs.MlflowClient("runs:/{run_id}/{path}", server, cache_path=tmp_path), run_id=run, path="model2")[0] == "model 2"
    assert read(afs.MlflowClient("runs:/{run_id}/model1/data/model.txt", server, cache_path=tmp_path), run_id=run)[0] == "model 1"
    client = afs.MlflowClient("runs:/{run_id}/{path}", server, cache_path=tmp_path)
    for run_id, path in ((run, "model3"), ("f" * 32, "model1")):
        with pytest.raises(NotFound):
            client.locate({"run_id": run_id, "path": path})
    assert client.list() == []


def test_a_model_that_mlflow_logged_is_served_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real run with a local file store, and the template of the example's README for what `log_model` writes."""
    (row,) = [line for line in (ROOT / "models/iris/README.md").read_text().splitlines() if line.startswith("| `mlflow.sklearn.log_model")]
    found = re.search(r'base_path="(.+)", path_template="(.+)"` \| `([^`]+)`', row)
    assert found is not None
    base_path, template, path = found.groups()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.delenv("PEXDOCK_ARTIFACTS_PATH", raising=False)
    experiment = mlflow.create_experiment("iris", artifact_location=(tmp_path / base_path).as_uri())
    with mlflow.start_run(experiment_id=experiment):
        double = LinearRegression().fit([[1.0], [2.0]], [2.0, 4.0])
        logged = mlflow.sklearn.log_model(double, name="linear", pip_requirements=["scikit-learn"])

    @svc.endpoint(path=path, cache_config=afs.CacheConfig(client=afs.FsClient(base_path, template), load_model=mlflow.sklearn.load_model))
    def predict(model: LinearRegression, records_df: pl.DataFrame) -> np.ndarray:
        return model.predict(records_df.to_numpy())

    with TestClient(predict) as client:
        response = client.post(path.replace("{model_id}", logged.model_id), json=[{"x": 3}])
        assert client.post(path.replace("{model_id}", "linear"), json=[{"x": 3}]).status == 404
    assert response.json()["predictions"] == pytest.approx([6.0])


def test_the_signature_of_a_logged_model_is_the_schema_of_its_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By each URI of MLflow; the handler gives the model the frame that it was fitted on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    frame = pd.DataFrame({"petal width (cm)": [1.0, 2.0], "class": [0, 1]})
    with mlflow.start_run() as run:
        fitted = LinearRegression().fit(frame, [2.0, 4.0])
        signature = infer_signature(frame)
        logged = mlflow.sklearn.log_model(
            fitted, name="linear", pip_requirements=["scikit-learn"], signature=signature, registered_model_name="linear"
        )
    uris = [logged.model_uri, f"runs:/{run.info.run_id}/linear", "models:/linear/1"]
    schemas = [Schema.from_mlflow(uri) for uri in uris]
    assert [dict(each.polars_schema()) for each in schemas] == [{"petal width (cm)": pl.Float64, "class": pl.Int64}] * 3
    rows = schemas[0]

    @svc.endpoint("/logged")
    def predict(records_df: Annotated[pd.DataFrame, rows]) -> np.ndarray:
        return fitted.predict(records_df)

    with TestClient(predict) as client:
        response = client.post("/logged", json=[{"petal width (cm)": 1, "class": 0}, {"petal width (cm)": 2, "class": 1}])
        assert client.post("/logged", json=[{"petal width (cm)": 1}]).json()["errors"][0]["column"] == "class"
    assert response.json()["predictions"] == pytest.approx([2.0, 4.0])


def test_an_unreachable_server_means_try_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It never means that the model does not exist."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    client = afs.MlflowClient("models:/{name}/1", f"http://127.0.0.1:{servers.free_port()}", cache_path=tmp_path)
    with pytest.raises(Unavailable):
        client.locate({"name": "iris"})
    with pytest.raises(Unavailable):
        client.list()


@pytest.mark.parametrize("uri", ["models:/iris", "models:/a/b/c", "s3://bucket/key", "models:/{a}{b}/1", "runs:/x", ""])
def test_an_unsupported_uri_is_refused_at_its_declaration(uri: str) -> None:
    """The message lists the supported ones."""
    with pytest.raises(Declaration):
        afs.MlflowClient(uri)


@pytest.mark.parametrize("value", ["..", "a/b", "a@b", ""])
def test_no_parameter_value_leads_to_another_model(value: str, tmp_path: Path) -> None:
    """It is refused before the server is asked."""
    with pytest.raises(Misfit):
        afs.MlflowClient("models:/{name}/1", "http://127.0.0.1:1", cache_path=tmp_path).locate({"name": value})
