"""Turns errors of the disk below `state_path` into errors for clients."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterator

from base.errors import Full, Unavailable

log = logging.getLogger(__name__)

_RETRY_AFTER_S = 60


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Raises Full or Unavailable for an OSError of the block."""
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Full("the disk of state_path has no room for the job; try again later", retry_after_s=_RETRY_AFTER_S) from exc
        log.error("jobs cannot use state_path: %s", exc)  # noqa: TRY400 - the operating system's reason is enough
        raise Unavailable(
            f"the files of jobs cannot be used: {exc.strerror or exc}; try again later", retry_after_s=_RETRY_AFTER_S
        ) from exc
