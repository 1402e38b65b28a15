"""The README is true: its model runs as shown."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx

ROOT = Path(__file__).parent.parent.parent


def test_the_model_in_the_readme_serves_as_shown(tmp_path: Path) -> None:
    """The first Python block is a program; only its port is changed."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    program = tmp_path / "model.py"
    program.write_text(blocks[0].replace("svc.Server()", "svc.Server(port=0)"))
    process = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert process.stdout is not None
    try:
        address = re.search(r"http://\S+", process.stdout.readline())
        assert address
        answer = httpx.post(f"{address[0]}/area/cm2", json=[{"sepal_width": 3.5, "petal_length": 2, "petal_width": 0.5}])
        assert answer.json()["predictions"] == [1.0]
        assert httpx.post(f"{address[0]}/area/cm2", json=[{"sepal_width": "x", "petal_length": 2}]).status_code == 422
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        process.stdout.close()
