"""`scripts/bench`: parses the command line, and runs the benchmarks."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from base.errors import PexdockError
from benchmark import environments, machine, pexdock, processes, report, rounds
from benchmark.load import Circumstances, Work, compile_generator
from benchmark.lock import lock
from benchmark.parts import cores, crowd, doors, drop, forecast, idle, overload, start, workers
from benchmark.parts.part import Part
from benchmark.processes import ServerFailed
from benchmark.servers import SERVERS, Server
from benchmark.tables import Comparison

ONE_ROW = tuple(Work(f"one row, {count} connection{'s' if count > 1 else ''}", 1, count) for count in (1, 64, 256))
MANY_ROWS = (Work("1 000 rows, 16 connections", 1000, 16), Work("1 000 rows as Arrow, 16 connections", 1000, 16, arrow=True))
FIXED = tuple(Work(f"one row, {rate} requests/s", 1, 64, rate) for rate in (200, 2000, 10000))

PARTS: dict[str, Callable[[Circumstances], Part]] = {
    "idle": idle.run,
    "doors": doors.run,
    "cores": cores.run,
    "workers": workers.run,
    "crowd": crowd.run,
    "drop": drop.run,
    "start": start.run,
    "overload": overload.run,
    "forecast": forecast.run,
}
"""Benchmarks of Pexdock alone. The comparison of servers is another part, which the name of any server selects."""

EPILOG = "Where others use the machine too, begin with `nice -n -10`: all that is started here keeps that."


def main() -> int:
    """Measures, writes the reports, and prints their paths."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # stops like on Ctrl-C, together with all child processes
    if options.lock:
        lock()
        return 0
    processes.adopt()
    if shutil.which("wrk") is None:
        sys.exit("scripts/bench needs wrk, install it, on Debian and Ubuntu with apt-get install wrk")
    servers, parts = wanted(options.only)
    facts = machine.facts()
    with tempfile.TemporaryDirectory(prefix="pexdock-bench-") as name:
        base = Path(name)
        if parts or any(server.peer == "pexdock" for server in servers):
            pexdock.build_base(base)
        given = Circumstances(base, options.rounds, options.seconds, options.tries)
        if servers:
            print(compare(servers, given, facts, options.output))
        for part in parts:
            print(report.write_part(options.output / part, PARTS[part](given), facts))
    return 0


def arguments() -> argparse.Namespace:
    """Returns the options of the command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__, epilog=EPILOG)
    names = sorted({server.product.lower() for server in SERVERS})
    parser.add_argument("--only", nargs="+", type=str.lower, default=[], metavar="NAME", help=f"of {', '.join([*names, *PARTS])}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="duration of each measurement")
    parser.add_argument("--tries", type=int, default=2, help="attempts at a measurement that other load on the machine disturbs")
    parser.add_argument("--output", type=Path, default=pexdock.ROOT / "docs/benchmarks", help="folder of the reports")
    parser.add_argument("--lock", action="store_true", help="only update the peers' requirements.txt from their requirements.in")
    return parser.parse_args()


def wanted(only: Sequence[str]) -> tuple[list[Server], list[str]]:
    """Returns the servers and parts that the names select: all without names; the beginning of a server's name is enough."""
    unknown = [word for word in only if word not in PARTS and not any(server.name.lower().startswith(word) for server in SERVERS)]
    if unknown:
        sys.exit(f"unknown names in --only: {', '.join(unknown)}; --help lists all names")
    servers = [server for server in SERVERS if not only or any(server.name.lower().startswith(word) for word in only)]
    return servers, [part for part in PARTS if not only or part in only]


def compare(servers: Sequence[Server], given: Circumstances, facts: Mapping[str, str], output: Path) -> Path:
    """Compares servers, and returns the path of the report."""
    if reason := compile_generator():
        print(f"skipping open loops: {reason}", file=sys.stderr)
    works = ONE_ROW + MANY_ROWS + (() if reason else FIXED)
    prepared, failures = prepare(servers, given.base)
    results = rounds.run(prepared, works, given)
    results.failures |= failures
    return report.write(output / "peers", Comparison(servers, works, results), facts, given)


def prepare(servers: Sequence[Server], dist: Path) -> tuple[list[Server], dict[str, str]]:
    """Builds the pex of the model and installs the peers. Returns the servers that can be started, and the reasons for the others."""
    prepared, failures = [], {}
    for server in servers:
        try:
            if server.peer == "pexdock":
                pexdock.build_model(dist)
            elif server.peer != "uvicorn":
                environments.install(server.peer)
            prepared.append(server)
        except (ServerFailed, PexdockError) as exc:
            failures[server.name] = str(exc)
            print(f"{server.name}: {exc}", file=sys.stderr)
    return prepared, failures


if __name__ == "__main__":
    sys.exit(main())
