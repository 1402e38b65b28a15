"""The model behind BentoML. BATCH: rows in a batch at most, 1 for none."""

import os
import sys
from pathlib import Path

import bentoml
import numpy as np
from linear.fitted import fit

BATCH = int(os.environ["BATCH"])

BATCHING = {} if BATCH == 1 else {"batchable": True, "max_batch_size": BATCH, "max_latency_ms": 1000}
"""It learns how long to wait by itself; the latency is where it would begin to refuse."""


@bentoml.service(name="linear", workers=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Linear:
    """One worker, which is the server's own process too."""

    def __init__(self):
        self.model = fit()

    @bentoml.api(**BATCHING)
    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Of shape (rows, 3); rows of several requests where it batches."""
        return self.model.predict(rows)


if __name__ == "__main__":
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    options = ["--working-dir", str(Path(__file__).parent), "--host", "127.0.0.1", "--port", os.environ["PORT"]]
    os.execv(f"{sys.prefix}/bin/bentoml", ["bentoml", "serve", "app:Linear", *options])
