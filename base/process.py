"""How a process of ours is tied to its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38

_CREDENTIALS = struct.Struct("3i")


def module_command(module: str) -> tuple[list[str], dict[str, str]]:
    """Returns the command that runs `module` in a child that can import what this process can, and the variables to add to its environment.

    The child gets the search path of this process, which is not always the interpreter's own: a pex without a venv, run by hand, changes
    `sys.path` after the start. `-P` keeps the current folder out of it, which may hold a checkout with other `base` and `runtime` packages.
    """
    return [sys.executable, "-P", "-m", module], {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def die_with_parent(control: socket.socket) -> bool:
    """Asks the kernel to kill this process when the thread that started it ends; False when that has happened already.

    The control socket's end of file says the same, to those who read it; this covers imports and handlers that do not return. To be called
    before anything that takes time, as `python -m base` does.

    Args:
        control: one end of a pair that the parent has made.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # A parent that ended before the call sent no signal, and somebody else has adopted us since.
    return os.getppid() == peer_pid(control)


def outlive_parent() -> None:
    """Takes that back. The caller ends by itself when its control socket does."""
    _prctl(_PR_SET_PDEATHSIG, 0)


def forbid_new_privileges() -> None:
    """Has no program that this process or any child of it executes gain rights, be it setuid. There is no way back."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def peer_pid(sock: socket.socket) -> int:
    """The process that listened where this connected socket connected to, or that made the pair of which it is one end."""
    pid: int = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[0]
    return pid


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
