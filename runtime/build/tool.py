"""Finds and runs the tools of a build, and reports their failures."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from base.errors import PexdockError
from runtime.pex.locks import Report

_TAIL_LINES = 25


class BuildFailed(PexdockError):
    """A pex cannot be built. The message says what to change; the file to write has not changed."""

    code = "build_failed"


class Steps:
    """Numbers the steps of one build, and reports how long each took.

    Args:
        report: Called with lines of progress.
        total: Number of steps.
    """

    def __init__(self, report: Report, total: int) -> None:
        self._report, self._total, self._number = report, total, 0

    @contextmanager
    def step(self, what: str) -> Iterator[Report]:
        """Reports the beginning and the end of a step. Yields a function for progress in between."""
        self._number += 1
        prefix = f"[{self._number}/{self._total}] {what}"
        self._report(prefix)
        start = time.monotonic()
        yield lambda line: self._report(f"{prefix}: {line}, {time.monotonic() - start:.0f} s")
        self._report(f"{prefix}: done in {time.monotonic() - start:.1f} s")


def run_tool(
    command: Sequence[str | Path],
    what: str,
    *,
    cwd: Path | None = None,
    each_line: Report | None = None,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Runs a tool until it exits.

    Args:
        command: The tool and its arguments.
        what: Description of what it does, for the message of a failure.
        cwd: Its working directory.
        each_line: Called with each line that it prints, including standard error.
        variables: Added to its environment.

    Returns:
        Its standard output; empty with `each_line`.

    Raises:
        BuildFailed: Its exit code was not 0. The message ends with the last lines that it printed.
    """
    environment = {**_environment(), **(variables or {})}
    if each_line is None:
        done = subprocess.run(command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        tail, code, output = deque(done.stderr.splitlines(), _TAIL_LINES), done.returncode, done.stdout
    else:
        tail, output = deque(maxlen=_TAIL_LINES), ""
        with subprocess.Popen(
            command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            for line in process.stdout or ():
                tail.append(line.rstrip())
                each_line(line)
        code = process.returncode
    if code != 0:
        raise BuildFailed("\n    ".join([f"{what} failed (exit code {code}):", *tail]))
    return output


def _environment() -> dict[str, str]:
    """Returns the environment without variables that would make builds differ. pip, Poetry and proxies stay as the user configured them."""
    steering = ("PEX_", "PEXDOCK_", "PYTHON", "SOURCE_DATE_EPOCH", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
    return kept | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PEX_IGNORE_RCFILES": "1", "PYTHONUNBUFFERED": "1"}


def pip() -> list[str]:
    """Returns the command `pip`, as the user configured it."""
    return _module("pip")


def pex() -> list[str]:
    """Returns the command `pex`."""
    return _module("pex")


def poetry() -> list[str]:
    """Returns the command `poetry` of this environment, or else of the system."""
    own = Path(sys.prefix, "poetry", "bin", "poetry")
    found = str(own) if own.exists() else shutil.which("poetry")
    if found is None:
        raise BuildFailed("poetry is neither in this environment nor on PATH; run ./scripts/setup in a checkout to install it")
    return [found, "--no-interaction"]


def _module(name: str) -> list[str]:
    if importlib.util.find_spec(name) is None:
        raise BuildFailed(f"{name} is not installed in {sys.prefix}; run ./scripts/setup in a checkout to install it")
    return [sys.executable, "-P", "-m", name]  # without -P, modules in the current folder would hide those of the tool
