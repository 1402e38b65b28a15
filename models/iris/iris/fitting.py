"""One MLflow run: fit, measure, log."""

import contextlib
import importlib.metadata
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import polars as pl
from mlflow.sklearn import save_model
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

MODEL_ID = "linear"

logging.getLogger("mlflow").setLevel(logging.ERROR)  # it says much about its store that nobody asked for


def train(artifacts: Path, tell: Callable[[str], None]) -> dict[str, str]:
    """Logs a run into the file store in this folder, and returns its id and the model's."""
    data = pl.DataFrame(np.asarray(load_iris(return_X_y=True)[0]), schema=["sepal_length", "sepal_width", "petal_length", "petal_width"])
    x, y = data.drop("sepal_length"), data["sepal_length"]
    artifacts.mkdir(parents=True, exist_ok=True)
    # MLflow finds no run of its own below any folder that is named "artifacts", so its store is named from inside of that folder.
    with contextlib.chdir(artifacts), mlflow.start_run(experiment_id=_experiment(artifacts)) as run:
        tell(f"fitting {len(x)} flowers")
        model = make_pipeline(StandardScaler(), LinearRegression())
        mlflow.log_params({"model": "linear regression", "rows": len(x)})
        mlflow.log_metric("r2", float(cross_val_score(model, x, y, cv=5).mean()))
        model.fit(x, y)
        tell("logging the model")
        with tempfile.TemporaryDirectory() as folder:
            # Requirements are given, since MLflow would load the model in another process to find them out.
            needs = [f"{name}=={importlib.metadata.version(name)}" for name in ("scikit-learn", "skops")]
            save_model(model, f"{folder}/model", pip_requirements=needs)
            mlflow.log_artifacts(f"{folder}/model", artifact_path=MODEL_ID)
    return {"run_id": run.info.run_id, "model_id": MODEL_ID}


def _experiment(artifacts: Path) -> str:
    mlflow.set_tracking_uri("mlruns")
    known = mlflow.get_experiment_by_name("iris")
    if known is not None:
        return known.experiment_id
    return mlflow.create_experiment("iris", artifact_location=(artifacts / "mlflow/iris").as_uri())
