"""The command that benchmarks IPC, on a few rows: it runs, and its output can be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

pytestmark = pytest.mark.alone  # it measures

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.timeout(180)  # three processes import everything
def test_every_transport_is_measured_and_plotted(tmp_path: Path) -> None:
    """It writes a table, its numbers, and two plots with a line for each transport."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "scripts"), str(ROOT / "tests/support")))}
    command = [
        sys.executable,
        "-m",
        "ipc_benchmark",
        "--powers",
        "1",
        "--trips",
        "100",
        "--gb",
        "0.01",
        "--output",
        str(tmp_path / "ipc.md"),
    ]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    written = json.loads((tmp_path / "ipc.json").read_text())
    assert list(written["seconds"]) == ["pandas", "polars", "dict", "pydantic", "pexdock", "pexdock and back", "memcpy"]
    for kind in ("seconds", "beside other work"):
        assert all(set(line) == {"1", "10"} and min(line.values()) > 0 for line in written[kind].values())
    assert 0 < written["one row"]["p10_us"] <= written["one row"]["p50_us"] <= written["one row"]["p99_us"]
    report = (tmp_path / "ipc.md").read_text()
    for name, lines in (("ipc.svg", 7), ("ipc-frames.svg", 5)):
        assert f"]({name})" in report
        assert len(ET.parse(tmp_path / name).getroot().findall("{*}polyline")) == lines
