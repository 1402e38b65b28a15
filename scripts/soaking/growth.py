"""The growth of memory and descriptors of the supervisor and the front doors over time."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path

MEMORY_MAX_BYTES, MEMORY_MAX_SHARE = 12 * 1024**2, 0.08
"""Allowed growth from the second to the last third, whichever limit is larger: caches still fill late in a soak test."""

DESCRIPTORS_MAX = 8


@dataclass
class Growth:
    """Samples by the name of a group of processes."""

    memory_bytes: dict[str, list[int]] = field(default_factory=dict)
    descriptors: dict[str, list[int]] = field(default_factory=dict)

    def sample(self, name: str, pids: list[int]) -> None:
        """Records what these processes use together, unless one of them has just exited."""
        try:
            memory, descriptors = sum(map(own_bytes, pids)), sum(map(descriptors_of, pids))
        except OSError:
            return
        if pids:
            self.memory_bytes.setdefault(name, []).append(memory)
            self.descriptors.setdefault(name, []).append(descriptors)

    def violations(self) -> list[str]:
        """Returns a message for each group that grew too much."""
        grown = []
        for name, samples in self.memory_bytes.items():
            before, after = thirds(samples)
            if after - before > max(MEMORY_MAX_BYTES, before * MEMORY_MAX_SHARE):
                grown.append(f"{name} grew from {before / 1e6:.1f} to {after / 1e6:.1f} MB")
        for name, samples in self.descriptors.items():
            before, after = thirds(samples)
            if after - before > DESCRIPTORS_MAX:
                grown.append(f"{name} grew from {before:.0f} to {after:.0f} descriptors")
        return grown

    def lines(self) -> list[str]:
        """Returns a line of text for each group."""
        lines = []
        for name, samples in self.memory_bytes.items():
            (before, after), (few, more) = thirds(samples), thirds(self.descriptors[name])
            lines.append(f"{name}: {before / 1e6:.1f} then {after / 1e6:.1f} MB, {few:.0f} then {more:.0f} descriptors")
        return lines


def thirds(samples: list[int]) -> tuple[float, float]:
    """Returns the medians of the second and of the last third."""
    third = max(1, len(samples) // 3)
    return statistics.median(samples[third : 2 * third] or samples), statistics.median(samples[-third:])


def own_bytes(pid: int) -> int:
    """Returns anonymous memory and the share of shared memory. File pages are left out, since their share depends on other processes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))


def descriptors_of(pid: int) -> int:
    """Returns the number of open descriptors."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
