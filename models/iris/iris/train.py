"""`python -m iris.train --artifacts DIR`: a real MLflow run into a local file store, unless there is one.

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
    """Trains if need be, and prints the run id and the model id."""
    parser = argparse.ArgumentParser(prog="python -m iris.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("PEXDOCK_ARTIFACTS_PATH") or "."
    parser.add_argument("--artifacts", type=Path, default=Path(default), metavar="DIR", help="default: $PEXDOCK_ARTIFACTS_PATH, else here")
    artifacts = parser.parse_args().artifacts.resolve()
    found = newest(artifacts)
    if found is None:
        found = train(artifacts)
    sys.stdout.write(f"iris: run_id={found['run_id']} model_id={found['model_id']}\n")
    return 0


def newest(artifacts: Path) -> dict[str, str] | None:
    """Parameters of the newest whole model; needs no MLflow, so it is quick."""
    store = afs.FsClient(artifacts / "mlflow/iris", "/{run_id}/artifacts/{model_id}/MLmodel")
    return next(iter(store.list()), None)


def train(artifacts: Path) -> dict[str, str]:
    """One run, with its progress on standard error."""
    began = time.monotonic()

    def tell(what: str) -> None:
        sys.stderr.write(f"iris: {time.monotonic() - began:4.1f} s  {what} ...\n")

    tell("importing MLflow and scikit-learn")
    from iris import fitting  # noqa: PLC0415 - seconds that are only spent where there is something to do

    return fitting.train(artifacts, tell)


if __name__ == "__main__":
    sys.exit(main())
