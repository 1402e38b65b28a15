"""Whether something grows that should not: memory and descriptors of the supervisor and the front doors, over time."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path

MEMORY_MAX_BYTES, MEMORY_MAX_SHARE = 12 * 1024**2, 0.08
"""The last third may use so much more than the second, of whatever is more: what was first met late in a soak is still being learned."""

DESCRIPTORS_MAX = 8


@dataclass
class Growth:
    """Samples by name of what was sampled."""

    memory_bytes: dict[str, list[int]] = field(default_factory=dict)
    descriptors: dict[str, list[int]] = field(default_factory=dict)

    def sample(self, name: str, pids: list[int]) -> None:
        """What these processes use together now; nothing where one of them has just ended."""
        try:
            memory, descriptors = sum(map(own_bytes, pids)), sum(map(descriptors_of, pids))
        except OSError:
            return
        if pids:
            self.memory_bytes.setdefault(name, []).append(memory)
            self.descriptors.setdefault(name, []).append(descriptors)

    def found(self) -> list[str]:
        """What grew, in words."""
        grown = []
        for name, samples in self.memory_bytes.items():
            before, after = thirds(samples)
            if after - before > max(MEMORY_MAX_BYTES, before * MEMORY_MAX_SHARE):
                grown.append(f"{name} grew from {before / 1e6:.1f} to {after / 1e6:.1f} MB")
        for name, samples in self.descriptors.items():
            before, after = thirds(samples)
            if after - before > DESCRIPTORS_MAX:
                grown.append(f"{name} had {before:.0f} descriptors, and then {after:.0f}")
        return grown

    def lines(self) -> list[str]:
        """What was seen, for people."""
        told = []
        for name, samples in self.memory_bytes.items():
            (before, after), (few, more) = thirds(samples), thirds(self.descriptors[name])
            told.append(f"{name}: {before / 1e6:.1f} then {after / 1e6:.1f} MB, {few:.0f} then {more:.0f} descriptors")
        return told


def thirds(samples: list[int]) -> tuple[float, float]:
    """The medians of the second and of the last third."""
    third = max(1, len(samples) // 3)
    return statistics.median(samples[third : 2 * third] or samples), statistics.median(samples[-third:])


def own_bytes(pid: int) -> int:
    """Its memory, with its share of segments. Pages of files are left out: its share of those depends on who else runs on the machine."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))


def descriptors_of(pid: int) -> int:
    """How many it has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
