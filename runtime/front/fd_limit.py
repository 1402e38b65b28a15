"""How many files a front door may have open, and how many of them may be taken when a client comes."""

from __future__ import annotations

import resource
import sys

RESERVED = 64
"""For channels to workers, segments, logs and what is accepted while a connection is turned away; of few descriptors a quarter."""


def raise_limit() -> int:
    """Takes as many descriptors as this process may have. Returns how many may be in use when a connection is accepted."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return sys.maxsize
    return hard - min(RESERVED, hard // 4)
