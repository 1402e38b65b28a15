"""Measures, and writes docs/benchmarks/ipc.md with its numbers and plots."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmark import machine
from ipc_benchmark import plot, trip
from ipc_benchmark.beside import other_work
from ipc_benchmark.ways import WAYS, opened

FRAMES = ["pandas", "polars", "pexdock", "pexdock and back", "memcpy"]

LARGE = 100_000
"""With fewer rows, a memcpy takes less time than the two messages."""

TEXT = """# From one process to another

`scripts/bench-ipc` writes this page. Rows of two integers and a string are sent from one process to another, which receives them in
the same form and returns their number. Median seconds by number of rows; all ways take turns.

{table}

- **pandas, polars, dict, pydantic**: pickled through a `multiprocessing` pipe.
- **pexdock**: a Polars frame through a reused segment, and a channel. **And back**: the other process also writes the frame
  beside it, and it is read here.
- **memcpy**: one copy of the frame's bytes between warm pages of one process.

![All ways]({name}.svg)

![Frames alone]({name}-frames.svg)

## Beside other work

The same, while a job of Pexdock fills a core and a client sends tables of {gb:g} GB to another of its models, one after the other.

{beside}

## One row

A batch of one row of three floats, from the front door's queue through a real worker, whose handler returns its frame, to the body of
the answer: median **{p50_us:.0f} µs**, p10 {p10_us:.0f} µs, p99 {p99_us:.0f} µs ({trips} trips).

## Machine

{facts}
"""

REPEATS = {5: 5, 6: 1, 7: 1}
"""Consecutive calls, by the power of ten of the rows; 20 for fewer rows, so that the code stays in the caches of the CPU."""

Table = dict[str, dict[int, float]]


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/bench-ipc", description=__doc__)
    parser.add_argument("--powers", type=int, default=7, help="up to 10^POWERS rows")
    parser.add_argument("--trips", type=int, default=3000, help="round trips of one row")
    parser.add_argument("--gb", type=float, default=2.0, help="size of the tables that are sent meanwhile")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/ipc.md"))
    options = parser.parse_args()
    table = measure(options.powers)
    found = trip.measure(options.trips)
    with other_work(options.gb):
        beside = measure(min(options.powers, 6))
    facts = machine.facts()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    text = markdown(options.output.stem, table, found, facts, lines_of(beside), options.gb)
    options.output.write_text(text)
    written = {"machine": facts, "seconds": rounded(table), "beside other work": rounded(beside), "one row": found._asdict()}
    options.output.with_suffix(".json").write_text(json.dumps(written, indent=1) + "\n")
    options.output.with_suffix(".svg").write_text(plot.draw("All ways: seconds from one process to another", table))
    only = {way: table[way] for way in FRAMES}
    options.output.with_name(options.output.stem + "-frames.svg").write_text(plot.draw("Frames alone", only))
    print(text)
    return 0


def measure(powers: int) -> Table:
    """Returns median seconds by way and rows. The ways take turns, so that other load affects all of them."""
    table: Table = {way: {} for way in WAYS}
    with opened() as ways:
        for power in range(powers + 1):
            rows = 10**power
            calls, times = ways(rows), {way: [] for way in WAYS}
            for number in range(1 + rounds(power)):
                for way, call in calls.items():
                    took = time_call(call, rows, REPEATS.get(power, 20))
                    if number:  # the first round creates segments and buffers
                        times[way].append(took)
            for way in WAYS:
                table[way][rows] = statistics.median(times[way])
            print(f"10^{power} rows, {rounds(power)} rounds", file=sys.stderr)
    return table


def time_call(call: Callable[[], int], rows: int, times: int) -> float:
    """Returns the mean seconds of a call over consecutive calls.

    Raises:
        SystemExit: Rows were lost.
    """
    began = time.perf_counter()
    for _ in range(times):
        if call() != rows:
            sys.exit("rows were lost")
    return (time.perf_counter() - began) / times


def rounds(power: int) -> int:
    """Returns the number of rounds; a Pydantic model of 10^7 rows takes half a minute."""
    return {5: 15, 6: 15, 7: 5}.get(power, 21)


def rounded(table: Table) -> dict[str, dict[str, float]]:
    """Returns the seconds with four digits."""
    return {way: {str(rows): float(f"{value:.4g}") for rows, value in line.items()} for way, line in table.items()}


def lines_of(table: Table) -> str:
    """Returns the lines of a table."""
    sizes = list(table["memcpy"])
    ratios = [f"{table['pexdock'][size] / table['memcpy'][size]:.2f}" if size >= LARGE else "" for size in sizes]
    lines = [
        "| way | " + " | ".join(f"{size:,}".replace(",", " ") for size in sizes) + " |",
        "|---" * (len(sizes) + 1) + "|",
        *(f"| {way} | " + " | ".join(f"{line[size]:.6f}" for size in sizes) + " |" for way, line in table.items()),
        "| **pexdock / memcpy** | " + " | ".join(ratios) + " |",
    ]
    return "\n".join(lines)


def markdown(name: str, table: Table, found: trip.Trip, facts: dict[str, str], beside: str, gb: float) -> str:
    """Returns the report."""
    machine_facts = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    return TEXT.format(name=name, table=lines_of(table), beside=beside, gb=gb, facts=machine_facts, **found._asdict())


if __name__ == "__main__":
    sys.exit(main())
