"""Who of several gets a request: by turns that fill the shares evenly, or by a key, which always gives the same. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b

_BITS = 64

GOLDEN = round((math.sqrt(5) - 1) / 2 * 2**_BITS)
SILVER = round((math.sqrt(2) - 1) * 2**_BITS)
"""Steps of rotations. They have no common measure, so whoever is picked by one is picked evenly by the other."""


class LowDiscrepancySequence:
    """Points of [0, 1), each an irrational step on from the one before.

    By chance 10 % of 1 000 requests are 81 to 119 of them. By this they are 98 to 102, of any stretch of requests, and of every second or
    third of them, too, which a client may send to one endpoint, and which counting round would not give.
    """

    def __init__(self, step: int) -> None:
        self._step = step
        self._at = 1 << (_BITS - 1)

    def next_point(self) -> float:
        """The next one."""
        self._at = (self._at + self._step) & ((1 << _BITS) - 1)
        return (self._at >> 11) / (1 << 53)  # what a float holds exactly, so never 1


def choose_weighted(weights: Sequence[int], point: float) -> int:
    """The place of the weight in whose part of their sum the point of [0, 1) lies."""
    left = point * sum(weights)
    for place, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return place
    return len(weights) - 1


def rank_by_key(weights: Mapping[str, int], key: str) -> list[str]:
    """Who gets what has this key: the first of them that can.

    Weighted rendezvous hashing (Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005, the logarithmic method): of all
    keys each has its share. A weight that rises draws keys to it and moves none between the others; where one goes, only its own keys move,
    by the weights of the others. It depends on nothing but its arguments, so it is the same in every front door and after every restart.
    """
    return sorted(weights, key=lambda name: -math.log(_uniform(name, key)) / weights[name])


def _uniform(name: str, key: str) -> float:
    """In (0, 1), by chance but always the same."""
    digest = blake2b(f"{name}\0{key}".encode(errors="surrogatepass"), digest_size=6).digest()
    return (int.from_bytes(digest, "little") + 0.5) / (1 << 48)
