"""The model on MLServer and its own runtime of scikit-learn. BATCH: most requests in a batch; 1 disables batching."""

import json
import os
import socket
import sys
from pathlib import Path

import joblib
from linear.fitted import fit

BATCH = int(os.environ["BATCH"])


def free_port():
    """Returns a free port, for gRPC and metrics."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


if __name__ == "__main__":
    joblib.dump(fit(), "model.joblib")
    ports = {"http_port": int(os.environ["PORT"]), "grpc_port": free_port(), "metrics_port": free_port()}
    settings = {"host": "127.0.0.1", "parallel_workers": 0, "debug": False, "use_structured_logging": False, **ports}
    Path("settings.json").write_text(json.dumps(settings))
    model = {"name": "predict", "implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": "./model.joblib"}}
    if BATCH > 1:
        model |= {"max_batch_size": BATCH, "max_batch_time": 0.001}
    Path("model-settings.json").write_text(json.dumps(model))
    os.execv(f"{sys.prefix}/bin/mlserver", ["mlserver", "start", "."])
