"""Counts what one batch costs, and compares it with what it is known to cost."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import cost_calls
import cost_syscalls

FILE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks" / "cost.json"


NEAR = 0.05
"""Function calls may differ by that much before somebody must look: they follow every small change of the code."""


def main() -> int:
    """Prints what differs from the file; with --update the file is written. Status 1: something differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true", help=f"write {FILE.name}")
    update = parser.parse_args().update
    found = {"python": _python(), "batch": cost_calls.counted(), "system calls": cost_syscalls.counted()}
    if not update:
        return compared(json.loads(FILE.read_text()), found)
    if found["system calls"] is None:
        sys.exit("strace is not there, and without it system calls cannot be counted: apt-get install strace")
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def compared(known: dict[str, Any], found: dict[str, Any]) -> int:
    """Says what differs, and loudly what could not be compared."""
    lines: list[str] = []
    if known["python"] == found["python"]:
        lines += differences(known["batch"], found["batch"], "batch")
    else:
        print(f"NOT COMPARED: calls of functions; they were counted with Python {known['python']}, and this is {found['python']}")
    if found["system calls"] is None:
        print("NOT COMPARED: system calls, since there is no strace here")
    else:
        lines += differences(known["system calls"], found["system calls"], "system calls")
    print(*lines, "If this is meant: scripts/cost --update" if lines else "A batch costs what it is known to cost.", sep="\n")
    return 1 if lines else 0


def differences(known: Any, found: Any, place: str) -> list[str]:
    """One line for each number that is another, or that one side does not have."""
    if not isinstance(known, dict) or not isinstance(found, dict):
        near = NEAR * known if place.endswith("functions") else 0
        return [] if abs(known - found) <= near else [f"{place}: {known} → {found}"]
    names = [*known, *(name for name in found if name not in known)]
    empty: Any = {} if any(isinstance(each, dict) for each in [*known.values(), *found.values()]) else 0
    return [line for name in names for line in differences(known.get(name, empty), found.get(name, empty), f"{place}, {name}")]


def _python() -> str:
    return ".".join(platform.python_version_tuple()[:2])


if __name__ == "__main__":
    sys.exit(main())
