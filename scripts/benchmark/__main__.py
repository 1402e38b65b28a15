"""`scripts/bench`: the command line, and what is measured."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from benchmark import environments, machine, processes, report, rounds, servers
from benchmark.load import Work, compile_generator
from benchmark.processes import ServerFailed
from benchmark.servers import SERVERS, Server
from benchmark.tables import Comparison

ONE_ROW = tuple(Work(f"one row, {count} connection{'s' if count > 1 else ''}", 1, count) for count in (1, 64, 256))
MANY_ROWS = (Work("1 000 rows, 16 connections", 1000, 16), Work("1 000 rows as Arrow, 16 connections", 1000, 16, arrow=True))
FIXED = tuple(Work(f"one row, {rate} requests/s", 1, 64, rate) for rate in (200, 2000, 10000))


def main() -> int:
    """Measures, writes the report, and says where it is."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that it ends as Ctrl-C does, with all that it started
    processes.adopt()
    chosen = [server for server in SERVERS if not options.only or any(server.name.lower().startswith(word) for word in options.only)]
    if shutil.which("wrk") is None:
        sys.exit("scripts/bench needs wrk, which is a package of Debian and Ubuntu: apt-get install wrk")
    if not chosen:
        sys.exit(f"--only knows {', '.join(sorted({server.product.lower() for server in SERVERS}))}")
    reason, facts = compile_generator(), machine.facts()
    if reason:
        print(f"no open loops: {reason}", file=sys.stderr)
    works = ONE_ROW + MANY_ROWS + (() if reason else FIXED)
    with tempfile.TemporaryDirectory(prefix="pexdock-bench-") as name:
        dist = Path(name)
        prepared, failures = prepare(chosen, dist)
        results = rounds.run(prepared, works, options.rounds, options.seconds, dist)
        results.failures |= failures
    print(report.write(options.output, Comparison(chosen, works, results), facts, options.seconds))
    return 0


def prepare(chosen: list[Server], dist: Path) -> tuple[list[Server], dict[str, str]]:
    """Builds Pexdock's pexes and installs the peers. Returns the servers that can be started, and why the others cannot."""
    prepared, failures = [], {}
    for server in chosen:
        try:
            if server.peer == "pexdock":
                servers.build(dist)
            elif server.peer != "uvicorn":
                environments.install(server.peer)
            prepared.append(server)
        except ServerFailed as exc:
            failures[server.name] = str(exc)
            print(f"{server.name}: {exc}", file=sys.stderr)
    return prepared, failures


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--only", nargs="+", type=str.lower, metavar="NAME", help="servers whose names begin so")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument(
        "--output", type=Path, default=servers.ROOT / "docs/benchmarks/peers", help="without suffix: .md, .json, .svg are added"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
