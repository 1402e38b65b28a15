"""`scripts/soak`: runs a soak test, prints its counts, and exits with 1 if a promise was broken."""

from __future__ import annotations

import argparse
import asyncio
import logging
import secrets
import sys
import tempfile
from pathlib import Path

from soaking.mischief import KINDS
from soaking.plan import Plan
from soaking.run import soak


def main() -> int:
    """Runs the soak test of the command line, and returns the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.5, help="duration of the load (1.5)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32), help="seed of the random events (any)")
    parser.add_argument("--connections", type=int, default=16, help="connections that send requests without a pause (16)")
    parser.add_argument("--front-doors", type=int, default=2, help="number of front doors (2)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=(), metavar="KIND", help=f"kinds of faults: {', '.join(KINDS)} (all)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    plan = Plan(arguments.seed, arguments.minutes * 60, arguments.connections, arguments.front_doors, tuple(arguments.kinds))
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        report = asyncio.run(soak(Path(folder), plan))
        print(report.text)
        if report.broken:
            print((Path(folder) / "err.txt").read_text()[-20_000:], file=sys.stderr)
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
