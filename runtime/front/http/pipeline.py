"""The order of answers on one connection (RFC 9112, 9.3.2): as their requests came, whichever is ready first. Pure."""

from __future__ import annotations

from typing import Generic, TypeVar

W = TypeVar("W")
A = TypeVar("A")


class ResponsePipeline(Generic[W, A]):
    """What one connection still has to answer. Each key is of one request, and is used once."""

    __slots__ = ("_answers", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[str, W | None] = {}  # in the order of their coming
        self._answers: dict[str, A] = {}  # of those that are not the first

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self, key: str) -> None:
        """A request has come."""
        self._waiting[key] = None

    def attach(self, key: str, waiting: W) -> None:
        """Has `waiting` given back if the connection is lost before the answer; does nothing once there is an answer."""
        if key in self._waiting:
            self._waiting[key] = waiting

    def answered(self, key: str, answer: A) -> list[A]:
        """Which answers are to be sent now: none, where an earlier one is still to come; else this and all that waited for it.

        Raises:
            KeyError: nobody waits for this answer. Nothing was changed.
        """
        waiting = self._waiting
        if key != next(iter(waiting), None):
            if key not in waiting:
                raise KeyError(key)
            self._answers[key] = answer
            return []
        del waiting[key]
        due = [answer]
        while self._answers and (first := next(iter(waiting))) in self._answers:
            del waiting[first]
            due.append(self._answers.pop(first))
        return due

    def drop(self) -> list[W]:
        """The connection is lost: whoever still waited for an answer. Afterwards nothing is open."""
        lost = [waiting for key, waiting in self._waiting.items() if key not in self._answers and waiting is not None]
        self._waiting.clear()
        self._answers.clear()
        return lost
