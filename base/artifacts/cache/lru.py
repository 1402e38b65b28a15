"""The entries of a cache in the order of their use, and the choice of those to evict. Has neither lock nor clock: the cache has both."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from base.artifacts.cache.entry import Entry
from base.artifacts.cache.keys import Key, key_of


class LruOrder:
    """The entries of a cache by key, the least recently used first.

    Args:
        max_size: Maximum number of models.
        max_bytes: Maximum bytes of all models; None for no bound. A single larger model is kept.
    """

    def __init__(self, max_size: int, max_bytes: int | None) -> None:
        self._max_size = max_size
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Key, Entry] = OrderedDict()  # the last used entry is last

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def add_entry(self, entry: Entry) -> None:
        """Adds an entry as the last used one."""
        self._entries[key_of(entry.parameters)] = entry

    def mark_used(self, key: Key) -> Entry | None:
        """Makes the entry the last used one and returns it; returns None if there is none."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def holds(self, entry: Entry) -> bool:
        """Returns True for an entry that is in the cache; False if it left, even if its parameters have a new one."""
        return self._entries.get(key_of(entry.parameters)) is entry

    def remove(self, entry: Entry) -> None:
        """Removes the entry; has no effect if it is gone."""
        if self.holds(entry):
            del self._entries[key_of(entry.parameters)]

    def idle_entries(self) -> list[Entry]:
        """Returns the entries whose model no request uses or waits for."""
        return [entry for entry in self._entries.values() if entry.idle]

    def unused_since(self, time_s: float) -> list[Entry]:
        """Returns the idle entries that were last used at that time or before."""
        return [entry for entry in self.idle_entries() if entry.used_at_s <= time_s]

    def surplus(self) -> list[Entry]:
        """Returns the idle entries to evict so that the bounds hold, the least recently used first."""
        if len(self._entries) <= self._max_size and self._max_bytes is None:
            return []
        loaded = [entry for entry in self._entries.values() if entry.copy is not None]
        count, size_bytes = len(loaded), sum(entry.size_bytes for entry in loaded)
        found = []
        for entry in loaded:
            if count <= self._max_size and (count == 1 or self._max_bytes is None or size_bytes <= self._max_bytes):
                break
            if entry.idle:
                found.append(entry)
                count, size_bytes = count - 1, size_bytes - entry.size_bytes
        return found
