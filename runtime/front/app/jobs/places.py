"""Places for responses that last long: a limited number of each kind, which no client with an API key can take alone."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

from base.errors import Full


class Places:
    """The places of one kind of response.

    Args:
        kind: Names the responses, for the message of an error.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._taken: Counter[str] = Counter()

    @contextlib.contextmanager
    def take(self, client: str, limit: int) -> Iterator[None]:
        """Has a place during the block. A client with an API key gets one only if at least as many are free as it has.

        Raises:
            Full: There is no place.
        """
        taken, own = self._taken.total(), self._taken[client]
        if taken >= limit or (client and own > limit - taken):
            raise Full(f"{taken} {self._kind} are being sent, {own} of them to this client, limit {limit}; try again later")
        self._taken[client] += 1
        try:
            yield
        finally:
            self._taken[client] -= 1
            self._taken += Counter()  # forgets clients that have none
