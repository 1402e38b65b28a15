"""The log of Pexdock's own code in processes whose program does what it likes to `logging`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

PROGRAM = """
import logging, logging.config, os, sys
from base.log import LEVELS_ENV, get_logger, log_beside_model
log = get_logger("base.some.module")
START
logging.getLogger("base.some.module").info("so that it exists")
DAMAGE
try:
    raise ValueError("the reason")
except ValueError:
    log.error("it failed", exc_info=True)
"""
STARTS = {"beside a program": "", "in a worker": "log_beside_model()", "in a worker of a supervisor": "log_beside_model()"}
DAMAGES = [
    "",
    "logging.config.dictConfig({'version': 1})",
    "logging.disable(logging.CRITICAL)",
    "logging.getLogger('base').setLevel(100)",
    "logging.getLogger('base').disabled = logging.getLogger('base.some.module').disabled = True",
]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("start", STARTS)
def test_an_error_reaches_standard_error(start: str, damage: str) -> None:
    """With its traceback, once, in the author's own process as well as in a worker, where each line has a mark of its level."""
    is_marked = start == "in a worker of a supervisor"
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | ({"PEXDOCK_LOG_LEVELS": "1"} if is_marked else {})
    program = PROGRAM.replace("START", STARTS[start]).replace("DAMAGE", damage)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    lines = [line for line in done.stderr.rstrip("\n").split("\n") if "so that it exists" not in line]
    begin = {"in a worker": "ERROR ", "in a worker of a supervisor": "\x1e1E", "beside a program": ("ERROR " if damage else "")}[start]
    assert lines[0] in {f"{begin}it failed", "it failed"}  # without a configuration, `logging` prints the bare message
    assert lines[-1].removeprefix("\x1e1E") == "ValueError: the reason"
    assert all(line.startswith("\x1e1E") == is_marked for line in lines)
    assert done.stderr.count("it failed") == 1 + ("log.error(" in done.stderr)
