"""Predicts the sepal length of an iris, with a model logged by MLflow.

This module imports nothing heavy, since `iris.train` imports it before it knows whether there is anything to train.
"""

import os

# Both must be set before MLflow is imported. Workers should send no telemetry, and a file store is enough for one machine.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
