"""All tests in two parts: side by side in several processes what may be, then alone what measures the machine or fills it.

What pytest says of each part is shown as it comes; the last line counts the tests of both.
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
"""Most tests of processes wait, so that there may be more of them than cores."""

# A file's tests share what is started for them, so they stay together, and files go in the order that conftest gives them.
SIDE_BY_SIDE = ["-m", "not alone", "-n", str(PROCESSES), "--dist", "loadfile", "--no-loadscope-reorder"]
ALONE = ["-m", "alone"]

KINDS = ("failed", "passed", "skipped", "error")
"""In the order in which pytest tells them."""


def main() -> int:
    """Exit code 0 where all tests of both parts have passed."""
    began = time.monotonic()
    total: Counter[str] = Counter()
    broken = []
    with tempfile.TemporaryDirectory(prefix="pexdock-tests-") as folder:
        for number, words in enumerate((SIDE_BY_SIDE, ALONE)):
            report = Path(folder, f"{number}.xml")
            print(f"== {words[1]}", flush=True)
            code = subprocess.run([sys.executable, "-m", "pytest", *words, f"--junit-xml={report}"], check=False).returncode
            if not report.exists():
                broken.append(f"PART BROKEN OFF: {words[1]}: pytest ended with {code} and no report")
                total["error"] += 1
                continue
            counts, names = read(report)
            total += counts
            broken += names or ([f"PART FAILED: {words[1]}: pytest ended with {code}"] if code else [])
    print("\n".join(["", *broken, closing(total, time.monotonic() - began)]))
    return 1 if broken else 0


def read(report: Path) -> tuple[Counter[str], list[str]]:
    """How many tests ended how, and which of them not well, out of what pytest has written in JUnit's form."""
    counts: Counter[str] = Counter()
    names = []
    for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314 - pytest's own
        kinds = {child.tag for child in case}
        kind = next((said for tag, said in (("failure", "failed"), ("error", "error"), ("skipped", "skipped")) if tag in kinds), "passed")
        counts[kind] += 1
        if kind in ("failed", "error"):
            names.append(f"{kind.upper()} {case.get('classname')}::{case.get('name')}")
    return counts, names


def closing(total: Counter[str], seconds: float) -> str:
    """A line as pytest's own."""
    told = ", ".join(f"{total[kind]} {kind}" for kind in KINDS if total[kind]) or "no tests ran"
    return f" {told} in {seconds:.2f}s ({timedelta(seconds=int(seconds))}) ".center(80, "=")


if __name__ == "__main__":
    sys.exit(main())
