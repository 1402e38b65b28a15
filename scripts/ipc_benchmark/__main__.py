"""Measures, prints, and writes docs/benchmarks/ipc.md with its numbers and plots beside it."""

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
from ipc_benchmark.ways import WAYS, opened

FRAMES = ["pandas", "polars", "pexdock", "pexdock and back", "memcpy"]

LARGE = 100_000
"""With fewer rows a memcpy takes less than the two messages do."""

TEXT = """# From one process to another

`scripts/bench-ipc` writes this page. Rows of two integers and a text go from one process to another, which then has them in the same form
and says how many they are. Median seconds by number of rows; all ways take turns.

{table}

- **pandas, polars, dict, pydantic**: pickled through a `multiprocessing` pipe.
- **pexdock**: a Polars frame through a segment that is used again, and a channel. **And back**: the other process also writes the frame
  beside it, and it is read here.
- **memcpy**: one copy of the frame's bytes, between pages of one process that were written before.

![All ways]({name}.svg)

![Frames alone]({name}-frames.svg)

## One row

A batch of one row of three floats, from the front door's queue through a real worker, whose handler returns its frame, to the body of
the answer: median **{p50_us:.0f} µs**, p10 {p10_us:.0f} µs, p99 {p99_us:.0f} µs ({trips} trips).

## Machine

{facts}
"""

REPEATS = {5: 5, 6: 1, 7: 1}
"""Calls in a row, by the power of ten of their rows; 20 of fewer rows. A way whose code no cache holds any more is measured otherwise."""

Table = dict[str, dict[int, float]]


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/bench-ipc", description=__doc__)
    parser.add_argument("--powers", type=int, default=7, help="up to 10^POWERS rows")
    parser.add_argument("--trips", type=int, default=3000, help="of one row")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/ipc.md"))
    options = parser.parse_args()
    table = measured(options.powers)
    found = trip.measured(options.trips)
    facts = machine.facts()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    text = markdown(options.output.stem, table, found, facts)
    options.output.write_text(text)
    rounded = {way: {str(rows): float(f"{value:.4g}") for rows, value in line.items()} for way, line in table.items()}
    written = {"machine": facts, "seconds": rounded, "one row": found._asdict()}
    options.output.with_suffix(".json").write_text(json.dumps(written, indent=1) + "\n")
    options.output.with_suffix(".svg").write_text(plot.draw("All ways: seconds from one process to another", table))
    only = {way: table[way] for way in FRAMES}
    options.output.with_name(options.output.stem + "-frames.svg").write_text(plot.draw("Frames alone", only))
    print(text)
    return 0


def measured(powers: int) -> Table:
    """Median seconds by way and rows. The ways take turns, so that whatever else the machine does meets all of them."""
    table: Table = {way: {} for way in WAYS}
    with opened() as ways:
        for power in range(powers + 1):
            rows = 10**power
            calls, times = ways(rows), {way: [] for way in WAYS}
            for number in range(1 + rounds(power)):
                for way, call in calls.items():
                    took = repeated(call, rows, REPEATS.get(power, 20))
                    if number:  # the first of all makes segments and buffers
                        times[way].append(took)
            for way in WAYS:
                table[way][rows] = statistics.median(times[way])
            print(f"10^{power} rows, {rounds(power)} rounds", file=sys.stderr)
    return table


def repeated(call: Callable[[], int], rows: int, times: int) -> float:
    """Seconds of one call, when it is made so many times in a row.

    Raises:
        SystemExit: not all rows came through.
    """
    began = time.perf_counter()
    for _ in range(times):
        if call() != rows:
            sys.exit("not all rows came through")
    return (time.perf_counter() - began) / times


def rounds(power: int) -> int:
    """How often; a Pydantic model of 10^7 rows takes half a minute."""
    return {5: 15, 6: 15, 7: 5}.get(power, 21)


def markdown(name: str, table: Table, found: trip.Trip, facts: dict[str, str]) -> str:
    """The report."""
    sizes = list(table["memcpy"])
    ratios = [f"{table['pexdock'][size] / table['memcpy'][size]:.2f}" if size >= LARGE else "" for size in sizes]
    lines = [
        "| way | " + " | ".join(f"{size:,}".replace(",", " ") for size in sizes) + " |",
        "|---" * (len(sizes) + 1) + "|",
        *(f"| {way} | " + " | ".join(f"{line[size]:.6f}" for size in sizes) + " |" for way, line in table.items()),
        "| **pexdock / memcpy** | " + " | ".join(ratios) + " |",
    ]
    machine_facts = "\n".join(f"- {what}: {said}" for what, said in facts.items())
    return TEXT.format(name=name, table="\n".join(lines), facts=machine_facts, **found._asdict())


if __name__ == "__main__":
    sys.exit(main())
