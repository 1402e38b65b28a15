"""The example models outside of Pexdock: trained, and called directly for the predictions that Pexdock must return."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

ASK = """
import json, sys
import iris, mlflow.sklearn, polars
print(json.dumps(mlflow.sklearn.load_model(sys.argv[1]).predict(polars.DataFrame(json.loads(sys.argv[2]))).tolist()))
"""


def run(model, *words):
    """Returns what the model's own Python code printed."""
    folders = (ROOT, ROOT / "models" / model)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
    return subprocess.run([sys.executable, *map(str, words)], env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def train(model, artifacts):
    """Trains what is missing below `artifacts`, and returns the parameters that the training printed."""
    printed = run(model, "-m", f"{model}.train", "--artifacts", artifacts)
    return dict(word.split("=") for word in printed.split() if "=" in word)


def iris_predictions(artifacts, parameters, rows):
    """Returns the predictions of iris' model for `rows` when MLflow loads it without Pexdock."""
    artifact = artifacts / "mlflow/iris" / parameters["run_id"] / "artifacts" / parameters["model_id"]
    return json.loads(run("iris", "-c", ASK, artifact, json.dumps(rows)))
