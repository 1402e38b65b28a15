"""The machine of a benchmark."""

from __future__ import annotations

import datetime as dt
import os
import platform
import shutil
import subprocess
from pathlib import Path

from benchmark.pexdock import ROOT


def facts() -> dict[str, str]:
    """Returns names and values for a table."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "Pexdock at": _said("git", "describe", "--always", "--dirty"),
        "cores": f"{len(os.sched_getaffinity(0))}, shared by the server and the load generator",
        "CPU": _cpu(),
        "memory": f"{memory:.0f} GiB",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "wrk": _said("wrk", "--version").partition("[")[0].removeprefix("wrk "),
        "nice": str(os.getpriority(os.PRIO_PROCESS, 0)),
        "load before": f"{os.getloadavg()[0]:.1f} processes running on average in the minute before, ours not among them",
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _said(*command: str) -> str:
    """Returns the first line of a command's output, "?" where the command is missing. wrk exits with 1 when it prints its version."""
    if shutil.which(command[0]) is None:
        return "?"
    lines = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True).stdout.splitlines()
    return lines[0].strip() if lines else "?"
