"""`python -m runtime.front`: the process of a front door.

Its imports take a second or two, and the parent may be killed meanwhile. So the process first ties itself to its parent, until it listens.
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from collections.abc import Sequence

from base.process import die_with_parent


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command that `base.process.front_door_command` makes."""
    parser = argparse.ArgumentParser(prog="runtime.front", description="A front door; the supervisor starts it.")
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--listen-fd", dest="listen_fds", action="append", type=int, required=True)
    parser.add_argument("--stdout-fd", type=int, default=1)
    return parser.parse_args(argv)


def main() -> int:
    """Runs one front door over file descriptors that the parent made."""
    # The parent stops us by a message, or by its own exit, which closes the socket. Accepted requests are still answered then. Signals are
    # ignored, because a Ctrl-C reaches the whole process group, and a service manager may signal all processes of a service.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    arguments = parse_arguments()
    control = socket.socket(fileno=arguments.control_fd)
    listeners = [socket.socket(fileno=fd) for fd in arguments.listen_fds]
    is_tied = die_with_parent(control)
    from base.ipc.control import ExitCode  # noqa: PLC0415 - not before the process is tied

    if not is_tied:
        return ExitCode.PARENT_GONE
    from runtime.front.process import run  # noqa: PLC0415 - as above; this takes longest

    return run(control, listeners, arguments.stdout_fd)


if __name__ == "__main__":
    sys.exit(main())
