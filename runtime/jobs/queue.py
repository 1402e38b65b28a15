"""The order in which jobs begin. Pure: it knows numbers, clients, models and priorities, and neither records nor time."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

PRIORITIES = range(8)
"""0 begins first."""


class _Key(NamedTuple):
    priority: int
    client: str
    model: str


class FairQueue:
    """Jobs that wait. The next one is of the lowest priority number; among these, clients take turns; a client's own begin as they arrived.

    A client that comes, or comes again, has its turn after all who wait already. So a client waits for one job of each other, however many
    they have.

    Adding, removing and taking a job cost the same however many wait; the cost of a place grows with the number of clients.
    """

    def __init__(self) -> None:
        self._keys: dict[int, _Key] = {}
        # Priority → client, in the order of their turns → model → numbers. None of them is ever empty below its priority.
        self._clients: list[OrderedDict[str, dict[str, list[int]]]] = [OrderedDict() for _ in PRIORITIES]
        self._models: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, number: int) -> bool:
        return number in self._keys

    @property
    def models(self) -> dict[str, int]:
        """Returns the number of waiting jobs of each model that has any. A copy."""
        return dict(self._models)

    def add(self, number: int, client: str, model: str, priority: int) -> None:
        """Adds a job, or one that is to begin again: among those of its client, it stands where its number says.

        Args:
            number: Number of the job, which grows with the order of arrival. The job must not wait already.
            client: The client whose turn it takes.
            model: The model that runs it.
            priority: One of `PRIORITIES`.
        """
        assert number not in self._keys
        self._keys[number] = _Key(priority, client, model)
        insort(self._clients[priority].setdefault(client, {}).setdefault(model, []), number)
        self._models[model] = self._models.get(model, 0) + 1

    def remove(self, number: int) -> bool:
        """Removes a job. Returns whether it waited."""
        key = self._keys.pop(number, None)
        if key is None:
            return False
        clients = self._clients[key.priority]
        lines = clients[key.client]
        numbers = lines[key.model]
        del numbers[bisect_left(numbers, number)]
        if not numbers:
            del lines[key.model]
        if not lines:
            del clients[key.client]
        self._models[key.model] -= 1
        if not self._models[key.model]:
            del self._models[key.model]
        return True

    def take(self, is_runnable: Callable[[str], bool]) -> int | None:
        """Removes and returns the next job whose model can run it now; None if there is none. Jobs of other models keep their places.

        Args:
            is_runnable: Returns whether a job of a model can begin now.
        """
        runnable = {model for model in self._models if is_runnable(model)}
        if not runnable:
            return None
        for clients in self._clients:
            for client, lines in clients.items():
                firsts = [numbers[0] for model, numbers in lines.items() if model in runnable]
                if firsts:
                    number = min(firsts)
                    clients.move_to_end(client)
                    self.remove(number)
                    return number
        return None

    def jobs_before(self, number: int) -> int:
        """Returns the number of jobs that begin before this one, which waits, if all models can run theirs and no job comes or goes."""
        key = self._keys[number]
        sooner = sum(_waiting(lines) for clients in self._clients[: key.priority] for lines in clients.values())
        clients = self._clients[key.priority]
        own = sum(bisect_left(numbers, number) for numbers in clients[key.client].values())
        turns = own + 1  # of those whose turn comes first; the others have had one less when this job begins
        for client, lines in clients.items():
            if client == key.client:
                turns = own
            sooner += min(turns, _waiting(lines)) if client != key.client else own
        return sooner


def _waiting(lines: dict[str, list[int]]) -> int:
    return sum(map(len, lines.values()))
