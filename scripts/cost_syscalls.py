"""System calls a request of a real front door and a real worker, by strace."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import cost_model

REQUESTS = 100
"""Enough that a call which is not made for a request vanishes when its number is divided by this and rounded."""

SETTLE_S, IDLE_S = 7.0, 3.0
"""Allocators give memory back for a second after the last request, and timers of its connection end within five."""

_CALL = re.compile(r"^(\d+) +(\d+\.\d+) (\w+)\(", re.MULTILINE)
_ROOT = Path(__file__).resolve().parent.parent


class _Span(NamedTuple):
    """A time in which so many requests were made."""

    began: float
    ended: float
    requests: int


def counted() -> dict[str, dict[str, dict[str, int]]] | None:
    """For each endpoint the calls of front door and worker by name, and those of `IDLE_S` without requests; None where there is no strace.

    One row a request, one connection, one request after the other.
    """
    if shutil.which("strace") is None:
        return None
    with tempfile.TemporaryDirectory(prefix="pexdock-cost-") as folder:
        log = Path(folder, "calls")
        spans, pids = _traced(log)
        text = log.read_text(errors="replace")
    calls = [(pids.get(int(pid), "other threads"), float(at), name) for pid, at, name in _CALL.findall(text)]
    roles = [*pids.values(), "other threads"]
    return {what: {role: _each(calls, role, span) for role in roles} for what, span in spans.items()}


def _each(calls: list[tuple[str, float, str]], role: str, span: _Span) -> dict[str, int]:
    """Calls by name, for each of the span's requests."""
    found = Counter(name for whose, at, name in calls if whose == role and span.began <= at <= span.ended)
    return {name: each for name, number in sorted(found.items()) if (each := round(number / span.requests))}


def _traced(log: Path) -> tuple[dict[str, _Span], dict[int, str]]:
    """When each endpoint was asked, and whose first thread is which; `log` then holds every call."""
    command = [
        "strace",
        "-f",
        "-ttt",
        "-e",
        "signal=none",
        "-o",
        str(log),
        sys.executable,
        "-P",
        str(Path(__file__).with_name("cost_model.py")),
    ]
    environment = os.environ | {"PYTHONPATH": str(_ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as strace:
        assert strace.stdout is not None
        address = strace.stdout.readline().rpartition("//")[2].strip()
        worker = _child(strace.pid)
        pids = {_child(worker): "front door", worker: "worker"}
        try:
            spans = {name: _asked(address, f"/{name}", [row]) for name, row in cost_model.ROWS.items()}
            spans["idle"] = _idle()
        finally:
            os.kill(worker, signal.SIGTERM)
            strace.stdout.read()
    return spans, pids


def _child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _asked(address: str, path: str, rows: list[dict[str, object]]) -> _Span:
    """Asks twice as often as is counted; the first half warms up."""
    connection = http.client.HTTPConnection(address, timeout=60)
    body = json.dumps(rows)
    began = 0.0
    for number in range(2 * REQUESTS):
        if number == REQUESTS:
            began = time.time()
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {answer.read().decode()}")
        answer.read()
    ended = time.time()
    connection.close()
    return _Span(began, ended, REQUESTS)


def _idle() -> _Span:
    time.sleep(SETTLE_S)
    began = time.time()
    time.sleep(IDLE_S)
    return _Span(began, time.time(), 1)
