"""`python -m base`: the process of a worker.

Imports little itself: importing the model takes seconds, during which the supervisor may be killed. So this process is tied to the
supervisor first.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from base.forks import ignore_stop_signals
from base.process import die_with_parent, forbid_new_privileges


def main() -> int:
    """Runs the release that is installed in this process, for the supervisor that started it."""
    ignore_stop_signals()
    parser = argparse.ArgumentParser(prog="base", description="A worker; started by the supervisor.")
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    arguments = parser.parse_args()
    del sys.argv[1:]  # a model that parses arguments when it is imported must not meet ours
    control = socket.socket(fileno=arguments.control_fd)
    os.set_inheritable(arguments.control_fd, False)
    is_tied = die_with_parent(control)
    forbid_new_privileges()
    from base.ipc.control import ExitCode  # noqa: PLC0415 - only after the process is tied to its parent

    if not is_tied:
        return ExitCode.PARENT_GONE
    from base.worker.main import run_installed  # noqa: PLC0415 - as above; this import takes the longest

    return run_installed(control, arguments.socket)


if __name__ == "__main__":
    sys.exit(main())
