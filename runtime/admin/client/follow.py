"""Follows the state of a supervisor until an outcome is known, for commands that wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from base.errors import PexdockError
from runtime.admin.client.progress import Outcome, Stage
from runtime.admin.client.transport import WaitTimeout
from runtime.supervisor.status.state import State


def follow(states: Iterator[State], stage_of: Callable[[State], Stage], first: Stage, show: Callable[[str], None], advice: str) -> Stage:
    """Shows each stage, and returns the last one, or a timeout.

    Args:
        states: States of the supervisor, as they arrive.
        stage_of: Returns the stage at a state.
        first: Stage before the first state.
        show: Called with a line for each new stage.
        advice: What happens next if the supervisor exits; it ends the message of the error.

    Raises:
        PexdockError: The supervisor has exited.
    """
    begun, shown, now = time.monotonic(), "", first
    try:
        for state in states:
            now = stage_of(state)
            if now.outcome is not None:
                return now
            if now.text != shown:
                shown = now.text
                show(f"{time.monotonic() - begun:5.1f} s  {shown}")
    except WaitTimeout:
        return Stage(f"it still {now.text if now.release is None else f'is {now.text}'}", Outcome.TIMEOUT, now.release)
    raise PexdockError(f"the supervisor has exited; {advice}")
