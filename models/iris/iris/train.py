"""`python -m iris.train --artifacts DIR`: logs a real MLflow run into a local file store, unless it has one.

DIR/mlruns                                      MLflow's tracking store
DIR/mlflow/iris/<run id>/artifacts/<model id>   the model, which is also `runs:/<run id>/<model id>`
"""

import argparse
import os
import sys
import time
from pathlib import Path

import base.artifacts as afs


def main() -> int:
    """Trains a model if there is none, and prints the ids of run and model."""
    parser = argparse.ArgumentParser(prog="python -m iris.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("PEXDOCK_ARTIFACTS_PATH") or "."
    parser.add_argument(
        "--artifacts", type=Path, default=Path(default), metavar="DIR", help="default: $PEXDOCK_ARTIFACTS_PATH, else the current folder"
    )
    artifacts = parser.parse_args().artifacts.resolve()
    found = newest(artifacts)
    if found is None:
        found = train(artifacts)
    sys.stdout.write(f"iris: run_id={found['run_id']} model_id={found['model_id']}\n")
    return 0


def newest(artifacts: Path) -> dict[str, str] | None:
    """Returns the parameters of the newest complete model, without importing MLflow."""
    store = afs.FsClient(artifacts / "mlflow/iris", "/{run_id}/artifacts/{model_id}/MLmodel")
    return next(iter(store.list()), None)


def train(artifacts: Path) -> dict[str, str]:
    """Logs a run, with its progress on standard error."""
    began = time.monotonic()

    def report(step: str) -> None:
        sys.stderr.write(f"iris: {time.monotonic() - began:4.1f} s  {step} ...\n")

    report("importing MLflow and scikit-learn")
    from iris import fitting  # noqa: PLC0415 - takes seconds, and is needed only if there is something to train

    return fitting.train(artifacts, report)


if __name__ == "__main__":
    sys.exit(main())
