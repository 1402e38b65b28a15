"""Starts processes of Pexdock and ties them to their parents. Imports little, since a process imports this module before it is tied."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import sys
from collections.abc import Sequence

FRONT_DOOR_MODULE = "runtime.front"
"""The program of a front door. `base` imports nothing of `runtime`, but its development server starts this module as a child; a test checks
that it exists. A constant, since an entry point would have to be looked up among all distributions at each start."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_CREDENTIALS = struct.Struct("3i")


def module_command(module: str) -> tuple[list[str], dict[str, str]]:
    """Returns the command that runs `module` in a child that can import what this process can, and the variables to add to its environment.

    The child gets the search path of this process, which is not always the interpreter's own: a pex without a venv, run by hand, changes
    `sys.path` after the start. `-P` keeps the current folder out of it, which may hold a checkout with other `base` and `runtime` packages.
    """
    return [sys.executable, "-P", "-m", module], {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def front_door_command(listen_fds: Sequence[int], stdout_fd: int = 1) -> tuple[list[str], dict[str, str]]:
    """Returns the command that starts a front door, to which `--control-fd N` must be added, and the variables for its environment.

    Args:
        listen_fds: Descriptors of the bound sockets, which the child must inherit.
        stdout_fd: Descriptor for what the access log writes to standard output, which the child must inherit.
    """
    command, variables = module_command(FRONT_DOOR_MODULE)
    listeners = [word for fd in listen_fds for word in ("--listen-fd", str(fd))]
    return [*command, *listeners, "--stdout-fd", str(stdout_fd)], variables


def die_with_parent(control: socket.socket) -> bool:
    """Asks the kernel to kill this process when the thread that started it ends. Returns False if that thread has ended already.

    A process that reads the control socket also gets an end of file; this call covers imports and handlers that do not return.
    Must be called before anything that takes time, as `python -m base` does.

    Args:
        control: One end of a socket pair that the parent has made.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # A parent that ended before the call sent no signal, and another process has adopted this one since.
    return os.getppid() == peer_pid(control)


def outlive_parent() -> None:
    """Undoes `die_with_parent`. The caller must exit by itself when its control socket is closed."""
    _prctl(_PR_SET_PDEATHSIG, 0)


def forbid_new_privileges() -> None:
    """Prevents every program that this process or a child of it executes from gaining rights, even a setuid one. Cannot be undone."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def adopt_orphans() -> None:
    """Makes this process the parent of descendants whose own parent has exited. It must reap them. The children do not inherit this."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def peer_pid(sock: socket.socket) -> int:
    """Returns the id of the process that listens at the address to which this socket connected, or that created its socket pair."""
    pid: int = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[0]
    return pid


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
