"""The counted cost of one batch. A change of it must change docs/benchmarks/cost.json, too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.alone  # an idle process is watched for system calls, and strace slows all others down

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.timeout(300)  # strace slows the start of its processes down tenfold
def test_a_batch_costs_what_it_is_known_to_cost() -> None:
    """System calls, messages and bytes match exactly, function calls within a few percent; idle processes make no system call."""
    run = subprocess.run([sys.executable, ROOT / "scripts" / "cost.py"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]
    if "NOT COMPARED" in run.stdout:
        pytest.skip(run.stdout)


def test_a_number_that_changed_is_named() -> None:
    """So is one that is new or gone, but not a few function calls among many."""
    known = {"a": {"messages": 1, "gone": 1, "calls of functions": 100}, "idle": {"worker": {}}}
    found = {"a": {"messages": 2, "calls of functions": 104, "new": 1}, "idle": {"worker": {"futex": 3}}, "b": {"calls of functions": 9}}
    program = (
        f"import sys; sys.path.insert(0, 'scripts'); import cost, json; print(json.dumps(cost.differences({known}, {found}, 'batch')))"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert json.loads(run.stdout) == [
        "batch, a, messages: 1 → 2",
        "batch, a, gone: 1 → 0",
        "batch, a, new: 0 → 1",
        "batch, idle, worker, futex: 0 → 3",
        "batch, b, calls of functions: 0 → 9",
    ]


def test_the_front_door_and_a_numeric_worker_do_not_import_pandas() -> None:
    """Arrow imports it if it can: 45 MB in each process, for nothing."""
    program = """
import subprocess, sys, threading
from pathlib import Path
sys.path.insert(0, "scripts")
import cost_model, httpx
import base.service as svc
server = svc.Server(port=0)
for endpoint in cost_model.ENDPOINTS:
    server.register(endpoint)
with server.serving() as address:
    for name, row in cost_model.ROWS.items():
        assert httpx.post(f"{address}/{name}", json=[row]).status_code == 200
    front = [int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]
    assert len(front) == 1, front
    for pid in ("self", *front):
        maps = Path(f"/proc/{pid}/maps").read_text()
        assert "polars" in maps
        assert "pandas" not in maps, pid
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
