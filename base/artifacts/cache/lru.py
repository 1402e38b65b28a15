"""The entries of a cache in the order of their use, and which of them must go. Knows no lock and no clock: the cache has both."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from base.artifacts.cache.entry import Entry
from base.artifacts.cache.keys import Key, key_of


class LruOrder:
    """Entries by key.

    Args:
        max_size: models.
        max_bytes: of all models; None for no bound. A single larger one is kept.
    """

    def __init__(self, max_size: int, max_bytes: int | None) -> None:
        self._max_size = max_size
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Key, Entry] = OrderedDict()  # the one used last is last

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def add(self, entry: Entry) -> None:
        """As the one used last."""
        self._entries[key_of(entry.parameters)] = entry

    def used(self, key: Key) -> Entry | None:
        """The entry, which is the one used last from now on; None if there is none."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def holds(self, entry: Entry) -> bool:
        """Whether it is this one that is here, and not another for the same parameters, or none."""
        return self._entries.get(key_of(entry.parameters)) is entry

    def remove(self, entry: Entry) -> None:
        """Harmless if it is gone."""
        if self.holds(entry):
            del self._entries[key_of(entry.parameters)]

    def idle(self) -> list[Entry]:
        """Those with a model that nobody holds or waits for."""
        return [entry for entry in self._entries.values() if entry.idle]

    def unused_since(self, time_s: float) -> list[Entry]:
        """The idle ones that were last used then or before."""
        return [entry for entry in self.idle() if entry.used_at_s <= time_s]

    def surplus(self) -> list[Entry]:
        """The idle ones that are over the bounds, longest unused first."""
        if len(self._entries) <= self._max_size and self._max_bytes is None:
            return []
        held = [entry for entry in self._entries.values() if entry.copy is not None]
        count, size_bytes = len(held), sum(entry.size_bytes for entry in held)
        found = []
        for entry in held:
            if count <= self._max_size and (count == 1 or self._max_bytes is None or size_bytes <= self._max_bytes):
                break
            if entry.idle:
                found.append(entry)
                count, size_bytes = count - 1, size_bytes - entry.size_bytes
        return found
