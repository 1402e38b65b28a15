"""A finite state machine: a state, and a table of the transitions that are possible from it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)
A = TypeVar("A", bound=StrEnum)


class IllegalStep(AssertionError):
    """An event that cannot happen in the machine's state, which is a bug of ours. Nothing was changed."""


@dataclass
class Machine(Generic[S, E, A]):
    """A current state, and the table of its transitions.

    Attributes:
        steps: The next state and its action, for each possible pair of state and event.
        state: The current state.
    """

    steps: Mapping[tuple[S, E], tuple[S, A | None]]
    state: S

    def step(self, event: E) -> A | None:
        """Moves to the next state, and returns the action that the caller must take.

        Raises:
            IllegalStep: The event cannot happen in this state; nothing was changed.
        """
        try:
            self.state, action = self.steps[self.state, event]
        except KeyError:
            raise IllegalStep(f"{event} in state {self.state}") from None
        return action

    def allows(self, event: E) -> bool:
        """Returns whether `event` can happen in this state."""
        return (self.state, event) in self.steps
