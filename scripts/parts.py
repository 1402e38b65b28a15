"""Runs all tests in two parts: most of them in parallel processes, then those that measure or fill the machine, alone.

The output of pytest is passed through; the last line counts the tests of both parts.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from datetime import timedelta
from pathlib import Path

PROCESSES = 3
"""Most tests of processes wait, so more of them than cores can run in parallel."""

# Tests of a file share the processes that they start, so they stay together; conftest determines the order of files.
SIDE_BY_SIDE = ["-m", "not alone", "-n", str(PROCESSES), "--dist", "loadfile", "--no-loadscope-reorder"]
ALONE = ["-m", "alone"]

KINDS = ("failed", "passed", "skipped", "error")
"""In the order of pytest's summary."""

RESULTS = {"failure": "failed", "error": "error", "skipped": "skipped"}
"""Tag in a report of JUnit's format → result."""


def main() -> int:
    """Returns exit status 0 if all tests of both parts have passed."""
    began = time.monotonic()
    total: Counter[str] = Counter()
    broken = []
    with tempfile.TemporaryDirectory(prefix="pexdock-tests-") as folder:
        for number, options in enumerate((SIDE_BY_SIDE, ALONE)):
            report = Path(folder, f"{number}.xml")
            print(f"== {options[1]}", flush=True)
            code = subprocess.run([sys.executable, "-m", "pytest", *options, f"--junit-xml={report}"], check=False).returncode
            if not report.exists():
                broken.append(f"PART ABORTED: {options[1]}: pytest exited with {code} and without a report")
                total["error"] += 1
                continue
            counts, names = read_report(report)
            total += counts
            broken += names or ([f"PART FAILED: {options[1]}: pytest exited with {code}"] if code else [])
    print("\n".join(["", *broken, summary(total, time.monotonic() - began)]))
    return 1 if broken else 0


def read_report(report: Path) -> tuple[Counter[str], list[str]]:
    """Returns the number of tests by result, and the failed ones, from a report in the JUnit format."""
    counts: Counter[str] = Counter()
    names = []
    for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314 - pytest's own
        kinds = {child.tag for child in case}
        kind = next((result for tag, result in RESULTS.items() if tag in kinds), "passed")
        counts[kind] += 1
        if kind in ("failed", "error"):
            names.append(f"{kind.upper()} {case.get('classname')}::{case.get('name')}")
    return counts, names


def summary(total: Counter[str], seconds: float) -> str:
    """Returns a line like the last one of pytest."""
    counts = ", ".join(f"{total[kind]} {kind}" for kind in KINDS if total[kind]) or "no tests ran"
    return f" {counts} in {seconds:.2f}s ({timedelta(seconds=int(seconds))}) ".center(80, "=")


if __name__ == "__main__":
    sys.exit(main())
