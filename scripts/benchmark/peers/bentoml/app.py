"""The model on BentoML. BATCH: most rows in a batch; 1 disables batching."""

import os
import sys
from pathlib import Path

import bentoml
import numpy as np
from linear.fitted import fit

BATCH = int(os.environ["BATCH"])

BATCHING = {} if BATCH == 1 else {"batchable": True, "max_batch_size": BATCH, "max_latency_ms": 1000}
"""BentoML adapts its waiting time; above this latency it rejects requests."""


@bentoml.service(name="linear", workers=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Linear:
    """A service with one worker, which is the server process itself."""

    def __init__(self):
        self.model = fit()

    @bentoml.api(**BATCHING)
    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Predicts rows of shape (rows, 3), of several requests if it batches."""
        return self.model.predict(rows)


if __name__ == "__main__":
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    options = ["--working-dir", str(Path(__file__).parent), "--host", "127.0.0.1", "--port", os.environ["PORT"]]
    os.execv(f"{sys.prefix}/bin/bentoml", ["bentoml", "serve", "app:Linear", *options])
