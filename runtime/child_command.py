"""How a child process of ours is started on a module of this distribution."""

from __future__ import annotations

import os
import sys


def python_module_command(module: str) -> tuple[list[str], dict[str, str]]:
    """The command that runs `module` in a child that imports what this process can import, and what it adds to the environment.

    The child gets this process's search path, since it is not always the interpreter's own: a pex without a venv, run by hand, changes
    `sys.path` after the start. `-P` keeps the current folder out of it, which may hold a checkout with other `base` and `runtime` packages.
    """
    return [sys.executable, "-P", "-m", module], {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
