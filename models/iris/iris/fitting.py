"""One MLflow run: fits, scores and logs a model."""

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

logging.getLogger("mlflow").setLevel(logging.ERROR)  # it logs a lot about its store


def train(artifacts: Path, report: Callable[[str], None]) -> dict[str, str]:
    """Logs a run into the file store in `artifacts`, and returns the ids of run and model."""
    data = pl.DataFrame(np.asarray(load_iris(return_X_y=True)[0]), schema=["sepal_length", "sepal_width", "petal_length", "petal_width"])
    x, y = data.drop("sepal_length"), data["sepal_length"]
    artifacts.mkdir(parents=True, exist_ok=True)
    # MLflow does not find its runs below a folder named "artifacts", so the path of its store is relative to that folder.
    with contextlib.chdir(artifacts), mlflow.start_run(experiment_id=_experiment(artifacts)) as run:
        report(f"fitting {len(x)} flowers")
        model = make_pipeline(StandardScaler(), LinearRegression())
        mlflow.log_params({"model": "linear regression", "rows": len(x)})
        mlflow.log_metric("r2", float(cross_val_score(model, x, y, cv=5).mean()))
        model.fit(x, y)
        report("logging the model")
        with tempfile.TemporaryDirectory() as folder:
            # Without requirements, MLflow would load the model in another process to determine them.
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
