"""Rounds: in each, every server is started, verified, measured with all loads, and stopped, so that they never disturb each other.

They take turns, so that changes of the machine over time affect all of them alike.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.answers import check
from benchmark.load import Circumstances, Measured, Work, measure
from benchmark.processes import ServerFailed, descendants, pss_bytes
from benchmark.servers import Running, Server, running

WARM_UP_S = 1
"""Warm-up of each server, for connections, caches and pools."""


@dataclass
class Results:
    """The results of all measurements.

    Attributes:
        measured: Names of server and work → a measurement for each round.
        start_s: Name of the server → time from the start of its process to its first answer, for each round.
        pss_bytes: Name of the server → memory of all its processes after the load, for each round.
        failures: Name of the server → reason why it was not measured completely.
        below: Names of server and work whose fixed rate exceeds the throughput of the server.
        set_aside: Names of servers that were slower than other settings of the same product in the first round, and not measured again.
    """

    measured: dict[tuple[str, str], list[Measured]] = field(default_factory=lambda: defaultdict(list))
    pss_bytes: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    start_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: dict[str, str] = field(default_factory=dict)
    below: set[tuple[str, str]] = field(default_factory=set)
    set_aside: set[str] = field(default_factory=set)

    def rate(self, server: Server) -> float:
        """Returns the highest rate of requests with one row in any closed loop."""
        return max((m.requests_per_s for (name, work), found in self.measured.items() for m in found if name == server.name), default=0)


def run(servers: Sequence[Server], works: Sequence[Work], given: Circumstances) -> Results:
    """Measures everything. A server that fails is skipped afterwards."""
    results = Results()
    for number in range(given.rounds):
        first = number % len(servers)  # rotate the order
        for server in (*servers[first:], *servers[:first]):
            if server.name in results.failures or server.name in results.set_aside:
                continue
            _say(f"round {number + 1}/{given.rounds}: {server.name}")
            try:
                _visit(server, works, given, results)
            except ServerFailed as exc:
                _say(f"  {exc}")
                results.failures[server.name] = str(exc)
        if number == 0:
            results.set_aside.update(_beaten(servers, works, results))
    return results


def _visit(server: Server, works: Sequence[Work], given: Circumstances, results: Results) -> None:
    with tempfile.TemporaryDirectory(prefix="pexdock-bench-") as name:
        folder, began = Path(name), time.monotonic()
        with running(server, folder, given.base) as it:
            results.start_s[server.name].append(time.monotonic() - began)
            mine = [work for work in works if not work.arrow or server.peer == "pexdock"]
            check(it, mine)
            measure(it, mine[0]._replace(connections=64), folder, given._replace(seconds=WARM_UP_S, tries=1))
            for work in mine:
                _work(it, work, folder, given, results)
            results.pss_bytes[server.name].append(pss_bytes(descendants(os.getpid())))


def _work(it: Running, work: Work, folder: Path, given: Circumstances, results: Results) -> None:
    key = (it.server.name, work.name)
    if work.rate is not None and work.rate > 0.9 * results.rate(it.server):
        results.below.add(key)
        return
    found = measure(it, work, folder, given)
    results.measured[key].append(found)
    _say(
        f"  {work.name}: {found.requests_per_s:.0f}/s, p50 {found.p50_ms:.2f} ms, p99 {found.p99_ms:.2f} ms, {found.cpu_us:.0f} µs CPU each"
    )


def _beaten(servers: Sequence[Server], works: Sequence[Work], results: Results) -> Iterator[str]:
    """Returns servers whose settings were not the best of their product at any load in the first round."""
    for product in {server.product for server in servers}:
        rivals = [each.name for each in servers if each.product == product and each.name not in results.failures]
        best = {_fastest(rivals, work, results) for work in works if work.rate is None and not work.arrow}
        yield from (name for name in rivals if name not in best)


def _fastest(names: Sequence[str], work: Work, results: Results) -> str | None:
    return max(names, key=lambda name: results.measured[name, work.name][0].requests_per_s, default=None)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
