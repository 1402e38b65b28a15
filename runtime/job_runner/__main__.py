"""`python -m runtime.job_runner`: the process of the job runner.

It dies with its parent at once: another supervisor may start another runner, and only one may have the database.
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from collections.abc import Sequence

from base.process import die_with_parent


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command that the supervisor makes."""
    parser = argparse.ArgumentParser(prog="runtime.job_runner", description="The job runner; the supervisor starts it.")
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--listen-fd", type=int, required=True)
    return parser.parse_args(argv)


def main() -> int:
    """Runs the job runner over file descriptors that the parent made."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the supervisor stops us by a message, as it stops a front door
        signal.signal(number, signal.SIG_IGN)
    arguments = parse_arguments()
    control, listener = (socket.socket(fileno=fd) for fd in (arguments.control_fd, arguments.listen_fd))
    is_tied = die_with_parent(control)
    from base.ipc.control import ExitCode  # noqa: PLC0415 - not before the process is tied

    if not is_tied:
        return ExitCode.PARENT_GONE
    from runtime.job_runner.process import run  # noqa: PLC0415 - as above; this takes longest

    return run(control, listener)


if __name__ == "__main__":
    sys.exit(main())
