"""The length of an iris' sepals, with a model that MLflow logged.

Light on purpose: `iris.train` comes through here before it knows whether anything big must be imported.
"""

import os

# Both before MLflow is imported, which reads them then. A worker has nobody to report to, and for one machine files are store enough.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
