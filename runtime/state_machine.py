"""A finite state machine: a state, and a table of the steps that are possible from it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)
A = TypeVar("A", bound=StrEnum)


class IllegalStep(AssertionError):
    """Our own code gave a machine an event that cannot happen in its state. Nothing was changed."""


@dataclass
class Machine(Generic[S, E, A]):
    """A state, and the table that moves it.

    Attributes:
        steps: The next state, and the action that it calls for, for each possible pair of state and event.
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
