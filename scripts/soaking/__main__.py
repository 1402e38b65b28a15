"""`scripts/soak`: runs the soak, prints what it counted, and ends with 1 where a promise was broken."""

from __future__ import annotations

import argparse
import asyncio
import logging
import secrets
import sys
import tempfile
from pathlib import Path

from soaking.run import Plan, soak


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.5, help="how long the load lasts (1.5)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32), help="what happens when is drawn from it (any)")
    parser.add_argument("--connections", type=int, default=16, help="that ask without pause (16)")
    parser.add_argument("--front-doors", type=int, default=2, help="front doors (2)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    plan = Plan(arguments.seed, arguments.minutes * 60, arguments.connections, arguments.front_doors)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        report = asyncio.run(soak(Path(folder), plan))
        print(report.text)
        if report.broken:
            print((Path(folder) / "err.txt").read_text()[-20_000:], file=sys.stderr)
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
