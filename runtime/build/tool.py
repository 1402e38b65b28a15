"""The tools that a build runs: how they are found and started, and what is said when they fail."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from base.errors import PexdockError

Report = Callable[[str], None]
"""Takes one line of progress."""

_TAIL_LINES = 25


class BuildFailed(PexdockError):
    """A pex cannot be built. The message says what to change; nothing was written to its place."""

    code = "build_failed"


class Steps:
    """Numbers the steps of one build and says how long each took.

    Args:
        report: takes the lines.
        total: how many steps there are.
    """

    def __init__(self, report: Report, total: int) -> None:
        self._report, self._total, self._number = report, total, 0

    @contextmanager
    def step(self, what: str) -> Iterator[Report]:
        """Yields where to report how far the step is."""
        self._number += 1
        prefix = f"[{self._number}/{self._total}] {what}"
        self._report(prefix)
        start = time.monotonic()
        yield lambda line: self._report(f"{prefix}: {line}, {time.monotonic() - start:.0f} s")
        self._report(f"{prefix}: done in {time.monotonic() - start:.1f} s")


def run_tool(command: Sequence[str | Path], what: str, *, cwd: Path | None = None, each_line: Report | None = None) -> str:
    """Run a tool to its end.

    Args:
        command: the tool and its arguments.
        what: what it does, for the message when it fails.
        cwd: where it runs.
        each_line: is given each line of what it says, as it comes. Standard error is among them.

    Returns:
        Its standard output; empty with `each_line`.

    Raises:
        BuildFailed: it did not end with 0. The message ends with the last that it said.
    """
    if each_line is None:
        done = subprocess.run(command, cwd=cwd, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        tail, code, output = deque(done.stderr.splitlines(), _TAIL_LINES), done.returncode, done.stdout
    else:
        tail, output = deque(maxlen=_TAIL_LINES), ""
        with subprocess.Popen(
            command, cwd=cwd, env=_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            for line in process.stdout or ():
                tail.append(line.rstrip())
                each_line(line)
        code = process.returncode
    if code != 0:
        raise BuildFailed("\n    ".join([f"{what} failed (exit code {code}):", *tail]))
    return output


def _environment() -> dict[str, str]:
    """Without what would make builds differ between shells. pip, Poetry and proxies stay as the user configured them."""
    steering = ("PEX_", "PEXDOCK_", "PYTHON", "SOURCE_DATE_EPOCH", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
    return kept | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PEX_IGNORE_RCFILES": "1", "PYTHONUNBUFFERED": "1"}


def pip() -> list[str]:
    """The command `pip`, as the user configured it."""
    return _module("pip")


def pex() -> list[str]:
    """The command `pex`."""
    return _module("pex")


def poetry() -> list[str]:
    """The command `poetry`: the one of this environment, or else of the system."""
    own = Path(sys.prefix, "poetry", "bin", "poetry")
    found = str(own) if own.exists() else shutil.which("poetry")
    if found is None:
        raise BuildFailed("poetry is found neither in this environment nor on PATH; ./scripts/setup in a checkout installs it")
    return [found, "--no-interaction"]


def _module(name: str) -> list[str]:
    if importlib.util.find_spec(name) is None:
        raise BuildFailed(f"{name} is not installed in {sys.prefix}; ./scripts/setup in a checkout installs it")
    return [sys.executable, "-m", name]
