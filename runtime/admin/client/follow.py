"""Following what the state says until something is decided, for the commands that wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import click

from base.errors import PexdockError
from runtime.admin.client.progress import Outcome, Stage
from runtime.admin.client.transport import WaitTimeout
from runtime.supervisor.status.state import State

TIMED_OUT = 3
INTERRUPTED = 130
"""How commands end whose time is over, or whose following was ended by Ctrl-C."""


def follow(states: Iterator[State], judged: Callable[[State], Stage], subject: str, begin: str, rest: str) -> Stage:
    """Shows each stage on stderr; gives the last one, or that the time was over.

    Args:
        states: as they come.
        judged: where it stands by a state.
        subject: stands before each line.
        begin: where it stands before the first of them.
        rest: what becomes of it where the supervisor has ended.

    Raises:
        PexdockError: it has.
    """
    begun, shown, now = time.monotonic(), "", Stage(begin)
    try:
        for state in states:
            now = judged(state)
            if now.outcome is not None:
                return now
            if now.text != shown:
                shown = now.text
                click.echo(f"{subject}: {time.monotonic() - begun:5.1f} s  {shown}", err=True)
    except WaitTimeout:
        return Stage(f"it still {now.text if now.release is None else f'is {now.text}'}", Outcome.TIMEOUT, now.release)
    raise PexdockError(f"the supervisor has ended; {rest}")


def exit_code(outcome: Outcome | None, *, good: bool) -> int:
    """How a command ends that followed something to this."""
    return 0 if good else TIMED_OUT if outcome is Outcome.TIMEOUT else 1
