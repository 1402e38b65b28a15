"""How a process of ours is tied to its parent."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


def die_with_parent() -> bool:
    """Asks the kernel to kill this process when the thread that started it ends; False when that has happened already.

    The control socket's end of file says the same and comes first where the process is idle; this covers a handler that
    does not return.
    """
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # A parent that ended before the call sent no signal, and somebody else has adopted us since.
    return os.getppid() == parent


def give_up_privileges() -> None:
    """Has no program that this process or any child of it executes gain rights, be it setuid. There is no way back."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
