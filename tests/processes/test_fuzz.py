"""Decoders of external input, fed by a fuzzer that tracks which of their lines its bytes reach."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent.parent / "support" / "fuzz.py"
TARGETS = ["protocol", "control", "failure", "plain", "frames", "json", "csv", "arrow", "parquet", "pages"]


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not made for this machine")
@pytest.mark.parametrize("target", TARGETS)
def test_no_bytes_make_a_decoder_fail_with_another_error_than_ours(target: str, tmp_path: Path) -> None:
    """It makes a few thousand runs from valid bytes; `python tests/support/fuzz.py TARGET RUNS` makes more."""
    done = subprocess.run(
        [sys.executable, PROGRAM, target, os.environ.get("PEXDOCK_TEST_FUZZ_RUNS", "3000")],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
