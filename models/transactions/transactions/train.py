"""`python -m transactions.train --artifacts DIR`: trains a model for each place on generated data, and keeps existing models.

DIR/transactions/<country>/model.skops                  for the whole country
DIR/transactions/<country>/<subdivision>/model.skops    for one subdivision
"""

import argparse
import os
import sys
import time
from pathlib import Path

PLACES = ("US", "US/US-CA", "US/US-NY", "GB", "GB/GB-ENG")


def main() -> int:
    """Trains missing models, and prints their folder."""
    parser = argparse.ArgumentParser(
        prog="python -m transactions.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = os.environ.get("PEXDOCK_ARTIFACTS_PATH") or "."
    parser.add_argument(
        "--artifacts", type=Path, default=Path(default), metavar="DIR", help="default: $PEXDOCK_ARTIFACTS_PATH, else the current folder"
    )
    root = parser.parse_args().artifacts.resolve() / "transactions"
    missing = [place for place in PLACES if not (root / place / "model.skops").exists()]
    if missing:
        train(root, missing)
    sys.stdout.write(f"transactions: {len(PLACES)} models in {root}\n")
    return 0


def train(root: Path, places: list[str]) -> None:
    """Trains a model for each place."""
    began = time.monotonic()
    sys.stderr.write("transactions: importing scikit-learn ...\n")
    from transactions import fitting  # noqa: PLC0415 - takes seconds, and is needed only if there is something to train

    for number, place in enumerate(places, start=1):
        data = fitting.generate(PLACES.index(place))
        fitting.save(fitting.fit(data), root / place / "model.skops")
        sys.stderr.write(f"transactions: {time.monotonic() - began:4.1f} s  {number} of {len(places)}  {place}\n")


if __name__ == "__main__":
    sys.exit(main())
